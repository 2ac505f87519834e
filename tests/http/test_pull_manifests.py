"""end-3: manifests by tag and by digest."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import factories
from support.registry import described
from support.wire import Wire

if TYPE_CHECKING:
    from factories import Manifest
    from support.registry import Client, Repository
    from support.server import Trow

CHILD = factories.image()
KINDS = [
    factories.image(),
    factories.index([CHILD]),
    factories.artifact(),
    factories.docker_image(),
    factories.docker_list([CHILD]),
]


@pytest.mark.parametrize("manifest", KINDS, ids=lambda manifest: manifest.media_type.removeprefix("application/vnd."))
def test_manifest_comes_back_byte_for_byte(client: Client, repository: Repository, manifest: Manifest) -> None:
    repository.push(manifest, "v1")
    for reference in ("v1", manifest.digest):
        reply = client.get(repository.manifest(reference))
        assert (reply.status, reply.body) == (200, manifest.raw)
        assert reply.headers["content-type"] == manifest.media_type
        assert reply.headers["content-length"] == str(manifest.size)
        assert reply.headers["docker-content-digest"] == manifest.digest
        assert reply.headers["etag"] == f'"{manifest.digest}"'


@pytest.mark.parametrize("by", ["tag", "digest"])
def test_head_says_what_get_says(client: Client, repository: Repository, by: str) -> None:
    image = factories.image()
    repository.push(image, "v1")
    path = repository.manifest("v1" if by == "tag" else image.digest)
    head, get = client.head(path), client.get(path)
    assert (head.status, head.body) == (200, b"")
    assert described(head) == described(get)


def test_accept_does_not_change_what_is_served(client: Client, repository: Repository) -> None:
    image = factories.image()
    repository.push(image, "v1")
    for accept in ("*/*", "application/json", factories.DOCKER_LIST, factories.OCI_INDEX):
        reply = client.get(repository.manifest("v1"), accept=accept)
        assert (reply.status, reply.headers["content-type"], reply.body) == (200, factories.OCI_IMAGE, image.raw)


def test_sha512(client: Client, repository: Repository) -> None:
    image = factories.image()
    repository.push(image, image.sha512, "?tag=v1")
    for reference in ("v1", image.sha512):
        reply = client.get(repository.manifest(reference))
        assert (reply.body, reply.headers["docker-content-digest"]) == (image.raw, image.sha512)
    assert client.get(repository.manifest(image.digest)).refusal == (404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("condition", ["{etag}", "W/{etag}", "*", '"other", {etag}', '"a","b" , W/{etag}'])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_client_that_has_it_gets_304(client: Client, repository: Repository, condition: str, method: str) -> None:
    image = factories.image()
    repository.push(image, "v1")
    etag = f'"{image.digest}"'
    reply = client.request(method, repository.manifest("v1"), headers={"if-none-match": condition.format(etag=etag)})
    assert (reply.status, reply.body) == (304, b"")
    assert (reply.headers["etag"], reply.headers["docker-content-digest"]) == (etag, image.digest)


def test_conditions_on_several_lines_are_one_list(repository: Repository, trow: Trow) -> None:
    image = factories.image()
    repository.push(image, "v1")
    conditions = [("If-None-Match", '"a"'), ("If-None-Match", f'"{image.digest}"')]
    with Wire(trow.host) as wire:
        for headers in (conditions, conditions[::-1]):
            assert wire.ask("GET", repository.manifest("v1"), headers).status == 304


@pytest.mark.parametrize("condition", ['"other"', "", '"sha256:abc", "sha256:def"'])
def test_client_that_has_another_one_gets_it(client: Client, repository: Repository, condition: str) -> None:
    image = factories.image()
    repository.push(image, "v1")
    assert client.get(repository.manifest("v1"), if_none_match=condition).body == image.raw


def test_tag_that_has_moved_is_sent(client: Client, repository: Repository) -> None:
    first, second = factories.image(), factories.image()
    repository.push(first, "v1")
    repository.push(second, "v1")
    reply = client.get(repository.manifest("v1"), if_none_match=f'"{first.digest}"')
    assert (reply.status, reply.body) == (200, second.raw)
    assert client.get(repository.manifest(first.digest)).body == first.raw


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_what_is_not_here(client: Client, repository: Repository, other: Repository, method: str) -> None:
    image = factories.image()
    repository.push(image, "v1")
    paths = [
        other.manifest("v1"),
        other.manifest(image.digest),
        repository.manifest("v2"),
        repository.manifest(factories.image().digest),
    ]
    for path in paths:
        reply = client.request(method, path)
        assert reply.status == 404
        assert method == "HEAD" or reply.codes == ["MANIFEST_UNKNOWN"]


@pytest.mark.parametrize(
    ("reference", "code"),
    [
        ("sha256:abc", "DIGEST_INVALID"),
        ("md5:d41d8cd98f00b204e9800998ecf8427e", "DIGEST_INVALID"),
        ("sha256:" + "A" * 64, "DIGEST_INVALID"),
        (".hidden", "MANIFEST_INVALID"),
        ("x" * 129, "MANIFEST_INVALID"),
        ("a%20b", "MANIFEST_INVALID"),
    ],
)
def test_reference_outside_the_grammar(client: Client, repository: Repository, reference: str, code: str) -> None:
    assert client.get(repository.manifest(reference)).refusal == (400, code)
