"""Listeners: each takes connections from its start until the end of its block, then finishes what is under way."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Final

from trow.http.capacity import capacity_of
from trow.http.connection_monitor import ListenerGroup
from trow.http.connection_rules import ConnectionRules
from trow.http.pace import Pace
from trow.http.server import FILE_THREADS, HttpServer, InnerAddress
from trow.tls.files import TlsFiles
from trow.tls.inner_socket import inner_socket
from trow.tls.terminator import ConnectionLimit, TlsTerminator
from trow.tls.webhook_listener import WebhookListener

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from trow.config import Config
    from trow.http.connection_monitor import ConnectionMonitor
    from trow.http.dispatch import Dispatcher
    from trow.http.server import Address
    from trow.tls.inner_socket import InnerSocket

log = logging.getLogger(__name__)

# Certificate and key of the webhooks in one file, below the data directory.
_WEBHOOK_CERTIFICATE: Final = "keys/webhook.pem"


def client_tls_of(config: Config) -> TlsTerminator | None:
    """The listener for client certificates, which does not listen yet; None where none is wanted."""
    settings, tls = config.listen.client_tls, config.listen.tls
    if settings is None or tls is None:
        return None
    limit = ConnectionLimit(capacity_of(config).tls_connections)
    return TlsTerminator(TlsFiles(tls.certificate, tls.key), settings.client_ca, settings.crl, limit)


def webhook_listener_of(config: Config) -> WebhookListener | None:
    """The listener for webhooks alone, which does not listen yet; None where none is wanted."""
    if config.admission.bind is None:
        return None
    own, tls = config.data_dir / _WEBHOOK_CERTIFICATE, config.admission.tls
    files = TlsFiles(tls.certificate, tls.key) if tls is not None else TlsFiles(own, own)
    return WebhookListener(files, ConnectionLimit(capacity_of(config).tls_connections))


class Listeners:
    """Opens listeners.

    Args:
        monitor: ends the connections that break a rule.
    """

    def __init__(self, config: Config, monitor: ConnectionMonitor) -> None:
        self._monitor = monitor
        self._limits = config.limits
        self._grace = config.listen.shutdown_grace
        streams = config.storage == "s3" and not config.s3.redirect
        self.file_threads: Final = capacity_of(config).streams if streams else FILE_THREADS

    @contextlib.asynccontextmanager
    async def listening(
        self,
        server: HttpServer,
        addresses: Sequence[Address],
        connections: int,
        per_source: int,
        *,
        tls: bool = False,
        exempt: Callable[[str], bool] = lambda _: False,
    ) -> AsyncIterator[None]:
        """Let an HTTP server take connections itself.

        Args:
            server: of the addresses.
            addresses: reserved.
            connections: how many there may be.
            per_source: how many of one source.
            tls: whether it serves TLS.
            exempt: tells of an address whether it may have any number.
        """
        await server.start()
        rules = self._rules(self._limits.idle_timeout)
        self._monitor.add(ListenerGroup(_ports(addresses), connections, per_source, tls, rules, exempt))
        try:
            yield
        finally:
            await self._stop(server)
            _release(addresses)

    @contextlib.asynccontextmanager
    async def behind_tls(
        self, dispatcher: Dispatcher, terminator: TlsTerminator, addresses: Sequence[Address], idle_seconds: float
    ) -> AsyncIterator[InnerSocket]:
        """Run an HTTP server behind a listener that ends TLS itself; yields where that passes requests on.

        Requests in flight are answered before their connections end.
        """
        limit = terminator.limit
        with inner_socket() as inner:
            server = HttpServer(
                dispatcher,
                [InnerAddress(inner)],
                None,
                connections=limit.at_most,
                idle_seconds=idle_seconds,
                file_threads=self.file_threads,
            )
            await server.start()
            terminator.on_full = self._monitor.wake
            rules = self._rules(idle_seconds)
            self._monitor.add(ListenerGroup(_ports(addresses), limit.connections, limit.per_source, True, rules))
            try:
                yield inner
            finally:
                await self._stop(server)
                await terminator.stop()
                _release(addresses)

    def _rules(self, idle_seconds: float) -> ConnectionRules:
        limits = self._limits
        answers = Pace(limits.send_timeout, limits.send_rate)
        return ConnectionRules(limits.first_byte_timeout, limits.header_timeout, idle_seconds, answers)

    async def _stop(self, server: HttpServer) -> None:
        if not await server.stop(self._grace):
            log.warning("requests were cut off: they took longer than listen.shutdown_grace")


def _ports(addresses: Sequence[Address]) -> set[int]:
    return {address.port for address in addresses}


def _release(addresses: Sequence[Address]) -> None:
    for address in addresses:
        address.reservation.close()
