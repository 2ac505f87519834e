"""The doctor sees that a volume is full, by bytes or by inodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from faults.volume import tmpfs
from support.doctor import examined, fine, problem
from support.waiting import until
from trow.config import load

if TYPE_CHECKING:
    from pathlib import Path


def test_a_full_volume(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "volume", 64 << 20) as volume:
        volume.data.mkdir()
        given = {"config": load(None, {}, {"data_dir": str(volume.data)})}
        assert fine(examined("space", **given), "space").where == str(volume.data)
        volume.fill(leave=1 << 20)
        found = problem(examined("space", **given), "space")
    assert found.what == "has only 1 MiB of 64 MiB left; when it is full, pushes get 507"


def test_a_full_volume_that_trow_tells_of(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "volume", 64 << 20) as volume, volume.start(tmp_path / "log") as trow:
        volume.fill(leave=1 << 20)
        assert "has only 1 MiB" in until(lambda: [e for e in examined("space", url=trow.url) if e.fix])[0].what


def test_a_volume_without_inodes(tmp_path: Path) -> None:
    with tmpfs(tmp_path / "volume", 64 << 20, "nr_inodes=100") as volume:
        volume.data.mkdir()
        for number in range(96):
            (volume.data / str(number)).touch()
        found = problem(examined("space", config=load(None, {}, {"data_dir": str(volume.data)})), "space")
    assert found.what == "has 2 of 100 inodes left, however many bytes are free"
