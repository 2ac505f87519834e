"""The record outlives what befalls the server: a database that takes nothing, and kill -9."""

from __future__ import annotations

import contextlib
import resource
import secrets
from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.records import Records, stored, verified
from support.registry import Client, Repository
from support.server import Trow
from support.team import TeamClient, new_address
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.registry import Reply

pytestmark = pytest.mark.slow

ALICE: Final = ("alice", "correct horse")
# The log of the audit database has to be so much longer than that of the registry's own: a limit lies between them.
_ROOM: Final = 256 * 1024


def start(folder: Path, *, fail_closed: bool) -> Trow:
    config = {
        "listen": {"trusted_proxies": ["127.0.0.0/8"]},
        "audit": {"fail_closed": fail_closed, "pull_idle": "200ms"},
    }
    return Trow.start(folder, user=ALICE, config=config)


@pytest.fixture(scope="module")
def careful(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """Nothing may happen there that is not on record."""
    with start(tmp_path_factory.mktemp("careful"), fail_closed=True) as server:
        yield server


@pytest.fixture(scope="module")
def relaxed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    with start(tmp_path_factory.mktemp("relaxed"), fail_closed=False) as server:
        yield server


def logs(trow: Trow) -> tuple[int, int]:
    """The sizes of the logs of the audit database and of the registry's own."""
    audit, own = ((trow.folder / "data" / f"{name}.db-wal").stat().st_size for name in ("audit", "trow"))
    return audit, own


@contextlib.contextmanager
def unwritable_record(trow: Trow, image: factories.Manifest, path: str) -> Iterator[None]:
    """The audit database cannot grow, everything else can: no file of the process may be longer than its log is now."""

    def long_enough() -> bool:
        for _ in range(20):
            with Client(trow.url, ALICE, address=new_address()) as client:
                assert client.get(path).body == image.raw
        audit, own = logs(trow)
        return audit > own + _ROOM

    until(long_enough)
    limit = logs(trow)[0]
    before = resource.prlimit(trow.process.pid, resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.prlimit(trow.process.pid, resource.RLIMIT_FSIZE, before)


def state(repository: Repository) -> tuple[object, ...]:
    client = repository.client
    return client.get(repository.tags).json["tags"], client.get(repository.manifest("v1")).body


def attempts(
    repository: Repository, image: factories.Manifest, other: factories.Manifest, blob: factories.Blob, session: str
) -> Iterator[Reply]:
    """Everything that gives something away or changes something."""
    client = repository.client
    yield client.get("/token?scope=repository:a:pull")
    yield client.get(repository.manifest("v1"))
    yield client.get(repository.manifest("v1"), if_none_match=f'"{image.digest}"')
    yield client.get(repository.blob(image.blobs[0].digest))
    yield repository.put(other, "v1")
    yield repository.put(other, "v2")
    yield client.post(f"{repository.uploads}?digest={blob.digest}", blob.content)
    yield client.put(f"{session}?digest={blob.digest}", blob.content)
    yield client.delete(repository.manifest("v1"))
    yield client.delete(repository.manifest(other.digest))
    yield client.delete(repository.blob(image.blobs[1].digest))
    yield client.post(f"/v2/kept/target/blobs/uploads/?mount={image.blobs[1].digest}")


def test_nothing_happens_that_cannot_be_recorded(careful: Trow) -> None:
    with Client(careful.url, ALICE) as client:
        repository = Repository(client, f"kept/{secrets.token_hex(4)}")
        image, other, blob = factories.image(1), factories.image(0), factories.blob()
        repository.push(image, "v1")
        repository.push(other)
        session = repository.begin()
        before = state(repository)
        with (
            unwritable_record(careful, image, repository.manifest("v1")),
            Client(careful.url, ALICE, address=new_address()) as another,
        ):
            there = Repository(another, repository.name)
            for reply in attempts(there, image, other, blob, session):
                assert reply.refusal == (503, "UNAVAILABLE"), reply
                assert int(reply.headers["retry-after"]) > 0
            assert another.head(there.manifest("v1")).status == 503
            assert another.head(there.blob(blob.digest)).status == 404
            assert another.get(there.tags).json["tags"] == ["v1"]
        until(lambda: client.get("/token").status == 200)
        assert state(repository) == before
        for manifest in (image, other):
            assert client.get(repository.manifest(manifest.digest)).body == manifest.raw
        assert client.head(repository.blob(image.blobs[1].digest)).status == 200
        assert client.head(f"/v2/kept/target/blobs/{image.blobs[1].digest}").status == 404
    assert verified(careful.folder / "data").records


def test_pulls_go_on_while_nothing_can_be_recorded_and_are_recorded_later(relaxed: Trow) -> None:
    name = f"kept/{secrets.token_hex(4)}"
    with Client(relaxed.url, ALICE) as client:
        repository, image = Repository(client, name), factories.image(1)
        repository.push(image, "v1")
        with unwritable_record(relaxed, image, repository.manifest("v1")):
            with TeamClient(relaxed.url, [], user=ALICE) as puller:
                assert puller.get(repository.manifest("v1")).body == image.raw
                assert puller.get(repository.blob(image.blobs[0].digest)).body == image.blobs[0].content
            until(lambda: b"the audit database does not take records" in relaxed.stderr.read_bytes())
            assert client.get(repository.manifest("v1")).status == 200
        (record,) = Records(client).of(puller, action="pull")
        assert record["blobs"] == 1
    assert verified(relaxed.folder / "data").records


@pytest.mark.parametrize("fail_closed", [True, False])
def test_chain_is_whole_after_kill_9(tmp_path: Path, fail_closed: bool) -> None:  # noqa: FBT001
    """Where nothing may happen unrecorded, everything that was answered is on record."""
    trow = start(tmp_path, fail_closed=fail_closed)
    answered: set[tuple[str, str]] = set()
    with Client(trow.url, ALICE) as client:
        for number in range(10):
            repository, image = Repository(client, f"kept/r{number}"), factories.image(1)
            repository.push(image, "v1")
            assert client.get(repository.manifest("v1")).status == 200
            assert client.delete(repository.manifest("v1")).status == 202
            answered |= {(repository.name, action) for action in ("push", "pull.begin", "tag.delete")}
        token = client.get("/token?scope=repository:kept/r0:pull")
        assert token.status == 200
        trow.kill()
    count = verified(tmp_path / "data").records
    recorded = {
        (record["repository"], record["action"]) for record in stored(tmp_path / "data") if "repository" in record
    }
    if fail_closed:
        assert recorded >= answered | {("kept/r0", "token.issue")}
    with start(tmp_path, fail_closed=fail_closed) as again, Client(again.url, ALICE) as client:
        assert client.get("/v2/").status == 200
    assert verified(tmp_path / "data").records > count
