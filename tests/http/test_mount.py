"""end-11: a blob that another repository has, without its bytes being sent again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories
from support import http2
from support.wire import Wire

if TYPE_CHECKING:
    from support.registry import Client, Repository
    from support.server import Trow


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("size", [10, 100_000])
def test_blob_is_mounted(
    client: Client,
    repository: Repository,
    other: Repository,
    named: bool,  # noqa: FBT001
    size: int,
) -> None:
    blob = factories.blob(size)
    repository.push_blob(blob)
    source = f"&from={repository.name}" if named else ""
    for _ in range(2):
        reply = client.post(f"{other.uploads}?mount={blob.digest}{source}")
        assert reply.status == 201
        assert reply.headers["location"] == other.blob(blob.digest)
        assert reply.headers["docker-content-digest"] == blob.digest
    assert client.get(other.blob(blob.digest)).body == blob.content


def test_mounted_blob_outlives_its_source(client: Client, repository: Repository, other: Repository) -> None:
    blob = factories.blob(100_000)
    repository.push_blob(blob)
    client.post(f"{other.uploads}?mount={blob.digest}&from={repository.name}")
    assert client.delete(repository.blob(blob.digest)).status == 202
    assert client.get(other.blob(blob.digest)).body == blob.content
    assert client.post(f"{repository.uploads}?mount={blob.digest}&from={repository.name}").status == 202


@pytest.mark.parametrize("source", ["", "&from={repository}", "&from=http/nowhere", "&from={other}"])
def test_what_cannot_be_mounted_becomes_an_upload(
    client: Client, repository: Repository, other: Repository, source: str
) -> None:
    blob = factories.blob()
    query = source.format(repository=repository.name, other=other.name)
    reply = client.post(f"{other.uploads}?mount={blob.digest}{query}")
    assert reply.status == 202
    assert client.put(f"{reply.headers['location']}?digest={blob.digest}", blob.content).status == 201
    assert client.get(other.blob(blob.digest)).body == blob.content


@pytest.mark.parametrize("algorithm", ["sha384", "SHA512", "blake3", "sha512"])
def test_algorithm_that_is_named_beside_a_mount_refuses_no_upload(
    client: Client, other: Repository, algorithm: str
) -> None:
    blob = factories.blob()
    query = f"?mount={algorithm}:{'a' * 96}&from={other.name}/third&digest-algorithm={algorithm}"
    reply = client.post(other.uploads + query)
    assert reply.status == 202
    assert client.put(f"{reply.headers['location']}?digest={blob.digest}", blob.content).status == 201
    assert client.post(f"{other.uploads}?digest-algorithm=sha384").refusal == (400, "DIGEST_INVALID")


def test_mount_over_http_2_is_answered_although_the_bytes_come_too(
    trow: Trow, repository: Repository, other: Repository
) -> None:
    """An answer before the end of a body resets the stream, and clients do not see it."""
    blob = factories.blob(10_000)
    repository.push_blob(blob)
    path = f"{other.uploads}?mount={blob.digest}&from={repository.name}"
    for _ in range(5):
        with Wire(trow.host) as wire:
            wire.send(http2.preface() + http2.post(1, path, blob.content))
            assert http2.ends(wire.incoming) == ["201"]


def test_source_that_lacks_the_blob(client: Client, repository: Repository, other: Repository) -> None:
    """The named source counts, also where a third repository has the blob."""
    blob = factories.blob()
    repository.push_blob(blob)
    reply = client.post(f"{other.uploads}?mount={blob.digest}&from={other.name}/third")
    assert reply.status == 202
    assert client.head(other.blob(blob.digest)).status == 404


@pytest.mark.parametrize(
    "query",
    [
        "mount=sha256:abc",
        "mount=md5:00",
        "mount=sha384:" + "a" * 96 + "&from=a/b",
        "mount=",
        "mount=&from=",
        "mount={digest}&from=A",
        "mount={digest}&from=../x",
        "mount={digest}&from=a.example:5000/x",
        "mount={digest}&from=x:1",
        "mount={digest}&from=" + "a" * 300,
        "mount={digest}&from=%ff",
        "mount=%ff&from=a",
        "mount={digest}&from=%00",
        "mount={digest}&mount={other}",
        "mount={digest}&from=a/b&from=a/c",
        "mount={digest}&from=+",
    ],
)
def test_whatever_is_wrong_with_a_mount_it_becomes_an_upload(
    client: Client, repository: Repository, other: Repository, query: str
) -> None:
    blob = factories.blob()
    repository.push_blob(blob)
    reply = client.post(f"{other.uploads}?{query.format(digest=blob.digest, other=factories.blob().digest)}")
    assert reply.status == 202
    assert client.put(f"{reply.headers['location']}?digest={blob.digest}", blob.content).status == 201
