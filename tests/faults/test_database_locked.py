"""Another process holds the database's write lock: pulls go on, pushes are told to come back, nothing stalls."""

from __future__ import annotations

import contextlib
import random
import select
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from factories import digest_of, image_of
from support.client import WireClient, push_image
from support.server import Trow
from support.store import assert_clean, staged
from support.wire import Wire, request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.wire import Answer

REPOSITORY: Final = "locked/database"
SMALL: Final = b"there before"
LARGE: Final = random.Random(1).randbytes(200_000)
MANIFEST: Final = image_of(SMALL, [LARGE])
# Holds the lock from its first line of output until its input ends.
_HOLDER: Final = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("BEGIN IMMEDIATE")
print("locked", flush=True)
sys.stdin.read()
connection.execute("ROLLBACK")
"""


@pytest.fixture
def trow(tmp_path: Path) -> Iterator[Trow]:
    with Trow.start(tmp_path) as trow:
        push_image(trow.host, REPOSITORY, SMALL, LARGE)
        yield trow
    assert staged(tmp_path / "data") == []
    assert_clean(tmp_path / "data")


@contextlib.contextmanager
def locked(data: Path) -> Iterator[None]:
    """Another process is in the middle of a write while the context lasts."""
    argv = [sys.executable, "-c", _HOLDER, str(data / "trow.db")]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "locked\n"
            yield
        finally:
            _, _ = holder.communicate(timeout=30)
        assert holder.returncode == 0


def test_pulls_go_on_and_pushes_are_told_to_come_back(tmp_path: Path, trow: Trow, client: WireClient) -> None:
    small, large, manifest = b"new", random.Random(2).randbytes(200_000), image_of(b"new")
    with locked(tmp_path / "data"), ThreadPoolExecutor() as pool:
        answers = [
            pool.submit(ask_alone, trow, ask)
            for ask in (
                lambda each: each.push_whole(REPOSITORY, small),
                lambda each: each.push_whole(REPOSITORY, large),
                lambda each: each.put_manifest(REPOSITORY, "new", manifest),
                lambda each: each.ask("DELETE", f"/v2/{REPOSITORY}/manifests/kept"),
            )
        ]
        ready = pool.submit(ask_alone, trow, lambda each: each.ask("GET", "/readyz"))
        assert_pulls_go_on(client)
        for answer in (each.result() for each in answers):
            assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"])
            assert int(answer.header("retry-after")) > 0
        assert ready.result().status == 503
        assert_pulls_go_on(client)
        assert client.get_blob(REPOSITORY, digest_of(small)).status == 404
        assert client.get_blob(REPOSITORY, digest_of(large)).status == 404
        assert client.get_manifest(REPOSITORY, "new").status == 404
    for content in (small, large):
        assert client.push_whole(REPOSITORY, content).status == 201
        assert client.get_blob(REPOSITORY, digest_of(content)).body == content
    assert client.put_manifest(REPOSITORY, "new", manifest).status == 201
    assert client.ask("GET", "/readyz").status == 200


def ask_alone(trow: Trow, ask: Callable[[WireClient], Answer]) -> Answer:
    with WireClient(trow.host) as client:
        return ask(client)


def assert_pulls_go_on(client: WireClient) -> None:
    assert client.ask("GET", "/healthz").status == 200
    assert client.get_blob(REPOSITORY, digest_of(SMALL)).body == SMALL
    assert client.get_blob(REPOSITORY, digest_of(LARGE)).body == LARGE
    assert client.get_manifest(REPOSITORY, "kept").body == MANIFEST
    assert client.ask("GET", f"/v2/{REPOSITORY}/tags/list").status == 200


def test_a_session_survives_the_lock(tmp_path: Path, client: WireClient) -> None:
    content = random.Random(3).randbytes(500_000)
    with locked(tmp_path / "data"):
        session = client.begin(REPOSITORY)
        assert client.append(session, content[:400_000], 0).status == 202
        assert client.finish(session, digest_of(content), content[400_000:]).status == 503
        assert client.offset(session) == len(content)
    assert client.finish(session, digest_of(content)).status == 201
    assert client.get_blob(REPOSITORY, digest_of(content)).body == content


def test_a_push_waits_for_a_short_lock(tmp_path: Path, trow: Trow, client: WireClient) -> None:
    with Wire(trow.host) as pushing:
        with locked(tmp_path / "data"):
            pushing.send(push_of(b"patient"))
            assert client.ask("GET", "/v2/").status == 200
        assert pushing.answer("POST").status == 201


def push_of(content: bytes) -> bytes:
    return request("POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(content)}", (), content)


def test_others_are_answered_while_a_push_waits(tmp_path: Path, trow: Trow, client: WireClient) -> None:
    """By their order, not by a clock: all these answers come before that of the push that was sent first."""
    with locked(tmp_path / "data"), Wire(trow.host) as pushing:
        pushing.send(push_of(b"waits"))
        for _ in range(20):
            assert_pulls_go_on(client)
            assert nothing_received(pushing)
        assert pushing.answer("POST").status == 503


def nothing_received(wire: Wire) -> bool:
    readable, _, _ = select.select([wire.socket], [], [], 0)
    return not readable
