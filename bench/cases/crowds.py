"""Honest clients while a crowd holds the server: how many are answered, how fast, and what the crowd costs."""

from __future__ import annotations

import contextlib
import math
import resource
import socket
import threading
import time
from dataclasses import dataclass
from statistics import quantiles
from typing import TYPE_CHECKING, Final, Self

from bench import servers
from bench.contenders import REPOSITORY, TAG, folder, push_small_image
from bench.content import MANIFEST, OCTETS, Tail, push_large
from bench.measure import Case, Goal, Result, Series, Setting, show
from bench.processes import resident
from bench.wire import Connection, parse_head, request_head

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from bench.content import Blob
    from bench.servers import Server

METHOD = """\
A crowd from 127.0.0.2 is held, while an honest client from 127.0.0.1 asks for a manifest by tag 20 times a second for
10 s, each time over a connection of its own: 5 000 idle connections that have asked once; 500 that send a byte of their
headers a second; 500 PATCH requests of uploads that send a byte a second; 2 300 that ask for a large blob and never
read. A request that is not answered within a second counts as not answered. Beside it a connection that
was there before asks for `/healthz` (distribution: `/`) every 10 ms; the longest of its answers is the longest stop of
the event loop, and of whatever else there is. Memory: the resident size while 700 that never read are held, and 30 s
after they have left. One round each, Trow first."""
CROWD: Final = "127.0.0.2"
HONEST_SECONDS: Final = 10.0
A_SECOND: Final = 20
LATEST: Final = 1.0
RESTED_SECONDS: Final = 30.0
STALLED: Final = 700
_FILES: Final = 20_000
_RECEIVE_BUFFER: Final = 4096


class Crowd:
    """Connections that are held; a thread says a byte over each of them once a second where they are slow."""

    def __init__(self, server: Server) -> None:
        self.address = server.address
        self._members: list[socket.socket] = []
        self._left = threading.Event()
        self._slow = threading.Thread(target=self._say_on, daemon=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._left.set()
        if self._slow.is_alive():
            self._slow.join()
        for member in self._members:
            member.close()

    def grow(self, said: bytes) -> None:
        """One more; whoever is turned away is no part of it."""
        member = socket.socket()
        member.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        member.settimeout(LATEST)
        member.bind((CROWD, 0))
        with contextlib.suppress(OSError):
            member.connect(self.address)
            member.sendall(said)
        member.setblocking(False)
        self._members.append(member)

    def dawdle(self) -> None:
        """From now on each says a byte a second."""
        self._slow.start()

    def _say_on(self) -> None:
        while not self._left.wait(1.0):
            for member in self._members:
                with contextlib.suppress(OSError):
                    member.send(b"x")


def _idle(crowd: Crowd, count: int, _: Blob) -> None:
    for _number in range(count):
        crowd.grow(request_head("GET", "/v2/", {}, None))


def _slow_headers(crowd: Crowd, count: int, _: Blob) -> None:
    for _number in range(count):
        crowd.grow(b"GET /v2/ HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: ")
    crowd.dawdle()


def _slow_bodies(crowd: Crowd, count: int, _: Blob) -> None:
    # A POST without a digest is answered before its body has come.
    with Connection(crowd.address) as opener:
        for _number in range(count):
            opened = opener.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/").expect(202)
            crowd.grow(request_head("PATCH", opened.location, OCTETS, 1_000_000))
    crowd.dawdle()


def _readers(crowd: Crowd, count: int, blob: Blob) -> None:
    for _number in range(count):
        crowd.grow(request_head("GET", f"/v2/{REPOSITORY}/blobs/{blob.digest}", {}, None))


@dataclass(frozen=True)
class Attack:
    name: str
    count: int
    begin: Callable[[Crowd, int, Blob], None]


ATTACKS: Final = (
    Attack("idle connections", 5_000, _idle),
    Attack("slow headers", 500, _slow_headers),
    Attack("slow bodies", 500, _slow_bodies),
    Attack("readers that never read", 2_300, _readers),
)


@dataclass(frozen=True)
class Seen:
    """What the honest client saw of one attack: milliseconds of each request, infinite where none came."""

    times: tuple[float, ...]
    longest: float

    @property
    def answered(self) -> float:
        """Per cent."""
        return 100 * sum(each <= 1000 * LATEST for each in self.times) / len(self.times)

    @property
    def p99(self) -> float:
        return quantiles(self.times, n=100)[98]


def run(setting: Setting) -> list[Result]:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, _FILES), hard))
    with folder(setting, "crowds") as home:
        blob = Tail.make(home / "tail", setting.sizes.blob // 8).blob(0)
        kinds = (servers.Trow, servers.Distribution)
        seen = {kind.name: _attacked(kind(home / kind.name), blob, setting) for kind in kinds}
        memory = {kind.name: _held(kind(home / f"{kind.name}-memory"), blob) for kind in kinds}
    rows = [
        row for attack in ATTACKS for row in _rows(attack, {name: each[attack.name] for name, each in seen.items()})
    ]
    longest = {name: max(one.longest for one in each.values()) for name, each in seen.items()}
    rows.append(_row("longest stop of /healthz meanwhile", "ms", longest))
    held = f"memory, {STALLED} readers that never read"
    rows.append(_row(held, "MB", {name: each[0] for name, each in memory.items()}, Goal("≤", 150, "MB")))
    rows.append(_row("30 s after they have left", "MB", {name: each[1] for name, each in memory.items()}))
    return rows


def _row(
    case: str, unit: str, values: Mapping[str, float], must: Goal | None = None, hope: Goal | None = None
) -> Result:
    ours, peer = (Series(name, (value,)) for name, value in values.items())
    print(f"    {case}: {', '.join(f'{name} {show(value)} {unit}' for name, value in values.items())}", flush=True)
    return Result(case, unit, ours, peer, must=must, hope=hope)


def _rows(attack: Attack, seen: Mapping[str, Seen]) -> Iterator[Result]:
    held = f"{attack.count} {attack.name}: answered within 1 s"
    yield _row(held, "%", {name: each.answered for name, each in seen.items()}, Goal("≥", 100, "%"))
    p99 = {name: each.p99 for name, each in seen.items()}
    if all(map(math.isfinite, p99.values())):
        yield _row("p99 of these", "ms", p99, hope=Goal("≤", 200, "ms"))
    else:  # the last of a hundred was not answered by one of them: there is nothing to compare with
        ours = Series(servers.Trow.name, (p99[servers.Trow.name],))
        yield Result("p99 of these", "ms", ours, hope=Goal("≤", 200, "ms"))


def _attacked(server: Server, blob: Blob, setting: Setting) -> Mapping[str, Seen]:
    seen = {}
    with server:
        push_small_image(server)
        with server.connect() as connection:
            push_large(connection, REPOSITORY, blob)
        for attack in ATTACKS:
            with server.connect() as known, Crowd(server) as crowd:
                attack.begin(crowd, attack.count, blob)
                seen[attack.name] = _honest(server, known, HONEST_SECONDS * min(1, setting.sizes.seconds / 4))
    return seen


def _honest(server: Server, known: Connection, seconds: float) -> Seen:
    stops: list[float] = []
    done = threading.Event()
    pinger = threading.Thread(target=_ping, args=(known, server.ready, stops, done))
    pinger.start()
    times = []
    began = time.perf_counter()
    for number in range(round(seconds * A_SECOND)):
        time.sleep(max(0.0, began + number / A_SECOND - time.perf_counter()))
        times.append(_ask(server))
    done.set()
    pinger.join()
    return Seen(tuple(times), max(stops))


def _ping(known: Connection, path: str, stops: list[float], done: threading.Event) -> None:
    while not done.wait(0.01):
        began = time.perf_counter()
        try:
            known.request("GET", path).expect(200)
        except OSError:
            stops.append(math.inf)
            return
        stops.append(1000 * (time.perf_counter() - began))


def _ask(server: Server) -> float:
    """Milliseconds until the manifest has come, the connection included."""
    asked = request_head("GET", f"/v2/{REPOSITORY}/manifests/{TAG}", {"accept": MANIFEST, "connection": "close"}, None)
    began = time.perf_counter()
    try:
        with socket.create_connection(server.address, timeout=LATEST) as client:
            client.settimeout(LATEST)
            client.sendall(asked)
            answer = b"".join(iter(lambda: client.recv(65536), b""))
    except OSError:
        return math.inf
    found = parse_head(answer.partition(b"\r\n\r\n")[0]) if answer else None
    return 1000 * (time.perf_counter() - began) if found is not None and found.status == 200 else math.inf


def _held(server: Server, blob: Blob) -> tuple[float, float]:
    """Megabytes while readers are held, and after."""
    with server:
        with server.connect() as connection:
            push_large(connection, REPOSITORY, blob)
        with Crowd(server) as crowd:
            _readers(crowd, STALLED, blob)
            held = []
            for _ in range(20):
                held.append(sum(resident(server.pid).values()))
                time.sleep(0.25)
        time.sleep(RESTED_SECONDS)
        return max(held) / 1e6, sum(resident(server.pid).values()) / 1e6


CASE = Case("crowds", METHOD, run)
