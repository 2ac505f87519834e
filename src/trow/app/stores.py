"""The stores that the configuration asks for: the one place that knows which there are."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from trow.lib.datadir import DATABASE
from trow.lib.reserve import Reserve
from trow.metadata.manifest_cache import ManifestCache
from trow.metadata.store import SCHEMA, SqlMetadata
from trow.metadata.uploads import LocalUploads
from trow.oci.errors import Unavailable
from trow.sql.sqlite import SqliteEngine
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.sql.engine import Engine

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stores:
    """What is open while a server runs.

    Attributes:
        engine: that of the metadata.
    """

    blobs: FilesystemBlobs
    metadata: SqlMetadata
    uploads: LocalUploads
    engine: Engine


@contextlib.asynccontextmanager
async def stores_of(config: Config, metrics: Metrics) -> AsyncIterator[Stores]:
    """Open them; they are closed in the end, and upload sessions go on after a restart.

    Raises:
        SchemaError: see `SqliteEngine`.
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
            stores = Stores(blobs, SqlMetadata(engine, ManifestCache()), uploads, engine)
            _measure(stores, metrics)
            yield stores


async def _put_back(uploads: LocalUploads) -> None:
    try:
        await uploads.close()
    except Unavailable as error:
        log.warning("open uploads cannot go on after a restart: %s", error)


def _measure(stores: Stores, metrics: Metrics) -> None:
    blobs = stores.blobs
    metrics.add_gauge("trow_uploads_open", "Open upload sessions", lambda: len(stores.uploads))
    metrics.add_gauge("trow_storage_used_bytes", "Bytes used on the data directory's volume", lambda: blobs.space()[0])
    metrics.add_gauge("trow_storage_free_bytes", "Bytes free on the data directory's volume", lambda: blobs.space()[1])
