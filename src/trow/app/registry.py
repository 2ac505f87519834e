"""The use cases of the registry over its stores."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from trow.http.capacity import capacity_of
from trow.lib.background import every, in_background
from trow.lib.datadir import RunningMark
from trow.oci.errors import OciError
from trow.oci.names import Repository
from trow.registry.browse import Browse
from trow.registry.leftovers import Leftovers
from trow.registry.ports import PublishRules, UploadBounds
from trow.registry.publish import Publish
from trow.registry.pull import Pull
from trow.registry.pull_check import publish_pull_check
from trow.registry.push import Push
from trow.registry.sessions import MOST_KEPT_OPEN, Sessions
from trow.registry.transfers import TransferTracker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.app.stores import Stores
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.registry.events import AuditLog
    from trow.registry.ports import Metadata

log = logging.getLogger(__name__)

_HOUSEKEEPING_SECONDS: Final = 60.0
_SWEEP_SECONDS: Final = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class RegistryPart:
    """The use cases, and the metadata that they work on."""

    metadata: Metadata
    pull: Pull
    push: Push
    publish: Publish
    browse: Browse
    transfers: TransferTracker


@contextlib.asynccontextmanager
async def registry_of(config: Config, stores: Stores, audit: AuditLog, metrics: Metrics) -> AsyncIterator[RegistryPart]:
    """Build it from the settings. What a crash has left of uploads is removed first."""
    settings, limits = config.registry, config.limits
    bounds = UploadBounds(limits.max_uploads, limits.max_uploads_per_user, limits.max_uploads_per_repository)
    sessions = Sessions(
        stores.blobs,
        stores.uploads,
        bounds,
        expiry=settings.upload_expiry,
        empty_expiry=settings.empty_upload_expiry,
        kept_open=min(MOST_KEPT_OPEN, capacity_of(config).sessions),
    )
    rules = PublishRules(
        sparse_images=settings.sparse_images,
        sparse_indexes=settings.sparse_indexes,
        strict_sizes=settings.strict_sizes,
        most_tags=limits.max_tags_per_push,
    )
    transfers = TransferTracker(audit, config.audit.pull_idle)

    leftovers = Leftovers(stores.blobs, stores.metadata)

    async def housekeeping() -> None:
        usage = await stores.metadata.usage()
        metrics.note_stored(usage.blobs, usage.bytes)
        if count := await sessions.expire():
            log.info("upload sessions expired", extra={"count": count})
        await leftovers.remove()

    async def sweep() -> None:
        transfers.sweep()

    async with contextlib.AsyncExitStack() as stack:
        await stack.enter_async_context(_recovered(config, stores, sessions))
        stack.callback(lambda: transfers.sweep(everything=True))
        loops = in_background(every(_HOUSEKEEPING_SECONDS, housekeeping), every(_SWEEP_SECONDS, sweep))
        await stack.enter_async_context(loops)
        publish = Publish(stores.blobs, stores.metadata, rules, metrics.wrong_sizes)
        await _publish_pull_check(config, publish, stores.metadata, audit)
        yield RegistryPart(
            metadata=stores.metadata,
            pull=Pull(stores.blobs, stores.metadata),
            push=Push(stores.blobs, stores.metadata, sessions, most_bytes=settings.max_blob_size),
            publish=publish,
            browse=Browse(stores.metadata),
            transfers=transfers,
        )


async def _publish_pull_check(config: Config, publish: Publish, metadata: Metadata, audit: AuditLog) -> None:
    if config.registry.pull_check is None:
        return
    try:
        repository = Repository.parse(config.registry.pull_check)
        await publish_pull_check(repository, publish, metadata, audit)
    except OciError as error:  # a full disk, which deletes can free
        log.warning("the image by which nodes show that they can pull is not published", extra={"error": error.message})


@contextlib.asynccontextmanager
async def _recovered(config: Config, stores: Stores, sessions: Sessions) -> AsyncIterator[None]:
    mark = RunningMark(config.data_dir)
    crashed = mark.found()
    if stores.held.alone:  # else what lies there may be what other replicas are uploading
        removed = await stores.blobs.recover(partial(stores.metadata.knows_location, None), crashed=crashed)
        if crashed:
            log.warning("the last run did not end cleanly; unfinished uploads were removed", extra={"count": removed})
    mark.set()
    if config.replicas > 1:
        stores.held.share()
    try:
        yield
    finally:  # also where the start itself fails: sessions of the last run go on after the next one
        await sessions.close()
        if stores.held.alone or stores.held.try_alone():
            mark.clear()
