"""Who may do what, as pure values: no I/O, no clock."""
