"""Errors that stop a command, and errors of databases."""


class StartError(Exception):
    """Trow cannot run; the message says why and what to do."""


class DatabaseError(Exception):
    """The database cannot be used; the message says why."""


class DamagedError(DatabaseError):
    """It is damaged, or is not a database."""


class SchemaError(DatabaseError):
    """Its schema cannot be used; the message says what to do."""
