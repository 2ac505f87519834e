"""end-12: what refers to a manifest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest

import factories
from factories import OCI_CONFIG, OCI_INDEX

if TYPE_CHECKING:
    from factories import Manifest
    from support.registry import Client, Reply, Repository


def manifests(reply: Reply) -> list[dict[str, Any]]:
    """The entries of a list, which is an image index."""
    assert reply.status == 200
    assert reply.headers["content-type"] == OCI_INDEX
    assert {name: value for name, value in reply.json.items() if name != "manifests"} == {
        "schemaVersion": 2,
        "mediaType": OCI_INDEX,
    }
    entries: list[dict[str, Any]] = reply.json["manifests"]
    return entries


def entry(of: Manifest, artifact_type: str | None) -> dict[str, Any]:
    described = dict(of.descriptor)
    if artifact_type is not None:
        described["artifactType"] = artifact_type
    if annotations := of.document.get("annotations"):
        described["annotations"] = annotations
    return described


def test_every_kind_of_referrer(client: Client, repository: Repository) -> None:
    subject = factories.image()
    made = [
        (factories.artifact("application/a", subject=subject, annotations={"org.example": "é"}), "application/a"),
        (factories.image(subject=subject), OCI_CONFIG),
        (factories.index(subject=subject, artifact_type="application/b"), "application/b"),
        (factories.index(subject=subject), None),
    ]
    for manifest, _ in made:
        reply = repository.push(manifest)
        assert reply.headers["oci-subject"] == subject.digest
    expected = [entry(*each) for each in made]
    found = manifests(client.get(repository.referrers(subject.digest)))
    assert found == sorted(expected, key=lambda descriptor: str(descriptor["digest"]))
    for descriptor in found:
        assert len(client.get(repository.manifest(descriptor["digest"])).body) == descriptor["size"]


def test_manifest_without_subject_has_no_such_header(repository: Repository) -> None:
    assert "oci-subject" not in repository.push(factories.image()).headers


@pytest.mark.parametrize("known", [True, False])
def test_nothing_refers_to_it(client: Client, repository: Repository, known: bool) -> None:  # noqa: FBT001
    """An empty list, not an error: also for a repository that nobody knows."""
    image = factories.image()
    if known:
        repository.push(image)
    assert manifests(client.get(repository.referrers(image.digest))) == []
    assert client.head(repository.referrers(image.digest)).status == 200


def test_subject_may_come_later_or_go(client: Client, repository: Repository) -> None:
    subject = factories.image()
    artifact = factories.artifact(subject=subject)
    listed = repository.referrers(subject.digest)
    repository.push(artifact)
    assert len(manifests(client.get(listed))) == 1
    repository.push(subject)
    assert len(manifests(client.get(listed))) == 1
    client.delete(repository.manifest(subject.digest))
    assert len(manifests(client.get(listed))) == 1
    client.delete(repository.manifest(artifact.digest))
    assert manifests(client.get(repository.referrers(subject.digest))) == []


def test_referrers_of_another_repository_are_not_told_of(
    client: Client, repository: Repository, other: Repository
) -> None:
    subject = factories.image()
    repository.push(factories.artifact(subject=subject))
    assert manifests(client.get(other.referrers(subject.digest))) == []


@pytest.mark.parametrize(("wanted", "count"), [("application/a", 2), ("application/b+c;d=e", 1), ("application/x", 0)])
def test_filter(client: Client, repository: Repository, wanted: str, count: int) -> None:
    subject = factories.image()
    for kind in ("application/a", "application/b+c;d=e", "application/a"):
        repository.push(factories.artifact(kind, subject=subject))
    reply = client.get(f"{repository.referrers(subject.digest)}?artifactType={quote(wanted, safe='')}")
    assert [found["artifactType"] for found in manifests(reply)] == [wanted] * count
    assert reply.headers["oci-filters-applied"] == "artifactType"


@pytest.mark.parametrize(
    ("written", "count"),
    [("application/vnd.x+json", 1), ("application%2Fvnd.x+json", 1), ("application/vnd.y+json", 0)],
)
def test_filter_with_a_bare_plus(client: Client, repository: Repository, written: str, count: int) -> None:
    """Which reads as a space in a query; the Rust client writes it so, and would find no signature."""
    subject = factories.image()
    for kind in ("application/vnd.x+json", "application/vnd.x json", "application/vnd.z"):
        repository.push(factories.artifact(kind, subject=subject))
    reply = client.get(f"{repository.referrers(subject.digest)}?artifactType={written}")
    assert [found["artifactType"] for found in manifests(reply)] == ["application/vnd.x+json"] * count


def test_no_filter(client: Client, repository: Repository) -> None:
    subject = factories.image()
    repository.push(factories.artifact(subject=subject))
    for query in ("", "?artifactType=", "?other=x"):
        reply = client.get(repository.referrers(subject.digest) + query)
        assert len(manifests(reply)) == 1
        assert "oci-filters-applied" not in reply.headers


@pytest.mark.parametrize("query", ["?n=2", "?n=2&artifactType=application%2Fa%2Bb", "?n=1", "?n=5", "?n=6"])
def test_links_lead_through_all(client: Client, repository: Repository, query: str) -> None:
    subject = factories.image()
    made = [factories.artifact("application/a+b", subject=subject) for _ in range(5)]
    for artifact in made:
        repository.push(artifact)
    pages = list(client.pages(repository.referrers(subject.digest) + query))
    found = [descriptor["digest"] for page in pages for descriptor in manifests(page)]
    assert found == sorted(artifact.digest for artifact in made)
    assert all(("oci-filters-applied" in page.headers) == ("artifactType" in query) for page in pages)


@pytest.mark.slow
def test_answer_is_no_larger_than_a_manifest_may_be(client: Client, repository: Repository) -> None:
    subject = factories.image()
    filling = {"filling": "x" * 60_000}
    made = [factories.artifact(subject=subject, annotations=filling) for _ in range(100)]
    for artifact in made:
        repository.push(artifact)
    pages = list(client.pages(repository.referrers(subject.digest)))
    assert len(pages) > 1
    assert max(len(page.body) for page in pages) <= 4 * 1024 * 1024
    assert {found["digest"] for page in pages for found in manifests(page)} == {artifact.digest for artifact in made}


def test_annotations_that_are_too_large_for_a_list_are_left_to_the_manifest(
    client: Client, repository: Repository
) -> None:
    subject = factories.image()
    small = factories.artifact(subject=subject, annotations={"org.example": '"é"\n'})
    large = factories.artifact(subject=subject, annotations={"filling": "x" * 70_000})
    for artifact in (small, large):
        repository.push(artifact)
    reply = client.get(repository.referrers(subject.digest))
    found = {each["digest"]: each.get("annotations") for each in manifests(reply)}
    assert found == {small.digest: {"org.example": '"é"\n'}, large.digest: None}
    assert reply.headers["warning"].startswith('299 - "the annotations of 1 entries are larger than a list shows')
    assert client.get(repository.manifest(large.digest)).json["annotations"] == {"filling": "x" * 70_000}


@pytest.mark.parametrize("digest", ["latest", "sha256:abc", "md5:00"])
def test_digest_outside_the_grammar(client: Client, repository: Repository, digest: str) -> None:
    assert client.get(repository.referrers(digest)).refusal == (400, "DIGEST_INVALID")
