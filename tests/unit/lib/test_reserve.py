from __future__ import annotations

import errno
import os
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from trow.lib.reserve import Reserve

if TYPE_CHECKING:
    from pathlib import Path

SIZE = 1024 * 1024


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "reserve"


class Volume:
    """A volume that is full while a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.error = 0
        allocate = os.posix_fallocate

        def allocate_or_not(fd: int, start: int, size: int) -> None:
            if self.error:
                allocate(fd, start, size // 2)  # as a filesystem does that finds out on the way
                raise OSError(self.error, os.strerror(self.error))
            allocate(fd, start, size)

        monkeypatch.setattr(os, "posix_fallocate", allocate_or_not)


@pytest.fixture
def volume(monkeypatch: pytest.MonkeyPatch) -> Volume:
    return Volume(monkeypatch)


def taken(path: Path) -> int:
    return path.stat().st_blocks * 512


def test_space_is_taken_given_back_and_taken_again(path: Path) -> None:
    reserve = Reserve(path, SIZE)
    assert taken(path) >= SIZE
    assert path.stat().st_mode & 0o077 == 0
    assert not reserve.missing
    assert [reserve.give_back(), reserve.give_back()] == [True, False]
    assert taken(path) == 0
    assert not reserve.missing, "the space was free, and is taken again"
    assert taken(path) >= SIZE
    assert reserve.give_back()


def test_reserve_is_missing_until_there_is_space(path: Path, volume: Volume) -> None:
    reserve = Reserve(path, SIZE)
    reserve.give_back()
    volume.error = errno.ENOSPC
    assert reserve.missing
    assert taken(path) == 0, "a part of it is not kept"
    volume.error = 0
    assert not reserve.missing


def test_the_next_run_knows_that_the_reserve_is_in_use(path: Path, volume: Volume) -> None:
    Reserve(path, SIZE).give_back()
    volume.error = errno.ENOSPC
    assert Reserve(path, SIZE).missing
    volume.error = 0
    assert not Reserve(path, SIZE).missing


def test_without_space_from_the_beginning_there_is_no_reserve_and_nothing_is_refused(
    path: Path, volume: Volume
) -> None:
    volume.error = errno.ENOSPC
    reserve = Reserve(path, SIZE)
    assert not reserve.missing
    assert not reserve.give_back()
    assert not path.exists()
    volume.error = 0
    assert reserve.take()
    assert taken(path) >= SIZE


def test_filesystem_that_cannot_do_it_has_no_reserve(path: Path, volume: Volume) -> None:
    volume.error = errno.EOPNOTSUPP
    reserve = Reserve(path, SIZE)
    assert not reserve.missing
    assert not reserve.give_back()


def test_no_reserve() -> None:
    reserve = Reserve()
    assert not reserve.missing
    assert not reserve.give_back()


@pytest.mark.parametrize("size", [0, SIZE // 2, SIZE * 2])
def test_size_is_that_of_the_setting(path: Path, size: int) -> None:
    Reserve(path, SIZE)
    Reserve(path, size)
    assert path.exists() == (size > 0)
    if size:
        assert path.stat().st_size == size
        assert taken(path) >= size


def test_copy_with_holes_is_filled(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(SIZE)
    Reserve(path, SIZE)
    assert taken(path) >= SIZE


def test_small_volume_is_not_filled_by_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    volume = SimpleNamespace(f_blocks=SIZE // 512, f_frsize=512)
    monkeypatch.setattr("os.fstatvfs", lambda _: volume)
    reserve = Reserve(tmp_path / "reserve", SIZE)
    assert (tmp_path / "reserve").stat().st_size == SIZE // 16
    assert reserve.give_back()
