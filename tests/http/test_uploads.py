"""end-4, 5, 6, 13 and 14: blobs pushed in every way that the specification knows."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

import factories
from factories import INLINE, digest_of
from support import http2
from support.registry import Client, Repository
from support.wire import Wire, chunked, request

if TYPE_CHECKING:
    from factories import Blob
    from support.registry import Reply
    from support.server import Trow

SIZES = [0, 1, INLINE, INLINE + 1, 1_000_000]
UNKNOWN = "0" * 32


def assert_stored(repository: Repository, reply: Reply, blob: Blob, digest: str | None = None) -> None:
    """The answer is that of a finished upload, and where it points there is the blob."""
    assert reply.status == 201, reply
    assert reply.headers["docker-content-digest"] == (digest or blob.digest)
    assert reply.headers["location"] == repository.blob(digest or blob.digest)
    assert repository.client.get(reply.headers["location"]).body == blob.content


@pytest.mark.parametrize("place", ["0-9", "bytes 0-9/10", "Bytes 0-9/10", "BYTES=0-9", " bytes 0-9/* "])
def test_place_of_a_chunk_as_clients_write_it(client: Client, repository: Repository, place: str) -> None:
    assert client.patch(repository.begin(), b"x" * 10, content_range=place).status == 202


def finish(repository: Repository, location: str, digest: str, rest: bytes = b"", **headers: str) -> Reply:
    return repository.client.put(f"{location}?digest={digest}", rest, **headers)


# Ways to push


@pytest.mark.parametrize("body", [b"", iter(())], ids=["announced", "chunked"])
def test_digest_without_bytes_opens_an_upload(client: Client, repository: Repository, body: bytes) -> None:
    blob = factories.blob()
    reply = client.post(f"{repository.uploads}?digest={blob.digest}", body)
    assert reply.status == 202
    assert_stored(repository, finish(repository, reply.headers["location"], blob.digest, blob.content), blob)


def test_digest_without_bytes_opens_an_upload_over_http_2(trow: Trow, repository: Repository) -> None:
    """Where nothing has to be announced, only the end tells that nothing comes."""
    for content, status in ((b"", "202"), (b"content", "201")):
        with Wire(trow.host) as wire:
            wire.send(http2.preface() + http2.post(1, f"{repository.uploads}?digest={digest_of(b'content')}", content))
            assert http2.ends(wire.incoming) == [status]


@pytest.mark.parametrize(("method", "place", "status"), [("PUT", "", 413), ("PATCH", "0-4", 400)])
def test_refusal_in_the_middle_of_a_body_reaches_who_still_sends_it(
    trow: Trow, repository: Repository, method: str, place: str, status: int
) -> None:
    """Whoever sends into a connection that has ended sees no answer."""
    path = repository.begin() if place else repository.manifest("v1")
    headers = [("Content-Range", place), ("Transfer-Encoding", "chunked")]
    for _ in range(3):
        with Wire(trow.host) as wire:
            wire.send(request(method, path, headers) + chunked(*[b"x" * 65536] * 100))
            assert wire.answer(method).status == status
            assert wire.ask("GET", "/healthz").status == 200


@pytest.mark.parametrize("size", SIZES)
def test_one_request(client: Client, repository: Repository, size: int) -> None:
    blob = factories.blob(size)
    reply = client.post(f"{repository.uploads}?digest={blob.digest}", blob.content)
    assert_stored(repository, reply, blob)


@pytest.mark.parametrize("size", SIZES)
def test_one_request_in_chunked_encoding(client: Client, repository: Repository, size: int) -> None:
    blob = factories.blob(size)
    halves = [blob.content[: size // 2], blob.content[size // 2 :]]
    reply = client.post(f"{repository.uploads}?digest={blob.digest}", iter(halves))
    assert_stored(repository, reply, blob)


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_digest_without_a_body_opens_a_session(client: Client, repository: Repository, algorithm: str) -> None:
    """As at registries that take no whole blobs, where clients go on with a PUT."""
    blob = factories.blob(1000)
    digest = factories.digest_of(blob.content, algorithm)
    for query in (f"?digest={digest}", "?digest=", f"?digest={digest}&digest={digest}"):
        reply = client.post(repository.uploads + query)
        assert (reply.status, reply.headers["range"]) == (202, "0-0")
        assert_stored(repository, finish(repository, reply.headers["location"], digest, blob.content), blob, digest)
    assert client.post(f"{repository.uploads}?digest=sha256:abc").refusal == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("size", SIZES)
def test_post_then_put(repository: Repository, size: int) -> None:
    blob = factories.blob(size)
    assert_stored(repository, finish(repository, repository.begin(), blob.digest, blob.content), blob)


@pytest.mark.parametrize("size", SIZES)
def test_post_then_patch_as_a_stream_then_put(client: Client, repository: Repository, size: int) -> None:
    blob = factories.blob(size)
    pieces = (blob.content[at : at + 50_000] for at in range(0, size, 50_000))
    reply = client.patch(repository.begin(), pieces)
    assert reply.status == 202
    assert reply.headers["range"] == f"0-{max(0, size - 1)}"
    assert_stored(repository, finish(repository, reply.headers["location"], blob.digest), blob)


@pytest.mark.parametrize("step", [100_000, 333_333])
@pytest.mark.parametrize("last_in_put", [True, False])
def test_chunks(client: Client, repository: Repository, step: int, last_in_put: bool) -> None:  # noqa: FBT001
    blob = factories.blob(1_000_000)
    chunks = [blob.content[at : at + step] for at in range(0, blob.size, step)]
    last = chunks.pop() if last_in_put else b""
    location, at = repository.begin(), 0
    for chunk in chunks:
        reply = client.patch(location, chunk, content_range=f"{at}-{at + len(chunk) - 1}")
        at += len(chunk)
        assert (reply.status, reply.headers["range"]) == (202, f"0-{at - 1}")
        location = reply.headers["location"]
    place = {"content_range": f"{at}-{blob.size - 1}"} if last_in_put else {}
    assert_stored(repository, finish(repository, location, blob.digest, last, **place), blob)


@pytest.mark.parametrize("size", [0, 10, 200_000])
@pytest.mark.parametrize("query", ["", "?digest-algorithm=sha256", "?digest-algorithm=sha512"])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_digest_algorithms(client: Client, repository: Repository, size: int, query: str, algorithm: str) -> None:
    blob = factories.blob(size)
    digest = factories.digest_of(blob.content, algorithm)
    location = client.patch(repository.begin(query), blob.content).headers["location"]
    assert_stored(repository, finish(repository, location, digest), blob, digest)
    assert_stored(repository, client.post(f"{repository.uploads}?digest={digest}", blob.content), blob, digest)


@pytest.mark.parametrize("algorithm", ["md5", "sha384", "SHA256", "x"])
def test_digest_algorithm_that_is_not_supported(client: Client, repository: Repository, algorithm: str) -> None:
    reply = client.post(f"{repository.uploads}?digest-algorithm={algorithm}")
    assert reply.refusal == (400, "DIGEST_INVALID")


def test_opened_upload(client: Client, repository: Repository) -> None:
    for path in (repository.uploads, repository.uploads.rstrip("/")):
        reply = client.post(path)
        upload = reply.headers["docker-upload-uuid"]
        assert (reply.status, reply.body) == (202, b"")
        assert reply.headers["location"] == f"{repository.uploads}{upload}"
        assert reply.headers["range"] == "0-0"


def test_same_blob_from_many_clients(trow: Trow, repository: Repository) -> None:
    blob = factories.blob(300_000)

    def push(number: int) -> None:
        with Client(trow.url) as client:
            mine = Repository(client, f"{repository.name}/{number % 2}")
            assert_stored(mine, finish(mine, mine.begin(), blob.digest, blob.content), blob)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(push, range(16))) == [None] * 16


# How far is it, and giving up


def test_status(client: Client, repository: Repository) -> None:
    location = repository.begin()
    for size, expected in ((0, "0-0"), (1, "0-0"), (99, "0-99"), (100_000, "0-100099")):
        client.patch(location, b"x" * size)
        reply = client.get(location)
        assert (reply.status, reply.body) == (204, b"")
        assert (reply.headers["range"], reply.headers["location"]) == (expected, location)
        assert reply.headers["docker-upload-uuid"] == location.rpartition("/")[2]
        assert client.head(location).headers["range"] == expected


def test_cancel(client: Client, repository: Repository) -> None:
    blob = factories.blob(100_000)
    location = repository.begin()
    client.patch(location, blob.content)
    assert client.delete(location).status == 204
    for reply in (client.get(location), client.delete(location), finish(repository, location, blob.digest)):
        assert reply.refusal == (404, "BLOB_UPLOAD_UNKNOWN")
    assert client.head(repository.blob(blob.digest)).status == 404


def test_resume_after_a_chunk_out_of_order(client: Client, repository: Repository) -> None:
    blob = factories.blob(1000)
    location = repository.begin()
    client.patch(location, blob.content[:400], content_range="0-399")
    for start, method in ((0, "PATCH"), (399, "PATCH"), (401, "PATCH"), (401, "PUT")):
        query = f"?digest={blob.digest}" if method == "PUT" else ""
        reply = client.request(
            method, location + query, blob.content[start:], {"content-range": f"{start}-{blob.size - 1}"}
        )
        assert reply.refusal == (416, "BLOB_UPLOAD_INVALID")
        assert (reply.headers["range"], reply.headers["location"]) == ("0-399", location)
    assert client.patch(location, blob.content[400:], content_range="400-999").status == 202
    assert_stored(repository, finish(repository, location, blob.digest), blob)


def test_first_chunk_out_of_order(client: Client, repository: Repository) -> None:
    reply = client.patch(repository.begin(), b"x" * 10, content_range="10-19")
    assert reply.refusal == (416, "BLOB_UPLOAD_INVALID")
    assert reply.headers["range"] == "0-0"


@pytest.mark.parametrize("size", [100, 600_000])
def test_wrong_last_chunk_is_forgotten(client: Client, repository: Repository, size: int) -> None:
    blob = factories.blob(size)
    location, half = repository.begin(), size // 2
    client.patch(location, blob.content[:half], content_range=f"0-{half - 1}")
    assert finish(repository, location, blob.digest, b"x" * half).refusal == (400, "DIGEST_INVALID")
    reply = client.get(location)
    assert (reply.status, reply.headers["range"]) == (204, f"0-{half - 1}")
    assert client.patch(location, blob.content[half:], content_range=f"{half}-{size - 1}").status == 202
    assert_stored(repository, finish(repository, location, blob.digest), blob)


def test_put_whose_answer_was_lost_is_answered_again(client: Client, repository: Repository) -> None:
    blob = factories.blob(600_000)
    location = repository.begin()
    for rest in (blob.content, blob.content, b""):
        assert_stored(repository, finish(repository, location, blob.digest, rest), blob)
    client.delete(repository.blob(blob.digest))
    assert finish(repository, location, blob.digest).refusal == (404, "BLOB_UPLOAD_UNKNOWN")


# What is refused


@pytest.mark.parametrize("size", [10, 100_000])
def test_content_that_does_not_match(client: Client, repository: Repository, size: int) -> None:
    blob, claimed = factories.blob(size), factories.blob(size)
    location = repository.begin()
    for reply in (
        client.post(f"{repository.uploads}?digest={claimed.digest}", blob.content),
        client.post(f"{repository.uploads}?digest={claimed.sha512}", blob.content),
        finish(repository, location, claimed.digest, blob.content),
    ):
        assert reply.refusal == (400, "DIGEST_INVALID")
    for digest in (blob.digest, claimed.digest, claimed.sha512):
        assert client.head(repository.blob(digest)).status == 404
    assert client.get(location).headers["range"] == "0-0"
    assert_stored(repository, finish(repository, location, blob.digest, blob.content), blob)


@pytest.mark.parametrize("query", ["", "?digest=", "?digest=sha256:abc", "?digest=md5:00", "?digest=x", "?other=1"])
def test_put_without_a_digest_keeps_the_upload(client: Client, repository: Repository, query: str) -> None:
    blob = factories.blob()
    location = repository.begin()
    assert client.put(location + query, blob.content).refusal == (400, "DIGEST_INVALID")
    assert_stored(repository, finish(repository, location, blob.digest, blob.content), blob)


@pytest.mark.parametrize("digest", ["sha256:abc", "md5:00", "x"])
def test_post_with_what_is_no_digest(client: Client, repository: Repository, digest: str) -> None:
    assert client.post(f"{repository.uploads}?digest={digest}", b"x").refusal == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("place", ["9-0", "a-b", "0", "-5", "0-", "items 0-9", "0-9,10-19"])
def test_content_range_that_is_none(client: Client, repository: Repository, place: str) -> None:
    location = repository.begin()
    reply = client.patch(location, b"x" * 10, content_range=place)
    assert reply.refusal == (400, "BLOB_UPLOAD_INVALID")
    assert client.get(location).headers["range"] == "0-0"


@pytest.mark.parametrize("place", ["0-8", "0-10"])
def test_content_range_that_contradicts_the_length(client: Client, repository: Repository, place: str) -> None:
    location = repository.begin()
    assert client.patch(location, b"x" * 10, content_range=place).refusal == (400, "SIZE_INVALID")
    assert client.get(location).headers["range"] == "0-0"


def test_stream_that_is_longer_than_its_content_range(client: Client, repository: Repository) -> None:
    location = repository.begin()
    assert client.patch(location, iter([b"x" * 10, b"y" * 10]), content_range="0-9").status == 400


@pytest.mark.parametrize("upload", [UNKNOWN, "x", "0" * 31, "0" * 33, UNKNOWN.replace("0", "A"), "..%2f..%2fx"])
def test_upload_that_is_not_here(client: Client, repository: Repository, upload: str) -> None:
    path = repository.uploads + upload
    blob = factories.blob()
    for reply in (
        client.get(path),
        client.patch(path, blob.content),
        client.put(f"{path}?digest={blob.digest}", blob.content),
        client.delete(path),
    ):
        assert reply.status == 404
        assert reply.codes in (["BLOB_UPLOAD_UNKNOWN"], ["UNSUPPORTED"])


def test_upload_of_another_repository_is_not_here(client: Client, repository: Repository, other: Repository) -> None:
    """CVE-2026-32589."""
    blob = factories.blob()
    location = repository.begin()
    stolen = location.replace(repository.name, other.name)
    for reply in (
        client.get(stolen),
        client.patch(stolen, blob.content),
        client.put(f"{stolen}?digest={blob.digest}", blob.content),
        client.delete(stolen),
    ):
        assert reply.refusal == (404, "BLOB_UPLOAD_UNKNOWN")
    assert_stored(repository, finish(repository, location, blob.digest, blob.content), blob)


def test_blob_above_the_limit(strict_client: Client, strict: Repository) -> None:
    largest, larger = factories.blob(1024 * 1024), factories.blob(1024 * 1024 + 1)
    assert_stored(strict, strict_client.post(f"{strict.uploads}?digest={largest.digest}", largest.content), largest)
    location = strict.begin()
    strict_client.patch(location, larger.content[:600_000])
    for reply in (
        strict_client.post(f"{strict.uploads}?digest={larger.digest}", larger.content),
        strict_client.post(f"{strict.uploads}?digest={larger.digest}", iter([larger.content])),
        strict_client.patch(location, larger.content[600_000:]),
        finish(strict, location, larger.digest, larger.content[600_000:]),
    ):
        assert reply.refusal == (413, "SIZE_INVALID")
    assert strict_client.head(strict.blob(larger.digest)).status == 404
