"""Over TLS, as production has it: HTTP/1.1 and HTTP/2, new connections, and reviews through their own listener."""

from __future__ import annotations

import json
import re
import subprocess
import time
from functools import partial
from statistics import quantiles
from typing import TYPE_CHECKING

from bench import servers
from bench.cases.admission import BODIES, PATH
from bench.cases.blob_push import unlink_larger_than
from bench.contenders import REPOSITORY, TAG, folder, push_small_image, trow_and_distribution
from bench.content import MANIFEST, Tail, push_large
from bench.measure import Case, Goal, Result, Series, Setting, interleaved
from bench.tools import tool

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from bench.content import Blob
    from bench.servers import Server

    # Seconds that it took.
    Push = Callable[[Server, Blob, Path], float]

METHOD = """\
Both registries end TLS themselves, with the same certificate (RSA, as cert-manager issues by default). Manifests:
`h2load` with 32 connections for 4 s a round, by HTTP/1.1 and by HTTP/2 with 4 streams each. Blobs: one `curl` at a
time, down to nowhere and up from a file. The push over HTTP/2 is one of `oras`, for it is programs written in Go that
push: they send larger frames than curl. New connections: `openssl s_time -new`, each with a full handshake and one
request. Reviews: the listener of `admission.bind`, by HTTP/2; 16 connections for 4 s a round, and 200 a second from
two connections, of whose times the median and the 99th percentile are taken."""
CONNECTIONS = 32
REVIEW_CONNECTIONS = 16
REVIEWS_A_SECOND = 200
# HTTP/2 is what h2load asks for by itself.
VERSIONS = {"HTTP/1.1": ["--h1"], "HTTP/2": []}


def run(setting: Setting) -> list[Result]:
    with folder(setting, "tls") as home, trow_and_distribution(home, tls=True) as pair:
        for server in pair:
            push_small_image(server)
        manifests = [_manifests(setting, pair, version) for version in VERSIONS]
        blobs = list(_blobs(setting, pair, Tail.make(home / "tail", setting.sizes.blob)))
        connections = _new_connections(setting, pair)
    return [*manifests, *blobs, connections, *_reviews(setting)]


def _compared(setting: Setting, case: str, unit: str, measures: dict[str, partial[float]]) -> Result:
    ours, peer = interleaved(setting, unit, measures)
    return Result(case, unit, ours, peer, must=Goal("≥", 1))


def _manifests(setting: Setting, pair: Sequence[Server], version: str) -> Result:
    measures = {server.name: partial(_manifest_rate, server, version, setting.sizes.seconds) for server in pair}
    return _compared(setting, f"manifest GET over TLS, {version}", "requests/s", measures)


def _manifest_rate(server: Server, version: str, seconds: float, _: int) -> float:
    url = f"{server.url}/v2/{REPOSITORY}/manifests/{TAG}"
    return h2load(url, seconds, CONNECTIONS, [*VERSIONS[version], "-m4", "-H", f"Accept: {MANIFEST}"])


def h2load(url: str, seconds: float, connections: int, options: Sequence[str]) -> float:
    """Requests a second, all of which have to be answered 200."""
    command = [str(tool("h2load")), f"-c{connections}", f"-D{max(1, round(seconds))}", *options, url]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rate = re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", report)
    wrong = re.search(r"(\d+) failed, (\d+) errored", report)
    if not rate or not wrong or int(wrong[1]) + int(wrong[2]) or " 0 3xx, 0 4xx, 0 5xx" not in report:
        raise RuntimeError(f"h2load saw errors:\n{report}")
    return float(rate[1])


def _blobs(setting: Setting, pair: Sequence[Server], tail: Tail) -> list[Result]:
    size = f"{setting.sizes.blob / 1e6:.0f} MB"
    pulled = tail.blob(0)
    for server in pair:
        with server.connect() as connection:
            push_large(connection, REPOSITORY, pulled)
    results = []
    for version, flag in {"HTTP/1.1": "--http1.1", "HTTP/2": "--http2"}.items():
        down = {server.name: partial(_pull_rate, server, flag, pulled) for server in pair}
        results.append(_compared(setting, f"blob GET {size} over TLS, {version}", "MB/s", down))
    for version, push in {"HTTP/1.1": _push_by_curl, "HTTP/2": _push_by_oras}.items():
        up = {server.name: partial(_push_rate, server, push, tail, number=len(results)) for server in pair}
        results.append(_compared(setting, f"blob push {size} over TLS, {version}", "MB/s", up))
    return results


def _curl(server: Server, flag: str, *options: str) -> dict[str, float]:
    assert server.tls is not None
    form = '{"status": %{response_code}, "seconds": %{time_total}}'
    command = [
        str(tool("curl")),
        flag,
        "--silent",
        "--cacert",
        str(server.tls.authority),
        "--write-out",
        form,
        *options,
    ]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _pull_rate(server: Server, flag: str, blob: Blob, _: int) -> float:
    url = f"{server.url}/v2/{REPOSITORY}/blobs/{blob.digest}"
    found = _curl(server, flag, "--output", "/dev/null", url)
    if found["status"] != 200:
        raise RuntimeError(f"{url} was answered {found['status']}")
    return blob.size / found["seconds"] / 1e6


def _push_rate(server: Server, push: Push, tail: Tail, round_: int, *, number: int) -> float:
    blob = tail.blob(1 + 1000 * number + round_)
    content = server.home / "content"
    content.write_bytes(blob.read())
    seconds = push(server, blob, content)
    content.unlink()
    unlink_larger_than(server.data, blob.size // 2)  # all pulls are over
    return blob.size / seconds / 1e6


def _push_by_curl(server: Server, blob: Blob, content: Path) -> float:
    with server.connect() as connection:
        location = connection.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/").expect(202).location
    target = f"{server.url}{location}{'&' if '?' in location else '?'}digest={blob.digest}"
    began = time.perf_counter()
    found = _curl(
        server, "--http1.1", "--output", "/dev/null", "--header", "Expect:", "--upload-file", str(content), target
    )
    if found["status"] != 201:
        raise RuntimeError(f"a push was answered {found['status']}")
    return time.perf_counter() - began


def _push_by_oras(server: Server, blob: Blob, content: Path) -> float:
    assert server.tls is not None
    target = f"{server.address[0]}:{server.address[1]}/{REPOSITORY}@{blob.digest}"
    command = [str(tool("oras")), "blob", "push", "--ca-file", str(server.tls.authority), target, str(content)]
    began = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - began


def _new_connections(setting: Setting, pair: Sequence[Server]) -> Result:
    measures = {server.name: partial(_connections_a_second, server, setting.sizes.seconds) for server in pair}
    return _compared(setting, "new TLS connections, each with a request", "connections/s", measures)


def _connections_a_second(server: Server, seconds: float, _: int) -> float:
    where = f"{server.address[0]}:{server.address[1]}"
    options = ("-new", "-www", "/", "-time", str(max(1, round(seconds))))
    command = [str(tool("openssl")), "s_time", "-connect", where, *options]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    found = re.search(r"(\d+) connections in (\d+) real seconds", report)
    if not found:
        raise RuntimeError(f"openssl s_time said:\n{report}")
    return int(found[1]) / int(found[2])


def _reviews(setting: Setting) -> list[Result]:
    with folder(setting, "tls-reviews") as home:
        tls = servers.Tls(home / "tls")
        port = servers.free_port()
        allow = [f"registry-{number}.example.com/team/" for number in range(999)] + ["registry.example.com/shop/"]
        admission = {
            "bind": f"{servers.HOST}:{port}",
            "tls": {"certificate": str(tls.certificate), "key": str(tls.key)},
        }
        settings = {"image_validation": {"default": "Deny", "allow": allow}, "admission": admission}
        config, body = home / "trow.yaml", home / "review.json"
        config.write_text(json.dumps(settings))
        body.write_bytes(BODIES[0])
        trow = servers.Trow(home / "trow")
        trow.flags = ["--config", str(config)]
        options = ["-d", str(body), "-H", "content-type: application/json"]
        url = f"https://{servers.HOST}:{port}{PATH}"
        with trow:
            rate = partial(_review_rate, url, setting.sizes.seconds, options)
            (rates,) = interleaved(setting, "reviews/s", {"Trow": rate})
            times = [_review_times(url, setting.sizes.reviews, options, home / "times") for _ in range(setting.rounds)]
    half, slowest = (Series("Trow", tuple(quantiles(each, n=100)[at] for each in times)) for at in (49, 98))
    return [
        Result("reviews over their own TLS listener, HTTP/2", "reviews/s", rates, must=Goal("≥", 2000, "reviews/s")),
        Result("200 of these a second, median", "ms", half),
        Result("200 of these a second, p99", "ms", slowest, must=Goal("≤", 5, "ms")),
    ]


def _review_rate(url: str, seconds: float, options: Sequence[str], _: int) -> float:
    return h2load(url, seconds, REVIEW_CONNECTIONS, options)


def _review_times(url: str, reviews: int, options: Sequence[str], log: Path) -> list[float]:
    """Milliseconds of each."""
    pace = [f"-n{reviews}", "-c2", f"--rps={REVIEWS_A_SECOND // 2}", f"--log-file={log}"]
    subprocess.run([str(tool("h2load")), *pace, *options, url], check=True, capture_output=True)
    lines = [line.split("\t") for line in log.read_text().splitlines()]
    log.unlink()
    if {status for _, status, _ in lines} != {"200"}:
        raise RuntimeError("a review was not answered 200")
    return [float(micro) / 1000 for _, _, micro in lines]


CASE = Case("tls", METHOD, run)
