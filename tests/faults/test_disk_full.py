"""No space left: pushes are refused with a clear error and leave nothing, pulls go on, and space is all it takes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

import pytest

from factories import digest_of, image_of
from faults.volume import Volume, ext4, tmpfs
from support.client import WireClient
from support.server import Trow
from support.store import assert_clean, staged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.wire import Answer

MIB: Final = 2**20
VOLUME: Final = 64 * MIB
REPOSITORY: Final = "full/disk"
SMALL: Final = random.Random(1).randbytes(1000)
LARGE: Final = random.Random(2).randbytes(300_000)
MANIFEST: Final = image_of(SMALL, [LARGE])


@pytest.fixture(params=["tmpfs", "ext4"])
def volume(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Volume]:
    mount = {"tmpfs": tmpfs, "ext4": ext4}[request.param]
    with mount(tmp_path / "volume", VOLUME) as volume:
        yield volume


@pytest.fixture
def trow(volume: Volume, tmp_path: Path) -> Iterator[Trow]:
    """A registry with an image in it; afterwards its store must be whole."""
    with volume.start(tmp_path) as trow:
        with WireClient(trow.host) as client:
            assert client.push_whole(REPOSITORY, SMALL).status == 201
            assert client.push_whole(REPOSITORY, LARGE).status == 201
            assert client.put_manifest(REPOSITORY, "kept", MANIFEST).status == 201
        yield trow
    assert staged(volume.data) == []
    assert_clean(volume.data)


def assert_refused(answer: Answer) -> None:
    assert answer.status in {503, 507}, answer
    assert answer.codes == ["UNAVAILABLE"]
    assert answer.header("retry-after").isdigit()
    assert b"space" in answer.body or answer.status == 503


def assert_pulls_go_on(client: WireClient) -> None:
    assert client.get_blob(REPOSITORY, digest_of(SMALL)).body == SMALL
    assert client.get_blob(REPOSITORY, digest_of(LARGE)).body == LARGE
    assert client.get_manifest(REPOSITORY, "kept").body == MANIFEST
    assert client.ask("GET", f"/v2/{REPOSITORY}/tags/list").status == 200


def assert_serves_again(volume: Volume, client: WireClient) -> None:
    volume.clear()
    assert client.ask("GET", "/readyz").status == 200
    for size in (100, 5 * MIB):
        content = random.Random(size).randbytes(size)
        assert client.push_whole(REPOSITORY, content).status == 201
        assert client.get_blob(REPOSITORY, digest_of(content)).body == content
    assert client.push_whole(REPOSITORY, b"after").status == 201
    assert client.put_manifest(REPOSITORY, "after", image_of(b"after")).status == 201


@pytest.mark.parametrize("room", [0, 50_000, 3 * MIB])
def test_a_large_blob_in_one_request(room: int, volume: Volume, client: WireClient) -> None:
    content = random.Random(3).randbytes(8 * MIB)
    volume.fill(room)
    assert_refused(client.push_whole(REPOSITORY, content))
    assert client.get_blob(REPOSITORY, digest_of(content)).status == 404
    assert staged(volume.data) == []
    volume.fill()
    assert client.ask("GET", "/readyz").status == 503
    assert staged(volume.data) == []
    assert_pulls_go_on(client)
    assert_serves_again(volume, client)


@pytest.mark.parametrize("room", [0, 3 * MIB])
def test_a_large_blob_in_a_session_goes_on_when_there_is_space(room: int, volume: Volume, client: WireClient) -> None:
    content = random.Random(4).randbytes(8 * MIB)
    session = client.begin(REPOSITORY)
    assert client.append(session, content[:MIB], 0).status == 202
    volume.fill(room)
    assert_refused(client.append(session, content[MIB:], MIB))
    assert client.get_blob(REPOSITORY, digest_of(content)).status == 404
    assert_pulls_go_on(client)
    volume.clear()
    offset = client.offset(session)
    assert MIB <= offset < len(content)
    assert client.append(session, content[offset:], offset).status == 202
    assert client.finish(session, digest_of(content)).status == 201
    assert client.get_blob(REPOSITORY, digest_of(content)).body == content


def test_many_small_blobs_fill_the_database(volume: Volume, client: WireClient) -> None:
    volume.fill(2 * MIB)
    pushed, refused = push_until_refused(client, lambda number: random.Random(number).randbytes(60_000))
    for content in pushed:
        assert client.get_blob(REPOSITORY, digest_of(content)).body == content
    assert client.get_blob(REPOSITORY, digest_of(refused)).status == 404
    assert_pulls_go_on(client)
    assert_serves_again(volume, client)
    assert client.push_whole(REPOSITORY, refused).status == 201


def push_until_refused(client: WireClient, content_of: Callable[[int], bytes]) -> tuple[list[bytes], bytes]:
    pushed: list[bytes] = []
    for number in range(1000):
        content = content_of(number)
        answer = client.push_whole(REPOSITORY, content)
        if answer.status != 201:
            assert_refused(answer)
            return pushed, content
        pushed.append(content)
    raise AssertionError("the volume never got full")


def test_manifests_fill_the_database(volume: Volume, client: WireClient) -> None:
    volume.fill(2 * MIB)
    manifests = [image_of(SMALL, annotations={"filler": random.Random(n).randbytes(50_000).hex()}) for n in range(100)]
    answers = [client.put_manifest(REPOSITORY, f"tag{number}", each) for number, each in enumerate(manifests)]
    refused = [number for number, answer in enumerate(answers) if answer.status != 201]
    assert refused
    for number, (manifest, answer) in enumerate(zip(manifests, answers, strict=True)):
        pulled = client.get_manifest(REPOSITORY, f"tag{number}")
        if number in refused:
            assert_refused(answer)
            assert (pulled.status, client.get_manifest(REPOSITORY, digest_of(manifest)).status) == (404, 404)
        else:
            assert pulled.body == manifest
    assert_pulls_go_on(client)
    assert_serves_again(volume, client)


def test_wherever_the_space_ends_a_blob_is_whole_or_not_there(volume: Volume, client: WireClient) -> None:
    """In the blob's file, in the folder that names it, or in the database that links it."""
    outcomes = set()
    for room in range(MIB - 8192, MIB + 80_000, 4096):
        content = random.Random(room).randbytes(MIB)
        volume.fill(room)
        answer = client.push_whole(REPOSITORY, content)
        outcomes.add(answer.status == 201)
        if answer.status == 201:
            assert client.get_blob(REPOSITORY, digest_of(content)).body == content
        else:
            assert_refused(answer)
            assert client.get_blob(REPOSITORY, digest_of(content)).status == 404
            assert staged(volume.data) == []
        volume.clear()
    assert outcomes == {True, False}
    assert_clean(volume.data)


def test_a_start_without_space_serves_or_says_why_not(volume: Volume, trow: Trow, tmp_path: Path) -> None:
    trow.stop()
    volume.fill()
    try:
        again = volume.start(tmp_path)
    except AssertionError as error:
        assert "space" in str(error)  # noqa: PT017 - the wrapper quotes what the server wrote
    else:
        with again, WireClient(again.host) as client:
            assert_pulls_go_on(client)
    volume.clear()
    with volume.start(tmp_path) as recovered, WireClient(recovered.host) as client:
        assert_pulls_go_on(client)
        assert client.push_whole(REPOSITORY, b"there is space").status == 201


def test_a_log_on_a_full_volume_stops_nothing_and_goes_on(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "volume", VOLUME) as volume:
        with Trow.start(volume.path, "--data-dir", str(tmp_path / "data")) as trow, WireClient(trow.host) as client:
            volume.fill()
            for number in range(1000):
                assert client.push_whole(REPOSITORY, b"%d" % number).status == 201
            volume.clear()
            assert client.ask("GET", "/v2/").status == 200
            assert client.ask("GET", "/v2/after/the/space/came/back/tags/list").status == 404
        assert b"/v2/after/the/space/came/back/tags/list" in trow.stderr.read_bytes()


# ---- giving space back


def test_what_is_there_can_be_deleted_on_a_full_volume(volume: Volume, client: WireClient) -> None:
    for number in range(200):
        manifest = image_of(SMALL, annotations={"filler": f"{number}" * 1000})
        assert client.put_manifest(REPOSITORY, f"tag{number}", manifest).status == 201
    blobs = [random.Random(number).randbytes(30_000) for number in range(50)]
    for blob in blobs:
        assert client.push_whole(REPOSITORY, blob).status == 201
    volume.fill()
    assert_refused(client.push_whole(REPOSITORY, random.Random(5).randbytes(60_000)))
    for number in range(200):
        if number % 2:
            reference = f"tag{number}"
        else:
            reference = client.get_manifest(REPOSITORY, f"tag{number}").header("docker-content-digest")
        assert client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/{reference}").status == 202
        assert client.get_manifest(REPOSITORY, f"tag{number}").status == 404
    for blob in [*blobs, LARGE]:
        assert client.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{digest_of(blob)}").status == 202
        assert client.get_blob(REPOSITORY, digest_of(blob)).status == 404
    assert client.get_manifest(REPOSITORY, "kept").body == MANIFEST
    assert client.ask("GET", "/readyz").status == 503
    assert_serves_again(volume, client)
    assert client.push_whole(REPOSITORY, LARGE).status == 201


def test_deletes_leave_no_space_to_pushes_until_there_is_enough(volume: Volume, client: WireClient, trow: Trow) -> None:
    volume.fill()
    assert client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/kept").status == 202
    assert volume.free > MIB, "the reserve was given back"
    for size in (100, 60_000, MIB):
        answer = client.push_whole(REPOSITORY, random.Random(size).randbytes(size))
        assert answer.status == 507, answer
        assert answer.codes == ["UNAVAILABLE"]
    assert client.put_manifest(REPOSITORY, "new", image_of(b"new")).status == 507
    assert client.ask("GET", "/readyz").status == 503
    assert client.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{digest_of(SMALL)}").status == 202
    volume.clear()
    assert client.push_whole(REPOSITORY, random.Random(6).randbytes(MIB)).status == 201
    assert (volume.data / "trow.reserve").stat().st_blocks * 512 >= 2 * MIB
    assert b"pushes are refused" in trow.stderr.read_bytes()


def test_the_reserve_stays_in_use_after_a_restart(
    volume: Volume, trow: Trow, client: WireClient, tmp_path: Path
) -> None:
    volume.fill()
    assert client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/kept").status == 202
    trow.stop()
    with volume.start(tmp_path) as again, WireClient(again.host) as later:
        assert later.push_whole(REPOSITORY, random.Random(7).randbytes(MIB)).status == 507
        assert later.ask("DELETE", f"/v2/{REPOSITORY}/blobs/{digest_of(SMALL)}").status == 202
        volume.clear()
        assert later.push_whole(REPOSITORY, SMALL).status == 201


def test_a_volume_without_space_for_the_reserve_is_served_without(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "volume", VOLUME) as volume:
        volume.fill(3 * MIB)
        with volume.start(tmp_path) as trow, WireClient(trow.host) as client:
            assert client.push_whole(REPOSITORY, LARGE).status == 201
            assert not (volume.data / "trow.reserve").exists()
            assert b"no space for the reserve" in trow.stderr.read_bytes()
