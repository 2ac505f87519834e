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
from trow.app.http import Http, access_log_of, access_of, connections_of, routes_of
from trow.app.identity import identities_of
from trow.app.registry import registry_of
from trow.app.stores import stores_of
from trow.app.tls import client_tls_of, webhook_listener_of
from trow.http.handlers.ops import Operations
from trow.http.metrics import Metrics
from trow.http.peers import Peers, TerminatorPeers
from trow.http.routes import Listener
from trow.lib.background import every, in_background
from trow.lib.displacement import DisplacementWatch, require_in_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trow.app.admission import Admission
    from trow.config import Config
    from trow.http.connections import Connections
    from trow.http.dispatch import Dispatcher
    from trow.lib.logs import Output
    from trow.tls.terminator import TlsTerminator
    from trow.tls.webhook_listener import WebhookListener

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
    client_tls: ClientTls | None
    webhooks: Webhooks | None
    connections: Connections
    metrics: Metrics

    async def cut_off(self) -> None:
        """End the requests that are still under way when all listeners have stopped."""
        behind = [each.dispatcher for each in (self.client_tls, self.webhooks) if each is not None]
        for dispatcher in (self.registry, *behind):
            await dispatcher.cut_off()

    async def reload_certificate(self) -> None:
        """Take up the server's certificate, which was renewed, on the listener for client certificates too."""
        if self.client_tls is not None:
            await self.client_tls.terminator.reload()


@dataclass(frozen=True, slots=True)
class ClientTls:
    """The listener for client certificates, and the one dispatcher that believes them."""

    dispatcher: Dispatcher
    terminator: TlsTerminator


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The listener for webhooks, and who answers there."""

    dispatcher: Dispatcher
    listener: WebhookListener
    admission: Admission


@contextlib.asynccontextmanager
async def application_of(config: Config, output: Output) -> AsyncIterator[Application]:
    """Open storage and database, recover from a crash, wire everything together; close it in the end."""
    metrics = Metrics()
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        stores = await enter(stores_of(config, metrics))
        audit = await enter(audit_of(config, stores.outbox, metrics))
        registry = await enter(registry_of(config, stores, audit.trail, metrics))
        identities = await enter(identities_of(config, stores.metadata, stores.robots, metrics.kubernetes))
        admission = await enter(admission_of(config, registry, stores.pins, audit.trail, metrics))
        client_tls, webhooks = client_tls_of(config, metrics), webhook_listener_of(config)
        displacement = DisplacementWatch(*stores.displaced, audit.trail.displaced)
        await enter(in_background(every(_LOOK_SECONDS, displacement.look)))

        checks: dict[str, Check] = {"storage": stores.blobs.check, "database": stores.metadata.check}
        if config.audit.enabled:
            checks["audit"] = lambda: require_in_place(audit.trail.displaced)
        if config.admission.policies:
            checks["policies"] = admission.check
        if webhooks is not None:
            checks["webhooks"] = webhooks.check

        access = access_of(config, registry, identities, audit)
        routes = routes_of(config, access, registry, identities, audit, admission, Operations(checks, metrics))
        connections = connections_of(config, metrics)
        access_log = stack.enter_context(access_log_of(config, output, metrics))
        http = Http(config, access, routes, connections, metrics, access_log)
        yield Application(
            registry=http.for_clients(Peers(config.listen.trusted_proxies)),
            probes=http.for_few(Listener.PROBES, Peers()),
            client_tls=None
            if client_tls is None
            else ClientTls(http.for_clients(TerminatorPeers(client_tls.peers)), client_tls),
            webhooks=None
            if webhooks is None
            else Webhooks(
                http.for_few(Listener.WEBHOOKS, TerminatorPeers(webhooks.terminator.peers)), webhooks, admission
            ),
            connections=connections,
            metrics=metrics,
        )
