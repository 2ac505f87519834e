"""Copies what can still be read of a damaged database into a new one, and puts that in its place.

A row is reached through its table or through the index of its key, from both ends. Where a page in the middle cannot be
read, what lies behind it is reached from the other side, and only the rows on that page are lost. Nothing is read past
SQLite, so that no row that was deleted comes back.
"""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import apsw

from trow.lib.datadir import DATABASE, hold, is_of_a_server, require_registry, was_used
from trow.lib.errors import DatabaseError, SchemaError, StartError
from trow.lib.files import make_file, make_folder, sync_folder
from trow.metadata import sql
from trow.metadata.store import SCHEMA
from trow.sql import connections, migrations

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_ROWS_IN_A_COMMIT: Final = 10_000
_GENERATIONS: Final = "repository_generation"
# The counter itself may be lost, and with it how far it had come.
_AHEAD: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Salvaged:
    """What became of one table: how many rows were copied, and whether all could be read."""

    table: str
    rows: int
    whole: bool


def recover(directory: Path) -> tuple[Sequence[Salvaged], Path]:
    """Copy what can be read into a new database and put it in place of the damaged one.

    Args:
        directory: the data directory.

    Returns:
        What became of each table, and the folder where the damaged database is now.

    Raises:
        StartError: there is no registry, or it cannot be done, and nothing was changed; the message says what to do.
    """
    if not was_used(directory) or is_of_a_server(directory):
        require_registry(directory)
    path = directory / DATABASE
    with hold(directory):
        if not path.exists():
            raise StartError(f"{path} is missing; put it back from a backup, or start with trow serve --new-database")
        new = path.with_name(f"{path.name}.recovered")
        new.unlink(missing_ok=True)
        kept = directory / "quarantine" / f"database-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}"
        try:
            tables = salvage(path, new)
            make_folder(kept)
            os.link(path, kept / path.name)  # a second name: there always is a database
        except (DatabaseError, OSError) as error:
            new.unlink(missing_ok=True)
            raise StartError(f"{path} cannot be recovered: {error}; put it back from a backup") from error
        for suffix in ("-wal", "-shm"):  # the log goes first, so that it is not taken for one of the new database
            part = path.with_name(path.name + suffix)
            if part.exists():
                part.rename(kept / part.name)
        new.replace(path)
        sync_folder(kept)
        sync_folder(path.parent)
        return tables, kept


@connections.database_errors()
def salvage(damaged: Path, new: Path) -> Sequence[Salvaged]:
    """Copy every table into a new database, which is whole and durable when this returns.

    Raises:
        SchemaError: the damaged one does not tell which schema it has, or has a newer one.
        DatabaseError: it cannot be opened, or the new one not be written.
    """
    make_file(new)
    with (
        contextlib.closing(apsw.Connection(str(damaged), flags=apsw.SQLITE_OPEN_READWRITE)) as old,
        contextlib.closing(apsw.Connection(str(new))) as fresh,
    ):
        old.execute("PRAGMA query_only = ON")
        fresh.execute("PRAGMA synchronous = FULL")
        steps, version = migrations.load(SCHEMA, migrations.SQLITE), connections.version(old)
        if not 0 < version <= len(steps):
            what = f"the database says that it has schema {version}, and 1 to {len(steps)} are known"
            raise SchemaError(f"{what}; use a backup")
        connections.apply(fresh, steps[:version])
        tables = connections.tables(fresh)
        copied = [_Copy(old, fresh, table).run() for table in tables if table != _GENERATIONS]
        if _GENERATIONS in tables:
            latest = 0
            with contextlib.suppress(apsw.Error):
                latest = max(int(str(row[0])) for row in [*old.execute(sql.GENERATION), (0,)])
            # Repositories that are made from now on have higher numbers than every token that is in use.
            fresh.execute(sql.SKIP_GENERATIONS, (latest + _AHEAD,))
        return copied


class _Copy:
    """Copies one table. Its name and those of its columns come from our own schema, never from the damaged one."""

    def __init__(self, old: apsw.Connection, fresh: apsw.Connection, table: str) -> None:
        self._old = old
        self._fresh = fresh
        self._table = table
        columns = fresh.execute(f"PRAGMA table_info({table})").fetchall()
        self._key = [str(column[1]) for column in columns if column[5]]
        names = ", ".join(str(column[1]) for column in columns)
        self._read = f"SELECT {names} FROM {table}"  # noqa: S608 - names of our own schema
        places = ", ".join("?" * len(columns))
        self._add = f"INSERT INTO {table} ({names}) VALUES ({places}) ON CONFLICT DO NOTHING"  # noqa: S608
        self._count = f"SELECT count(*) FROM {table}"  # noqa: S608
        self._rowids = f"SELECT rowid FROM {table} ORDER BY "  # noqa: S608
        self._whole = True

    def run(self) -> Salvaged:
        self._copy(f"{self._read} ORDER BY rowid")
        if not self._whole:
            self._copy(f"{self._read} ORDER BY rowid DESC")
            for direction in ("", " DESC"):
                order = ", ".join(f"{column}{direction}" for column in self._key or ["rowid"])
                for (number,) in self._readable(self._rowids + order):  # the rows that an index knows, one by one
                    self._keep([*self._readable(f"{self._read} WHERE rowid = ?", (number,))])
        ((count,),) = self._fresh.execute(self._count).fetchall()
        return Salvaged(self._table, int(str(count)), self._whole)

    def _copy(self, statement: str) -> None:
        rows: list[Any] = []
        for row in self._readable(statement):
            rows.append(row)
            if len(rows) >= _ROWS_IN_A_COMMIT:
                self._keep(rows)
                rows = []
        self._keep(rows)

    def _readable(self, statement: str, values: tuple[int, ...] = ()) -> Iterator[Any]:
        try:
            yield from self._old.execute(statement, values)
        except (apsw.Error, UnicodeDecodeError):  # the second where a text is not in UTF-8 any more
            self._whole = False

    def _keep(self, rows: Sequence[Any]) -> None:
        with self._fresh:
            for row in rows:
                try:
                    self._fresh.execute(self._add, row)
                except (apsw.ConstraintError, apsw.MismatchError):
                    self._whole = False  # what a damaged page holds is not a row
