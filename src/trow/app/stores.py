"""The stores of a configuration, and what commands do to them: the one place that knows which stores there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from trow.lib.datadir import DATABASE, DataDirectoryError, hold, require_registry, was_used
from trow.lib.errors import DamagedError, DatabaseError, StartError
from trow.lib.reserve import Reserve
from trow.metadata.inventory import SqliteInventory
from trow.metadata.manifest_cache import ManifestCache
from trow.metadata.offline import OfflineMetadata
from trow.metadata.salvage import replace_damaged
from trow.metadata.store import SCHEMA, SqlMetadata
from trow.metadata.uploads import LocalUploads
from trow.oci.errors import Unavailable
from trow.registry.fsck import Fsck
from trow.sql.connections import is_empty
from trow.sql.sqlite import SqliteEngine
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence
    from pathlib import Path

    from trow.access.ports import RobotTokens
    from trow.admission.ports import Pins
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.metadata.salvage import Salvaged
    from trow.registry.fsck import FsckReport
    from trow.registry.ports import Blobs, Metadata, Outbox, Uploads

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What is open while a server runs.

    Attributes:
        displaced: each names the files of a store that are in use and no longer where they belong.
    """

    blobs: Blobs
    metadata: Metadata
    uploads: Uploads
    robots: RobotTokens
    outbox: Outbox
    pins: Pins
    displaced: Sequence[Callable[[], Sequence[Path]]]


@contextlib.asynccontextmanager
async def stores_of(config: Config, metrics: Metrics) -> AsyncIterator[Stores]:
    """Open them; they are closed in the end, and upload sessions go on after a restart.

    Raises:
        SchemaError: the database was written by a newer Trow, or by another program.
        OSError: something cannot be opened.
        Unavailable: the database does not work.
    """
    reserve = Reserve(config.data_dir / "trow.reserve", config.limits.reserved_space)
    # In this order: what a start that was interrupted leaves does not look like a registry that has lost its database.
    engine = SqliteEngine(config.data_dir / DATABASE, SCHEMA, partial(metrics.database, "commit"), reserve)
    with contextlib.closing(engine):
        async with contextlib.AsyncExitStack() as stack:
            uploads = await LocalUploads.opened(engine)
            stack.push_async_callback(_put_back, uploads)
            blobs = stack.enter_context(contextlib.closing(FilesystemBlobs(config.data_dir, reserve)))
            blobs.prepare()
            _measure(blobs, uploads, metrics)
            metadata = SqlMetadata(engine, ManifestCache(), config.registry.tag_history)
            yield Stores(
                blobs=blobs,
                metadata=metadata,
                uploads=uploads,
                robots=metadata,
                outbox=metadata,
                pins=metadata,
                displaced=(blobs.displaced, engine.displaced),
            )


async def _put_back(uploads: LocalUploads) -> None:
    try:
        await uploads.close()
    except Unavailable as error:
        log.warning("open uploads cannot go on after a restart: %s", error)


def _measure(blobs: FilesystemBlobs, uploads: LocalUploads, metrics: Metrics) -> None:
    metrics.add_gauge("trow_uploads_open", "Open upload sessions", lambda: len(uploads))
    metrics.add_gauge("trow_storage_used_bytes", "Bytes used on the data directory's volume", lambda: blobs.space()[0])
    metrics.add_gauge("trow_storage_free_bytes", "Bytes free on the data directory's volume", lambda: blobs.space()[1])


def check_database(directory: Path, *, new: bool) -> None:
    """See whether the database is there that belongs to what else is in the directory.

    A start never takes the remains of a registry for an empty one.

    Args:
        directory: the data directory, held.
        new: whether an empty database is wanted in place of one that is lost.

    Raises:
        DataDirectoryError: it is lost or damaged; the message says what to do.
    """
    path = directory / DATABASE
    try:
        lost = is_empty(path, SCHEMA)
    except DamagedError as error:
        raise DataDirectoryError(damaged(path, error)) from None
    if lost and not new and was_used(directory):
        what = "holds nothing" if path.exists() else "is missing"
        raise DataDirectoryError(
            f"{path} {what}, although a registry was here: put the database back from a backup, or begin with an empty "
            f"one (trow serve --new-database); docs/how-to/recover.md has both"
        )


def damaged(path: Path, error: DamagedError) -> str:
    """What to do about a database that cannot be read."""
    return (
        f"{path} is damaged ({error}): trow fsck says what is lost, and docs/how-to/recover.md how to get the rest back"
    )


@contextlib.contextmanager
def offline_metadata(config: Config) -> Iterator[OfflineMetadata]:
    """The metadata for a command beside a server that may be running.

    Raises:
        StartError: the database cannot be used; the message says what to do.
    """
    require_registry(config.data_dir)
    try:
        yield OfflineMetadata(config.data_dir / DATABASE)
    except (OSError, DatabaseError) as error:
        raise StartError(f"cannot use {config.data_dir}: {error}; give the server's --data-dir") from error


def fsck(config: Config, *, quarantine: bool, progress: Callable[[str], None]) -> FsckReport:
    """Read everything that is stored and compare it with its digest.

    Args:
        config: whose data directory to check.
        quarantine: move what is damaged to ``quarantine/``; then no server may use the directory.
        progress: told now and then how far the check has come.

    Raises:
        DataDirectoryError: the check cannot run.
    """
    if not was_used(config.data_dir):
        require_registry(config.data_dir)
    held = hold(config.data_dir) if quarantine else contextlib.nullcontext()
    with held, contextlib.closing(SqliteInventory(config.data_dir / DATABASE)) as inventory:
        check = Fsck(FilesystemBlobs(config.data_dir), inventory, progress, quarantine=quarantine)
        return asyncio.run(check.run())


def recover(config: Config) -> tuple[Sequence[Salvaged], Path]:
    """Copy what can be read into a new database and put it in place of the damaged one.

    Returns:
        What became of each table, and the folder where the damaged database is now.

    Raises:
        StartError: there is no registry, or it cannot be done, and nothing was changed; the message says what to do.
    """
    if not was_used(config.data_dir):
        require_registry(config.data_dir)
    path = config.data_dir / DATABASE
    with hold(config.data_dir):
        if not path.exists():
            raise StartError(f"{path} is missing; put it back from a backup, or start with trow serve --new-database")
        try:
            return replace_damaged(path, config.data_dir / "quarantine")
        except DatabaseError as error:
            raise StartError(f"{path} cannot be recovered: {error}; put it back from a backup") from error
