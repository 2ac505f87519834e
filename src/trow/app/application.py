"""Everything a server needs, opened and wired together."""

from __future__ import annotations

import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from trow.admission.recording import ReviewRecorder
from trow.app import place
from trow.app.admission import admission_of
from trow.app.audit import Changes, trail
from trow.app.certificates import WEBHOOK_PATHS, Webhooks, webhook_front
from trow.app.identity import identities
from trow.app.place import Place
from trow.app.stores import stores_of
from trow.http.accesslog import AccessLog
from trow.http.capacity import DOWNLOAD_BYTES, capacity_of
from trow.http.connections import Connections
from trow.http.cors import Cors
from trow.http.dispatch import Dispatcher
from trow.http.gate import Gate
from trow.http.handlers.api import Api
from trow.http.handlers.blobs import BlobHandlers
from trow.http.handlers.lists import Lists
from trow.http.handlers.manifests import ManifestBodies
from trow.http.handlers.ops import Operations
from trow.http.handlers.token import TokenService
from trow.http.handlers.v2 import V2
from trow.http.hosts import parse_host
from trow.http.limits import RateLimit
from trow.http.metrics import Metrics
from trow.http.pace import Pace
from trow.http.peers import Peers, TerminatorPeers
from trow.http.recorder import Recorder
from trow.http.routes import PROBES, Router, table
from trow.http.sites import Sites, origin_of
from trow.lib.datadir import RunningMark
from trow.oci.page import PageSizes
from trow.registry.browse import Browse
from trow.registry.ports import UploadBounds
from trow.registry.publish import Publish, PublishRules
from trow.registry.pull import Pull
from trow.registry.push import Push
from trow.registry.sessions import MOST_KEPT_OPEN, Sessions
from trow.registry.transfers import Transfers
from trow.tls.files import TlsFiles
from trow.tls.terminator import Room, TlsTerminator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator, Mapping, Sequence

    from trow.app.admission import Admission
    from trow.app.audit import NoAudit
    from trow.app.certificates import WebhookFront
    from trow.app.identity import Identities
    from trow.app.stores import Stores
    from trow.audit.trail import AuditTrail
    from trow.config import Config
    from trow.http.routes import Endpoint
    from trow.lib.logs import Output
    from trow.registry.events import Records

log = logging.getLogger(__name__)

# An owner that made no Pod for so long gets the tag's digest of the day.
_PINS_SECONDS: Final = 30 * 86400.0
# Some 60 MiB. Whoever reaches the webhooks can claim any number of owners, and gives up what is too much.
_MOST_PINS: Final = 200_000


@dataclass(frozen=True, slots=True)
class Application:
    """What a server needs of the registry.

    Attributes:
        probes: for the listener of operators alone.
        certified: None where no client certificates are asked for.
        webhooks: None where they have no listener of their own.
    """

    dispatcher: Dispatcher
    probes: Dispatcher
    push: Push
    transfers: Transfers
    changes: Changes
    metrics: Metrics
    stores: Stores
    place: Place
    certified: Certified | None
    webhooks: Webhooks | None
    connections: Connections

    async def count_stored(self) -> None:
        """Take a new look at how much the registry holds."""
        stored = await self.stores.metadata.stored()
        self.metrics.note_stored(stored.blobs, stored.bytes)

    async def forget_pins(self) -> None:
        """Forget the digests of owners that made no Pod for long."""
        await self.stores.metadata.drop_old_pins(time.time() - _PINS_SECONDS, _MOST_PINS)

    async def cut_off(self) -> None:
        """End the requests that are still under way when all listeners have stopped."""
        for part in (self, self.certified, self.webhooks):
            if part is not None:
                await part.dispatcher.cut_off()

    async def renewed(self) -> None:
        """The server's certificate was renewed."""
        if self.certified is not None:
            await self.certified.tunnels.reload()


@dataclass(frozen=True, slots=True)
class Certified:
    """What the listener for client certificates needs: no other has this dispatcher."""

    dispatcher: Dispatcher
    tunnels: TlsTerminator


@dataclass(frozen=True, slots=True)
class _Parts:
    """What is open while the application runs."""

    config: Config
    stores: Stores
    push: Push
    metrics: Metrics
    identities: Identities
    audit: AuditTrail | NoAudit
    records: Records
    transfers: Transfers
    tunnels: TlsTerminator | None
    admission: Admission
    webhook_front: WebhookFront | None
    access_log: AccessLog | None
    connections: Connections


@contextlib.asynccontextmanager
async def application_of(config: Config, output: Output) -> AsyncIterator[Application]:
    """Open storage and database, recover from a crash, wire everything together; close it in the end."""
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        stores = await stack.enter_async_context(stores_of(config, metrics))
        blobs, metadata = stores.blobs, stores.metadata
        push = await stack.enter_async_context(_pushing(config, stores))
        audit, records = await stack.enter_async_context(trail(config, metrics))
        transfers = Transfers(audit, config.audit.pull_idle)
        stack.callback(lambda: transfers.sweep(everything=True))
        known = await stack.enter_async_context(identities(config, metadata, metrics.kubernetes))
        access_log = stack.enter_context(_access_log(config, output, metrics))
        connections = _connections(config, metrics)
        tunnels, front = _tunnels(config, metrics), webhook_front(config)
        pull = Pull(blobs, metadata)
        ledger = ReviewRecorder(audit, transfers.repeats)
        admission = await stack.enter_async_context(admission_of(config, pull, metadata, ledger, metrics))
        parts = _Parts(
            config,
            stores,
            push,
            metrics,
            known,
            audit,
            records,
            transfers,
            tunnels,
            admission,
            front,
            access_log,
            connections,
        )
        changes = Changes(config, metadata, audit)
        (dispatcher, probes), certified, webhooks = _dispatchers(parts)
        where = Place(blobs.displaced, stores.engine.displaced, audit.displaced)
        yield Application(
            dispatcher, probes, push, transfers, changes, metrics, stores, where, certified, webhooks, connections
        )


def _connections(config: Config, metrics: Metrics) -> Connections:
    room = capacity_of(config)
    connections = Connections(room.places, DOWNLOAD_BYTES, room.work)
    description = "Places that answers of more than 64 KiB hold"
    metrics.add_gauge("trow_downloads_open", description, lambda: connections.downloads)
    return connections


@contextlib.contextmanager
def _access_log(config: Config, output: Output, metrics: Metrics) -> Iterator[AccessLog | None]:
    description = "Log lines since the start that nobody read in time"
    metrics.add_gauge("trow_log_lines_dropped", description, lambda: output.lines.dropped)
    if not config.log.access:
        yield None
        return
    access_log = AccessLog(output)
    try:
        yield access_log
    finally:
        access_log.close()


@contextlib.asynccontextmanager
async def _pushing(config: Config, stores: Stores) -> AsyncIterator[Push]:
    """Uploads: what a crash has left is cleared away; what is open at the end goes on after a restart."""
    settings, limits = config.registry, config.limits
    bounds = UploadBounds(limits.max_uploads, limits.max_uploads_per_user, limits.max_uploads_per_repository)
    blobs, metadata = stores.blobs, stores.metadata
    sessions = Sessions(
        blobs,
        stores.uploads,
        bounds,
        expiry=settings.upload_expiry,
        empty_expiry=settings.empty_upload_expiry,
        kept_open=min(MOST_KEPT_OPEN, capacity_of(config).sessions),
    )
    push = Push(blobs, metadata, sessions, most_bytes=config.registry.max_blob_size)
    mark = RunningMark(config.data_dir)
    crashed = mark.found()
    removed = await blobs.recover(metadata.knows_blob, crashed=crashed)
    if crashed:
        log.warning("the last run did not end cleanly; unfinished uploads were removed", extra={"count": removed})
    mark.set()
    try:
        yield push
    finally:  # also where the start itself comes to nothing: sessions of the last run go on after the next one
        await sessions.close()
        mark.clear()


def _tunnels(config: Config, metrics: Metrics) -> TlsTerminator | None:
    settings, tls = config.listen.client_tls, config.listen.tls
    if settings is None or tls is None:
        return None
    room = Room(capacity_of(config).tunnels)
    tunnels = TlsTerminator(TlsFiles(tls.certificate, tls.key), settings.client_ca, settings.crl, room)
    if settings.crl is not None:
        metrics.add_gauge(
            "trow_client_crl_expiry_timestamp_seconds",
            "When the first list of revoked client certificates runs out, in seconds since 1970",
            lambda: tunnels.revocation_ends,
        )
    return tunnels


def _dispatchers(parts: _Parts) -> tuple[tuple[Dispatcher, Dispatcher], Certified | None, Webhooks | None]:
    gate = _gate(parts)
    routes = _routes(parts, gate)
    with_webhooks = parts.config.admission.on_registry_addresses and parts.config.judges_images
    router = Router([route for route in routes if with_webhooks or not _is_webhook(route)])
    # A client has one rate, whichever way it comes.
    limits = parts.config.limits
    rate = RateLimit(limits.requests_per_second, limits.burst)
    ordinary = _dispatcher(parts, gate, router, Peers(parts.config.listen.trusted_proxies), rate)
    certified = None
    if parts.tunnels is not None:
        through = _dispatcher(parts, gate, router, TerminatorPeers(parts.tunnels.peers), rate)
        certified = Certified(through, parts.tunnels)
    return (ordinary, _beside(parts, gate, routes, PROBES, Peers())), certified, _webhooks(parts, gate, routes)


def _is_webhook(route: Endpoint) -> bool:
    return route.method == "POST" and route.path in WEBHOOK_PATHS


def _gate(parts: _Parts) -> Gate:
    config, known = parts.config, parts.identities
    return Gate(
        known.authenticator,
        known.authorizer,
        parts.stores.metadata,
        parts.transfers,
        challenge=config.auth.challenge,
        public_url=config.listen.public_url or "",
        service=config.tokens.service,
        pulls=parts.admission.pulls,
    )


def _dispatcher(parts: _Parts, gate: Gate, router: Router, peers: Peers, rate: RateLimit) -> Dispatcher:
    config = parts.config
    return Dispatcher(
        router,
        gate,
        peers,
        connections=parts.connections,
        metrics=parts.metrics,
        rate_limit=rate,
        cors=Cors(config.listen.cors),
        sites=_sites(config),
        access_log=parts.access_log,
        pace=_pace(config),
        notice=config.registry.notice,
    )


def _sites(config: Config) -> Sites:
    """Where no credentials are needed, it is the name that a request comes by that shows whose page it is from."""
    url = config.listen.public_url
    origins = {*config.listen.cors, *([origin_of(url)] if url else [])}
    if not config.open_to_all:
        return Sites(None, origins, own=True)
    if not config.loopback:  # nobody knows by which names machines of the network reach it
        return Sites(None, origins, own=False)
    named = [urlsplit(url).netloc] if url else []
    hosts = filter(None, map(parse_host, [*named, *config.admission.registries]))
    return Sites({host.name for host in hosts}, origins, own=True)


def _pace(config: Config) -> Pace:
    return Pace(config.limits.body_timeout, config.limits.body_rate)


def _webhooks(parts: _Parts, gate: Gate, routes: Sequence[Endpoint]) -> Webhooks | None:
    front = parts.webhook_front
    if front is None:
        return None
    dispatcher = _beside(parts, gate, routes, WEBHOOK_PATHS, TerminatorPeers(front.tunnels.peers))
    return Webhooks(dispatcher, front, parts.admission)


def _beside(parts: _Parts, gate: Gate, routes: Sequence[Endpoint], paths: Collection[str], peers: Peers) -> Dispatcher:
    """For listeners of a few paths, whose callers are few and speak for all: no limit of clients counts there."""
    return Dispatcher(
        Router([route for route in routes if route.path in paths]),
        gate,
        peers,
        connections=parts.connections,
        metrics=parts.metrics,
        rate_limit=RateLimit(0, 1),
        cors=Cors(()),
        sites=Sites(None, (), own=True),
        access_log=parts.access_log,
        pace=_pace(parts.config),
        notice="",
        bounded=False,
    )


def _routes(parts: _Parts, gate: Gate) -> Sequence[Endpoint]:
    config, known = parts.config, parts.identities
    pull, browse = Pull(parts.stores.blobs, parts.stores.metadata), Browse(parts.stores.metadata)
    publish = Publish(parts.stores.blobs, parts.stores.metadata, _publish_rules(config), parts.metrics.wrong_sizes)
    recorder = Recorder(parts.audit, parts.transfers)
    lists = Lists(PageSizes(config.limits.page_size, config.limits.max_page_size))
    return table(
        V2(
            pull, publish, browse, gate, recorder, bodies=ManifestBodies(config.registry.max_manifest_size), lists=lists
        ),
        BlobHandlers(pull, parts.push, parts.stores.metadata, gate, recorder),
        TokenService(
            known.authenticator,
            known.authorizer,
            known.tokens,
            parts.audit,
            parts.transfers,
            generation=parts.stores.metadata.generation,
            anonymous=_anonymous_tokens(config),
        ),
        Api(browse, parts.records, gate, recorder, lists),
        parts.admission.handlers,
        Operations(_checks(parts), parts.metrics),
    )


def _anonymous_tokens(config: Config) -> bool:
    """Whether anything can be allowed to those without credentials."""
    by_rule = any(rule.anonymous for rule in config.access.rules)
    return by_rule or config.kubernetes.anonymous or config.anonymous_access != "none"


def _publish_rules(config: Config) -> PublishRules:
    return PublishRules(
        sparse_images=config.registry.sparse_images,
        sparse_indexes=config.registry.sparse_indexes,
        strict_sizes=config.registry.strict_sizes,
        history=config.registry.tag_history,
        most_tags=config.limits.max_tags_per_push,
    )


def _checks(parts: _Parts) -> Mapping[str, Callable[[], Awaitable[None]]]:
    checks = {"storage": parts.stores.blobs.check, "database": parts.stores.engine.check}
    if parts.config.audit.enabled:
        checks["audit"] = lambda: place.check(parts.audit.displaced)
    if parts.config.admission.policies:
        checks["policies"] = parts.admission.check
    if parts.webhook_front is not None:
        checks["webhooks"] = parts.webhook_front.check
    return checks
