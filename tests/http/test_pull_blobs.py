"""end-2: blobs whole and in part, those in the database and those that are files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

import factories
from factories import INLINE
from support.registry import described
from support.wire import Wire

if TYPE_CHECKING:
    from factories import Blob
    from support.registry import Client, Repository
    from support.server import Trow

SIZES = [1000, INLINE + 1000]


@dataclass(frozen=True)
class Pushed:
    """A blob and where it is."""

    blob: Blob
    path: str

    @property
    def etag(self) -> str:
        return f'"{self.blob.digest}"'


@pytest.fixture(params=SIZES, ids=["in the database", "a file"])
def pushed(repository: Repository, request: pytest.FixtureRequest) -> Pushed:
    blob = factories.blob(request.param)
    repository.push_blob(blob)
    return Pushed(blob, repository.blob(blob.digest))


@pytest.mark.parametrize("size", [0, 1, INLINE, INLINE + 1, 3_000_000])
def test_blob_comes_back(client: Client, repository: Repository, size: int) -> None:
    blob = factories.blob(size)
    for digest in (blob.digest, blob.sha512):
        repository.push_blob(blob, digest)
        reply = client.get(repository.blob(digest))
        assert (reply.status, reply.body) == (200, blob.content)
        assert reply.headers["content-length"] == str(size)
        assert reply.headers["content-type"] == "application/octet-stream"
        assert reply.headers["docker-content-digest"] == digest
        assert reply.headers["accept-ranges"] == "bytes"
        assert reply.headers["etag"] == f'"{digest}"'


@pytest.mark.parametrize("size", [0, *SIZES])
def test_head_says_what_get_says(client: Client, repository: Repository, size: int) -> None:
    blob = factories.blob(size)
    repository.push_blob(blob)
    path = repository.blob(blob.digest)
    head, get = client.head(path), client.get(path)
    assert (head.status, head.body) == (200, b"")
    assert described(head) == described(get)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-99", 0, 100),
        ("bytes=100-", 100, None),
        ("bytes=500-999999999", 500, None),
        ("bytes=-1", -1, None),
        ("bytes=-100", -100, None),
        ("bytes=-999999999", 0, None),
        ("bytes=0-", 0, None),
        ("bytes=999-999", 999, 1000),
        ("Bytes=10-19", 10, 20),
    ],
)
def test_range(client: Client, pushed: Pushed, header: str, start: int, end: int | None) -> None:
    reply = client.get(pushed.path, range=header)
    first, after, _ = slice(start, end).indices(pushed.blob.size)
    assert reply.status == 206
    assert reply.body == pushed.blob.content[first:after]
    assert reply.headers["content-range"] == f"bytes {first}-{after - 1}/{pushed.blob.size}"
    assert reply.headers["content-length"] == str(after - first)
    assert reply.headers["docker-content-digest"] == pushed.blob.digest


def test_parts_make_the_whole(client: Client, pushed: Pushed) -> None:
    step = pushed.blob.size // 7
    parts = [client.get(pushed.path, range=f"bytes={at}-{at + step - 1}") for at in range(0, pushed.blob.size, step)]
    assert {part.status for part in parts} == {206}
    assert b"".join(part.body for part in parts) == pushed.blob.content


@pytest.mark.parametrize(
    "header", ["bytes={size}-", "bytes={size}-{size}", "bytes=999999999-", "bytes=5-4", "bytes=-0"]
)
def test_range_outside_the_blob(client: Client, pushed: Pushed, header: str) -> None:
    reply = client.get(pushed.path, range=header.format(size=pushed.blob.size))
    assert reply.refusal == (416, "SIZE_INVALID")
    assert reply.headers["content-range"] == f"bytes */{pushed.blob.size}"


@pytest.mark.parametrize("header", ["bytes=0-1,4-5", "bytes=0-1, -1", "lines=0-1", "bytes=a-b", "bytes", "bytes=-", ""])
def test_range_that_may_be_ignored(client: Client, pushed: Pushed, header: str) -> None:
    reply = client.get(pushed.path, range=header)
    assert (reply.status, reply.body) == (200, pushed.blob.content)
    assert "content-range" not in reply.headers


def test_range_that_a_proxy_has_repeated(pushed: Pushed, trow: Trow) -> None:
    twice = [("Range", "bytes=3-5"), ("Range", "bytes=3-5")]
    with Wire(trow.host) as wire:
        answer = wire.ask("GET", pushed.path, twice)
        assert (answer.status, answer.body) == (206, pushed.blob.content[3:6])


@pytest.mark.parametrize(
    "headers",
    [
        [("Range", "bytes=3-5"), ("Range", "bytes=0-1")],
        [("Range", "bytes=" + " " * 9000 + "3-5")],
        [("Range", "bytes=3-5"), ("If-Range", '"a"'), ("If-Range", '"b"')],
        [("If-None-Match", ", ".join(f'"{number:064}"' for number in range(400)))],
    ],
    ids=["several ranges", "a long one", "several guards", "many conditions"],
)
def test_what_need_not_be_done_and_cannot_be_understood_is_left(
    pushed: Pushed, trow: Trow, headers: list[tuple[str, str]]
) -> None:
    with Wire(trow.host) as wire:
        answer = wire.ask("GET", pushed.path, headers)
        assert (answer.status, answer.body) == (200, pushed.blob.content)


def test_conditions_on_several_lines_are_one_list(pushed: Pushed, trow: Trow) -> None:
    with Wire(trow.host) as wire:
        for values in (('"a"', pushed.etag), (pushed.etag, '"a", "b"'), (f'"a", {pushed.etag}', '"b"')):
            answer = wire.ask("GET", pushed.path, [("If-None-Match", each) for each in values])
            assert (answer.status, answer.body) == (304, b"")
        assert wire.ask("GET", pushed.path, [("If-None-Match", '"a"'), ("If-None-Match", '"b"')]).status == 200


def test_head_ignores_range(client: Client, pushed: Pushed) -> None:
    for header in ("bytes=0-9", "bytes=999999999-"):
        reply = client.head(pushed.path, range=header)
        assert (reply.status, reply.headers["content-length"]) == (200, str(pushed.blob.size))
        assert "content-range" not in reply.headers


def test_nothing_has_no_range(client: Client, repository: Repository) -> None:
    empty = factories.blob(0)
    repository.push_blob(empty)
    reply = client.get(repository.blob(empty.digest), range="bytes=0-0")
    assert reply.status == 416
    assert reply.headers["content-range"] == "bytes */0"


def test_range_of_what_has_not_changed(client: Client, pushed: Pushed) -> None:
    reply = client.get(pushed.path, range="bytes=0-9", if_range=pushed.etag)
    assert (reply.status, reply.body) == (206, pushed.blob.content[:10])


@pytest.mark.parametrize("condition", ['"other"', "W/{etag}", "Sat, 01 Jan 2022 00:00:00 GMT", "x"])
def test_range_of_what_may_have_changed(client: Client, pushed: Pushed, condition: str) -> None:
    reply = client.get(pushed.path, range="bytes=0-9", if_range=condition.format(etag=pushed.etag))
    assert (reply.status, reply.body) == (200, pushed.blob.content)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("condition", ["{etag}", "W/{etag}", "*", '"x", {etag}'])
def test_client_that_has_it_gets_304(client: Client, pushed: Pushed, method: str, condition: str) -> None:
    headers = {"if-none-match": condition.format(etag=pushed.etag), "range": "bytes=0-9"}
    reply = client.request(method, pushed.path, headers=headers)
    assert (reply.status, reply.body) == (304, b"")
    assert reply.headers["etag"] == pushed.etag
    assert client.get(pushed.path, if_none_match='"x"').body == pushed.blob.content


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("size", SIZES)
def test_blob_of_another_repository_is_not_here(
    client: Client, repository: Repository, other: Repository, method: str, size: int
) -> None:
    """Knowing a digest is no right to read it (CVE-2024-39897)."""
    blob = factories.blob(size)
    repository.push_blob(blob)
    for path in (other.blob(blob.digest), repository.blob(factories.blob().digest)):
        reply = client.request(method, path, headers={"range": "bytes=0-1"})
        assert reply.status == 404
        assert method == "HEAD" or reply.codes == ["BLOB_UNKNOWN"]


def test_manifest_is_no_blob_and_blob_is_no_manifest(client: Client, repository: Repository) -> None:
    image = factories.image()
    repository.push(image)
    assert client.get(repository.blob(image.digest)).refusal == (404, "BLOB_UNKNOWN")
    assert client.get(repository.manifest(image.blobs[0].digest)).refusal == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize(
    "digest", ["sha256:abc", "latest", "md5:d41d8cd98f00b204e9800998ecf8427e", "sha256:" + "G" * 64]
)
def test_digest_outside_the_grammar(client: Client, repository: Repository, digest: str) -> None:
    assert client.get(repository.blob(digest)).refusal == (400, "DIGEST_INVALID")
