"""How the audit database is opened: by its one writer, and by those who only read.

It is a SQLite file of its own, not the registry's, so that neither's load, damage or size is the other's.
"""

from __future__ import annotations

import contextlib
import secrets
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import apsw

from trow.audit import schema, sql
from trow.audit.errors import AuditError
from trow.lib.private import make_file, try_file
from trow.sql.untouched import open_untouched

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row: TypeAlias = tuple[Any, ...]

FILE_NAME: Final = "audit.db"
# The step of the schema that made room for records between others to leave.
SINCE_GAPS: Final = 2

_BUSY_MILLISECONDS: Final = 5_000
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
    try:
        make_file(path)  # SQLite gives its other files the mode of this one
        connection = apsw.Connection(str(path), statementcachesize=100)
    except (apsw.Error, OSError) as error:
        raise _unusable(path, error) from None
    try:
        _prepare(connection)
    except apsw.Error as error:
        connection.close()
        raise _unusable(path, error) from None
    except AuditError:
        connection.close()
        raise
    return connection


def try_writer(path: Path) -> None:
    """See whether `open_writer` would do; nothing is made or changed, the schema neither.

    Raises:
        AuditError: it would not.
    """
    try:
        try_file(path)
        if path.exists() and path.stat().st_size:
            with contextlib.closing(open_untouched(path)) as connection:
                _known_version(connection)
    except (apsw.Error, OSError) as error:
        raise _unusable(path, error) from None


def open_reader(path: Path) -> apsw.Connection:
    """Open the database for reading, while a writer may be at work. It may be one that an older version wrote.

    Raises:
        AuditError: it cannot be opened, or a newer version wrote it.
    """
    if not path.exists():
        raise AuditError(f"there is no {path.absolute()}; give the --data-dir or the --config that trow serve has")
    try:
        connection = apsw.Connection(str(path), flags=apsw.SQLITE_OPEN_READONLY)
        connection.set_busy_timeout(_BUSY_MILLISECONDS)
        found = version(connection)
    except apsw.Error as error:
        raise _unusable(path, error) from None
    if not 1 <= found <= (newest := len(_steps())):
        connection.close()
        raise AuditError(f"{path} has schema {found}, this version of Trow reads 1 to {newest}; use the other one")
    return connection


def _unusable(path: Path, error: Exception) -> AuditError:
    return AuditError(f"cannot use the audit database {path}: {error}; repair it, or move it away to begin a new one")


def _prepare(connection: apsw.Connection) -> None:
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
    connection.execute(f"PRAGMA cache_size = -{_CACHE_KIBIBYTES}")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    current = _known_version(connection)
    for number, statements in enumerate(_steps()[current:], current + 1):
        with transaction(connection):
            for statement in statements:
                connection.execute(statement)
            if number == 1:
                connection.execute(sql.ADD_SETTING, (_WRITER, secrets.token_hex(4)))
            connection.execute(f"PRAGMA user_version = {number}")


def _steps() -> list[list[str]]:
    return schema.steps(text="TEXT", clustered=" WITHOUT ROWID")


def _known_version(connection: apsw.Connection) -> int:
    current = version(connection)
    if current > len(_steps()):
        raise AuditError(f"the audit database has schema {current}; a newer version of Trow wrote it, start that one")
    return current


def version(connection: apsw.Connection) -> int:
    """How many steps of the schema it has."""
    return int(one(connection, "PRAGMA user_version")[0])


def name_of(connection: apsw.Connection) -> str:
    """What the database is called by its writers; see `chain.writer_of`."""
    return str(one(connection, sql.SETTING, _WRITER)[0])


def one(connection: apsw.Connection, statement: str, *values: str | int) -> Row:
    """The first row, () when there is none."""
    return next(iter(rows(connection, statement, *values)), ())


def rows(connection: apsw.Connection, statement: str, *values: str | int) -> list[Row]:
    """All rows of a statement, which is then finished with."""
    return connection.execute(statement, values).fetchall()


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """All that is written inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        with contextlib.suppress(apsw.Error):
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        raise


@contextlib.contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """What is read inside is of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # Nothing was written. What cannot be read has failed before, and says so better.
        with contextlib.suppress(apsw.Error):
            connection.execute("ROLLBACK")
