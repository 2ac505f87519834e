"""The listeners of a server."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.app.webhooks import called_by_api_servers
from trow.http.capacity import capacity_of
from trow.http.peers import Peers
from trow.http.server import HttpServer, reserve
from trow.lib.background import every, in_background
from trow.lib.file_watch import FileChanges
from trow.tls.files import TlsFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trow.app.admission import AdmissionPart
    from trow.config import Bind, Config
    from trow.http.dispatch import Dispatcher
    from trow.http.listeners import Listeners
    from trow.http.metrics import Metrics
    from trow.http.server import Address
    from trow.tls.terminator import TlsTerminator
    from trow.tls.webhook_listener import WebhookListener

# Where a person gives another address.
LISTEN_BIND: Final = "listen.bind, --bind"
CLIENT_TLS: Final = "listen.client_tls"
ADMISSION_BIND: Final = "admission.bind"
PROBES_BIND: Final = "listen.probes, --probes"
# Kubelets open a connection for each probe, Prometheus keeps one.
_MOST_PROBES: Final = 64
# API servers let go of a connection that is idle for 90 s. If Trow did so first, it could cross with a review.
_WEBHOOK_IDLE_SECONDS: Final = 120
_REVOCATION_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class ClientTlsPart:
    """The listener for client certificates, and the one dispatcher that believes them."""

    dispatcher: Dispatcher
    terminator: TlsTerminator


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The listener for webhooks, and who answers there."""

    dispatcher: Dispatcher
    listener: WebhookListener
    admission: AdmissionPart


@contextlib.asynccontextmanager
async def for_clients(
    config: Config, dispatcher: Dispatcher, listeners: Listeners, addresses: Sequence[Address]
) -> AsyncIterator[None]:
    """Listen for clients of the registry."""
    tls, limits, room = config.listen.tls, config.limits, capacity_of(config)
    server = HttpServer(
        dispatcher,
        addresses,
        TlsFiles(tls.certificate, tls.key) if tls is not None else None,
        connections=room.accepted,
        idle_seconds=limits.idle_timeout,
        header_seconds=limits.header_timeout,
        file_threads=listeners.file_threads,
    )
    # A proxy's connections are those of many clients.
    exempt = Peers(config.listen.trusted_proxies).trusts
    bounds = (room.connections, room.each)
    async with (
        listeners.listening(server, addresses, *bounds, tls=tls is not None, exempt=exempt),
        in_background(server.watch_certificate),
    ):
        yield


@contextlib.asynccontextmanager
async def for_client_tls(
    config: Config, part: ClientTlsPart, bind: Bind, listeners: Listeners
) -> AsyncIterator[Sequence[str]]:
    """Listen for clients with certificates."""
    terminator = part.terminator
    addresses = reserve(bind.host, bind.port, CLIENT_TLS)

    async def look_at_revocation() -> None:
        terminator.warn_before_expiry(time.time())

    async with listeners.behind_tls(part.dispatcher, terminator, addresses, config.limits.idle_timeout) as inner:
        changes = await FileChanges.since_now(terminator.files)
        await terminator.reload()
        for address in addresses:
            terminator.start(address.reservation, inner)
        async with in_background(
            lambda: changes.follow(terminator.reload),
            every(_REVOCATION_SECONDS, look_at_revocation),
        ):
            yield [*map(str, addresses)]


@contextlib.asynccontextmanager
async def for_webhooks(
    config: Config, part: Webhooks, bind: Bind, listeners: Listeners, metrics: Metrics
) -> AsyncIterator[Sequence[str]]:
    """Listen for webhooks alone, and have API servers call them."""
    listener, idle = part.listener, max(_WEBHOOK_IDLE_SECONDS, config.limits.idle_timeout)
    addresses = reserve(bind.host, bind.port, ADMISSION_BIND)
    async with listeners.behind_tls(part.dispatcher, listener.terminator, addresses, idle) as inner:
        listener.bind([address.reservation for address in addresses], inner)
        async with called_by_api_servers(config, listener, part.admission, metrics):
            yield [*map(str, addresses)]


@contextlib.asynccontextmanager
async def for_probes(dispatcher: Dispatcher, bind: Bind, listeners: Listeners) -> AsyncIterator[Sequence[str]]:
    """Listen for probes and metrics alone."""
    addresses = reserve(bind.host, bind.port, PROBES_BIND)
    server = HttpServer(dispatcher, addresses, None, connections=2 * _MOST_PROBES)
    async with listeners.listening(server, addresses, _MOST_PROBES, _MOST_PROBES // 2):
        yield [*map(str, addresses)]
