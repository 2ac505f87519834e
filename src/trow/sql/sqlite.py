"""The engine in SQLite: look-ups on the event loop, lists beside it, writes on one thread (`trow.sql.writer`)."""

from __future__ import annotations

import asyncio
import contextlib
import queue
from typing import TYPE_CHECKING, Final

import apsw

from trow.lib.reserve import Reserve
from trow.lib.threads import started_pool
from trow.sql.connections import commit, connect, database_errors, migrate, open_writer, run
from trow.sql.writer import Writer, client_error

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trow.sql.transaction import Factory, Result

# Reading a list is a matter of the processor, and the interpreter has one at a time; the second is for short ones.
# Whose turn it is has been decided before (`trow.http.handlers.lists`).
_READERS: Final = 2
# Look-ups run on the event loop, which must not stand still; in WAL mode they hardly ever wait.
_LOOK_UP_MILLISECONDS: Final = 100


class SqliteEngine:
    """The `Engine` of the embedded default. Used on one event loop.

    Args:
        path: the database, made where it is not there.
        schema: the package of the steps of its schema, which is brought up to date.
        observe: told how many seconds each commit took.
        reserve: space for what gives space back.

    Raises:
        SchemaError: the database was written by a newer Trow, or by another program.
        DatabaseError, OSError: it cannot be opened.
    """

    @database_errors()
    def __init__(
        self,
        path: Path,
        schema: str,
        observe: Callable[[float], None] = lambda _: None,
        reserve: Reserve | None = None,
    ) -> None:
        self._path = path
        self._writer = Writer(path, schema, observe, reserve or Reserve())
        try:
            self._reader = connect(path, readonly=True, busy_milliseconds=_LOOK_UP_MILLISECONDS)
            self._pages = started_pool(_READERS, "trow-lists")
            self._readers: queue.SimpleQueue[apsw.Connection] = queue.SimpleQueue()
            for _ in range(_READERS):
                self._readers.put(connect(path, readonly=True))
        except BaseException:
            self._writer.close()
            raise

    async def read(self, make: Factory[Result]) -> Result:
        try:
            return run(self._reader, make)
        except apsw.Error as error:
            raise client_error(error) from error

    async def page(self, make: Factory[Result]) -> Result:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pages, self._page, make)
        except apsw.Error as error:
            raise client_error(error) from error

    def _page(self, make: Factory[Result]) -> Result:
        connection = self._readers.get_nowait()  # there is one for each thread
        try:
            return run(connection, make)
        finally:
            self._readers.put(connection)

    async def scan(self, make: Factory[Result]) -> Result:
        try:
            return await asyncio.to_thread(self._scan, make)
        except apsw.Error as error:
            raise client_error(error) from error

    def _scan(self, make: Factory[Result]) -> Result:
        with contextlib.closing(connect(self._path, readonly=True)) as connection:
            return run(connection, make)

    async def write(
        self, make: Factory[Result], *, frees: bool = False, committed: Callable[[], None] | None = None
    ) -> Result:
        return await self._writer.run(make, frees=frees, committed=committed)

    async def check(self) -> None:
        await self._writer.probe()

    def displaced(self) -> Sequence[Path]:
        return self._writer.displaced()

    def close(self) -> None:
        """Finish what waits, write the log back and close all connections."""
        self._pages.shutdown()
        while not self._readers.empty():
            self._readers.get_nowait().close()
        self._reader.close()
        self._writer.close()


@database_errors()
def run_offline(path: Path, schema: str, make: Factory[Result]) -> Result:
    """Run one transaction in a command, beside a server that may be running or not.

    Only for what no server keeps in memory.

    Raises:
        DatabaseError, OSError: it was not run.
    """
    with contextlib.closing(open_writer(path)) as connection:
        migrate(connection, schema)
        connection.execute("BEGIN IMMEDIATE")
        result = run(connection, make)
        commit(connection)
        return result
