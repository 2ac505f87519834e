from __future__ import annotations

from typing import TYPE_CHECKING

import factories
from support.core import OTHER, REPO, digest, tag
from trow.metadata import hot as heat
from trow.metadata.hot import HotManifests
from trow.oci.names import Repository
from trow.registry.ports import ManifestRecord, RepositoryRecord

if TYPE_CHECKING:
    import pytest

ALICE = RepositoryRecord(1, "alice")


def record(size: int = 100) -> ManifestRecord:
    content = factories.blob(size).content
    return ManifestRecord(digest(factories.digest_of(content)), factories.OCI_IMAGE, content)


def test_what_was_found_is_found_again() -> None:
    hot, found = HotManifests(), record()
    assert hot.get(REPO, tag("v1")) is None
    hot.keep(REPO, tag("v1"), found)
    assert hot.get(REPO, tag("v1")) is found
    assert hot.get(REPO, tag("v2")) is None
    assert hot.get(REPO, found.digest) is None
    assert hot.get(OTHER, tag("v1")) is None


def test_change_in_a_repository_forgets_all_of_it_and_nothing_else() -> None:
    hot, found = HotManifests(), record()
    for repository in (REPO, OTHER):
        hot.keep(repository, tag("v1"), found)
        hot.keep(repository, found.digest, found)
    hot.forget(REPO)
    hot.forget(REPO)
    assert hot.get(REPO, tag("v1")) is hot.get(REPO, found.digest) is None
    assert hot.get(OTHER, tag("v1")) is hot.get(OTHER, found.digest) is found


def test_budget_is_kept() -> None:
    hot = HotManifests(most_bytes=50_000)
    names = [tag(f"v{number}") for number in range(1000)]
    for name in names:
        hot.keep(REPO, name, record(1000))
        assert sum(hot.get(REPO, each) is not None for each in names) * 1000 <= 50_000
        assert hot.get(REPO, name) is not None


def test_what_is_forgotten_makes_room() -> None:
    hot, kept = HotManifests(most_bytes=50_000), record(1000)
    hot.keep(OTHER, tag("v1"), kept)
    for _ in range(1000):
        hot.keep(REPO, tag("v1"), record(1000))
        hot.forget(REPO)
    assert hot.get(OTHER, tag("v1")) is kept


def test_large_manifest_is_not_kept() -> None:
    hot = HotManifests()
    hot.keep(REPO, tag("v1"), record(100_000))
    assert hot.get(REPO, tag("v1")) is None


def test_repository_is_found_again_until_something_in_it_changes() -> None:
    hot = HotManifests()
    assert hot.repository(REPO) is None
    for repository in (REPO, OTHER):
        hot.keep_repository(repository, ALICE)
    assert hot.repository(REPO) is ALICE
    hot.forget(REPO)
    assert hot.repository(REPO) is None
    assert hot.repository(OTHER) is ALICE


def test_repositories_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heat, "_MOST_REPOSITORIES", 10)
    hot = HotManifests()
    names = [Repository.parse(f"r{number}") for number in range(35)]
    for name in names:
        hot.keep_repository(name, ALICE)
        assert hot.repository(name) is ALICE
        assert sum(hot.repository(each) is not None for each in names) <= 10
