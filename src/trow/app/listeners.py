"""The listeners of a server: each takes connections from its start until the end of its block, then finishes."""

from __future__ import annotations

import contextlib
import logging
import time
from typing import TYPE_CHECKING, Final

from trow.app.webhooks import called_by_api_servers
from trow.http.capacity import capacity_of
from trow.http.connection_monitor import ListenerGroup
from trow.http.connection_rules import ConnectionRules
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.server import HttpServer, InnerAddress, reserve
from trow.lib.background import every, in_background
from trow.lib.file_watch import on_change
from trow.tls.files import TlsFiles
from trow.tls.inner_socket import inner_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trow.app.application import Application
    from trow.config import Config
    from trow.http.connection_monitor import ConnectionMonitor
    from trow.http.dispatch import Dispatcher
    from trow.http.server import Address
    from trow.tls.inner_socket import InnerSocket
    from trow.tls.terminator import TlsTerminator

log = logging.getLogger(__name__)

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


class Listeners:
    """Opens the listeners that the settings name.

    Args:
        monitor: ends connections that break a rule.
    """

    def __init__(self, config: Config, application: Application, monitor: ConnectionMonitor) -> None:
        self._config = config
        self._application = application
        self._monitor = monitor

    @contextlib.asynccontextmanager
    async def registry(self, addresses: Sequence[Address]) -> AsyncIterator[None]:
        """The ordinary ones."""
        listen, limits, room = self._config.listen, self._config.limits, capacity_of(self._config)
        server = HttpServer(
            self._application.registry,
            addresses,
            TlsFiles(listen.tls.certificate, listen.tls.key) if listen.tls is not None else None,
            connections=room.accepted,
            idle_seconds=limits.idle_timeout,
            header_seconds=limits.header_timeout,
        )
        await server.start()
        # A proxy's connections are those of many clients.
        proxies = Peers(listen.trusted_proxies)
        ports, rules = _ports(addresses), self._rules(limits.idle_timeout)
        group = ListenerGroup(ports, room.connections, room.each, listen.tls is not None, rules, proxies.trusts)
        self._monitor.add(group)
        try:
            async with in_background(lambda: server.watch_certificate(self._application.reload_certificate)):
                yield
        finally:
            await self._stop(server, addresses)

    @contextlib.asynccontextmanager
    async def client_tls(self) -> AsyncIterator[Sequence[str]]:
        """That for client certificates, where one is configured, and the HTTP server behind it."""
        settings, behind = self._config.listen.client_tls, self._application.client_tls
        if settings is None or behind is None:
            yield ()
            return
        terminator, limit, idle = behind.terminator, behind.terminator.limit, self._config.limits.idle_timeout

        async def look_at_revocation() -> None:
            terminator.warn_before_expiry(time.time())

        with inner_socket() as inner:
            server = await self._start_behind(terminator, behind.dispatcher, inner, idle)
            addresses = reserve(settings.bind.host, settings.bind.port, CLIENT_TLS)
            self._monitor.add(
                ListenerGroup(_ports(addresses), limit.connections, limit.per_source, True, self._rules(idle))
            )
            await terminator.reload()
            for address in addresses:
                terminator.start(address.reservation, inner)
            try:
                async with in_background(
                    lambda: on_change(terminator.authorities, terminator.reload),
                    every(_REVOCATION_SECONDS, look_at_revocation),
                ):
                    yield [*map(str, addresses)]
            finally:
                await terminator.stop()
                await self._stop(server, addresses)

    @contextlib.asynccontextmanager
    async def webhooks(self) -> AsyncIterator[Sequence[str]]:
        """That for webhooks alone, where one is configured, and the HTTP server behind it."""
        bind, behind = self._config.admission.bind, self._application.webhooks
        if bind is None or behind is None:
            yield ()
            return
        listener, terminator = behind.listener, behind.listener.terminator
        limit = terminator.limit
        idle = max(_WEBHOOK_IDLE_SECONDS, self._config.limits.idle_timeout)
        with inner_socket() as inner:
            server = await self._start_behind(terminator, behind.dispatcher, inner, idle)
            addresses = reserve(bind.host, bind.port, ADMISSION_BIND)
            self._monitor.add(
                ListenerGroup(_ports(addresses), limit.connections, limit.per_source, True, self._rules(idle))
            )
            listener.bind([address.reservation for address in addresses], inner)
            try:
                async with called_by_api_servers(self._config, listener, behind.admission, self._application.metrics):
                    yield [*map(str, addresses)]
            finally:
                # Reviews in flight are answered before their connections end.
                await self._stop(server, ())
                await terminator.stop()
                for address in addresses:
                    address.reservation.close()

    @contextlib.asynccontextmanager
    async def probes(self) -> AsyncIterator[Sequence[str]]:
        """That for probes and metrics alone, where one is configured."""
        bind = self._config.listen.probes
        if bind is None:
            yield ()
            return
        addresses = reserve(bind.host, bind.port, PROBES_BIND)
        server = HttpServer(self._application.probes, addresses, None, connections=2 * _MOST_PROBES)
        await server.start()
        rules = self._rules(self._config.limits.idle_timeout)
        self._monitor.add(ListenerGroup(_ports(addresses), _MOST_PROBES, _MOST_PROBES // 2, False, rules))
        try:
            yield [*map(str, addresses)]
        finally:
            await self._stop(server, addresses)

    async def _start_behind(
        self, terminator: TlsTerminator, dispatcher: Dispatcher, inner: InnerSocket, idle: float
    ) -> HttpServer:
        connections = terminator.limit.at_most
        server = HttpServer(dispatcher, [InnerAddress(inner)], None, connections=connections, idle_seconds=idle)
        await server.start()
        terminator.on_full = self._monitor.wake
        return server

    def _rules(self, idle: float) -> ConnectionRules:
        limits = self._config.limits
        answers = Pace(limits.send_timeout, limits.send_rate)
        return ConnectionRules(limits.first_byte_timeout, limits.header_timeout, idle, answers)

    async def _stop(self, server: HttpServer, addresses: Sequence[Address]) -> None:
        finished = await server.stop(self._config.listen.shutdown_grace)
        for address in addresses:
            address.reservation.close()
        if not finished:
            log.warning("requests were cut off: they took longer than listen.shutdown_grace")


def _ports(addresses: Sequence[Address]) -> set[int]:
    return {address.port for address in addresses}
