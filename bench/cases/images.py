"""Many small images in: what syncs and round trips allow."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

from bench.clients import in_processes, rate
from bench.contenders import folder, small_layers, trow_and_distribution
from bench.content import push_image
from bench.measure import Case, Goal, Result, Setting, interleaved
from bench.wire import Connection

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.servers import Server

METHOD = """\
Eight processes, each with one kept-alive connection and a repository of its own, push images of 10 random layers of 4
kB, a configuration and a manifest under a new tag, for 5 s a round. A blob takes HEAD (404), POST, PATCH, PUT, as
from docker, skopeo and crane; one blob after the other, so 45 requests an image. Both servers sync before they
answer."""
CLIENTS = 8


def run(setting: Setting) -> list[Result]:
    with folder(setting, "images") as home, trow_and_distribution(home) as pair:
        measures = {server.name: partial(images_a_second, server, setting.sizes.image_seconds) for server in pair}
        trow, peer = interleaved(setting, "images/s", measures)
    case = "images of 10 layers of 4 kB, 8 clients, synced"
    return [Result(case, "images/s", trow, peer, must=Goal("≥", 2.5), hope=Goal("≥", 4))]


def images_a_second(server: Server, seconds: float, number: int) -> float:
    def client(index: int, ready: Callable[[], object]) -> float:
        pushed = 0
        with Connection(server.address) as connection:
            ready()
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline:
                push_image(connection, f"bench/client-{index}", f"r{number}-{pushed}", small_layers())
                pushed += 1
        return pushed

    return rate(in_processes(CLIENTS, client))


CASE = Case("images", METHOD, run)
