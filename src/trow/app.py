"""The composition root: the only module that knows every adapter."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import signal
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import apsw
import uvloop

from trow import logs
from trow.config import read_password
from trow.datadir import DataDirectoryError, RunningMark, hold
from trow.fsck import Check
from trow.fsck import FsckReport as FsckReport  # noqa: PLC0414 - part of what this module offers
from trow.http.accesslog import AccessLog
from trow.http.api import Api
from trow.http.blobs import BlobHandlers
from trow.http.cors import Cors
from trow.http.dispatch import Dispatcher
from trow.http.limits import RateLimit
from trow.http.metrics import Metrics
from trow.http.ops import Operations
from trow.http.routes import Router, table
from trow.http.server import HttpServer, ListenError, TlsFiles, reserve
from trow.http.v2 import V2
from trow.identity.single import NoAuthenticator, SingleAuthorizer, SingleUser
from trow.memory import return_memory
from trow.metadata.sqlite import SchemaError, SqliteMetadata
from trow.oci.errors import OciError
from trow.registry.browse import Browse
from trow.registry.publish import Publish, PublishRules
from trow.registry.pull import Pull
from trow.registry.push import Push
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence

    from trow.config import Config
    from trow.http.server import Address

log = logging.getLogger(__name__)

_DATABASE: Final = "trow.db"
_HOUSE_SECONDS: Final = 60.0
_COLLECT_AFTER: Final = 5_000


class StartError(Exception):
    """The registry cannot run; the message says why and what to do."""


def serve(config: Config, announce: Callable[[Sequence[str]], None]) -> int:
    """Run the registry until SIGTERM or SIGINT; returns the exit code.

    Args:
        config: what to serve.
        announce: called with the addresses once requests are taken.

    Raises:
        StartError: it cannot be served; the message says why and what to do.
    """
    logs.configure(config.log.level)
    try:
        with hold(config.data_dir):
            return uvloop.run(_serve(config, announce))
    except (DataDirectoryError, ListenError, SchemaError) as error:
        raise StartError(str(error)) from error
    except (OSError, apsw.Error) as error:
        raise StartError(f"cannot use {config.data_dir}: {error}; repair it or give another --data-dir") from error


async def _serve(config: Config, announce: Callable[[Sequence[str]], None]) -> int:
    stopping = _stop_signals()
    addresses = [address for bind in config.listen.bind for address in reserve(bind.host, bind.port)]
    async with contextlib.AsyncExitStack() as stack:
        application = await stack.enter_async_context(application_of(config))
        tls = config.listen.tls
        server = HttpServer(
            application.dispatcher, addresses, TlsFiles(tls.certificate, tls.key) if tls is not None else None
        )
        await server.start()
        _settle_memory()
        announce([str(address) for address in addresses])
        background = [
            asyncio.create_task(server.watch_certificate()),
            asyncio.create_task(_keep_house(application)),
            asyncio.create_task(return_memory(lambda: application.metrics.answered)),
        ]
        await stopping.wait()
        for task in background:
            task.cancel()
        return await _stop(server, addresses, config.listen.shutdown_grace)


async def _stop(server: HttpServer, addresses: Sequence[Address], grace: float) -> int:
    log.info("stopping: finishing the requests in flight")
    finished = await server.stop(grace)
    for address in addresses:
        address.reservation.close()
    if not finished:
        log.warning("requests were cut off: they took longer than listen.shutdown_grace")
    return 0


def _stop_signals() -> asyncio.Event:
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    return stopping


def _settle_memory() -> None:
    """What was loaded stays, and requests leave no cycles behind: the collector has little to look for."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_COLLECT_AFTER)


async def _keep_house(application: Application) -> None:
    """What has to be done every minute."""
    while True:
        try:
            await application.count_stored()
            if count := await application.push.expire():
                log.info("upload sessions expired", extra={"count": count})
        except OciError:
            log.exception("storage or database did not answer; trying again in a minute")
        await asyncio.sleep(_HOUSE_SECONDS)


@dataclass(frozen=True, slots=True)
class Application:
    """What a server needs of the registry."""

    dispatcher: Dispatcher
    push: Push
    metrics: Metrics
    count_stored: Callable[[], Awaitable[None]]


@contextlib.asynccontextmanager
async def application_of(config: Config) -> AsyncIterator[Application]:
    """Open storage and database, recover from a crash, wire everything together; close it in the end."""
    mark = RunningMark(config.data_dir)
    blobs = FilesystemBlobs(config.data_dir)
    blobs.prepare()
    metrics = Metrics()
    metadata = SqliteMetadata(config.data_dir / _DATABASE, observe=metrics.database)
    _add_gauges(metrics, metadata, blobs)
    push = Push(
        blobs,
        metadata,
        most_uploads=config.limits.max_uploads,
        most_bytes=config.registry.max_blob_size,
        expiry=config.registry.upload_expiry,
    )
    crashed = mark.found()
    removed = await blobs.recover(metadata.knows_blob, crashed=crashed)
    if crashed:
        log.warning("the last run did not end cleanly; unfinished uploads were removed", extra={"count": removed})
    mark.set()
    access_log = AccessLog(sys.stderr.buffer) if config.log.access else None
    try:

        async def count_stored() -> None:
            stored = await metadata.stored()
            metrics.note_stored(stored.blobs, stored.bytes)

        yield Application(_dispatcher(config, blobs, metadata, push, metrics, access_log), push, metrics, count_stored)
        await push.close()
        mark.clear()
    finally:
        metadata.close()
        blobs.close()
        if access_log is not None:
            access_log.close()


def _add_gauges(metrics: Metrics, metadata: SqliteMetadata, blobs: FilesystemBlobs) -> None:
    metrics.add_gauge("trow_uploads_open", "Open upload sessions", metadata.open_uploads)
    metrics.add_gauge("trow_storage_used_bytes", "Bytes used on the data directory's volume", lambda: blobs.space()[0])
    metrics.add_gauge("trow_storage_free_bytes", "Bytes free on the data directory's volume", lambda: blobs.space()[1])


def _dispatcher(
    config: Config,
    blobs: FilesystemBlobs,
    metadata: SqliteMetadata,
    push: Push,
    metrics: Metrics,
    access_log: AccessLog | None,
) -> Dispatcher:
    password = read_password(config)
    user = config.auth.user
    authenticator = SingleUser(user, password) if user is not None and password is not None else NoAuthenticator()
    authorizer = SingleAuthorizer(config.auth.anonymous_access, has_user=user is not None)
    limits = config.limits
    pull, browse = Pull(blobs, metadata), Browse(metadata)
    routes = table(
        V2(
            pull,
            Publish(metadata, _publish_rules(config)),
            browse,
            max_manifest_size=config.registry.max_manifest_size,
            page_size=limits.page_size,
            max_page_size=limits.max_page_size,
        ),
        BlobHandlers(pull, push, metadata, authorizer),
        Api(browse, page_size=limits.page_size, max_page_size=limits.max_page_size),
        Operations(_checks(metadata, blobs), metrics),
    )
    return Dispatcher(
        Router(routes),
        authenticator,
        authorizer,
        metrics=metrics,
        rate_limit=RateLimit(limits.requests_per_second, limits.burst),
        cors=Cors(config.listen.cors),
        access_log=access_log,
        body_timeout=limits.body_timeout,
        notice=config.registry.notice,
    )


def _publish_rules(config: Config) -> PublishRules:
    return PublishRules(
        sparse_images=config.registry.sparse_images,
        sparse_indexes=config.registry.sparse_indexes,
        history=config.registry.tag_history,
        most_tags=config.limits.max_tags_per_push,
    )


def _checks(metadata: SqliteMetadata, blobs: FilesystemBlobs) -> Mapping[str, Callable[[], Awaitable[None]]]:
    async def storage() -> None:
        await asyncio.to_thread(blobs.check)

    return {"storage": storage, "database": metadata.check}


def fsck(config: Config, *, quarantine: bool, progress: Callable[[str], None]) -> FsckReport:
    """Read everything that is stored and hold it against its digest.

    Args:
        config: whose data directory to check.
        quarantine: move what is damaged to ``quarantine/``; then no server may use the directory.
        progress: told now and then how far the check has come.

    Raises:
        DataDirectoryError, SchemaError: the check cannot run.
    """
    with hold(config.data_dir) if quarantine else contextlib.nullcontext():
        return Check(config.data_dir, config.data_dir / _DATABASE, progress).run(quarantine=quarantine)
