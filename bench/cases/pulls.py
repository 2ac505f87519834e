"""Whole pulls at a steady rate: does writing them down make the slowest ones slower."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

from bench import servers
from bench.clients import in_processes
from bench.contenders import REPOSITORY, TAG, folder, push_small_image
from bench.measure import Case, Goal, Result, Series, Setting, show
from bench.wire import Connection

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

METHOD = """\
Two instances of Trow, one that keeps the audit trail and one with `--no-audit`. Two clients pull the image (manifest by
tag, configuration, 10 layers) 25 times a second each, whether the last pull was fast or not; each pull comes from an
address of its own (`X-Forwarded-For` of a trusted proxy), so that it is a record of its own, written a second later.
The instances take turns every few seconds, one first and then the other, because the slowest pulls say more of the
machine than of the program; a turn's first pulls are not counted. A round's value is the 99th percentile of its 1 500
pulls, counted from when each was due. Lower is better."""
CLIENTS = 2
PULLS_A_SECOND = 25
TURNS = 6
# Of each client in each turn: the other instance may still be writing.
NOT_COUNTED = 25
SETTINGS = """\
listen: {trusted_proxies: [127.0.0.1]}
audit: {pull_idle: 1s}
"""


def run(setting: Setting) -> list[Result]:
    with folder(setting, "pulls") as home:
        recording, silent = servers.Trow(home / "recording"), servers.Trow(home / "silent")
        recording.flags = ["--config", str(_settings(home))]
        silent.flags = [*recording.flags, "--no-audit"]
        with recording, silent:
            for server in (recording, silent):
                push_small_image(server)
            ours, without = _rounds(setting, {"Trow": recording, "Trow, no record": silent})
    return [Result("pull of 12 requests, 50 a second, p99", "ms", ours, without, must=Goal("≤", 1.05))]


def _settings(home: Path) -> Path:
    path = home / "trow.yaml"
    path.write_text(SETTINGS)
    return path


def _rounds(setting: Setting, contenders: dict[str, servers.Trow]) -> list[Series]:
    """Like `interleaved`, but the contenders take many turns in a round."""
    values: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(setting.rounds + 1):
        times: dict[str, list[float]] = {name: [] for name in contenders}
        for turn in range(TURNS):
            for name in sorted(contenders, reverse=turn % 2 == 1):
                times[name] += _turn(contenders[name], setting.sizes.pulls // TURNS, number * TURNS + turn)
        for name, each in times.items():
            value = sorted(each)[int(len(each) * 0.99)] * 1e3
            print(f"    {f'round {number}' if number else 'warm-up':8} {name:24} {show(value)} ms", flush=True)
            if number:
                values[name].append(value)
    return [Series(name, tuple(each)) for name, each in values.items()]


def _turn(server: servers.Server, pulls: int, number: int) -> list[float]:
    """Seconds that each pull of a turn took."""
    folder = server.home / f"times-{number}"
    folder.mkdir()

    def client(index: int, ready: Callable[[], object]) -> float:
        with Connection(server.address) as connection:
            ready()
            times = _pull_steadily(connection, NOT_COUNTED + pulls // CLIENTS, f"10.{number}.{index}")
        (folder / str(index)).write_text(json.dumps(times[NOT_COUNTED:]))
        return len(times)

    in_processes(CLIENTS, client)
    return [each for path in folder.iterdir() for each in json.loads(path.read_text())]


def _pull_steadily(connection: Connection, pulls: int, network: str) -> list[float]:
    began, times = time.perf_counter(), []
    for number in range(pulls):
        due = began + number / PULLS_A_SECOND
        time.sleep(max(0.0, due - time.perf_counter()))
        pull(connection, {"x-forwarded-for": f"{network}.{number % 250}", "user-agent": f"pull-{number // 250}"})
        times.append(time.perf_counter() - due)
    return times


def pull(connection: Connection, headers: dict[str, str]) -> None:
    """What a client sends that knows the image by its tag and has none of its blobs."""
    answer = connection.request("GET", f"/v2/{REPOSITORY}/manifests/{TAG}", headers).expect(200)
    manifest = json.loads(answer.body)
    for blob in (manifest["config"], *manifest["layers"]):
        connection.request("GET", f"/v2/{REPOSITORY}/blobs/{blob['digest']}", headers).expect(200)


CASE = Case("pulls", METHOD, run)
