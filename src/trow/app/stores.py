"""The stores of a configuration, and what commands do to them: the one place that knows which stores there are."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from trow.http.capacity import capacity_of
from trow.lib.datadir import DATABASE, DataDirectoryError, hold, is_of_a_server, require_registry, was_used
from trow.lib.errors import DatabaseError, StartError
from trow.lib.reserve import Reserve
from trow.metadata.inventory import SqliteInventory
from trow.metadata.manifest_cache import ManifestCache
from trow.metadata.offline import OfflineMetadata, check_database, damaged
from trow.metadata.offline import offline_metadata as embedded_offline_metadata
from trow.metadata.salvage import recover
from trow.metadata.shared import SHARED_SCHEMA, SharedMetadata, require_same_directory
from trow.metadata.store import SCHEMA, SqlMetadata
from trow.metadata.uploads import LocalUploads, SharedUploads
from trow.oci.errors import Unavailable
from trow.registry.fsck import Fsck
from trow.sql.sqlite import SqliteEngine
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
    from pathlib import Path
    from types import ModuleType

    from trow.access.ports import RobotTokens
    from trow.admission.ports import Pins
    from trow.config import Config, Postgres
    from trow.http.metrics import Metrics
    from trow.lib.datadir import Hold
    from trow.registry.fsck import FsckReport
    from trow.registry.location import BlobLocation
    from trow.registry.ports import Blobs, Metadata, Outbox, Uploads
    from trow.sql.engine import Engine
    from trow.sql.postgres import PostgresSettings

__all__ = ["Stores", "check_database", "damaged", "fsck", "offline_metadata", "recover", "stores_of", "try_database"]
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stores:
    """What is open while a server runs.

    Attributes:
        held: the data directory.
        shared: by what replicas agree; None where there is one process.
        displaced: each names the files of a store that are in use and no longer where they belong.
    """

    blobs: Blobs
    metadata: Metadata
    uploads: Uploads
    robots: RobotTokens
    outbox: Outbox
    pins: Pins
    shared: SharedMetadata | None
    held: Hold
    displaced: Sequence[Callable[[], Sequence[Path]]]


@contextlib.asynccontextmanager
async def stores_of(
    config: Config, metrics: Metrics, held: Hold, *, new_database: bool = False
) -> AsyncIterator[Stores]:
    """Open them; they are closed in the end, and upload sessions go on after a restart.

    Raises:
        SchemaError: the database was written by a newer Trow, or by another program.
        DatabaseError, DataDirectoryError: the database cannot be used, or belongs to another data directory.
        OSError: something cannot be opened.
        Unavailable: the database does not work.
    """
    reserve = Reserve(config.data_dir / "trow.reserve", config.limits.reserved_space)
    async with contextlib.AsyncExitStack() as stack:
        # In this order: what a start that was interrupted leaves does not look like a registry that has lost its
        # database.
        engine, metadata = await stack.enter_async_context(_database(config, metrics, reserve, new=new_database))
        uploads = await stack.enter_async_context(_uploads(config, engine, metrics))
        files = stack.enter_context(contextlib.closing(FilesystemBlobs(config.data_dir, reserve)))
        files.prepare()
        space = "on the data directory's volume"
        metrics.add_gauge("trow_storage_used_bytes", f"Bytes used {space}", lambda: files.space()[0])
        metrics.add_gauge("trow_storage_free_bytes", f"Bytes free {space}", lambda: files.space()[1])
        blobs = await stack.enter_async_context(_blobs(config, files, metadata.reserve, metrics.bucket))
        yield Stores(
            blobs=blobs,
            metadata=metadata,
            uploads=uploads,
            robots=metadata,
            outbox=metadata,
            pins=metadata,
            shared=metadata if isinstance(metadata, SharedMetadata) else None,
            held=held,
            displaced=(files.displaced, engine.displaced),
        )


@contextlib.asynccontextmanager
async def _uploads(config: Config, engine: Engine, metrics: Metrics) -> AsyncIterator[Uploads]:
    if config.goes_on_elsewhere:
        yield SharedUploads(engine)
        return
    uploads = await LocalUploads.opened(engine)
    metrics.add_gauge("trow_uploads_open", "Open upload sessions", lambda: len(uploads))
    try:
        yield uploads
    finally:
        try:
            await uploads.close()
        except Unavailable as error:
            log.warning("open uploads cannot go on after a restart: %s", error)


@contextlib.asynccontextmanager
async def _database(
    config: Config, metrics: Metrics, reserve: Reserve, *, new: bool
) -> AsyncIterator[tuple[Engine, SqlMetadata]]:
    observe = partial(metrics.database, "commit")
    if config.metadata == "sqlite":
        with contextlib.closing(SqliteEngine(config.data_dir / DATABASE, SCHEMA, observe, reserve)) as embedded:
            yield embedded, SqlMetadata(embedded, ManifestCache(), config.registry.tag_history)
        return
    postgres = _postgres()
    settings = _settings_of(config.postgres)
    async with postgres.PostgresEngine.opened(settings, SCHEMA, SHARED_SCHEMA, observe=observe) as engine:
        if config.storage == "filesystem":
            await require_same_directory(engine, config.data_dir, new=new)
        metrics.add_gauge(
            "trow_postgres_connections", "Connections to PostgreSQL that are open", lambda: engine.connections
        )
        metrics.add_gauge(
            "trow_postgres_connections_busy",
            "Connections to PostgreSQL that are at work",
            lambda: engine.busy_connections,
        )
        metrics.add_counter(
            "trow_postgres_repeated_total",
            "Work that was done again because another transaction or a lost connection was in the way",
            lambda: engine.repeated,
        )
        yield engine, SharedMetadata(engine, config.registry.tag_history, time.time)


def _postgres() -> ModuleType:
    """The engine in PostgreSQL, which is loaded where it is used. Raises StartError."""
    try:
        from trow.sql import postgres  # noqa: PLC0415
    except ImportError as error:
        raise StartError(
            f"metadata: postgres needs the package asyncpg ({error}); install it: pip install 'trow[postgres]'"
        ) from None
    return postgres


def _settings_of(given: Postgres) -> PostgresSettings:
    assert given.url is not None  # noqa: S101 - see trow.config.check
    settings: PostgresSettings = _postgres().PostgresSettings(
        given.url,
        password_file=given.password_file,
        ca_file=given.ca_file,
        connections=given.max_connections,
        timeout=given.timeout,
        statement_cache=given.statement_cache_size,
    )
    return settings


async def try_database(config: Config, *, new: bool) -> None:
    """See whether the database of a start can be used; nothing is made or changed.

    Raises:
        StartError, DatabaseError: it cannot.
    """
    if config.metadata == "sqlite":
        check_database(config.data_dir, new=new)
    else:
        await _postgres().try_server(_settings_of(config.postgres), SCHEMA, SHARED_SCHEMA)


@contextlib.contextmanager
def offline_metadata(config: Config) -> Iterator[OfflineMetadata]:
    """The metadata of a registry, for a command beside servers that may be running.

    Raises:
        StartError: the database cannot be used; the message says what to do.
    """
    if config.metadata == "sqlite":
        with embedded_offline_metadata(config.data_dir) as embedded:
            yield embedded
        return
    postgres, settings = _postgres(), _settings_of(config.postgres)
    schemas = (SCHEMA, SHARED_SCHEMA)
    try:
        yield OfflineMetadata(lambda make: asyncio.run(postgres.run_offline(settings, schemas, make)))
    except (DatabaseError, Unavailable) as error:
        raise StartError(str(error)) from error


@contextlib.asynccontextmanager
async def _blobs(
    config: Config,
    files: FilesystemBlobs,
    reserve: Callable[[BlobLocation], Awaitable[bool]],
    observe: Callable[[str, float, bool], None] = lambda *_: None,
) -> AsyncIterator[Blobs]:
    """The store of blobs; ``files`` keeps them, or the bytes of the uploads that are under way.

    Raises:
        StartError: what talks to the bucket is not installed.
        Unavailable: the bucket cannot be used.
    """
    if config.storage == "filesystem":
        yield files
        return
    s3, bucket = _s3(), config.s3
    settings = s3.BucketSettings(
        name=bucket.bucket or "",
        prefix=bucket.prefix,
        region=bucket.region,
        endpoint=bucket.endpoint,
        path_style=bucket.path_style,
        public_endpoint=bucket.public_endpoint,
        ca_file=bucket.ca_file,
        encryption=None if bucket.encryption == "bucket" else bucket.encryption,
        kms_key=bucket.kms_key,
        timeout=bucket.timeout,
        connections=bucket.max_connections + capacity_of(config).downloads,
    )
    lifetime = math.ceil(bucket.redirect_lifetime) if bucket.redirect else 0
    async with s3.Bucket.opened(settings, observe) as opened:
        yield s3.S3Blobs(opened, files, reserve, shared=config.goes_on_elsewhere, redirect_seconds=lifetime)


def _s3() -> ModuleType:
    """What talks to buckets, which is loaded where it is used. Raises StartError."""
    try:
        from trow.storage import s3  # noqa: PLC0415
    except ImportError as error:
        raise StartError(
            f"storage: s3 needs the package aiobotocore ({error}); install it: pip install 'trow[s3]'"
        ) from None
    return s3


def fsck(config: Config, *, quarantine: bool, progress: Callable[[str], None]) -> FsckReport:
    """Read everything that is stored and compare it with its digest.

    Args:
        config: whose data directory to check.
        quarantine: move what is damaged to ``quarantine/``; then no server may use the directory.
        progress: told now and then how far the check has come.

    Raises:
        DataDirectoryError: the check cannot run.
    """
    if config.metadata != "sqlite" or is_of_a_server(config.data_dir):
        raise DataDirectoryError("trow fsck reads a database of SQLite, and this registry has metadata: postgres")
    if not was_used(config.data_dir):
        require_registry(config.data_dir)
    held = hold(config.data_dir) if quarantine else contextlib.nullcontext()
    with held, contextlib.closing(SqliteInventory(config.data_dir / DATABASE)) as inventory:
        return asyncio.run(_fsck(config, inventory, progress, quarantine=quarantine))


async def _fsck(
    config: Config, inventory: SqliteInventory, progress: Callable[[str], None], *, quarantine: bool
) -> FsckReport:
    async def refuse(_: BlobLocation) -> bool:
        return False  # a check brings no bytes

    async with _blobs(config, FilesystemBlobs(config.data_dir), refuse) as blobs:
        return await Fsck(blobs, inventory, progress, quarantine=quarantine).run()
