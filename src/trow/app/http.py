"""The HTTP interface: one route table, and a dispatcher for each listener."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from trow.http.access import AccessController
from trow.http.accesslog import AccessLog
from trow.http.capacity import DOWNLOAD_BYTES, capacity_of
from trow.http.challenge import Challenge
from trow.http.connections import Connections
from trow.http.cors import Cors
from trow.http.dispatch import Dispatcher
from trow.http.handlers.api import Api
from trow.http.handlers.blobs import BlobHandlers
from trow.http.handlers.lists import Lists
from trow.http.handlers.manifests import ManifestBodies
from trow.http.handlers.token import TokenService
from trow.http.handlers.v2 import V2
from trow.http.hosts import parse_host
from trow.http.limits import RateLimit
from trow.http.pace import Pace
from trow.http.recorder import Recorder
from trow.http.routes import Listener, Router, table
from trow.http.sites import Sites, origin_of
from trow.oci.page import PageSizes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.app.admission import Admission
    from trow.app.audit import AuditPart
    from trow.app.identity import Identities
    from trow.app.registry import Registry
    from trow.config import Config
    from trow.http.handlers.ops import Operations
    from trow.http.metrics import Metrics
    from trow.http.peers import Peers
    from trow.http.routes import Endpoint
    from trow.lib.logs import Output


class Http:
    """Makes dispatchers, which share what counts for a client whichever way it comes."""

    def __init__(
        self,
        config: Config,
        access: AccessController,
        routes: Sequence[Endpoint],
        connections: Connections,
        metrics: Metrics,
        access_log: AccessLog | None,
    ) -> None:
        self._config = config
        self._access = access
        self._routes = routes
        self._connections = connections
        self._metrics = metrics
        self._access_log = access_log
        self._pace = Pace(config.limits.body_timeout, config.limits.body_rate)
        self._rate = RateLimit(config.limits.requests_per_second, config.limits.burst)

    def for_clients(self, peers: Peers) -> Dispatcher:
        """The registry's listeners, with all bounds of clients."""
        config, listeners = self._config, Listener.REGISTRY
        if config.admission.on_registry_addresses and config.judges_images:
            listeners |= Listener.WEBHOOKS
        return Dispatcher(
            self._router(listeners),
            self._access,
            peers,
            connections=self._connections,
            metrics=self._metrics,
            rate_limit=self._rate,
            cors=Cors(config.listen.cors),
            sites=_sites(config),
            access_log=self._access_log,
            pace=self._pace,
            notice=config.registry.notice,
        )

    def for_few(self, listener: Listener, peers: Peers) -> Dispatcher:
        """A listener of a few routes, whose callers are few and speak for many: no bound of a client counts there."""
        return Dispatcher(
            self._router(listener),
            self._access,
            peers,
            connections=self._connections,
            metrics=self._metrics,
            rate_limit=RateLimit(0, 1),
            cors=Cors(()),
            sites=Sites(None, (), own=True),
            access_log=self._access_log,
            pace=self._pace,
            notice="",
            bounded=False,
        )

    def _router(self, listeners: Listener) -> Router:
        return Router([route for route in self._routes if route.listeners & listeners])


def access_of(config: Config, registry: Registry, identities: Identities, audit: AuditPart) -> AccessController:
    """Who sends a request, and whether they may."""
    bearer, public_url = config.auth.challenge == "bearer", config.listen.public_url or ""
    challenge = Challenge(bearer=bearer, public_url=public_url, service=config.tokens.service)
    recorder = Recorder(audit.trail, registry.transfers)
    return AccessController(identities.authenticator, identities.authorizer, registry.metadata, recorder, challenge)


def routes_of(
    config: Config,
    access: AccessController,
    registry: Registry,
    identities: Identities,
    audit: AuditPart,
    admission: Admission,
    operations: Operations,
) -> Sequence[Endpoint]:
    """The route table with its handlers."""
    browse, recorder, pulls = registry.browse, access.recorder, admission.pulls
    lists = Lists(PageSizes(config.limits.page_size, config.limits.max_page_size))
    bodies = ManifestBodies(config.registry.max_manifest_size)
    tokens = TokenService(
        access,
        identities.authorizer,
        identities.tokens,
        recorder,
        generation=registry.metadata.generation,
        anonymous=_anonymous_tokens(config),
    )
    return table(
        V2(registry.pull, registry.publish, browse, access, recorder, bodies=bodies, lists=lists, pulls=pulls),
        BlobHandlers(registry.pull, registry.push, access, recorder),
        tokens,
        Api(browse, audit.records, access, recorder, lists),
        admission.handlers,
        operations,
    )


def _anonymous_tokens(config: Config) -> bool:
    """Whether anything can be allowed to those without credentials."""
    by_rule = any(rule.anonymous for rule in config.access.rules)
    return by_rule or config.kubernetes.anonymous or config.anonymous_access != "none"


def _sites(config: Config) -> Sites:
    """Where no credentials are needed, the name that a request comes by tells whose page it is from."""
    url = config.listen.public_url
    origins = {*config.listen.cors, *([origin_of(url)] if url else [])}
    if not config.open_to_all:
        return Sites(None, origins, own=True)
    if not config.loopback:  # nobody knows by which names other machines reach it
        return Sites(None, origins, own=False)
    named = [urlsplit(url).netloc] if url else []
    hosts = filter(None, map(parse_host, [*named, *config.admission.registries]))
    return Sites({host.name for host in hosts}, origins, own=True)


def connections_of(config: Config, metrics: Metrics) -> Connections:
    """Counts the connections and answers of clients."""
    room = capacity_of(config)
    connections = Connections(room.places, DOWNLOAD_BYTES, room.work)
    description = "Places that answers of more than 64 KiB hold"
    metrics.add_gauge("trow_downloads_open", description, lambda: connections.downloads)
    return connections


@contextlib.contextmanager
def access_log_of(config: Config, output: Output, metrics: Metrics) -> Iterator[AccessLog | None]:
    """One line for each request; None where none is wanted."""
    description = "Log lines that nobody read in time"
    metrics.add_counter("trow_log_lines_dropped_total", description, lambda: output.lines.dropped)
    if not config.log.access:
        yield None
        return
    access_log = AccessLog(output)
    try:
        yield access_log
    finally:
        access_log.flush()
