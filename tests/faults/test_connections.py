"""Many clients, idle or worse: the others are served meanwhile."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.crowd import HEALTH, Crowd, files_allowed, healthy
from support.server import Trow

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def trow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    with files_allowed(256):
        server = Trow.start(tmp_path_factory.mktemp("crowded"))
    with server:
        yield server


def test_as_many_files_are_used_as_the_system_gives(trow: Trow) -> None:
    lines = Path(f"/proc/{trow.process.pid}/limits").read_text(encoding="ascii").splitlines()
    (limits,) = [line.split()[3:5] for line in lines if line.startswith("Max open files")]
    assert limits[0] == limits[1] != "256"


def test_somebody_new_is_answered_while_two_thousand_are_idle(trow: Trow) -> None:
    with Crowd(trow.host) as crowd:
        crowd.grow(2_100, HEALTH)
        crowd.heard()
        assert healthy(trow.host)
        assert crowd.ended() == 0
