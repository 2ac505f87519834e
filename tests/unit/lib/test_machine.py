from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from trow.lib import machine

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("said", "limit"),
    [("268435456\n", 2**28), ("max\n", None), (f"{2**63 - 4096}\n", None), ("", None)],
)
def test_memory_limit_is_that_of_the_container(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, said: str, limit: int | None
) -> None:
    (tmp_path / "memory").write_text(said, encoding="ascii")
    monkeypatch.setattr(machine, "_MEMORY_FILES", (tmp_path / "absent", tmp_path / "memory"))
    assert machine.memory_limit() == limit


def test_no_container_has_no_memory_limit(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "_MEMORY_FILES", (tmp_path / "absent",))
    assert machine.memory_limit() is None


def test_limit_of_open_files_is_raised_to_what_the_system_gives() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, hard), hard))
    try:
        machine.raise_files()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (machine.most_files(), hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
