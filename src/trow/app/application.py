"""The registry of a configuration: everything opened, and wired together, from the stores to the listeners.

Each part has a file of its own here. It opens what the part needs, declares its gauges and background loops, and closes
it all in the end; `application_of` is the order in which they come.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.app.admission import admission_of
from trow.app.audit import audit_of
from trow.app.http import access_of, routes_of
from trow.app.identity import identities_of
from trow.app.kubernetes import node_reader_of
from trow.app.listeners import ClientTlsPart, Webhooks
from trow.app.registry import registry_of
from trow.app.stores import stores_of
from trow.http.accesslog import AccessLog
from trow.http.capacity import DOWNLOAD_BYTES, capacity_of
from trow.http.connections import Connections
from trow.http.dispatchers import Dispatchers
from trow.http.handlers.ops import Operations
from trow.http.listeners import client_tls_of, webhook_listener_of
from trow.http.metrics import Metrics
from trow.http.peers import Peers, TerminatorPeers
from trow.http.routes import Listener
from trow.lib.background import every, in_background
from trow.lib.displacement import DisplacementWatch, require_in_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trow.config import Config
    from trow.http.dispatch import Dispatcher
    from trow.lib.datadir import Hold
    from trow.lib.logs import Output

    Check: TypeAlias = Callable[[], Awaitable[None]]

_LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Application:
    """What a server listens for.

    Attributes:
        registry: answers clients.
        probes: answers operators, on a listener of their own.
        client_tls: None where no client certificates are asked for.
        webhooks: None where they have no listener of their own.
    """

    registry: Dispatcher
    probes: Dispatcher
    client_tls: ClientTlsPart | None
    webhooks: Webhooks | None
    connections: Connections
    metrics: Metrics

    async def cut_off(self) -> None:
        """End the requests that are still under way when all listeners have stopped."""
        behind = [each.dispatcher for each in (self.client_tls, self.webhooks) if each is not None]
        for dispatcher in (self.registry, *behind):
            await dispatcher.cut_off()


@contextlib.asynccontextmanager
async def application_of(
    config: Config, output: Output, held: Hold, *, new_database: bool = False
) -> AsyncIterator[Application]:
    """Open storage and database, recover from a crash, wire everything together; close it in the end."""
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stores = await enter(stores_of(config, metrics, held, new_database=new_database))
        audit = await enter(audit_of(config, stores.outbox, metrics))
        registry = await enter(registry_of(config, stores, audit.trail, metrics))
        identities = await enter(identities_of(config, stores, metrics.kubernetes))
        admission = await enter(admission_of(config, registry, stores, audit.trail, metrics))
        terminator, webhook_listener = client_tls_of(config), webhook_listener_of(config)
        displacement = DisplacementWatch(*stores.displaced, audit.trail.displaced)
        await enter(in_background(every(_LOOK_SECONDS, displacement.look)))

        checks: dict[str, Check] = {"storage": stores.blobs.check, "database": stores.metadata.check}
        if config.audit.enabled:
            checks["audit"] = lambda: require_in_place(audit.trail.displaced)
        if config.admission.policies:
            checks["policies"] = admission.check
        if webhook_listener is not None:
            checks["webhooks"] = webhook_listener.check

        access = access_of(config, registry, identities, audit)
        nodes = await enter(node_reader_of(config.kubernetes, metrics))
        routes = routes_of(config, access, registry, identities, audit, admission, nodes, Operations(checks, metrics))
        room = capacity_of(config)
        connections = Connections(room.places, DOWNLOAD_BYTES, room.work)
        metrics.add_gauge(
            "trow_downloads_open", "Places that answers of more than 64 KiB hold", lambda: connections.downloads
        )
        metrics.add_counter(
            "trow_log_lines_dropped_total", "Log lines that nobody read in time", lambda: output.lines.dropped
        )
        access_log = AccessLog(output) if config.log.access else None
        if access_log is not None:
            stack.callback(access_log.flush)
        dispatchers = Dispatchers(config, access, routes, connections, metrics, access_log)
        client_tls, webhooks = None, None
        if terminator is not None:
            if config.listen.client_tls is not None and config.listen.client_tls.crl is not None:
                metrics.add_gauge(
                    "trow_client_crl_expiry_timestamp_seconds",
                    "When the first list of revoked client certificates runs out, in seconds since 1970",
                    lambda: terminator.revocation_ends,
                )
            client_tls = ClientTlsPart(dispatchers.for_clients(TerminatorPeers(terminator.peers)), terminator)
        if webhook_listener is not None:
            few = dispatchers.for_few(Listener.WEBHOOKS, TerminatorPeers(webhook_listener.terminator.peers))
            webhooks = Webhooks(few, webhook_listener, admission)
        yield Application(
            registry=dispatchers.for_clients(Peers(config.listen.trusted_proxies)),
            probes=dispatchers.for_few(Listener.PROBES, Peers()),
            client_tls=client_tls,
            webhooks=webhooks,
            connections=connections,
            metrics=metrics,
        )
