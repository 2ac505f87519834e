"""Memory: while many large blobs come and go, and at rest."""

from __future__ import annotations

import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from bench import servers
from bench.clients import in_processes
from bench.contenders import REPOSITORY, folder
from bench.content import Tail, push_large
from bench.measure import TIMES, Case, Goal, Result, Series, Setting, show
from bench.processes import resident, resident_peak
from bench.wire import RECEIVE, Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.content import Blob
    from bench.servers import Server

METHOD = """\
64 clients push and 64 pull at once (4 processes, a thread for each stream): each pushes the blob once under a session
of its own, so 64 staged files grow side by side, and pullers start over until the pushes are done. The server's
memory is the resident size of all its processes together, read from `/proc` every 20 ms; the row takes the larger of
the highest reading and the kernel's own peaks (`VmHWM`, summed). At rest: the largest process, 15 s after the start
and 15 s after the load. One round each, Trow first."""
PROCESSES = 4
SAMPLE_SECONDS = 0.02
# Threads that wait for work end after ten idle seconds in the server under Trow.
REST_SECONDS = 15.0


@dataclass
class Readings:
    fresh: float = 0.0
    loaded: float = 0.0
    rested: float = 0.0
    seen: list[int] = field(default_factory=list)


def run(setting: Setting) -> list[Result]:
    size = _affordable(setting)
    with folder(setting, "memory") as home:
        blob = Tail.make(home / "tail", size).blob(0)
        trow = _readings(servers.Trow(home / "trow"), blob, setting.sizes.streams)
        peer = _readings(servers.Distribution(home / "distribution"), blob, setting.sizes.streams)
    load = f"{setting.sizes.streams} {TIMES} {size / 1e6:.0f} MB in and as many out"
    return [
        _row(f"memory, {load}", trow.loaded, peer.loaded, Goal("≤", 300, "MB"), Goal("≤", 200, "MB")),
        _row("memory at rest, a process, after start", trow.fresh, peer.fresh, Goal("≤", 80, "MB")),
        _row("memory at rest, a process, after that load", trow.rested, peer.rested, Goal("≤", 80, "MB")),
    ]


def _row(case: str, trow: float, peer: float, must: Goal, hope: Goal | None = None) -> Result:
    return Result(case, "MB", Series("Trow", (trow,)), Series("distribution", (peer,)), must=must, hope=hope)


def _affordable(setting: Setting) -> int:
    """The pushes are staged at once: where half the free disk does not hold them, they shrink and the row says so."""
    size = setting.sizes.blob
    while size * setting.sizes.streams > shutil.disk_usage(setting.scratch).free / 2:
        size //= 2
    return size


def _readings(server: Server, blob: Blob, streams: int) -> Readings:
    readings = Readings()
    with server:
        readings.fresh = _at_rest(server)
        with Connection(server.address) as connection:
            push_large(connection, REPOSITORY, blob)
        stream_both_ways(server, blob, streams, readings)
        readings.loaded = max(*readings.seen, sum(resident_peak(server.pid).values())) / 1e6
        readings.rested = _at_rest(server)
    shutil.rmtree(server.home)
    print(
        f"    {server.name:24} {show(readings.fresh)} → {show(readings.loaded)} → {show(readings.rested)} MB",
        flush=True,
    )
    return readings


def _at_rest(server: Server) -> float:
    time.sleep(REST_SECONDS)
    return max(resident(server.pid).values()) / 1e6


def stream_both_ways(server: Server, blob: Blob, streams: int, readings: Readings) -> None:
    each = streams // PROCESSES

    def client(index: int, ready: Callable[[], object]) -> float:
        done = threading.Event()
        with ThreadPoolExecutor(2 * each) as threads:
            ready()
            pulls = [threads.submit(_pull_until, server, blob, done) for _ in range(each)]
            pushes = [threads.submit(_push, server, blob, f"{REPOSITORY}-{index}-{n}") for n in range(each)]
            try:
                return sum(push.result() for push in pushes)
            finally:
                done.set()
                for pull in pulls:
                    pull.result()

    def sample() -> None:
        readings.seen.append(sum(resident(server.pid).values()))
        time.sleep(SAMPLE_SECONDS)

    in_processes(PROCESSES, client, meanwhile=sample)


def _push(server: Server, blob: Blob, repository: str) -> int:
    with Connection(server.address) as connection:
        push_large(connection, repository, blob)
    return blob.size


def _pull_until(server: Server, blob: Blob, done: threading.Event) -> None:
    buffer = bytearray(RECEIVE)
    with Connection(server.address) as connection:
        while not done.is_set():
            connection.download(f"/v2/{REPOSITORY}/blobs/{blob.digest}", buffer)


CASE = Case("memory", METHOD, run)
