"""How the audit database is opened: by its one writer, and by those who only read.

It is a SQLite file of its own, not the registry's, so that neither's load, damage or size is the other's.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import apsw

from trow.audit import sql
from trow.audit.errors import AuditError
from trow.lib.errors import DatabaseError, SchemaError
from trow.lib.files import try_file
from trow.sql import connections
from trow.sql.connections import check_schema, is_empty, migrate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row: TypeAlias = tuple[Any, ...]

FILE_NAME: Final = "audit.db"
# The package of the steps of the schema.
SCHEMA: Final = "trow.audit.migrations"
# The step of the schema that made room for records between others to leave.
SINCE_GAPS: Final = 2

# A batch touches pages all over the indexes: with this much memory and log, most of them are written once. With random
# names and digests that took half the time of SQLite's defaults.
_LOG_PAGES: Final = 8_000
_CACHE_KIBIBYTES: Final = 16_384
_WRITER: Final = "writer"


def open_writer(path: Path) -> apsw.Connection:
    """Open the database for its one writer, and bring its schema up to date.

    Raises:
        AuditError: it cannot be opened.
    """
    with _unusable(path), contextlib.ExitStack() as stack:
        connection = stack.enter_context(contextlib.closing(connections.open_writer(path, log_pages=_LOG_PAGES)))
        connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
        migrate(connection, SCHEMA)
        # One that has records and no name has lost it, and says so when it is asked for.
        if not one(connection, sql.SETTING, _WRITER) and not rows(connection, sql.WRITERS):
            connection.execute(sql.ADD_SETTING, (_WRITER, secrets.token_hex(4)))
        stack.pop_all()
    return connection


def try_writer(path: Path) -> None:
    """See whether `open_writer` would do; nothing is made or changed, the schema neither.

    Raises:
        AuditError: it would not.
    """
    with _unusable(path):
        try_file(path)
        is_empty(path, SCHEMA)


def open_reader(path: Path) -> apsw.Connection:
    """Open the database for reading, while a writer may be at work. It may be one that an older version wrote.

    Raises:
        AuditError: it cannot be opened, or a newer version wrote it.
    """
    if not path.exists():
        raise AuditError(f"there is no {path.absolute()}; give the --data-dir or the --config that trow serve has")
    with _unusable(path), contextlib.ExitStack() as stack:
        connection = stack.enter_context(contextlib.closing(connections.connect(path, readonly=True)))
        if not check_schema(connection, SCHEMA):
            raise SchemaError("it holds nothing")
        stack.pop_all()
    return connection


@contextlib.contextmanager
def _unusable(path: Path) -> Iterator[None]:
    try:
        yield
    except (apsw.Error, OSError, DatabaseError) as error:
        what = f"cannot use the audit database {path}: {error}"
        raise AuditError(f"{what}; repair it, or move it away to begin a new one") from None


def database_name(connection: apsw.Connection) -> str:
    """What the database is called by its writers; see `chain.writer_of`."""
    return str(one(connection, sql.SETTING, _WRITER)[0])


def one(connection: apsw.Connection, statement: str, *values: str | int) -> Row:
    """The first row, () when there is none."""
    return next(iter(rows(connection, statement, *values)), ())


def rows(connection: apsw.Connection, statement: str, *values: str | int) -> list[Row]:
    """All rows of a statement, which is then finished with."""
    return connection.execute(statement, values).fetchall()


@contextlib.contextmanager
def translate_errors(path: Path) -> Iterator[None]:
    """What the driver raises while something is read becomes an `AuditError`, or a `TimeoutError`."""
    try:
        yield
    except apsw.InterruptError:
        raise TimeoutError from None
    except apsw.Error as error:
        raise AuditError(f"cannot read the audit database {path}: {error}") from error
