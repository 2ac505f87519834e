"""Engines that run SQL: the port, and the engine in SQLite that is the embedded default."""
