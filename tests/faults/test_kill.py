"""kill -9 in the middle of pushes: what was acknowledged is whole, what was not leaves no trace."""

from __future__ import annotations

import os
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

from factories import digest_of
from faults.ledger import Auditor, Pusher, ReviewRecorder
from support.client import WireClient
from support.server import Trow
from support.store import assert_clean, staged, strangers

if TYPE_CHECKING:
    from pathlib import Path

CLIENTS: Final = 6
PUSHES: Final = 200
# Takes one run as another did: KILL_SEED=1234 pytest tests/faults/test_kill.py.
SEED: Final = "KILL_SEED"


class Countdown:
    """Lets one thread wait for the n-th call of another one."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._lock = threading.Lock()
        self.over = threading.Event()

    def __call__(self) -> None:
        with self._lock:
            self._count -= 1
            if self._count <= 0:
                self.over.set()


def test_kill_9_amid_random_pushes(tmp_path: Path) -> None:
    seed = int(os.environ.get(SEED) or random.SystemRandom().randrange(10**6))
    print(f"{SEED}={seed}")  # noqa: T201 - pytest shows it when the test fails
    chance = random.Random(seed)
    shared = [chance.randbytes(size) for size in (10, 40_000, 70_000, 500_000)]
    ledgers: list[ReviewRecorder] = []
    while sum(len(ledger.blobs) + len(ledger.manifests) for ledger in ledgers) < PUSHES:
        with Trow.start(tmp_path) as trow:
            latest = [ReviewRecorder(f"round{len(ledgers)}/client{number}") for number in range(CLIENTS)]
            push_until_killed(trow, latest, chance, shared)
        ledgers += latest
        with Trow.start(tmp_path) as trow:
            audit(trow, tmp_path / "data", latest)
    with Trow.start(tmp_path) as trow:
        audit(trow, tmp_path / "data", ledgers)
    assert any(push.acknowledged for ledger in ledgers for push in ledger.blobs)
    assert any(ledger.unanswered for ledger in ledgers)


def push_until_killed(trow: Trow, ledgers: list[ReviewRecorder], chance: random.Random, shared: list[bytes]) -> None:
    countdown = Countdown(chance.randint(1, 60))
    more = chance.random() * 0.02
    with ThreadPoolExecutor(CLIENTS) as pool:
        for ledger in ledgers:
            ledger.acknowledge = countdown
        pushers = [Pusher(trow.host, ledger, random.Random(chance.random()), shared) for ledger in ledgers]
        runs = [pool.submit(pusher.run) for pusher in pushers]
        assert countdown.over.wait(60)
        threading.Event().wait(more)  # the moment is random, not right after an answer
        trow.kill()
        for run in runs:
            run.result()


def audit(trow: Trow, data: Path, ledgers: list[ReviewRecorder]) -> None:
    auditor = Auditor(trow.host)
    for ledger in ledgers:
        auditor.check(ledger)
    auditor.close()
    assert staged(data) == []
    assert strangers(data) == []
    assert_clean(data)


def test_kill_9_ends_sessions_and_a_clean_stop_does_not(tmp_path: Path) -> None:
    content = random.Random(0).randbytes(300_000)
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        session = client.begin("a/b")
        assert client.append(session, content[:200_000], 0).status == 202
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        assert client.offset(session) == 200_000
        assert client.append(session, content[200_000:250_000], 200_000).status == 202
        assert client.finish(session, digest_of(content), content[250_000:]).status == 201
        assert client.get_blob("a/b", digest_of(content)).body == content
        lost = client.begin("a/b")
        assert client.append(lost, content, 0).status == 202
        trow.kill()
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        for answer in (client.ask("GET", lost), client.finish(lost, digest_of(content))):
            assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])
        assert staged(tmp_path / "data") == []
    assert_clean(tmp_path / "data")
