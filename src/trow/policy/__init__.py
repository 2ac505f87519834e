"""Rules as pure values: no I/O, no clock."""
