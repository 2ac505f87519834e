"""Blocks of the documents that are marked `sh run` are run, with the real clients and a live registry."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.pages import PAGES, blocks, name
from support.reader import Reader, steps

if TYPE_CHECKING:
    from pathlib import Path


# What is followed by tests of their own, which have what it needs.
WITH_MORE: Final = {"nodes", "distribution", "layouts", "image", "postgres", "bucket"}
ELSEWHERE: Final = {"kubernetes"} | WITH_MORE


def runs_here(page: Path) -> bool:
    """Whether there is something to run, and nothing is needed for it but clients."""
    words = [block.words for block in blocks(page) if "run" in block.words]
    return bool(words) and not any(ELSEWHERE & each for each in words)


def test_what_needs_more_than_clients_is_run_elsewhere() -> None:
    pages = {name(page) for page in PAGES for block in blocks(page) if WITH_MORE & block.words}
    assert pages == {
        "docs/how-to/install.md",  # test_own_image.py
        "docs/how-to/install-in-a-cluster.md",  # tests/cluster/test_install_page.py
        "docs/how-to/migrate-from-distribution.md",  # test_migration.py
        "docs/how-to/migrate-from-zot.md",
        "docs/how-to/persist-images.md",  # tests/cluster/test_production_pages.py
        "docs/how-to/run-in-production.md",
        "docs/how-to/run-on-postgresql.md",  # tests/replicas/test_page.py
        "docs/how-to/set-up-nodes.md",  # tests/cluster/test_nodes.py
        "docs/how-to/store-blobs-in-a-bucket.md",  # test_buckets.py
        "docs/how-to/upgrade.md",  # tests/cluster/test_guides.py
        "docs/tutorial/denied-by-policy.md",  # tests/cluster/test_tutorial.py
    }


@pytest.mark.parametrize("page", [page for page in PAGES if runs_here(page)], ids=name)
def test_page_can_be_followed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Reader(tmp_path, "crane", "oras", "regctl", environment=storage(tmp_path / "storage")) as reader:
        reader.serve("trow serve")
        for block, shown in steps(page):
            reader.follow(block, shown)


def storage(folder: Path) -> dict[str, str]:
    """Tells podman and buildah to keep what they make in the folder, and not among the images of this machine."""
    folder.mkdir()
    settings = folder / "storage.conf"
    settings.write_text(f'[storage]\ndriver = "vfs"\nrunroot = "{folder}/run"\ngraphroot = "{folder}/root"\n', "utf-8")
    return {"CONTAINERS_STORAGE_CONF": str(settings), "XDG_RUNTIME_DIR": str(folder)}
