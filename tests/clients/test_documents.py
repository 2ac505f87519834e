"""Blocks of the documents that are marked `sh run` are run, with the real clients and a live registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.pages import PAGES, blocks, name
from support.reader import Reader, steps

if TYPE_CHECKING:
    from pathlib import Path


def runs_here(page: Path) -> bool:
    """Whether there is something to run, and no cluster is needed for it."""
    words = [block.words for block in blocks(page) if "run" in block.words]
    return bool(words) and not any("kubernetes" in each for each in words)


@pytest.mark.parametrize("page", [page for page in PAGES if runs_here(page)], ids=name)
def test_page_can_be_followed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with Reader(tmp_path, "crane", "oras") as reader:
        reader.serve("trow serve")
        for block, shown in steps(page):
            reader.follow(block, shown)
