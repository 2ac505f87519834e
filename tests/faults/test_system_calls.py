"""Durability to the system call: what is flushed before an answer, calls that fail, and kill -9 at any of them."""

from __future__ import annotations

import random
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from factories import digest_of, image_of
from faults.process import becomes, open_files
from faults.strace import deadly, failing, strace
from support.client import WireClient
from support.server import Trow
from support.store import assert_clean, staged
from support.waiting import until
from support.wire import ConnectionEnded, Wire

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.wire import Answer

REPOSITORY: Final = "flushed/blobs"
SMALL: Final = b"small"
LARGE: Final = random.Random(1).randbytes(300_000)
FOLDER: Final = digest_of(LARGE).removeprefix("sha256:")[:2]
FLUSH: Final = "fsync,fdatasync"
KEPT: Final = image_of(b"before")


@pytest.fixture
def trow(tmp_path: Path) -> Iterator[Trow]:
    """A registry that has done all this before, so that folders and log are there."""
    with Trow.start(tmp_path) as trow:
        with WireClient(trow.host) as client:
            assert client.push_whole(REPOSITORY, b"before").status == 201
            assert client.push_whole(REPOSITORY, LARGE[1:]).status == 201
            assert client.put_manifest(REPOSITORY, "kept", KEPT).status == 201
        (tmp_path / "data" / "blobs" / "sha256" / FOLDER).mkdir(exist_ok=True)
        yield trow


@pytest.fixture
def wal(tmp_path: Path) -> Path:
    return tmp_path / "data" / "trow.db-wal"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "strace.log"


def push_whole(client: WireClient, content: bytes) -> Answer:
    return client.push_whole(REPOSITORY, content)


def push_in_a_session(client: WireClient, content: bytes) -> Answer:
    session = client.begin(REPOSITORY)
    assert client.append(session, content[:-1], 0).status == 202
    return client.finish(session, digest_of(content), content[-1:])


def manifest_of(content: bytes) -> bytes:
    """One that differs as the content does, over a blob that was there before."""
    return image_of(b"before", annotations={"org.example": digest_of(content)})


def put_manifest(client: WireClient, content: bytes) -> Answer:
    return client.put_manifest(REPOSITORY, "new", manifest_of(content))


# ---- what is flushed before an answer


@pytest.mark.parametrize("push", [push_whole, push_in_a_session])
def test_a_blob_is_flushed_before_its_answer(
    push: Callable[[WireClient, bytes], Answer], trow: Trow, client: WireClient, log: Path
) -> None:
    with strace(trow, log, "-e", "trace=fsync,fdatasync,link,write,writev,sendto,sendmsg"):
        assert push(client, LARGE).status == 201
    assert_order(
        log, r"fsync\(\S+/uploads/", r"link\(", rf"fsync\(\S+/{FOLDER}>", r"sync\(\S+trow\.db-wal>", r"\b201 Created"
    )


def test_what_lives_in_the_database_is_flushed_before_its_answer(trow: Trow, client: WireClient, log: Path) -> None:
    manifest = f"/v2/{REPOSITORY}/manifests/kept"
    asks: list[Callable[[], Answer]] = [
        lambda: push_whole(client, SMALL),
        lambda: put_manifest(client, SMALL),
        lambda: client.ask("DELETE", manifest),
    ]
    for ask in asks:
        with strace(trow, log, "-e", "trace=fsync,fdatasync,write,writev,sendto,sendmsg"):
            assert ask().status in {201, 202}
        assert_order(log, r"sync\(\S+trow\.db-wal>", r"\b20[12] (Created|Accepted)")


def assert_order(log: Path, *patterns: str) -> None:
    """These calls came one after the other, each begun when the one before had ended."""
    text, place = log.read_text("utf-8"), 0
    for pattern in patterns:
        found = re.compile(pattern).search(text, place)
        assert found, f"no {pattern} after\n{text[:place][-500:]}\nin\n{text}"
        place = found.end()


# ---- calls that fail


@pytest.mark.parametrize("push", [push_whole, push_in_a_session])
@pytest.mark.parametrize("where", ["everywhere", "folder", "database"])
def test_a_blob_that_cannot_be_flushed_is_refused(
    where: str,
    push: Callable[[WireClient, bytes], Answer],
    trow: Trow,
    client: WireClient,
    tmp_path: Path,
    wal: Path,
    log: Path,
) -> None:
    path = {"everywhere": None, "folder": tmp_path / "data/blobs/sha256" / FOLDER, "database": wal}[where]
    with failing(trow, log, FLUSH, "EIO", path):
        assert_refused(push(client, LARGE))
        assert client.get_blob(REPOSITORY, digest_of(LARGE)).status == 404
    assert push_whole(client, LARGE).status == 201
    assert client.get_blob(REPOSITORY, digest_of(LARGE)).body == LARGE
    assert_clean(tmp_path / "data")


def test_what_the_database_cannot_flush_is_refused(trow: Trow, client: WireClient, tmp_path: Path, log: Path) -> None:
    with failing(trow, log, FLUSH, "EIO"):
        assert_refused(push_whole(client, SMALL))
        assert_refused(put_manifest(client, SMALL))
        assert_refused(client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/kept"))
        assert client.get_blob(REPOSITORY, digest_of(SMALL)).status == 404
        assert client.get_manifest(REPOSITORY, "new").status == 404
        assert client.get_manifest(REPOSITORY, digest_of(manifest_of(SMALL))).status == 404
        assert client.get_manifest(REPOSITORY, "kept").body == KEPT
    assert push_whole(client, SMALL).status == 201
    assert put_manifest(client, SMALL).status == 201
    assert client.get_manifest(REPOSITORY, "new").body == manifest_of(SMALL)
    assert_clean(tmp_path / "data")


def test_a_registry_that_cannot_flush_is_not_ready(trow: Trow, client: WireClient, wal: Path, log: Path) -> None:
    assert client.ask("GET", "/readyz").status == 200
    with failing(trow, log, FLUSH, "EIO", wal):
        until(lambda: client.ask("GET", "/readyz").status == 503)
        assert client.ask("GET", "/readyz").status == 503
    assert client.ask("GET", "/readyz").status == 200


def delete_manifest(client: WireClient, content: bytes) -> Answer:
    del content
    return client.ask("DELETE", f"/v2/{REPOSITORY}/manifests/kept")


def mount(client: WireClient, content: bytes) -> Answer:
    del content
    source = f"mount={digest_of(b'before')}&from={REPOSITORY}"
    return client.ask("POST", f"/v2/{REPOSITORY}/mounted/blobs/uploads/?{source}")


def move_tag(client: WireClient, content: bytes) -> Answer:
    return client.put_manifest(REPOSITORY, "kept", manifest_of(content))


def seen(client: WireClient) -> list[tuple[int, bytes]]:
    """Everything that these changes change."""
    paths = [
        *(f"/v2/{REPOSITORY}/blobs/{digest_of(content)}" for content in (SMALL, LARGE)),
        *(f"/v2/{REPOSITORY}/manifests/{name}" for name in ("new", "kept", digest_of(manifest_of(SMALL)))),
        f"/v2/{REPOSITORY}/mounted/blobs/{digest_of(b'before')}",
        f"/v2/{REPOSITORY}/tags/list",
    ]
    answers = [client.ask("GET", path) for path in paths]
    return [(answer.status, answer.body if answer.status == 200 else b"") for answer in answers]


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("change", [push_whole, put_manifest, move_tag, delete_manifest, mount])
def test_what_was_refused_does_not_come_true_after_a_crash(
    change: Callable[[WireClient, bytes], Answer],
    content: bytes,
    trow: Trow,
    client: WireClient,
    tmp_path: Path,
    wal: Path,
    log: Path,
) -> None:
    """What could not be flushed is in the log of the database all the same, where the next start would find it."""
    before = seen(client)
    with failing(trow, log, FLUSH, "EIO", wal):
        assert_refused(change(client, content))
        assert seen(client) == before
        trow.kill()
    with Trow.start(tmp_path) as again, WireClient(again.host) as other:
        assert seen(other) == before
        assert change(other, content).status in {201, 202}
        assert seen(other) != before
    assert_clean(tmp_path / "data")


def test_what_was_refused_does_not_come_true_beside_what_others_are_told(
    trow: Trow, client: WireClient, tmp_path: Path, wal: Path, log: Path
) -> None:
    before = seen(client)
    with failing(trow, log, FLUSH, "EIO", wal):
        assert_refused(push_whole(client, SMALL))
    assert push_whole(client, b"another").status == 201
    trow.kill()
    with Trow.start(tmp_path) as again, WireClient(again.host) as other:
        assert seen(other) == before
        assert other.get_blob(REPOSITORY, digest_of(b"another")).body == b"another"


def test_a_command_that_failed_beside_no_server_has_done_nothing(trow: Trow, tmp_path: Path, log: Path) -> None:
    """The commands write to the database as the server does."""
    trow.stop()
    command = [sys.executable, "-m", "trow", "token", "create", "--name", "ci", "--repository", "**"]
    argv = [*command, "--action", "pull", "--data-dir", str(tmp_path / "data")]
    traced = ["strace", "-f", "-o", str(log), "-e", f"inject={FLUSH}:error=EIO"]
    done = subprocess.run([*traced, *argv], capture_output=True, check=False, timeout=30)
    assert done.returncode > 0, done
    assert "(INJECTED)" in log.read_text("utf-8")
    with Trow.start(tmp_path) as again:
        assert again.command("token", "list", "--json").strip() in {"", "[]"}


def test_a_flush_that_failed_is_not_believed_the_second_time(trow: Trow, client: WireClient, log: Path) -> None:
    """The kernel reports a lost write once; the bytes that the session had are gone."""
    session = client.begin(REPOSITORY)
    assert client.append(session, LARGE, 0).status == 202
    with failing(trow, log, FLUSH, "EIO"):
        assert_refused(client.finish(session, digest_of(LARGE)))
    assert client.finish(session, digest_of(LARGE)).status in {400, 404}
    assert client.get_blob(REPOSITORY, digest_of(LARGE)).status == 404


@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
@pytest.mark.parametrize("call", ["mkdir", "rename", "link"])
def test_a_blob_that_cannot_be_named_is_refused_and_can_be_finished_later(
    call: str, error: str, trow: Trow, client: WireClient, tmp_path: Path, log: Path
) -> None:
    folder = tmp_path / "data" / "blobs" / "sha256" / FOLDER
    if call == "mkdir":
        folder.rmdir()
    session = client.begin(REPOSITORY)
    assert client.append(session, LARGE, 0).status == 202
    with failing(trow, log, call, error):
        assert_refused(client.finish(session, digest_of(LARGE)), 507 if error == "ENOSPC" else 503)
        assert client.get_blob(REPOSITORY, digest_of(LARGE)).status == 404
    assert client.offset(session) == len(LARGE)
    assert client.finish(session, digest_of(LARGE)).status == 201
    assert client.get_blob(REPOSITORY, digest_of(LARGE)).body == LARGE
    assert staged(tmp_path / "data") == []
    assert_clean(tmp_path / "data")


@pytest.mark.parametrize("push", [push_whole, push_in_a_session])
def test_a_blob_that_is_stored_is_acknowledged_even_if_tidying_up_fails(
    push: Callable[[WireClient, bytes], Answer], trow: Trow, client: WireClient, log: Path
) -> None:
    with failing(trow, log, "unlink", "EIO"):
        assert push(client, LARGE).status == 201
    assert client.get_blob(REPOSITORY, digest_of(LARGE)).body == LARGE


def assert_refused(answer: Answer, status: int = 503) -> None:
    assert (answer.status, answer.codes) == (status, ["UNAVAILABLE"]), answer
    assert int(answer.header("retry-after")) > 0


def test_no_more_open_files_than_allowed(trow: Trow, client: WireClient) -> None:
    """Connections above the limit wait or fail; when others end, the registry serves as before."""
    allowed = len(open_files(trow.process.pid)) + 10
    subprocess.run(["prlimit", f"--pid={trow.process.pid}", f"--nofile={allowed}"], check=True, timeout=30)
    idle = [Wire(trow.host) for _ in range(100)]
    for wire in idle:
        wire.close()
    assert becomes(lambda: answers(trow))
    assert push_whole(client, LARGE).status == 201
    assert client.get_blob(REPOSITORY, digest_of(LARGE)).body == LARGE


def answers(trow: Trow) -> bool:
    try:
        with Wire(trow.host) as wire:
            return wire.ask("GET", "/v2/").status == 200
    except (OSError, ConnectionEnded):
        return False


# ---- kill -9 at a call


@pytest.mark.parametrize("push", [push_whole, push_in_a_session])
@pytest.mark.parametrize("call", ["fsync", "mkdir", "rename", "link", "folder", "fdatasync", "unlink"])
def test_kill_9_at_any_step_of_a_blob(
    call: str, push: Callable[[WireClient, bytes], Answer], trow: Trow, client: WireClient, tmp_path: Path, log: Path
) -> None:
    folder = tmp_path / "data" / "blobs" / "sha256" / FOLDER
    if call == "mkdir":
        folder.rmdir()
    fatal = deadly(trow, log, "fsync", folder) if call == "folder" else deadly(trow, log, call)
    with fatal, pytest.raises(ConnectionEnded):
        push(client, LARGE)
    with Trow.start(tmp_path) as again, WireClient(again.host) as other:
        answer = other.get_blob(REPOSITORY, digest_of(LARGE))
        # The commit may have reached the database before the flush that the answer waits for.
        assert answer.status in {"fdatasync": {200, 404}, "unlink": {200}}.get(call, {404})
        assert answer.status == 404 or answer.body == LARGE
        assert staged(tmp_path / "data") == []
        assert_clean(tmp_path / "data")
        assert push_whole(other, LARGE).status == 201
        assert other.get_blob(REPOSITORY, digest_of(LARGE)).body == LARGE
    assert_clean(tmp_path / "data")


@pytest.mark.parametrize("call", ["pwrite64", "fdatasync"])
@pytest.mark.parametrize("push", [push_whole, put_manifest])
def test_kill_9_at_any_step_of_the_database(
    push: Callable[[WireClient, bytes], Answer], call: str, trow: Trow, client: WireClient, tmp_path: Path, log: Path
) -> None:
    with deadly(trow, log, call), pytest.raises(ConnectionEnded):
        push(client, SMALL)
    with Trow.start(tmp_path) as again, WireClient(again.host) as other:
        blob = other.get_blob(REPOSITORY, digest_of(SMALL))
        assert blob.status == 404 or blob.body == SMALL
        tagged = other.get_manifest(REPOSITORY, "new")
        assert tagged.status == other.get_manifest(REPOSITORY, digest_of(manifest_of(SMALL))).status
        assert tagged.status == 404 or tagged.body == manifest_of(SMALL)
        assert other.get_manifest(REPOSITORY, "kept").body == KEPT
        assert push(other, SMALL).status == 201
    assert_clean(tmp_path / "data")
