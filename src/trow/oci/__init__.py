"""The vocabulary of the OCI specifications as values: pure, no I/O, no clock."""
