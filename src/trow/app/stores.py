"""The stores of a configuration, and what commands do to them: the one place that knows which stores there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from trow.lib.datadir import DATABASE, hold, require_registry, was_used
from trow.lib.reserve import Reserve
from trow.metadata.inventory import SqliteInventory
from trow.metadata.manifest_cache import ManifestCache
from trow.metadata.offline import check_database, damaged, offline_metadata
from trow.metadata.salvage import recover
from trow.metadata.store import SCHEMA, SqlMetadata
from trow.metadata.uploads import LocalUploads
from trow.oci.errors import Unavailable
from trow.registry.fsck import Fsck
from trow.sql.sqlite import SqliteEngine
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from trow.access.ports import RobotTokens
    from trow.admission.ports import Pins
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.registry.fsck import FsckReport
    from trow.registry.ports import Blobs, Metadata, Outbox, Uploads

__all__ = ["Stores", "check_database", "damaged", "fsck", "offline_metadata", "recover", "stores_of"]
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

            async def put_back() -> None:
                try:
                    await uploads.close()
                except Unavailable as error:
                    log.warning("open uploads cannot go on after a restart: %s", error)

            stack.push_async_callback(put_back)
            blobs = stack.enter_context(contextlib.closing(FilesystemBlobs(config.data_dir, reserve)))
            blobs.prepare()
            space = "on the data directory's volume"
            metrics.add_gauge("trow_uploads_open", "Open upload sessions", lambda: len(uploads))
            metrics.add_gauge("trow_storage_used_bytes", f"Bytes used {space}", lambda: blobs.space()[0])
            metrics.add_gauge("trow_storage_free_bytes", f"Bytes free {space}", lambda: blobs.space()[1])
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
