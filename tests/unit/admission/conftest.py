"""Admission with the policies that a test wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.admission import Gatekeeper

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fixtures import Keep


@pytest.fixture
def keep(tmp_path: Path) -> Iterator[Keep]:
    """Makes a gatekeeper, which is closed after the test."""
    made: list[Gatekeeper] = []

    def make(*items: dict[str, Any], **settings: Any) -> Gatekeeper:
        folder = tmp_path / str(len(made))
        folder.mkdir()
        made.append(Gatekeeper(folder, *items, **settings))
        return made[-1]

    yield make
    for each in made:
        each.close()
