"""end-7: manifests of every kind, their tags, and what is refused."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

import factories
from factories import DOCKER_IMAGE, DOCKER_LIST, OCI_CONFIG, OCI_IMAGE, OCI_INDEX, Manifest
from support.numbers import fresh

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.registry import Client, Repository

MEBIBYTE = 1024 * 1024
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def assert_absent(repository: Repository, *references: str) -> None:
    for reference in references:
        assert repository.client.head(repository.manifest(reference)).status == 404


# What is accepted


@pytest.mark.parametrize(
    "make",
    [
        factories.image,
        lambda: factories.image(0),
        factories.artifact,
        factories.index,
        lambda: factories.index([]),
        factories.docker_image,
        lambda: factories.docker_list([factories.docker_image()]),
        lambda: factories.index([factories.index([factories.image(1)])]),
    ],
)
def test_every_kind(repository: Repository, make: Callable[[], Manifest]) -> None:
    manifest = make()
    reply = repository.push(manifest, "v1")
    assert (reply.status, reply.body) == (201, b"")
    assert reply.headers["location"] == repository.manifest(manifest.digest)
    assert reply.headers["docker-content-digest"] == manifest.digest
    assert "warning" not in reply.headers
    assert repository.client.get(reply.headers["location"]).body == manifest.raw


def test_bytes_are_never_written_anew(repository: Repository) -> None:
    image = factories.image()
    spaced = json.dumps(image.document, indent=3, sort_keys=True).encode() + b"\n\n"
    repository.push(Manifest(spaced, OCI_IMAGE, image.blobs), "v1")
    assert repository.client.get(repository.manifest("v1")).body == spaced


@pytest.mark.parametrize("digest", ["digest", "sha512"])
def test_push_by_digest(repository: Repository, digest: str) -> None:
    image = factories.image()
    reply = repository.push(image, getattr(image, digest))
    assert reply.headers["docker-content-digest"] == getattr(image, digest)
    assert "oci-tag" not in reply.headers
    assert repository.client.get(repository.tags).json["tags"] == []


def test_same_manifest_again_and_again(repository: Repository) -> None:
    image = factories.image()
    for _ in range(3):
        assert repository.push(image, "v1").status == 201
    assert len(repository.client.get(repository.history("v1")).json["history"]) == 1


@pytest.mark.parametrize("size", [4 * MEBIBYTE - 1, 4 * MEBIBYTE])
def test_largest_manifest(client: Client, repository: Repository, size: int) -> None:
    image = factories.sized_image(size)
    assert image.size == size
    repository.push(image, "v1")
    assert client.get(repository.manifest("v1")).body == image.raw


@pytest.mark.parametrize("chunked", [True, False])
def test_manifest_above_the_limit(client: Client, repository: Repository, chunked: bool) -> None:  # noqa: FBT001
    image = factories.sized_image(4 * MEBIBYTE + 1)
    body = iter([image.raw]) if chunked else image.raw
    reply = client.put(repository.manifest("v1"), body, content_type=OCI_IMAGE)
    assert reply.refusal == (413, "MANIFEST_INVALID")
    assert_absent(repository, "v1", image.digest)


def test_limit_of_the_settings(strict: Repository) -> None:
    strict.push(factories.sized_image(64 * 1024), "v1")
    assert strict.put(factories.sized_image(64 * 1024 + 1), "v2").refusal == (413, "MANIFEST_INVALID")


# Tags


def test_tag_parameters(client: Client, repository: Repository) -> None:
    image = factories.image()
    reply = repository.push(image, image.digest, "?tag=b&tag=a&tag=b")
    assert reply.headers.getlist("oci-tag") == ["b", "a"]
    assert client.get(repository.tags).json["tags"] == ["a", "b"]
    for tag in "ab":
        assert client.get(repository.manifest(tag)).body == image.raw


def test_as_many_tags_as_the_default_allows(client: Client, repository: Repository) -> None:
    image = factories.image()
    tags = [f"v{number:02}" for number in range(64)]
    reply = repository.push(image, image.digest, "?" + "&".join(f"tag={tag}" for tag in tags))
    assert reply.headers.getlist("oci-tag") == tags
    assert client.get(repository.tags).json["tags"] == tags
    more = "?" + "&".join(f"tag=w{number}" for number in range(65))
    assert repository.put(image, image.digest, more).refusal == (414, "MANIFEST_INVALID")


def test_too_many_tags_store_nothing(strict: Repository) -> None:
    image = factories.image(0)
    strict.push_blob(image.blobs[0])
    assert strict.put(image, image.digest, "?tag=a&tag=b&tag=c&tag=d").refusal == (414, "MANIFEST_INVALID")
    assert_absent(strict, image.digest, "a")
    assert strict.put(image, image.digest, "?tag=a&tag=b&tag=c").status == 201


@pytest.mark.parametrize("tag", ["", ".x", "-x", "a/b", "a%20b", "x" * 129, "sha256:" + "a" * 64, "%C3%A9"])
def test_tag_outside_the_grammar_stores_nothing(repository: Repository, tag: str) -> None:
    image = factories.image()
    assert repository.put(image, image.digest, f"?tag=good&tag={tag}").refusal == (400, "MANIFEST_INVALID")
    assert_absent(repository, image.digest, "good")


def test_tag_parameters_go_with_a_digest(repository: Repository) -> None:
    image = factories.image()
    assert repository.put(image, "v1", "?tag=v2").refusal == (400, "MANIFEST_INVALID")
    assert_absent(repository, image.digest, "v1", "v2")


# What is remarked on


def test_missing_blobs_of_an_image_are_refused(repository: Repository) -> None:
    """A client that took the 202 of a mount for a blob is told at once, not whoever pulls."""
    image = factories.image(2)
    for blob in image.blobs[:2]:
        repository.push_blob(blob)
    reply = repository.put(image, "v1")
    assert reply.refusal == (400, "MANIFEST_BLOB_UNKNOWN")
    assert reply.json["errors"][0]["detail"] == {"digest": image.blobs[2].digest}
    assert_absent(repository, "v1", image.digest)
    repository.push_blob(image.blobs[2])
    assert repository.put(image, "v1").status == 201


def test_missing_manifests_of_an_index_are_accepted_with_a_warning(repository: Repository) -> None:
    index = factories.index()
    reply = repository.put(index, "v2")
    assert reply.headers.getlist("warning") == ['299 - "2 manifests of this index are not in the repository"']
    assert repository.client.get(repository.manifest("v2")).body == index.raw


def test_missing_content_is_refused_where_settings_say_so(strict: Repository) -> None:
    image, index = factories.image(1), factories.index([factories.image(1)])
    reply = strict.put(image, "v1")
    assert (reply.status, reply.codes) == (400, ["MANIFEST_BLOB_UNKNOWN"] * 2)
    assert [error["detail"] for error in reply.json["errors"]] == [{"digest": blob.digest} for blob in image.blobs]
    assert strict.put(index, "v1").refusal == (400, "MANIFEST_BLOB_UNKNOWN")
    assert_absent(strict, "v1", image.digest, index.digest)
    assert strict.push(index, "v1").status == 201


@pytest.mark.parametrize("push", ["repository", "strict"])
def test_foreign_layer_is_never_missing(request: pytest.FixtureRequest, push: str) -> None:
    repository: Repository = request.getfixturevalue(push)
    config = factories.blob(10, factories.DOCKER_CONFIG)
    layer = factories.blob(10, FOREIGN).descriptor | {"urls": ["https://elsewhere.example/layer"]}
    raw = factories.encode(
        {"schemaVersion": 2, "mediaType": DOCKER_IMAGE, "config": config.descriptor, "layers": [layer]}
    )
    reply = repository.push(Manifest(raw, DOCKER_IMAGE, (config,)), "v1")
    assert any("non-distributable" in text for text in reply.headers.getlist("warning"))
    assert repository.client.get(repository.manifest("v1")).body == raw


def test_notice_of_the_settings_comes_with_every_answer(strict_client: Client, strict: Repository) -> None:
    notice = '299 - "moving on \\"friday\\""'
    for reply in (strict_client.get("/v2/"), strict_client.get(strict.tags), strict.push(factories.image(0), "v1")):
        assert notice in reply.headers.getlist("warning")
    assert "warning" not in strict_client.get("/healthz").headers


# What is refused


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_digest_that_does_not_match(repository: Repository, algorithm: str) -> None:
    image, claimed = factories.image(), factories.digest_of(b"something else", algorithm)
    assert repository.put(image, claimed).refusal == (400, "DIGEST_INVALID")
    assert_absent(repository, claimed, image.digest)


def test_content_type_may_have_parameters_or_be_missing(client: Client, repository: Repository) -> None:
    image = factories.image()
    repository.push(image)
    for content_type in (f"{OCI_IMAGE}; charset=utf-8", ""):
        assert client.put(repository.manifest("v1"), image.raw, content_type=content_type).status == 201
        assert client.get(repository.manifest("v1")).headers["content-type"] == OCI_IMAGE


@pytest.mark.parametrize("content_type", [OCI_INDEX, DOCKER_IMAGE, DOCKER_LIST, "application/json", "text/plain"])
def test_content_type_and_media_type_disagree(client: Client, repository: Repository, content_type: str) -> None:
    image = factories.image()
    reply = client.put(repository.manifest("v1"), image.raw, content_type=content_type)
    assert reply.refusal == (400, "MANIFEST_INVALID")
    assert_absent(repository, "v1", image.digest)


@pytest.mark.parametrize(
    ("changes", "content_type"),
    [
        ({"manifests": []}, OCI_IMAGE),
        ({"manifests": [], "mediaType": OCI_INDEX}, OCI_INDEX),
        ({"manifests": [], "mediaType": None}, OCI_IMAGE),
        ({"manifests": [], "mediaType": None}, OCI_INDEX),
        ({"manifests": [], "mediaType": None, "config": None}, OCI_INDEX),
        ({"manifests": [], "mediaType": None, "layers": None}, OCI_INDEX),
    ],
)
def test_document_that_is_image_and_index(repository: Repository, changes: dict[str, Any], content_type: str) -> None:
    """CVE-2021-41190: clients would not agree what was pushed."""
    raw = factories.encode(factories.image().document | changes)
    assert repository.put(Manifest(raw, content_type), "v1").refusal == (400, "MANIFEST_INVALID")
    assert_absent(repository, "v1")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[]",
        b"null",
        b"{",
        b'{"manifests": []}',
        b"[" * 10_000,
        b"\xff",
        b'{"schemaVersion": 2, "schemaVersion": 2}',
    ],
)
@pytest.mark.parametrize("content_type", [OCI_IMAGE, OCI_INDEX])
def test_what_is_no_manifest(repository: Repository, raw: bytes, content_type: str) -> None:
    assert repository.put(Manifest(raw, content_type), "v1").refusal == (400, "MANIFEST_INVALID")


def test_schema_1_is_told_what_to_do(repository: Repository) -> None:
    raw = b'{"schemaVersion": 1, "name": "a", "tag": "b", "fsLayers": [], "history": [], "signatures": []}'
    for content_type in (
        "application/vnd.docker.distribution.manifest.v1+json",
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    ):
        assert repository.put(Manifest(raw, content_type), "v1").refusal == (400, "MANIFEST_INVALID")
    old = factories.encode(factories.docker_image().document | {"schemaVersion": 1})
    reply = repository.put(Manifest(old, DOCKER_IMAGE), "v1")
    assert "push the image with a current client" in reply.json["errors"][0]["message"]


@pytest.mark.slow
def test_size_that_contradicts_the_blob(repository: Repository) -> None:
    image = factories.image(1)
    for blob in image.blobs:
        repository.push_blob(blob)
    raw = image.raw.replace(b'"size": 200', b'"size": 201')
    assert raw != image.raw
    counted = stored_with_wrong_sizes(repository.client)
    reply = repository.put(Manifest(raw, OCI_IMAGE), "v1")
    assert reply.status == 201
    assert reply.headers["warning"].startswith('299 - "1 sizes in this manifest are wrong or missing')
    assert repository.client.get(repository.manifest("v1")).body == raw
    assert stored_with_wrong_sizes(repository.client) == counted + 1


def stored_with_wrong_sizes(client: Client) -> float:
    lines = fresh(lambda: client.get("/metrics").body).splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("trow_wrong_size_manifests_total "))
    return float(value)


@pytest.mark.parametrize(
    ("document", "media_type"),
    [
        ({"layers": None}, OCI_IMAGE),
        ({}, DOCKER_IMAGE),
        ({"layers": None, "manifests": None, "annotations": None, "subject": None}, OCI_IMAGE),
        ({"layers": [], "mediaType": ""}, OCI_IMAGE),
        ({"config": None, "manifests": None}, OCI_INDEX),
        ({"config": None}, DOCKER_LIST),
        ({"config": None, "layers": None, "manifests": [], "mediaType": None}, OCI_INDEX),
    ],
)
def test_null_is_nothing(repository: Repository, document: dict[str, Any], media_type: str) -> None:
    """As clients write it that are in Go; the bytes stay as they were pushed."""
    config = factories.blob(10, OCI_CONFIG)
    repository.push_blob(config)
    whole = {"schemaVersion": 2, "mediaType": media_type, "config": config.descriptor} | document
    raw = json.dumps(whole).encode()
    assert repository.put(Manifest(raw, media_type), "v1").status == 201
    reply = repository.client.get(repository.manifest("v1"))
    assert (reply.body, reply.headers["content-type"]) == (raw, media_type)


@pytest.mark.parametrize("reference", [".x", "x" * 129, "sha256:abc", "md5:00", "a%20b"])
def test_reference_outside_the_grammar(repository: Repository, reference: str) -> None:
    assert repository.put(factories.image(), reference).status == 400
