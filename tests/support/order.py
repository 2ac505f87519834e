"""In which order files are given to the workers of a run: those that take long are not the last ones.

A worker takes a file when it is done with another, so what a run ends with should be short. Files whose tests share a
server or a cluster are followed by those of the same folder, which use the same.

`tests/conftest.py` imports what is here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

TESTS: Final = Path(__file__).parents[1]
# Minutes for a file of the first ones, seconds for one of the others.
LONG: Final = ("cluster", "kubernetes", "faults", "clients", "conformance", "nodes", "http")


def longest_first(items: list[pytest.Item]) -> None:
    """Sort by folder; within a folder the order stays."""
    items.sort(key=lambda item: rank(item.path))


def rank(path: Path) -> int:
    folder = path.relative_to(TESTS).parts[0] if path.is_relative_to(TESTS) else ""
    return LONG.index(folder) if folder in LONG else len(LONG)
