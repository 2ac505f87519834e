"""Large blobs out: bytes a second on one stream and on eight."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from bench import servers
from bench.clients import in_processes, rate
from bench.contenders import REPOSITORY, folder, trow_and_distribution
from bench.content import Tail, push_large
from bench.measure import Case, Goal, Result, Setting, interleaved
from bench.wire import RECEIVE, Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.content import Blob
    from bench.servers import Server

METHOD = """\
The same 512 MB are pushed to both registries and laid into nginx's root; the page cache holds them. Each stream is a
process that receives into one buffer of 1 MiB and forgets it. One stream fetches the blob eight times a round, eight
streams three times each. nginx (`sendfile`, the settings of its package) is what the machine can do."""


def run(setting: Setting) -> list[Result]:
    with (
        folder(setting, "blob-get") as home,
        trow_and_distribution(home) as pair,
        servers.Nginx(home / "nginx") as nginx,
    ):
        targets = _fill(Tail.make(home / "tail", setting.sizes.blob).blob(0), pair, nginx)
        return [*_case(setting, targets, 1, 8, must=0.95), *_case(setting, targets, 8, 3, must=1.0)]


def _fill(blob: Blob, registries: tuple[Server, Server], nginx: Server) -> dict[Server, str]:
    for server in registries:
        with Connection(server.address) as connection:
            push_large(connection, REPOSITORY, blob)
    blob.write_to(nginx.data / "blob")
    return {**dict.fromkeys(registries, f"/v2/{REPOSITORY}/blobs/{blob.digest}"), nginx: "/blob"}


def _case(setting: Setting, targets: dict[Server, str], streams: int, times: int, must: float) -> list[Result]:
    measures = {
        server.name: partial(megabytes_a_second, server, target, streams, times) for server, target in targets.items()
    }
    trow, peer, nginx = interleaved(setting, "MB/s", measures)
    case = f"blob GET {setting.sizes.blob / 1e6:.0f} MB, {streams} stream{'s' if streams > 1 else ''}"
    return [
        Result(case, "MB/s", trow, peer, must=Goal("≥", must), hope=Goal("≥", 1.15)),
        Result(case, "MB/s", trow, nginx, hope=Goal("≥", 0.9)),
    ]


def megabytes_a_second(server: Server, target: str, streams: int, times: int, _: int) -> float:
    def client(_: int, ready: Callable[[], object]) -> float:
        buffer = bytearray(RECEIVE)
        with Connection(server.address) as connection:
            ready()
            return sum(connection.download(target, buffer) for _ in range(times))

    return rate(in_processes(streams, client)) / 1e6


CASE = Case("blob-get", METHOD, run)
