"""The life of a server: start, serve, stop."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
from typing import TYPE_CHECKING, Final, TypeAlias

import uvloop

from trow.app.application import application_of
from trow.app.listeners import LISTEN_BIND, for_client_tls, for_clients, for_probes, for_webhooks
from trow.app.stores import check_database, damaged
from trow.audit.errors import AuditError
from trow.http.connection_monitor import ConnectionMonitor
from trow.http.listeners import Listeners
from trow.http.server import ListenError, reserve
from trow.lib import logs
from trow.lib.background import in_background
from trow.lib.datadir import DATABASE, DataDirectoryError, hold
from trow.lib.errors import DamagedError, DatabaseError, SchemaError, StartError
from trow.lib.files import BrokenFile
from trow.lib.machine import raise_files
from trow.lib.memory import return_memory, settle_memory
from trow.lib.threads import ThreadsError, require_threads, started_pool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from trow.config import Config
    from trow.lib.datadir import Hold

Announce: TypeAlias = "Callable[[Sequence[str], Sequence[str], Sequence[str], Sequence[str]], None]"
log = logging.getLogger(__name__)

# For what takes longer than the event loop may: reading large documents, hashing passwords, looking up names.
_THREADS: Final = min(32, (os.cpu_count() or 1) + 4)
# The HTTP server ends the process when it cannot start a thread, also later: to send files, or with a new certificate.
_LATER_THREADS: Final = 64


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
        hold(config.data_dir, shared=config.replicas > 1) as held,
    ):
        if config.metadata == "sqlite":
            check_database(config.data_dir, new=new_database)
        uvloop.run(_serve(config, announce, output, held, new_database=new_database))
    return 0


@contextlib.contextmanager
def start_errors(config: Config) -> Iterator[None]:
    """Turn what prevents a start into the `StartError` that says so."""
    try:
        yield
    except (AuditError, BrokenFile, DataDirectoryError, ListenError, SchemaError, ThreadsError, ValueError) as error:
        raise StartError(str(error)) from error
    except DamagedError as error:
        raise StartError(damaged(config.data_dir / DATABASE, error)) from error
    except (OSError, DatabaseError) as error:
        if config.metadata != "sqlite" and isinstance(error, DatabaseError):
            raise StartError(str(error)) from error
        raise StartError(f"cannot use {config.data_dir}: {error}; repair it or give another --data-dir") from error


async def _serve(config: Config, announce: Announce, output: logs.Output, held: Hold, *, new_database: bool) -> None:
    stopping, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping.set)
    loop.set_default_executor(started_pool(_THREADS, "trow-work"))
    require_threads(_LATER_THREADS)
    addresses = [address for bind in config.listen.bind for address in reserve(bind.host, bind.port, LISTEN_BIND)]
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        application = await enter(application_of(config, output, held, new_database=new_database))
        metrics = application.metrics
        stack.push_async_callback(application.cut_off)
        monitor = ConnectionMonitor(application.connections)
        metrics.add_gauge("trow_connections_open", "Connections of clients", monitor.count)
        metrics.count_ended(monitor.ended)
        monitor.start(loop)
        stack.callback(monitor.stop)
        listeners = Listeners(config, monitor)
        certified, webhooks, probes = list[str](), list[str](), list[str]()
        if config.listen.client_tls and (part := application.client_tls):
            certified += await enter(for_client_tls(config, part, config.listen.client_tls.bind, listeners))
        if config.admission.bind and (webhook_part := application.webhooks):
            webhooks += await enter(for_webhooks(config, webhook_part, config.admission.bind, listeners, metrics))
        if config.listen.probes:
            probes += await enter(for_probes(application.probes, config.listen.probes, listeners))
        await enter(for_clients(config, application.registry, listeners, addresses))
        settle_memory()
        announce([*map(str, addresses)], webhooks, probes, certified)
        async with in_background(lambda: return_memory(lambda: metrics.answered + monitor.left)):
            await stopping.wait()
        log.info("stopping: finishing the requests in flight")
