"""Data that is moved, deleted or replaced under a running registry: nothing is acknowledged that would be lost."""

from __future__ import annotations

import random
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from factories import digest_of, image_of
from support.client import WireClient, push_image
from support.server import Trow
from support.store import assert_clean
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.wire import Answer

REPOSITORY: Final = "moved/away"
SMALL: Final = b"there before"
LARGE: Final = random.Random(1).randbytes(200_000)
KEPT: Final = image_of(SMALL, [LARGE])


@pytest.fixture
def trow(tmp_path: Path) -> Iterator[Trow]:
    with Trow.start(tmp_path) as trow:
        push_image(trow.host, REPOSITORY, SMALL, LARGE)
        yield trow


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return tmp_path / "data"


def move(path: Path) -> None:
    path.rename(path.with_name(f"{path.name}.moved"))


def replace(path: Path) -> None:
    """As a restore of a backup does that nobody stopped the registry for."""
    move(path)
    old = path.with_name(f"{path.name}.moved")
    if old.is_dir():
        shutil.copytree(old, path)
    else:
        shutil.copy2(old, path)


def remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def make_anew(path: Path) -> None:
    remove(path)
    path.mkdir(parents=True)


def push_small(client: WireClient) -> Answer:
    return client.push_whole(REPOSITORY, b"new")


def push_large(client: WireClient) -> Answer:
    return client.push_whole(REPOSITORY, LARGE[1:])


def push_in_a_session(client: WireClient) -> Answer:
    session = client.ask("POST", f"/v2/{REPOSITORY}/blobs/uploads/").header("location")
    answer = client.ask("PATCH", session, [("Content-Type", "application/octet-stream")], LARGE[2:])
    return answer if answer.status >= 400 else client.ask("PUT", f"{session}?digest={digest_of(LARGE[2:])}")


def put_manifest(client: WireClient) -> Answer:
    return client.put_manifest(REPOSITORY, "new", KEPT)


def delete_manifest(client: WireClient) -> Answer:
    return client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/kept")


def mount(client: WireClient) -> Answer:
    source = f"mount={digest_of(SMALL)}&from={REPOSITORY}"
    return client.ask("POST", f"/v2/{REPOSITORY}/mounted/blobs/uploads/?{source}")


CHANGES: Final = [push_small, push_large, push_in_a_session, put_manifest, delete_manifest, mount]
WHOLE: Final = ""
PLACES: Final = [
    (WHOLE, move),
    (WHOLE, replace),
    (WHOLE, remove),
    (WHOLE, make_anew),
    ("trow.db", move),
    ("trow.db", replace),
    ("trow.db", remove),
    ("trow.db-wal", move),
    ("trow.db-wal", remove),
    ("trow.db-shm", remove),
    ("blobs", move),
    ("blobs", make_anew),
    ("audit.db", move),
    ("audit.db", remove),
]


def assert_refused(answer: Answer) -> None:
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"]), answer
    assert b"moved or replaced while it is in use; put it back, or restart Trow" in answer.body
    assert int(answer.header("retry-after")) > 0


@pytest.mark.parametrize(("name", "happens"), PLACES)
def test_a_registry_whose_data_was_moved_is_not_ready_and_logs_it(
    name: str, happens: Callable[[Path], None], trow: Trow, client: WireClient, data: Path
) -> None:
    assert client.ask("GET", "/readyz").status == 200
    happens(data / name if name else data)
    answer = client.ask("GET", "/readyz")
    assert answer.status == 503
    assert b"was moved or replaced while it is in use" in answer.body
    assert client.ask("GET", "/healthz").status == 200
    line = b"files in use were moved or replaced"
    until(lambda: line in trow.stderr.read_bytes())
    trow.kill()


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("name", "happens"), [place for place in PLACES if place[0] in {WHOLE, "trow.db"}])
def test_no_change_is_acknowledged_that_the_next_start_would_not_know(
    name: str,
    happens: Callable[[Path], None],
    change: Callable[[WireClient], Answer],
    trow: Trow,
    client: WireClient,
    data: Path,
) -> None:
    happens(data / name if name else data)
    assert_refused(change(client))
    trow.kill()


def test_a_large_blob_goes_into_no_other_folder(trow: Trow, client: WireClient, data: Path) -> None:
    make_anew(data / "blobs")
    assert_refused(push_large(client))
    assert_refused(push_in_a_session(client))
    assert list((data / "blobs").iterdir()) == []
    trow.kill()


def test_a_folder_of_uploads_that_is_made_anew_is_used(trow: Trow, client: WireClient, data: Path) -> None:
    """The next start would clear it in any case."""
    make_anew(data / "uploads")
    assert client.ask("GET", "/readyz").status == 200
    assert push_large(client).status == 201
    assert push_in_a_session(client).status == 201


@pytest.mark.parametrize("name", [WHOLE, "blobs"])
def test_a_blob_whose_folder_is_gone_is_not_answered_as_unknown(
    name: str, trow: Trow, client: WireClient, data: Path
) -> None:
    """A client would believe it, and push everything again."""
    move(data / name if name else data)
    assert client.ask("HEAD", f"/v2/{REPOSITORY}/blobs/{digest_of(LARGE)}").status == 503
    assert client.get_blob(REPOSITORY, digest_of(SMALL)).body == SMALL
    assert client.get_manifest(REPOSITORY, "kept").body == KEPT
    trow.kill()


@pytest.mark.parametrize("name", [WHOLE, "trow.db", "blobs", "audit.db"])
def test_what_is_put_back_is_taken_up_again(name: str, trow: Trow, client: WireClient, data: Path) -> None:
    path = data / name if name else data
    moved = path.with_name(f"{path.name}.moved")
    move(path)
    assert client.ask("GET", "/readyz").status == 503
    refused = [change(client).status for change in (push_small, push_large)]
    moved.rename(path)
    assert client.ask("GET", "/readyz").status == 200
    if name != "audit.db":
        assert 503 in refused
        assert client.get_blob(REPOSITORY, digest_of(LARGE[1:])).status == 404
    assert push_small(client).status == 201
    assert push_large(client).status == 201
    assert put_manifest(client).status == 201
    trow.kill()
    with Trow.start(trow.folder) as again, WireClient(again.host) as other:
        assert other.get_blob(REPOSITORY, digest_of(LARGE[1:])).body == LARGE[1:]
        assert other.get_blob(REPOSITORY, digest_of(b"new")).body == b"new"
        assert other.get_manifest(REPOSITORY, "new").body == KEPT
    assert_clean(data)


def test_an_audit_trail_that_was_moved_keeps_its_records_and_refuses_what_must_be_on_record(tmp_path: Path) -> None:
    config = {"audit": {"fail_closed": True}}
    with Trow.start(tmp_path, config=config) as trow, WireClient(trow.host) as client:
        assert push_small(client).status == 201
        move(tmp_path / "data" / "audit.db")
        assert client.push_whole(REPOSITORY, SMALL).status == 503
        assert client.get_blob(REPOSITORY, digest_of(SMALL)).status in {404, 503}
        (tmp_path / "data" / "audit.db.moved").rename(tmp_path / "data" / "audit.db")
        until(lambda: client.push_whole(REPOSITORY, SMALL).status == 201)
    assert "records checked" in trow.command("audit", "verify")
