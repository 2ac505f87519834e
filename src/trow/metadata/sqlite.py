"""Metadata in SQLite: look-ups on the event loop, lists beside it, writes on one thread that commits for all who wait.

A commit costs one flush of the write-ahead log, whatever it holds. The writer therefore takes all transactions that
wait, runs each under a savepoint of its own (so that one can fail alone) and commits them together; who pushes a small
blob while seven others do the same pays an eighth of a flush. https://www.sqlite.org/wal.html
"""

from __future__ import annotations

import asyncio
import contextlib
import queue
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import apsw

from trow.lib.anchor import Anchor, anchors_of_database
from trow.lib.private import make_file
from trow.lib.reserve import Reserve
from trow.lib.threads import start_thread
from trow.lib.untouched import open_untouched
from trow.metadata import migrations, search, transactions
from trow.metadata.hot import HotManifests
from trow.metadata.lists import ListReader
from trow.metadata.sessions import UploadSessions
from trow.oci.errors import OciError, StorageFull, Unavailable
from trow.oci.page import ALL_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence
    from pathlib import Path

    from trow.metadata.transactions import Transaction
    from trow.oci.digest import Digest
    from trow.oci.names import Repository, Tag, UploadId
    from trow.oci.page import NameRange, Page, PageRequest
    from trow.registry.ports import (
        BlobRecord,
        ManifestRecord,
        PendingEvent,
        Publication,
        PublicationResult,
        Referrer,
        RepositoryRecord,
        RobotToken,
        Stored,
        Stretch,
        TagEvent,
        Upload,
        UploadBounds,
    )

Result = TypeVar("Result")

_MOST_IN_A_COMMIT: Final = 512
_BUSY_MILLISECONDS: Final = 5_000
# Reads run on the event loop, which must not stand still; in WAL mode they hardly ever wait.
_READ_BUSY_MILLISECONDS: Final = 100
_CHECKPOINT_PAGES: Final = 4_000
_FULL: Final = (apsw.FullError,)
_PROBE_SECONDS: Final = 1.0
_NO_SPACE: Final = "the registry's database has no space left; free some or enlarge its volume"


class SchemaError(Exception):
    """The database's schema cannot be used; the message says what to do."""


def _connect(path: Path, *, readonly: bool = False) -> apsw.Connection:
    flags = apsw.SQLITE_OPEN_READONLY if readonly else apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
    connection = apsw.Connection(str(path), flags=flags, statementcachesize=100)
    connection.set_busy_timeout(_BUSY_MILLISECONDS)
    return connection


def _open_writer(path: Path) -> apsw.Connection:
    make_file(path)  # SQLite gives its other files the mode of this one
    connection = _connect(path)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"PRAGMA wal_autocheckpoint = {_CHECKPOINT_PAGES}")
    connection.execute("PRAGMA journal_size_limit = 67108864")
    return connection


def is_empty(path: Path) -> bool:
    """Whether there is no database, or one without a table. Nothing is changed.

    Raises:
        SchemaError: it was written by a newer Trow, or by another program.
        apsw.Error: it cannot be read.
    """
    if not path.exists() or not path.stat().st_size:
        return True
    with contextlib.closing(open_untouched(path)) as connection:
        _check_schema(connection, _steps())
        return not _tables(connection)


def migrate(connection: apsw.Connection) -> int:
    """Bring the schema up to date, each step in a transaction of its own; returns the number of the last step.

    Raises:
        SchemaError: the database was written by a newer Trow, or by another program.
    """
    steps = _steps()
    current = _check_schema(connection, steps)
    for step in steps[current:]:
        with connection:
            for statement in step.statements:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {step.number}")
    return len(steps)


def _steps() -> Sequence[migrations.Migration]:
    return migrations.load(bytes_type="BLOB", text_type="TEXT")


def _check_schema(connection: apsw.Connection, steps: Sequence[migrations.Migration]) -> int:
    """How many of these steps the database has gone through."""
    current = int(next(iter(connection.execute("PRAGMA user_version")))[0])
    if current > len(steps):
        raise SchemaError(
            f"the database has schema {current}, this version of Trow knows up to {len(steps)}; start the newer version"
        )
    if not _is_ours(connection, steps[:current]):
        raise SchemaError("the database is not one of Trow, or has lost tables; put the right one back from a backup")
    return current


def _is_ours(connection: apsw.Connection, done: Sequence[migrations.Migration]) -> bool:
    """Whether the tables are there that these steps have made; none, where nothing was done."""
    found = _tables(connection)
    if not done:
        return not found
    with contextlib.closing(apsw.Connection(":memory:")) as sample:
        for step in done:
            for statement in step.statements:
                sample.execute(statement)
        return _tables(sample) <= found


def _tables(connection: apsw.Connection) -> set[str]:
    rows = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table' AND name NOT LIKE 'sqlite_%'")
    return {str(name) for (name,) in rows.fetchall()}


def _run(connection: apsw.Connection, transaction: Transaction[Result]) -> Result:
    try:
        statement, values = next(transaction)
        while True:
            rows: Any = connection.execute(statement, values).fetchall()
            statement, values = transaction.send(rows)
    except StopIteration as stop:
        result: Result = stop.value
        return result


def _commit(connection: apsw.Connection) -> None:
    """Commit, or see to it that what was refused does not come true later.

    When the log (WAL) cannot be flushed, its frames are written all the same, and a start after ``kill -9`` would find
    a whole transaction in them. The next transaction begins where the refused one did. One that changes nothing is
    written over it at once: it need not be flushed for that, because what a process has written outlives it. Only
    together with a power cut, before any flush succeeds, nobody can say what the disk has kept
    (https://www.sqlite.org/walformat.html, section 4; https://wiki.postgresql.org/wiki/Fsync_Errors).
    """
    try:
        connection.execute("COMMIT")
    except (apsw.Error, OSError):
        _roll_back(connection)
        with contextlib.suppress(apsw.Error, OSError):
            _change_nothing(connection)
        _roll_back(connection)
        raise


def _change_nothing(connection: apsw.Connection) -> None:
    connection.execute("BEGIN IMMEDIATE")
    _run(connection, _touch())
    connection.execute("COMMIT")


def _roll_back(connection: apsw.Connection) -> None:
    with contextlib.suppress(apsw.Error):
        if connection.in_transaction:
            connection.execute("ROLLBACK")


def _touch() -> Transaction[None]:
    """Changes nothing, but is written and flushed like a change."""
    ((version,),) = yield "PRAGMA user_version", ()
    yield f"PRAGMA user_version = {version!s}", ()


def _require(anchor: Anchor) -> None:
    if not anchor.holds():
        raise _elsewhere()


def _elsewhere() -> Unavailable:
    return Unavailable("the registry's database was moved or replaced while it is in use; put it back, or restart Trow")


def _translate(error: apsw.Error | OSError | Unavailable) -> Unavailable:
    if isinstance(error, Unavailable):
        return type(error)(error.message)
    if isinstance(error, _FULL):
        return StorageFull(_NO_SPACE)
    return Unavailable("the registry's database does not work at the moment; try again")


def run_beside(path: Path, transaction: Transaction[Result]) -> Result:
    """Run one transaction from another process than the server's, which may be running or not.

    Only for what no server keeps in memory.

    Raises:
        SchemaError, apsw.Error: it was not run.
    """
    connection = _open_writer(path)
    try:
        migrate(connection)
        connection.execute("BEGIN IMMEDIATE")
        result = _run(connection, transaction)
        _commit(connection)
    finally:
        connection.close()
    return result


class _Write:
    """A transaction that waits for the writer."""

    __slots__ = ("changed", "error", "frees", "future", "make", "result")

    def __init__(
        self,
        make: Callable[[], Transaction[Any]],
        future: asyncio.Future[Any],
        changed: Callable[[], None] | None,
        *,
        frees: bool,
    ) -> None:
        self.make = make
        self.future = future
        self.changed = changed
        self.frees = frees
        self.result: Any = None
        self.error: BaseException | None = None


class Writer:
    """The one thread that writes."""

    def __init__(self, path: Path, observe: Callable[[float], None], reserve: Reserve) -> None:
        self._observe = observe
        self._reserve = reserve
        self._queue: queue.SimpleQueue[_Write | None] = queue.SimpleQueue()
        self._connection = _open_writer(path)
        self._anchors: list[Anchor] = []
        try:
            migrate(self._connection)
            self.sessions = UploadSessions(self._alone(transactions.take_uploads()))
            self._anchors += anchors_of_database(path)
        except BaseException:
            self._release()
            raise
        self._probed_at = -_PROBE_SECONDS
        try:
            self._thread = start_thread(self._work, "trow-writer")
        except BaseException:
            self._put_away()
            raise

    async def run(self, transaction: Transaction[Result], changed: Callable[[], None] | None = None) -> Result:
        """Run a transaction and wait until it is committed.

        Args:
            transaction: what to do.
            changed: called on the event loop after the commit, before anybody is answered.

        Raises:
            Unavailable, StorageFull: it was not.
        """
        return await self._run(lambda: transaction, changed, frees=False)

    async def free(self, make: Callable[[], Transaction[Result]], changed: Callable[[], None] | None = None) -> Result:
        """The same for a transaction that gives space back: it has the reserve when the volume is full.

        Args:
            make: makes the transaction, each time that it is tried.
            changed: as above.
        """
        return await self._run(make, changed, frees=True)

    async def _run(
        self, make: Callable[[], Transaction[Result]], changed: Callable[[], None] | None, *, frees: bool
    ) -> Result:
        future: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        self._queue.put(_Write(make, future, changed, frees=frees))
        return await future

    def close(self) -> None:
        """Finish what waits, write the log back and close."""
        self._queue.put(None)
        self._thread.join()
        self._put_away()

    def _put_away(self) -> None:
        """Leave the open sessions to the next start, and close."""
        with contextlib.suppress(apsw.Error):
            self._alone(transactions.put_uploads(self.sessions.all()))
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
            raise _elsewhere()
        if time.monotonic() - self._probed_at < _PROBE_SECONDS:
            await self.run(transactions.probe_write())
            return
        await self.run(_touch())
        self._probed_at = time.monotonic()

    def _alone(self, transaction: Transaction[Result]) -> Result:
        """Run a transaction while the thread does not."""
        self._connection.execute("BEGIN IMMEDIATE")
        result = _run(self._connection, transaction)
        _commit(self._connection)
        return result

    def _work(self) -> None:
        while (first := self._queue.get()) is not None:
            batch = [first]
            more = self._drain(batch)
            started = time.perf_counter()
            self._commit(batch)
            self._observe(time.perf_counter() - started)
            self._answer(batch)
            del first, batch
            if not more:
                return

    def _drain(self, batch: list[_Write]) -> bool:
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

    def _commit(self, batch: list[_Write]) -> None:
        if self._reserve.missing:
            batch = _only_freeing(batch)
        if isinstance(self._try(batch), _FULL):
            self._free(_only_freeing(batch))
        if self._reserve.spent:
            self._write_back()  # so that the log begins anew and takes no more than it has

    def _free(self, batch: list[_Write]) -> None:
        """Do on a full volume what frees some: with the room that the log has, or else with the reserve."""
        self._write_back()
        if isinstance(self._try(batch), _FULL) and self._reserve.give_back():
            self._try(batch)

    def _try(self, batch: list[_Write]) -> apsw.Error | OSError | Unavailable | None:
        """Commit them together, only to the file that a start would open.

        That is looked at before, so that nothing is changed, and afterwards, so that nobody is told of what is gone.
        What prevented the commit, if anything did, is returned, and is the error of each.
        """
        if not batch:
            return None
        anchor = self._anchors[0]
        try:
            _require(anchor)
            self._connection.execute("BEGIN IMMEDIATE")
            for write in batch:
                self._apply(write)
            _commit(self._connection)
            _require(anchor)
        except (apsw.Error, OSError, Unavailable) as error:
            _roll_back(self._connection)
            for write in batch:
                write.error = write.error or _translate(error)
            self._probed_at = -_PROBE_SECONDS
            return error
        return None

    def _write_back(self) -> None:
        """Bring the log's pages into the database, as far as there is space for them."""
        with contextlib.suppress(apsw.Error):
            self._connection.wal_checkpoint(mode=apsw.SQLITE_CHECKPOINT_PASSIVE)

    def _apply(self, write: _Write) -> None:
        write.error = None
        self._connection.execute("SAVEPOINT one")
        try:
            write.result = _run(self._connection, write.make())
        except (apsw.Error, OSError):
            raise
        except OciError as error:
            # Without its traceback, which leads to the request that waits and hence back to the error.
            write.error = error.with_traceback(None)
            self._connection.execute("ROLLBACK TO one")
        except Exception as error:  # noqa: BLE001 - handed to the request that waits for it
            write.error = error
            self._connection.execute("ROLLBACK TO one")
        self._connection.execute("RELEASE one")

    @staticmethod
    def _answer(batch: list[_Write]) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is gone: nobody waits any more
            batch[0].future.get_loop().call_soon_threadsafe(_resolve, batch)


def _only_freeing(batch: list[_Write]) -> list[_Write]:
    """Refuse what takes space."""
    for write in batch:
        if not write.frees:
            write.error = write.error or StorageFull(_NO_SPACE)
    return [write for write in batch if write.frees]


def _resolve(batch: list[_Write]) -> None:
    for write in batch:
        if write.changed is not None:
            write.changed()
    for write in batch:
        if write.future.done():
            continue
        if write.error is not None:
            write.future.set_exception(write.error)
        else:
            write.future.set_result(write.result)


class SqliteMetadata:
    """The `Metadata` of the embedded default. Made and used on one event loop."""

    def __init__(
        self,
        path: Path,
        clock: Callable[[], float] = time.time,
        observe: Callable[[str, float], None] | None = None,
        reserve: Reserve | None = None,
    ) -> None:
        self._path = path
        self._clock = clock
        self._observe = observe or (lambda _kind, _seconds: None)
        self._writer = Writer(path, lambda seconds: self._observe("commit", seconds), reserve or Reserve())
        self._sessions = self._writer.sessions
        self._hot = HotManifests()
        try:
            self._reader = _connect(path, readonly=True)
            self._reader.set_busy_timeout(_READ_BUSY_MILLISECONDS)
            self._lists = ListReader(lambda: _connect(path, readonly=True))
        except BaseException:
            self._writer.close()
            raise

    def close(self) -> None:
        """Finish what waits and close all connections."""
        self._lists.close()
        self._reader.close()
        self._writer.close()

    def read(self, transaction: Transaction[Result]) -> Result:
        """Run a transaction that only reads, at once."""
        try:
            return _run(self._reader, transaction)
        except apsw.Error as error:
            raise _translate(error) from error

    async def _listed(self, transaction: Transaction[Result]) -> Result:
        """The same beside the event loop, for what may be long."""
        try:
            return await self._lists.read(lambda connection: _run(connection, transaction))
        except apsw.Error as error:
            raise _translate(error) from error

    async def check(self) -> None:
        """Whether the database takes writes and is the one that a start would open; raises `Unavailable` when not."""
        await self._writer.probe()

    def displaced(self) -> Sequence[Path]:
        """The files of the database that are open and no longer where they belong."""
        return self._writer.displaced()

    async def stored(self) -> Stored:
        """How much the registry holds. Takes time with many blobs, hence in a thread on a connection of its own."""
        return await asyncio.to_thread(self._count_stored)

    def _count_stored(self) -> Stored:
        connection = _connect(self._path, readonly=True)
        try:
            return _run(connection, transactions.stored())
        except apsw.Error as error:
            raise _translate(error) from error
        finally:
            connection.close()

    def open_uploads(self) -> int:
        """How many sessions are open."""
        return len(self._sessions)

    async def _change(self, repository: Repository, transaction: Transaction[Result]) -> Result:
        """Write something that concerns the repository's manifests or tags."""
        return await self._writer.run(transaction, lambda: self._hot.forget(repository))

    async def repository(self, repository: Repository) -> RepositoryRecord | None:
        """See `Metadata.repository`."""
        record = self._hot.repository(repository)
        if record is None:
            record = self.read(transactions.repository(repository))
            if record is not None:
                self._hot.keep_repository(repository, record)
        return record

    async def generation(self) -> int:
        """See `Metadata.generation`."""
        return self.read(transactions.generation())

    async def manifest(self, repository: Repository, digest: Digest) -> ManifestRecord | None:
        """See `Metadata.manifest`."""
        record = self._hot.get(repository, digest)
        if record is None:
            record = self.read(transactions.manifest(repository, digest))
            if record is not None:
                self._hot.keep(repository, digest, record)
        return record

    async def tagged_manifest(self, repository: Repository, tag: Tag) -> ManifestRecord | None:
        """See `Metadata.tagged_manifest`."""
        record = self._hot.get(repository, tag)
        if record is None:
            record = self.read(transactions.tagged_manifest(repository, tag))
            if record is not None:
                self._hot.keep(repository, tag, record)
        return record

    async def publish(self, publication: Publication) -> PublicationResult:
        """See `Metadata.publish`."""
        return await self._change(publication.repository, transactions.publish(publication, self._clock()))

    async def delete_manifest(
        self, repository: Repository, digest: Digest, subject: str, history: int
    ) -> Sequence[Tag] | None:
        """See `Metadata.delete_manifest`."""
        now = self._clock()
        return await self._writer.free(
            lambda: transactions.delete_manifest(repository, digest, subject, history, now),
            lambda: self._hot.forget(repository),
        )

    async def delete_tag(self, repository: Repository, tag: Tag, subject: str, history: int) -> Digest | None:
        """See `Metadata.delete_tag`."""
        now = self._clock()
        return await self._writer.free(
            lambda: transactions.delete_tag(repository, tag, subject, history, now),
            lambda: self._hot.forget(repository),
        )

    async def tags(self, repository: Repository, page: PageRequest) -> Page[str] | None:
        """See `Metadata.tags`."""
        return await self._listed(transactions.tags(repository, page))

    async def was_tagged(self, repository: Repository, tag: Tag, digest: Digest) -> bool:
        """See `Metadata.was_tagged`."""
        return self.read(transactions.was_tagged(repository, tag, digest))

    async def tagged_as(self, repository: Repository, digest: Digest, most: int) -> Sequence[Tag]:
        """See `Metadata.tagged_as`."""
        return self.read(transactions.tagged_as(repository, digest, most))

    async def tag_history(self, repository: Repository, tag: Tag, page: PageRequest) -> Page[TagEvent] | None:
        """See `Metadata.tag_history`."""
        return await self._listed(transactions.tag_history(repository, tag, page))

    async def repositories(self, page: PageRequest, within: Sequence[NameRange] = ALL_NAMES) -> Page[str]:
        """See `Metadata.repositories`."""
        return await self._listed(transactions.repositories(page, within))

    async def search_repositories(
        self, text: str, page: PageRequest, within: Sequence[NameRange] = ALL_NAMES
    ) -> Stretch:
        """See `Metadata.search_repositories`."""
        return await self._listed(search.repositories(text, page, within))

    async def referrers(
        self, repository: Repository, subject: Digest, artifact_type: str | None, page: PageRequest, most_bytes: int
    ) -> Page[Referrer]:
        """See `Metadata.referrers`."""
        return await self._listed(transactions.referrers(repository, subject, artifact_type, page, most_bytes))

    async def blob(self, repository: Repository, digest: Digest) -> BlobRecord | None:
        """See `Metadata.blob`."""
        return self.read(transactions.blob(repository, digest))

    async def blob_files(self, repository: Repository, digests: Sequence[Digest]) -> Sequence[tuple[Digest, int]]:
        """See `Metadata.blob_files`."""
        return self.read(transactions.blob_files(repository, digests))

    async def link_blob(self, repository: Repository, digest: Digest, record: BlobRecord, upload: UploadId) -> None:
        """See `Metadata.link_blob`."""
        await self._writer.run(transactions.link_blob(repository, digest, record))
        self._sessions.end(upload)

    async def knows_blob(self, digest: Digest) -> bool:
        """See `Metadata.knows_blob`."""
        return self.read(transactions.knows_blob(digest))

    async def mount_blob(
        self, repository: Repository, digest: Digest, sources: Collection[Repository]
    ) -> Repository | None:
        """See `Metadata.mount_blob`."""
        return await self._writer.run(transactions.mount_blob(repository, digest, sources))

    async def repositories_with(self, digest: Digest, most: int) -> Sequence[Repository]:
        """See `Metadata.repositories_with`."""
        return self.read(transactions.repositories_with(digest, most))

    async def unlink_blob(self, repository: Repository, digest: Digest) -> bool:
        """See `Metadata.unlink_blob`."""
        return await self._writer.free(lambda: transactions.unlink_blob(repository, digest))

    async def robot_token(self, token: str) -> RobotToken | None:
        """See `RobotTokens.robot_token`."""
        return self.read(transactions.robot_token(token))

    async def pending_events(self) -> Sequence[PendingEvent]:
        """What commands beside the server did and nobody has taken down yet."""
        return self.read(transactions.pending_events())

    async def drop_pending_events(self, events: Sequence[PendingEvent]) -> None:
        """These are in the audit trail."""
        await self._writer.free(lambda: transactions.drop_pending_events(events))

    async def pin(self, namespace: str, owner: str, image: str, digest: Digest, source: str = "") -> Digest:
        """See `Pins.pin`."""
        return await self._writer.run(transactions.pin(namespace, owner, image, digest, source, self._clock()))

    async def drop_old_pins(self, before: float, most: int) -> None:
        """Forget the digests of owners that made no Pod for long.

        Args:
            before: seconds of Unix time.
            most: how many are kept; of more, the sources that have most of them lose those that they used first.
        """
        await self._writer.free(lambda: transactions.drop_old_pins(before, most))

    async def begin_upload(self, upload: Upload, bounds: UploadBounds) -> Upload | None:
        """See `Metadata.begin_upload`."""
        return self._sessions.begin(upload, bounds)

    async def upload(self, upload: UploadId) -> Upload | None:
        """See `Metadata.upload`."""
        return self._sessions.get(upload)

    async def touch_upload(self, upload: UploadId, at: float, *, empty: bool) -> None:
        """See `Metadata.touch_upload`."""
        self._sessions.touch(upload, at, empty=empty)

    async def end_upload(self, upload: UploadId) -> bool:
        """See `Metadata.end_upload`."""
        return self._sessions.end(upload)

    async def expire_uploads(self, before: float, empty_before: float) -> Sequence[Upload]:
        """See `Metadata.expire_uploads`."""
        return self._sessions.expire(before, empty_before)
