"""Manifest GET by tag: how many a second."""

from __future__ import annotations

import re
import resource
import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING

from bench.contenders import REPOSITORY, TAG, folder, push_small_image, trow_and_distribution
from bench.content import MANIFEST
from bench.measure import Case, Goal, Result, Setting, interleaved
from bench.tools import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bench.servers import Server

METHOD = """\
One image of 10 layers is pushed to each server; `wrk` asks for its manifest by tag over 32 kept-alive connections for
4 s a round. `wrk` has one thread: the run prints how much of a core it used, and on a machine with few cores a second
thread only takes time from the server. An answer other than 200 or a broken connection fails the run."""
CONNECTIONS = 32


def run(setting: Setting) -> list[Result]:
    with folder(setting, "manifest-get") as home, trow_and_distribution(home) as pair:
        for server in pair:
            push_small_image(server)
        measures = {server.name: partial(requests_a_second, server, setting.sizes.seconds) for server in pair}
        trow, peer = interleaved(setting, "requests/s", measures)
    return [
        Result("manifest GET by tag, 32 connections", "requests/s", trow, peer, must=Goal("≥", 4), hope=Goal("≥", 6))
    ]


def requests_a_second(server: Server, seconds: float, _: int, headers: Callable[[], Sequence[str]] = tuple) -> float:
    """``headers`` are lines to send along, asked for anew in each round."""
    url = f"http://{server.address[0]}:{server.address[1]}/v2/{REPOSITORY}/manifests/{TAG}"
    return wrk(url, seconds, ["-H", f"Accept: {MANIFEST}", *(word for line in headers() for word in ("-H", line))])


def wrk(url: str, seconds: float, options: Sequence[str]) -> float:
    """Requests a second over 32 connections, all of which have to be answered 200."""
    command = [str(tool("wrk")), "-t1", f"-c{CONNECTIONS}", f"-d{max(1, round(seconds))}s", *options, url]
    began, used = time.monotonic(), _children_cpu()
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    share = (_children_cpu() - used) / (time.monotonic() - began)
    print(f"             (wrk used {share:.0%} of a core)")
    return parse(report)


def parse(report: str) -> float:
    found = re.search(r"^Requests/sec:\s+([\d.]+)", report, re.MULTILINE)
    if not found or "Non-2xx" in report or "Socket errors" in report:
        raise RuntimeError(f"wrk saw errors:\n{report}")
    return float(found[1])


def _children_cpu() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


CASE = Case("manifest-get", METHOD, run)
