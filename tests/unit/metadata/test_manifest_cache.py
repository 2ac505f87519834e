from __future__ import annotations

from typing import TYPE_CHECKING

import factories
from support.core import OTHER, REPO, digest, tag
from trow.metadata import manifest_cache
from trow.metadata.manifest_cache import ManifestCache
from trow.oci.names import Repository
from trow.registry.ports import ManifestRecord, RepositoryRecord

if TYPE_CHECKING:
    import pytest

ALICE = RepositoryRecord(1, "alice")


def record(size: int = 100) -> ManifestRecord:
    content = factories.blob(size).content
    return ManifestRecord(digest(factories.digest_of(content)), factories.OCI_IMAGE, content)


def test_what_was_found_is_found_again() -> None:
    cache, found = ManifestCache(), record()
    assert cache.get(REPO, tag("v1")) is None
    cache.put(REPO, tag("v1"), found)
    assert cache.get(REPO, tag("v1")) is found
    assert cache.get(REPO, tag("v2")) is None
    assert cache.get(REPO, found.digest) is None
    assert cache.get(OTHER, tag("v1")) is None


def test_change_in_a_repository_forgets_all_of_it_and_nothing_else() -> None:
    cache, found = ManifestCache(), record()
    for repository in (REPO, OTHER):
        cache.put(repository, tag("v1"), found)
        cache.put(repository, found.digest, found)
    cache.invalidate(REPO)
    cache.invalidate(REPO)
    assert cache.get(REPO, tag("v1")) is cache.get(REPO, found.digest) is None
    assert cache.get(OTHER, tag("v1")) is cache.get(OTHER, found.digest) is found


def test_budget_is_kept() -> None:
    cache = ManifestCache(most_bytes=50_000)
    names = [tag(f"v{number}") for number in range(1000)]
    for name in names:
        cache.put(REPO, name, record(1000))
        assert sum(cache.get(REPO, each) is not None for each in names) * 1000 <= 50_000
        assert cache.get(REPO, name) is not None


def test_what_is_forgotten_makes_room() -> None:
    cache, kept = ManifestCache(most_bytes=50_000), record(1000)
    cache.put(OTHER, tag("v1"), kept)
    for _ in range(1000):
        cache.put(REPO, tag("v1"), record(1000))
        cache.invalidate(REPO)
    assert cache.get(OTHER, tag("v1")) is kept


def test_large_manifest_is_not_kept() -> None:
    cache = ManifestCache()
    cache.put(REPO, tag("v1"), record(100_000))
    assert cache.get(REPO, tag("v1")) is None


def test_repository_is_found_again_until_something_in_it_changes() -> None:
    cache = ManifestCache()
    assert cache.repository(REPO) is None
    for repository in (REPO, OTHER):
        cache.put_repository(repository, ALICE)
    assert cache.repository(REPO) is ALICE
    cache.invalidate(REPO)
    assert cache.repository(REPO) is None
    assert cache.repository(OTHER) is ALICE


def test_repositories_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest_cache, "_MOST_REPOSITORIES", 10)
    cache = ManifestCache()
    names = [Repository.parse(f"r{number}") for number in range(35)]
    for name in names:
        cache.put_repository(name, ALICE)
        assert cache.repository(name) is ALICE
        assert sum(cache.repository(each) is not None for each in names) <= 10
