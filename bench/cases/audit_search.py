"""Searching a long audit trail."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from functools import partial
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlencode

from bench import servers
from bench.contenders import folder
from bench.measure import Case, Goal, Result, Setting, interleaved
from bench.wire import Connection

from trow.access.identity import Identity, Method
from trow.audit.keys import SigningKey
from trow.audit.trail import AuditTrail
from trow.registry.events import Action, Event, Origin

if TYPE_CHECKING:
    from pathlib import Path

METHOD = """\
The trail is filled with records of pulls, by 500 users from 1 000 repositories, spread over 30 days. Asked for over
HTTP (`GET /api/v1/audit`) are the newest 100 records of one repository, those of one repository within ten days, and
those of all repositories below a prefix within a day; each 20 times, and a round's value is the slowest of the three
medians, from request to last byte."""
REPOSITORIES = 1_000
USERS = 500
SECONDS = 30 * 86400
QUERIES_A_ROUND = 20
WAITING = 20_000
MUST = Goal("≤", 100, "ms")


def run(setting: Setting) -> list[Result]:
    with folder(setting, "audit-search") as home:
        trow = servers.Trow(home / "trow")
        with trow:
            pass  # a directory with records and without a database is taken for one that has lost it
        end = time.time()
        fill(trow.data, setting.sizes.records, end)
        with trow:
            (ours,) = interleaved(setting, "ms", {"Trow": partial(slowest_search, trow, end)})
    count = f"{setting.sizes.records:,}".replace(",", " ")
    return [Result(f"audit search at {count} records", "ms", ours, must=MUST)]


def fill(data: Path, count: int, end: float) -> None:
    """As many records of pulls, the last one made at ``end``."""
    keys = data / "keys"
    keys.mkdir(mode=0o700, parents=True, exist_ok=True)
    now = [0.0]
    trail = AuditTrail(data / "audit.db", SigningKey.load_or_make(keys / "audit.pem"), clock=lambda: now[0])
    began = time.monotonic()
    for number in range(count):
        now[0] = end - SECONDS + number * (SECONDS / count)
        trail.record(_event(number))
        while trail.counts().waiting > WAITING:
            time.sleep(0.001)
    trail.close()
    print(f"    {count} records took {time.monotonic() - began:.0f} s", flush=True)


def _event(number: int) -> Event:
    user, repository = number * 7919 % USERS, number * 104_729 % REPOSITORIES
    return Event(
        Action.PULL,
        actor=Identity(f"user-{user}", Method.PASSWORD, credential=f"c-{user}"),
        origin=Origin(f"10.0.{user % 250}.7", "", "containerd/2.1.4", f"r-{number}"),
        status=200,
        repository=f"team-{repository % 20}/app-{repository}",
        reference="v1",
        digest=f"sha256:{number % 5000:064x}",
        blobs=11,
        bytes=40_000_000,
    )


def slowest_search(server: servers.Server, end: float, _: int) -> float:
    """Milliseconds for one of the three searches, whichever takes longest."""
    middle = end - SECONDS / 2
    searches = (
        {"repository": "team-7/app-127"},
        {"repository": "team-7/app-127", "since": _written(middle), "until": _written(middle + 10 * 86400)},
        {"repository": "team-7/*", "since": _written(middle), "until": _written(middle + 86400)},
    )
    with Connection(server.address) as connection:
        return max(median(_timed(connection, search) for _ in range(QUERIES_A_ROUND)) for search in searches)


def _timed(connection: Connection, search: dict[str, str]) -> float:
    began = time.perf_counter()
    answer = connection.request("GET", f"/api/v1/audit?{urlencode(search | {'n': '100'})}").expect(200)
    milliseconds = (time.perf_counter() - began) * 1e3
    if not json.loads(answer.body)["records"]:
        raise RuntimeError(f"nothing was found for {search}")
    return milliseconds


def _written(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


CASE = Case("audit-search", METHOD, run)
