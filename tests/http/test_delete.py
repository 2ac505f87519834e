"""end-9 and end-10: what goes, and what stays."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories

if TYPE_CHECKING:
    from support.registry import Client, Repository


def test_tag(client: Client, repository: Repository) -> None:
    image = factories.image()
    repository.push(image, image.digest, "?tag=a&tag=b")
    reply = client.delete(repository.manifest("a"))
    assert (reply.status, reply.body) == (202, b"")
    assert client.get(repository.manifest("a")).refusal == (404, "MANIFEST_UNKNOWN")
    assert client.delete(repository.manifest("a")).refusal == (404, "MANIFEST_UNKNOWN")
    assert client.get(repository.tags).json["tags"] == ["b"]
    assert client.get(repository.manifest(image.digest)).body == image.raw


def test_manifest_and_all_its_tags(client: Client, repository: Repository) -> None:
    image, stays = factories.image(), factories.image()
    repository.push(image, image.digest, "?tag=a&tag=b")
    repository.push(stays, "c")
    assert client.delete(repository.manifest(image.digest)).status == 202
    for reference in ("a", "b", image.digest):
        assert client.get(repository.manifest(reference)).refusal == (404, "MANIFEST_UNKNOWN")
    assert client.delete(repository.manifest(image.digest)).refusal == (404, "MANIFEST_UNKNOWN")
    assert client.get(repository.tags).json["tags"] == ["c"]


def test_repository_is_gone_with_its_last_manifest(client: Client, repository: Repository) -> None:
    image = factories.image()
    repository.push(image, "a")
    client.delete(repository.manifest(image.digest))
    assert client.get(repository.tags).refusal == (404, "NAME_UNKNOWN")
    repository.put(image, "a")
    assert client.get(repository.tags).json["tags"] == ["a"]


def test_children_outlive_their_index(client: Client, repository: Repository) -> None:
    index = factories.index()
    repository.push(index, "a")
    client.delete(repository.manifest(index.digest))
    for child in index.children:
        assert client.get(repository.manifest(child.digest)).body == child.raw


@pytest.mark.parametrize("size", [10, 100_000])
def test_blob(client: Client, repository: Repository, other: Repository, size: int) -> None:
    blob = factories.blob(size)
    for each in (repository, other):
        each.push_blob(blob)
    reply = client.delete(repository.blob(blob.digest))
    assert (reply.status, reply.body) == (202, b"")
    assert client.get(repository.blob(blob.digest)).refusal == (404, "BLOB_UNKNOWN")
    assert client.delete(repository.blob(blob.digest)).refusal == (404, "BLOB_UNKNOWN")
    assert client.get(other.blob(blob.digest)).body == blob.content
    repository.push_blob(blob)
    assert client.get(repository.blob(blob.digest)).body == blob.content


@pytest.mark.parametrize("size", [10, 100_000])
def test_blob_that_was_deleted_everywhere_can_be_pushed_again(
    client: Client, repository: Repository, size: int
) -> None:
    blob = factories.blob(size)
    for _ in range(2):
        repository.push_blob(blob)
        assert client.get(repository.blob(blob.digest)).body == blob.content
        assert client.delete(repository.blob(blob.digest)).status == 202


def test_what_another_repository_has_cannot_be_deleted_here(
    client: Client, repository: Repository, other: Repository
) -> None:
    image = factories.image()
    repository.push(image, "a")
    for path in (other.manifest("a"), other.manifest(image.digest), other.blob(image.blobs[0].digest)):
        assert client.delete(path).status == 404
    assert client.get(repository.manifest("a")).body == image.raw


@pytest.mark.parametrize("reference", ["sha256:abc", ".x", "md5:00"])
def test_reference_outside_the_grammar(client: Client, repository: Repository, reference: str) -> None:
    assert client.delete(repository.manifest(reference)).status == 400
