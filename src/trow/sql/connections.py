"""SQLite: how a database is opened, what its schema is, and how a transaction is run and committed.

https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import apsw

from trow.lib.errors import DamagedError, DatabaseError, SchemaError
from trow.lib.files import make_file
from trow.sql import migrations
from trow.sql.transaction import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from trow.sql.migrations import Migration
    from trow.sql.transaction import Factory, Result, Transaction

BUSY_MILLISECONDS: Final = 5_000
# How many pages the log may have before it is written back.
_LOG_PAGES: Final = 4_000


@contextlib.contextmanager
def database_errors() -> Iterator[None]:
    """What the driver raises becomes a `DatabaseError`."""
    try:
        yield
    except (apsw.CorruptError, apsw.NotADBError) as error:
        raise DamagedError(str(error)) from error
    except apsw.Error as error:
        raise DatabaseError(str(error)) from error


def connect(path: Path, *, readonly: bool = False, busy_milliseconds: int | None = None) -> apsw.Connection:
    """Open a database."""
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags, statementcachesize=100)
    connection.set_busy_timeout(BUSY_MILLISECONDS if busy_milliseconds is None else busy_milliseconds)
    return connection


def open_untouched(path: Path) -> apsw.Connection:
    """Open a database for reading without a change to any of its files, while no other process writes to it.

    An ordinary connection makes a log where there is none, and its end writes a log that was left by a crash into the
    database. Where there is a log, this one has the log's index in its own memory (exclusive locking mode,
    https://www.sqlite.org/wal.html, section 8) and leaves the log as it is.

    Raises:
        apsw.Error: there is none, or it cannot be opened.
    """
    real = path.resolve()
    log = real.with_name(f"{real.name}-wal")
    if not log.exists() or not log.stat().st_size:
        address = f"file:{quote(str(real))}?immutable=1"
        return apsw.Connection(address, flags=apsw.SQLITE_OPEN_READONLY | apsw.SQLITE_OPEN_URI)
    connection = apsw.Connection(str(real), flags=apsw.SQLITE_OPEN_READWRITE)
    connection.config(apsw.SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1)
    connection.set_busy_timeout(BUSY_MILLISECONDS)
    connection.execute("PRAGMA locking_mode = EXCLUSIVE")
    connection.execute("PRAGMA query_only = ON")
    return connection


def open_writer(path: Path, *, log_pages: int = _LOG_PAGES) -> apsw.Connection:
    """Open a database for its one writer; it is made where there is none."""
    make_file(path)  # SQLite gives its other files the mode of this one
    connection = connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {log_pages}")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


@database_errors()
def is_empty(path: Path, schema: str) -> bool:
    """Whether the database is missing or has no table. Nothing is changed.

    Args:
        path: the file.
        schema: the package of its steps.

    Raises:
        SchemaError: it was written by a newer Trow, or by another program.
        DatabaseError: it cannot be read.
    """
    if not path.exists() or not path.stat().st_size:
        return True
    with contextlib.closing(open_untouched(path)) as connection:
        check_schema(connection, schema)
        return not tables(connection)


def migrate(connection: apsw.Connection, schema: str) -> int:
    """Bring the schema up to date, each step in a transaction of its own; returns the number of the last step.

    Args:
        connection: to the database.
        schema: the package of the steps.

    Raises:
        SchemaError: the database was written by a newer Trow, or by another program.
    """
    steps = migrations.load(schema, migrations.SQLITE)
    apply(connection, steps[check_schema(connection, schema) :])
    return len(steps)


def apply(connection: apsw.Connection, steps: Sequence[Migration]) -> None:
    """Take the schema through steps that follow those that it has gone through."""
    for step in steps:
        with connection:
            for statement in step.statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {step.number}")


def version(connection: apsw.Connection) -> int:
    """How many steps of its schema the database has gone through."""
    return int(next(iter(connection.execute("PRAGMA user_version")))[0])


def check_schema(connection: apsw.Connection, schema: str) -> int:
    """How many steps of this schema the database has gone through. Raises `SchemaError`: see `migrate`."""
    steps, current = migrations.load(schema, migrations.SQLITE), version(connection)
    if current > len(steps):
        raise SchemaError(
            f"the database has schema {current}, this version of Trow knows up to {len(steps)}; start the newer version"
        )
    found = set(tables(connection))
    with contextlib.closing(apsw.Connection(":memory:")) as sample:
        apply(sample, steps[:current])
        expected = set(tables(sample))
    if not expected <= found or (found and not current):
        raise SchemaError("the database is not one of Trow, or has lost tables; put the right one back from a backup")
    return current


def tables(connection: apsw.Connection) -> Sequence[str]:
    """The names of the database's tables, in order."""
    where = "type = 'table' AND name NOT LIKE 'sqlite_%'"
    rows = connection.execute(f"SELECT name FROM sqlite_schema WHERE {where} ORDER BY name")  # noqa: S608
    return [str(name) for (name,) in rows.fetchall()]


def run(connection: apsw.Connection, make: Factory[Result]) -> Result:
    """Run the statements of a transaction, and return what it returns."""
    transaction = make()
    try:
        statement, values = next(transaction)
        while True:
            rows: Any = [] if statement is LOCK else connection.execute(statement, values).fetchall()
            statement, values = transaction.send(rows)
    except StopIteration as stop:
        result: Result = stop.value
        return result


def commit(connection: apsw.Connection) -> None:
    """Commit, or see to it that what was refused does not come true later.

    When the log (WAL) cannot be flushed, its frames are written all the same, and a start after ``kill -9`` would find
    a whole transaction in them. The next transaction begins where the refused one did. One that changes nothing is
    written over it at once: it need not be flushed for that, because what a process has written outlives it. Only
    together with a power cut, before any flush succeeds, is it unknown what the disk has kept
    (https://www.sqlite.org/walformat.html, section 4; https://wiki.postgresql.org/wiki/Fsync_Errors).
    """
    try:
        connection.execute("COMMIT")
    except (apsw.Error, OSError):
        roll_back(connection)
        with contextlib.suppress(apsw.Error, OSError):
            connection.execute("BEGIN IMMEDIATE")
            run(connection, touch)
            connection.execute("COMMIT")
        roll_back(connection)
        raise


def roll_back(connection: apsw.Connection) -> None:
    """Undo what was not committed."""
    with contextlib.suppress(apsw.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def touch() -> Transaction[None]:
    """A transaction that changes nothing, but is written and flushed like a change."""
    ((version,),) = yield "PRAGMA user_version", ()
    yield f"PRAGMA user_version = {version!s}", ()


@contextlib.contextmanager
def transaction(connection: apsw.Connection) -> Iterator[None]:
    """All that is written inside, or nothing of it."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        roll_back(connection)
        raise
    commit(connection)


@contextlib.contextmanager
def snapshot(connection: apsw.Connection) -> Iterator[None]:
    """What is read inside is of one moment."""
    connection.execute("BEGIN")
    try:
        yield
    finally:
        # Nothing was written. What cannot be read has failed before, and says so better.
        roll_back(connection)
