"""Metadata: one set of SQL, a driver for each database engine."""
