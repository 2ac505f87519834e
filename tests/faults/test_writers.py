"""Clients that write to one session at the same time.

The limits are the usual ones: a machine that is busy may take seconds to read what was sent long ago.
"""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from factories import digest_of
from faults.process import becomes
from support.client import WireClient
from support.server import Trow
from support.store import assert_clean, staged
from support.wire import Wire, announced, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

REPOSITORY: Final = "fickle/writers"
CONTENT: Final = random.Random(1).randbytes(600_000)
HALF: Final = len(CONTENT) // 2
DIGEST: Final = digest_of(CONTENT)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("writers")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[Trow]:
    with Trow.start(folder) as trow:
        yield trow
    assert_clean(folder / "data")


@pytest.fixture
def trow(server: Trow, folder: Path) -> Iterator[Trow]:
    """A registry that every test leaves without open uploads and without the blob."""
    yield server
    with WireClient(server.host) as client:
        assert client.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{DIGEST}").status in {202, 404}
    assert becomes(lambda: staged(folder / "data") == [])


def test_a_second_writer_waits_or_is_refused(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    with Wire(trow.host) as first, Wire(trow.host) as second:
        first.send(announced("PATCH", session, HALF))
        first.wait_until_read()
        second.send(request("PATCH", session, [], CONTENT[HALF:]))
        first.send(CONTENT[:HALF])
        assert first.answer("PATCH").status == 202
        assert second.answer("PATCH").status == 202
    assert client.finish(session, DIGEST).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


def test_a_second_writer_is_refused_while_the_first_one_takes_long(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    with Wire(trow.host) as first:
        first.send(announced("PATCH", session, HALF))
        first.wait_until_read()
        refused = client.append(session, CONTENT[:HALF], 0)
        assert (refused.status, refused.codes) == (409, ["BLOB_UPLOAD_INVALID"])
        first.send(CONTENT[:HALF])
        assert first.answer("PATCH").status == 202
    assert client.finish(session, DIGEST, CONTENT[HALF:]).status == 201
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


def test_of_many_writers_at_one_place_one_wins(client: WireClient, trow: Trow) -> None:
    session = client.begin(REPOSITORY)
    contents = [random.Random(number).randbytes(200_000) for number in range(8)]

    def append(content: bytes) -> int:
        with WireClient(trow.host) as other:
            return other.append(session, content, 0).status

    with ThreadPoolExecutor(len(contents)) as pool:
        statuses = list(pool.map(append, contents))
    assert sorted(statuses) == [202, *[416] * (len(contents) - 1)]
    winner = contents[statuses.index(202)]
    assert client.finish(session, digest_of(winner)).status == 201
    assert client.get_blob(REPOSITORY, digest_of(winner)).body == winner


def test_a_session_that_was_finished_meanwhile_takes_nothing_more(client: WireClient, trow: Trow, folder: Path) -> None:
    """The second request finds the session, then waits for the first one, which ends it."""
    session = client.begin(REPOSITORY)
    with Wire(trow.host) as first, Wire(trow.host) as second:
        first.send(announced("PUT", f"{session}?digest={DIGEST}", len(CONTENT)))
        first.wait_until_read()
        second.send(request("PATCH", session, (), CONTENT))
        for _ in range(3):
            assert client.ask("GET", "/v2/").status == 200
        first.send(CONTENT)
        assert first.answer("PUT").status == 201
        assert second.answer("PATCH").codes == ["BLOB_UPLOAD_UNKNOWN"]
    assert client.ask("GET", session).status == 404
    assert becomes(lambda: staged(folder / "data") == [])
    assert client.get_blob(REPOSITORY, DIGEST).body == CONTENT


def test_a_session_that_was_cancelled_meanwhile_takes_nothing_more(
    client: WireClient, trow: Trow, folder: Path
) -> None:
    """Two requests wait for the first one. Nothing tells which the server reads first: try until it is DELETE."""

    def late_patch_is_refused() -> bool:
        session = client.begin(REPOSITORY)
        with Wire(trow.host) as first, Wire(trow.host) as second, Wire(trow.host) as third:
            first.send(announced("PATCH", session, len(CONTENT)))
            first.wait_until_read()
            second.send(request("DELETE", session))
            assert client.ask("GET", "/v2/").status == 200
            third.send(request("PATCH", session, (), CONTENT))
            for _ in range(3):
                assert client.ask("GET", "/v2/").status == 200
            first.send(CONTENT)
            assert first.answer("PATCH").status == 202
            assert second.answer("DELETE").status == 204
            late = third.answer("PATCH")
        assert client.ask("GET", session).status == 404
        assert (late.status, late.codes) in [(202, []), (404, ["BLOB_UPLOAD_UNKNOWN"])]
        return late.status == 404

    assert becomes(late_patch_is_refused)
    assert becomes(lambda: staged(folder / "data") == [])
    assert client.get_blob(REPOSITORY, DIGEST).status == 404


def test_a_finish_sent_twice_at_once_is_whole(client: WireClient, trow: Trow) -> None:
    for size in (100, 60_000, 200_000):
        content = random.Random(size).randbytes(size)
        session = client.begin(REPOSITORY)
        assert client.append(session, content, 0).status == 202
        with Wire(trow.host) as first, Wire(trow.host) as second:
            for wire in (first, second):
                wire.send(request("PUT", f"{session}?digest={digest_of(content)}", (), b""))
            statuses = {first.answer("PUT").status, second.answer("PUT").status}
        assert 201 in statuses
        assert statuses <= {201, 404}
        assert client.get_blob(REPOSITORY, digest_of(content)).body == content
