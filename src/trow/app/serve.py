"""The life of a server: start, house-keeping, stop."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import time
from typing import TYPE_CHECKING, Final, TypeAlias

import uvloop

from trow.app.application import application_of
from trow.app.background import beside
from trow.app.certificates import certified
from trow.app.database import check_database, damaged
from trow.audit.errors import AuditError
from trow.http.capacity import capacity_of
from trow.http.connection_rules import ConnectionRules
from trow.http.pace import Pace
from trow.http.peers import Peers
from trow.http.server import HttpServer, InnerAddress, ListenError, reserve, watch
from trow.http.watch import ListenerGroup, Watch
from trow.identity.files import BrokenFile
from trow.lib import logs
from trow.lib.datadir import DATABASE, DataDirectoryError, hold
from trow.lib.errors import StartError
from trow.lib.machine import raise_files
from trow.lib.memory import return_memory
from trow.lib.threads import ThreadsError, require_threads, started_pool
from trow.oci.errors import OciError
from trow.sql.engine import DamagedError, DatabaseError, SchemaError
from trow.tls.files import TlsFiles
from trow.tls.inner_socket import inner_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from trow.app.application import Application
    from trow.config import Config
    from trow.http.capacity import Capacity
    from trow.http.server import Address
    from trow.tls.terminator import Room, TlsTerminator

Announce: TypeAlias = "Callable[[Sequence[str], Sequence[str], Sequence[str], Sequence[str]], None]"
log = logging.getLogger(__name__)

# Where a person gives another address.
LISTEN_BIND: Final = "listen.bind, --bind"
CLIENT_TLS: Final = "listen.client_tls"
ADMISSION_BIND: Final = "admission.bind"
PROBES_BIND: Final = "listen.probes, --probes"
# For what takes longer than the event loop may: reading large documents, hashing passwords, looking up names.
_THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
# The HTTP server ends the process when it cannot start a thread, also later: to send files, or with a new certificate.
_LATER_THREADS: Final = 64
_HOUSE_SECONDS: Final = 60.0
_SWEEP_SECONDS: Final = 0.1
_LOOK_SECONDS: Final = 1.0
_COLLECT_AFTER: Final = 5_000
# Kubelets open a connection for each probe, Prometheus keeps one.
_MOST_PROBES: Final = 64
_WEBHOOK_IDLE_SECONDS: Final = 120


def serve(config: Config, announce: Announce, *, new_database: bool = False) -> int:
    """Run the registry until SIGTERM or SIGINT; returns the exit code.

    Args:
        config: what to serve.
        announce: called once requests are taken, with the addresses, those for webhooks, for probes and for
            client certificates alone.
        new_database: begin with an empty database where the one of the data directory is lost.

    Raises:
        StartError: it cannot be served; the message says why and what to do.
    """
    raise_files()
    with (
        start_errors(config),
        logs.to_standard_error(config.log.level, config.log.format) as output,
        hold(config.data_dir),
    ):
        check_database(config.data_dir, new=new_database)
        return uvloop.run(_serve(config, announce, output))


@contextlib.contextmanager
def start_errors(config: Config) -> Iterator[None]:
    """What keeps a start from coming about, as the `StartError` that tells it."""
    try:
        yield
    except (AuditError, BrokenFile, DataDirectoryError, ListenError, SchemaError, ThreadsError, ValueError) as error:
        raise StartError(str(error)) from error
    except DamagedError as error:
        raise StartError(damaged(config.data_dir / DATABASE, error)) from error
    except (OSError, DatabaseError) as error:
        raise StartError(f"cannot use {config.data_dir}: {error}; repair it or give another --data-dir") from error


async def _serve(config: Config, announce: Announce, output: logs.Output) -> int:
    stopping = _stop_signals()
    asyncio.get_running_loop().set_default_executor(started_pool(_THREADS, "trow-work"))
    require_threads(_LATER_THREADS)
    addresses = [address for bind in config.listen.bind for address in reserve(bind.host, bind.port, LISTEN_BIND)]
    async with contextlib.AsyncExitStack() as stack:
        application = await stack.enter_async_context(application_of(config, output))
        stack.push_async_callback(application.cut_off)
        tls = config.listen.tls
        files = TlsFiles(tls.certificate, tls.key) if tls is not None else None
        room = capacity_of(config)
        server = HttpServer(
            application.dispatcher,
            addresses,
            files,
            connections=room.accepted,
            idle_seconds=config.limits.idle_timeout,
            ask_seconds=config.limits.header_timeout,
        )
        await server.start()
        watching = stack.enter_context(_watch(application))
        watching.open(_group(config, addresses, room))
        certified = await stack.enter_async_context(_client_tls(config, application, watching))
        webhooks = await stack.enter_async_context(_webhooks(config, application, watching))
        probes = await stack.enter_async_context(_probes(config, application, watching))
        _settle_memory()
        announce([*map(str, addresses)], webhooks, probes, certified)
        async with beside(
            lambda: server.watch_certificate(application.renewed),
            lambda: _keep_house(application),
            lambda: _sweep(application),
            lambda: _watch_changes(application),
            lambda: return_memory(lambda: application.metrics.answered + watching.left),
        ):
            await stopping.wait()
        return await _stop(server, addresses, config.listen.shutdown_grace)


async def _watch_authorities(tunnels: TlsTerminator) -> None:
    await watch(tunnels.authorities, tunnels.reload)


async def _watch_revocation(tunnels: TlsTerminator) -> None:
    while True:
        tunnels.look_at_revocation(time.time())
        await asyncio.sleep(_HOUSE_SECONDS)


@contextlib.contextmanager
def _watch(application: Application) -> Iterator[Watch]:
    watching = Watch(application.connections)
    application.metrics.add_gauge("trow_connections_open", "Connections of clients", watching.count)
    application.metrics.count_ended(watching.ended)
    watching.start(asyncio.get_running_loop())
    try:
        yield watching
    finally:
        watching.stop()


def _rules(config: Config, idle: float) -> ConnectionRules:
    limits = config.limits
    answers = Pace(limits.answer_timeout, limits.answer_rate)
    return ConnectionRules(limits.first_byte_timeout, limits.header_timeout, idle, answers)


def _group(config: Config, addresses: Sequence[Address], room: Capacity) -> ListenerGroup:
    """The ordinary listeners. A proxy's connections are those of many clients."""
    ports = {address.port for address in addresses}
    rules = _rules(config, config.limits.idle_timeout)
    proxies = Peers(config.listen.trusted_proxies)
    return ListenerGroup(ports, room.connections, room.each, config.listen.tls is not None, rules, proxies.trusts)


def _tls_group(config: Config, fronts: Sequence[Address], room: Room, idle: float) -> ListenerGroup:
    """Listeners of our own."""
    ports = {front.port for front in fronts}
    return ListenerGroup(ports, room.connections, room.each, True, _rules(config, idle))


@contextlib.asynccontextmanager
async def _client_tls(config: Config, application: Application, watching: Watch) -> AsyncIterator[Sequence[str]]:
    """The listener for client certificates, where one is configured, and the HTTP server behind it."""
    settings, behind = config.listen.client_tls, application.certified
    if settings is None or behind is None:
        yield ()
        return
    with inner_socket() as inner:
        idle = config.limits.idle_timeout
        room = behind.tunnels.room
        server = HttpServer(behind.dispatcher, [InnerAddress(inner)], None, connections=room.taken, idle_seconds=idle)
        await server.start()
        fronts = reserve(settings.bind.host, settings.bind.port, CLIENT_TLS)
        watching.open(_tls_group(config, fronts, room, idle))
        behind.tunnels.crowded = watching.look_soon
        for front in fronts:
            behind.tunnels.start(front.reservation, inner)
        try:
            async with beside(lambda: _watch_authorities(behind.tunnels), lambda: _watch_revocation(behind.tunnels)):
                yield [str(front) for front in fronts]
        finally:
            await behind.tunnels.stop()
            await _stop(server, fronts, config.listen.shutdown_grace)


@contextlib.asynccontextmanager
async def _webhooks(config: Config, application: Application, watching: Watch) -> AsyncIterator[Sequence[str]]:
    """The listener for webhooks alone, where one is configured, and the HTTP server behind it."""
    bind, webhooks = config.admission.bind, application.webhooks
    if bind is None or webhooks is None:
        yield ()
        return
    with inner_socket() as inner:
        # API servers let go of a connection that is idle for 90 s. If Trow did so first, it could cross with a review.
        idle = max(_WEBHOOK_IDLE_SECONDS, config.limits.idle_timeout)
        room = webhooks.front.tunnels.room
        server = HttpServer(webhooks.dispatcher, [InnerAddress(inner)], None, connections=room.taken, idle_seconds=idle)
        await server.start()
        fronts = reserve(bind.host, bind.port, ADMISSION_BIND)
        watching.open(_tls_group(config, fronts, room, idle))
        webhooks.front.tunnels.crowded = watching.look_soon
        webhooks.front.place(fronts, inner)
        try:
            async with certified(config, webhooks, application.metrics):
                yield [str(front) for front in fronts]
        finally:
            # Reviews in flight are answered before their connections end.
            await _stop(server, (), config.listen.shutdown_grace)
            await webhooks.front.tunnels.stop()
            for front in fronts:
                front.reservation.close()


@contextlib.asynccontextmanager
async def _probes(config: Config, application: Application, watching: Watch) -> AsyncIterator[Sequence[str]]:
    """The listener for probes and metrics alone, where one is configured."""
    bind = config.listen.probes
    if bind is None:
        yield ()
        return
    addresses = reserve(bind.host, bind.port, PROBES_BIND)
    server = HttpServer(application.probes, addresses, None, connections=2 * _MOST_PROBES)
    await server.start()
    ports = {address.port for address in addresses}
    rules = _rules(config, config.limits.idle_timeout)
    watching.open(ListenerGroup(ports, _MOST_PROBES, _MOST_PROBES // 2, False, rules))
    try:
        yield [str(address) for address in addresses]
    finally:
        await _stop(server, addresses, config.listen.shutdown_grace)


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
            if count := await application.push.sessions.expire():
                log.info("upload sessions expired", extra={"count": count})
            await application.forget_pins()
        except OciError:
            log.exception("storage or database did not answer; trying again in a minute")
        await asyncio.sleep(_HOUSE_SECONDS)


async def _sweep(application: Application) -> None:
    """Records what has ended, a little at a time."""
    while True:
        await asyncio.sleep(_SWEEP_SECONDS)
        application.transfers.sweep()


async def _watch_changes(application: Application) -> None:
    """Takes over what other processes have done."""
    while True:
        await asyncio.sleep(_LOOK_SECONDS)
        await application.changes.look()
        await application.place.look()
