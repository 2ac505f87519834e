from __future__ import annotations

import factories
from support.core import OTHER, REPO, digest, tag
from trow.metadata.hot import HotManifests
from trow.registry.ports import ManifestRecord


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
