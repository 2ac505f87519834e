"""The one thread that writes to a database in SQLite, and commits for all who wait.

A commit costs one flush of the write-ahead log, whatever it holds. The writer therefore takes all transactions that
wait, runs each under a savepoint of its own (so that one can fail alone) and commits them together: eight clients that
push a small blob at the same time share one flush.
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import apsw

from trow.lib.anchor import Anchor, anchors_of_database
from trow.lib.threads import start_thread
from trow.oci.errors import OciError, StorageFull, Unavailable
from trow.sql.connections import commit, migrate, open_writer, roll_back, run, touch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from trow.lib.reserve import Reserve
    from trow.sql.transaction import Factory, Result, Transaction

_MOST_IN_A_COMMIT: Final = 512
_PROBE_SECONDS: Final = 1.0
_NO_SPACE: Final = "the registry's database has no space left; free some or enlarge its volume"


def _no_change() -> Transaction[None]:
    """A transaction without a change; the database has to take writes for it all the same."""
    yield "PRAGMA user_version", ()


def _require_in_place(anchor: Anchor) -> None:
    if not anchor.holds():
        raise _displaced()


def _displaced() -> Unavailable:
    return Unavailable("the registry's database was moved or replaced while it is in use; put it back, or restart Trow")


def client_error(error: apsw.Error | OSError | Unavailable) -> Unavailable:
    """The error for clients."""
    if isinstance(error, Unavailable):
        return type(error)(error.message)
    if isinstance(error, apsw.FullError):
        return StorageFull(_NO_SPACE)
    return Unavailable("the registry's database does not work at the moment; try again")


@dataclass(slots=True)
class _PendingWrite:
    """A transaction that waits for the writer."""

    make: Factory[Any]
    future: asyncio.Future[Any]
    committed: Callable[[], None] | None
    frees: bool
    result: Any = None
    error: BaseException | None = None


class Writer:
    """The one thread that writes."""

    def __init__(self, path: Path, schema: str, observe: Callable[[float], None], reserve: Reserve) -> None:
        self._observe = observe
        self._reserve = reserve
        self._queue: queue.SimpleQueue[_PendingWrite | None] = queue.SimpleQueue()
        self._connection = open_writer(path)
        self._anchors: list[Anchor] = []
        try:
            migrate(self._connection, schema)
            self._anchors += anchors_of_database(path)
            self._probed_at = -_PROBE_SECONDS
            self._thread = start_thread(self._work, "trow-writer")
        except BaseException:
            self._release()
            raise

    async def run(
        self, make: Factory[Result], *, frees: bool = False, committed: Callable[[], None] | None = None
    ) -> Result:
        """Run a transaction and wait until it is committed; see `Engine.write`.

        What frees space has the reserve when the volume is full.
        """
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put(_PendingWrite(make, future, committed, frees))
        return await future

    def close(self) -> None:
        """Finish what waits, write the log back and close."""
        self._queue.put(None)
        self._thread.join()
        self._release()

    def _release(self) -> None:
        self._connection.close()
        for anchor in self._anchors:
            anchor.close()

    def displaced(self) -> Sequence[Path]:
        """The files that are open and no longer where they belong."""
        return [anchor.path for anchor in self._anchors if not anchor.holds()]

    async def probe(self) -> None:
        """Whether changes can be made; raises `Unavailable` when not.

        Something is flushed for it, once a second and when the last commit failed: anybody may ask this.
        """
        if await asyncio.to_thread(self.displaced):
            raise _displaced()
        if time.monotonic() - self._probed_at < _PROBE_SECONDS:
            await self.run(_no_change)
            return
        await self.run(touch)
        self._probed_at = time.monotonic()

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            more = self._drain(batch)
            started = time.perf_counter()
            self._commit(batch)
            self._observe(time.perf_counter() - started)
            with contextlib.suppress(RuntimeError):  # the loop is gone, and with it those that wait
                first.future.get_loop().call_soon_threadsafe(_resolve, batch)
            del first, batch
            if not more:
                return

    def _drain(self, batch: list[_PendingWrite]) -> bool:
        """Add what waits already; False when the end was among it."""
        while len(batch) < _MOST_IN_A_COMMIT:
            try:
                item = self._queue.get_nowait()
            except queue.Empty:
                return True
            if item is None:
                return False
            batch.append(item)
        return True

    def _commit(self, batch: list[_PendingWrite]) -> None:
        if self._reserve.missing:
            batch = _only_freeing(batch)
        if isinstance(self._try_commit(batch), apsw.FullError):
            # What frees space is possible all the same: with the room that the log has, or else with the reserve.
            batch = _only_freeing(batch)
            self._checkpoint()
            if isinstance(self._try_commit(batch), apsw.FullError) and self._reserve.give_back():
                self._try_commit(batch)
        if self._reserve.spent:
            self._checkpoint()  # so that the log starts at its beginning again and does not grow

    def _try_commit(self, batch: list[_PendingWrite]) -> apsw.Error | OSError | Unavailable | None:
        """Commit them together, only to the file that a start would open.

        That is checked before, so that nothing is changed, and afterwards, so that no client is told of what is gone.
        Returns what prevented the commit, if anything did; it is the error of each.
        """
        if not batch:
            return None
        anchor = self._anchors[0]
        try:
            _require_in_place(anchor)
            self._connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                self._apply(write)
            commit(self._connection)
            _require_in_place(anchor)
        except (apsw.Error, OSError, Unavailable) as error:
            roll_back(self._connection)
            for write in batch:
                write.error = write.error or client_error(error)
            self._probed_at = -_PROBE_SECONDS
            return error
        return None

    def _checkpoint(self) -> None:
        """Bring the log's pages into the database, as far as there is space for them."""
        with contextlib.suppress(apsw.Error):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _apply(self, write: _PendingWrite) -> None:
        write.error = None
        self._connection.execute("SAVEPOINT one")
        try:
            write.result = run(self._connection, write.make)
        except (apsw.Error, OSError):
            raise
        except Exception as error:  # noqa: BLE001 - handed to the request that waits for it
            # Without its traceback, which leads to the request that waits, and so back to the error.
            write.error = error.with_traceback(None) if isinstance(error, OciError) else error
            self._connection.execute("ROLLBACK TO one")
        self._connection.execute("RELEASE one")


def _only_freeing(batch: list[_PendingWrite]) -> list[_PendingWrite]:
    """Refuse what takes space."""
    for write in batch:
        if not write.frees:
            write.error = write.error or StorageFull(_NO_SPACE)
    return [write for write in batch if write.frees]


def _resolve(batch: list[_PendingWrite]) -> None:
    for write in batch:
        if write.committed is not None:
            write.committed()
    for write in batch:
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)
