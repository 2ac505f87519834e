from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trow.datadir import DataDirectoryError, RunningMark, hold

if TYPE_CHECKING:
    from pathlib import Path

HOLD = "import sys, pathlib; from trow.datadir import hold\nwith hold(pathlib.Path(sys.argv[1])): print('held')"


def other_process(path: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", HOLD, str(path)], capture_output=True, encoding="utf-8", check=False)


def test_directory_is_made_and_owned_by_one(tmp_path: Path) -> None:
    path = tmp_path / "new" / "data"
    with hold(path):
        assert path.is_dir()
        with (
            pytest.raises(DataDirectoryError, match=r"in use by another trow; stop it or give another --data-dir"),
            hold(path),
        ):
            pass
        refused = other_process(path)
        assert "DataDirectoryError" in refused.stderr
        assert refused.returncode == 1
    assert other_process(path).stdout == "held\n"


def test_directory_is_given_up_after_an_error(tmp_path: Path) -> None:
    def fail() -> None:
        with hold(tmp_path):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    with hold(tmp_path):
        pass


@pytest.mark.parametrize("name", ["file", "file/below"])
def test_path_that_cannot_be_a_directory(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataDirectoryError, match=r"cannot write to .*give another --data-dir"), hold(tmp_path / name):
        pass


def test_running_mark_tells_of_a_run_that_never_ended(tmp_path: Path) -> None:
    mark = RunningMark(tmp_path)
    assert not mark.found()
    mark.set()
    assert RunningMark(tmp_path).found()
    mark.set()
    mark.clear()
    assert not RunningMark(tmp_path).found()
    mark.clear()
