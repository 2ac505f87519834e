from __future__ import annotations

import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trow.lib.datadir import DataDirectoryError, RunningMark, hold, try_to_hold

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import TypeAlias

    Hold: TypeAlias = "Callable[[Path], AbstractContextManager[None]]"

HOLD = "import sys, pathlib; from trow.lib.datadir import hold\nwith hold(pathlib.Path(sys.argv[1])): print('held')"


@pytest.fixture
def open_umask() -> Iterator[None]:
    """Of one who has nothing to hide."""
    before = os.umask(0)
    yield
    os.umask(before)


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


def test_directory_is_owned_by_one_also_where_its_lock_was_deleted(tmp_path: Path) -> None:
    """Somebody tidies up, or a copy is put back without it: a second server would write to the same files."""
    with hold(tmp_path):
        (tmp_path / "trow.lock").unlink()
        assert "in use by another trow" in other_process(tmp_path).stderr
        with pytest.raises(DataDirectoryError, match="in use by another trow"), try_to_hold(tmp_path):
            pass
    assert other_process(tmp_path).stdout == "held\n"


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


# Nobody else


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A directory as an older version, or a copy of it, leaves it."""
    data = tmp_path / "data"
    for folder in ("blobs", "uploads", "keys"):
        (data / folder).mkdir(parents=True)
    for name in ("trow.db", "trow.db-wal", "audit.db"):
        (data / name).touch()
    for path in (data, *data.iterdir()):
        path.chmod(0o755 if path.is_dir() else 0o644)
    return data


def modes(data: Path) -> set[int]:
    return {stat.S_IMODE(path.stat().st_mode) for path in (data, *data.iterdir())}


def test_a_new_directory_is_for_its_owner_alone(tmp_path: Path, open_umask: None) -> None:
    with hold(tmp_path / "data"):
        RunningMark(tmp_path / "data").set()
        assert modes(tmp_path / "data") == {0o700, 0o600}


def test_what_others_could_read_is_closed_to_them(made: Path, caplog: pytest.LogCaptureFixture) -> None:
    with hold(made):
        assert modes(made) == {0o700, 0o600}
    (record,) = caplog.records
    assert record.message == "others could read the data directory; it is closed to them now"
    assert vars(record)["changed"] == ["data", "audit.db", "blobs", "keys", "trow.db", "trow.db-wal", "uploads"]
    caplog.clear()
    with hold(made):
        assert caplog.records == []


@pytest.mark.parametrize("used", [hold, try_to_hold])
def test_a_directory_for_something_else_is_not_closed(tmp_path: Path, used: Hold) -> None:
    """Whoever leaves a variable empty names / or their home directory."""
    home = tmp_path / "home"
    home.mkdir()
    (home / "letters").touch()
    for path in (home, home / "letters"):
        path.chmod(0o755)
    refused = r"is not the directory of a registry: it holds letters, .* give --data-dir a directory of its own"
    with pytest.raises(DataDirectoryError, match=refused), used(home):
        pass
    assert modes(home) == {0o755}
    assert [path.name for path in home.iterdir()] == ["letters"]


@pytest.mark.parametrize("beside", ["lost+found", ".snapshot", "trow.yaml"])
def test_a_new_volume_is_taken(tmp_path: Path, beside: str) -> None:
    volume = tmp_path / "volume"
    (volume / beside).mkdir(parents=True)
    volume.chmod(0o755)
    with hold(volume):
        assert stat.S_IMODE(volume.stat().st_mode) == 0o700


@pytest.mark.parametrize("mode", [0o750, 0o770, 0o2770, 0o2775])
def test_a_group_that_is_meant_to_read_still_can(made: Path, mode: int) -> None:
    for path in made.iterdir():
        path.chmod(0o775 if path.is_dir() else 0o664)
    made.chmod(mode)
    with hold(made):
        assert stat.S_IMODE(made.stat().st_mode) == mode & 0o7770
        assert {stat.S_IMODE(path.stat().st_mode) for path in made.iterdir() if path.name != "trow.lock"} == {
            0o770,
            0o660,
        }


def test_what_a_link_leads_to_is_left_alone(made: Path, tmp_path: Path) -> None:
    (tmp_path / "aside").touch(0o644)
    (tmp_path / "aside").chmod(0o644)
    (made / "link").symlink_to(tmp_path / "aside")
    with hold(made):
        assert stat.S_IMODE((tmp_path / "aside").stat().st_mode) == 0o644


def test_running_mark_tells_of_a_run_that_never_ended(tmp_path: Path) -> None:
    mark = RunningMark(tmp_path)
    assert not mark.found()
    mark.set()
    assert RunningMark(tmp_path).found()
    mark.set()
    mark.clear()
    assert not RunningMark(tmp_path).found()
    mark.clear()


SHARE = """
import sys, pathlib
from trow.lib.datadir import hold
with hold(pathlib.Path(sys.argv[1]), shared=True) as held:
    print(held.alone)
"""


def test_replicas_share_a_directory_once_the_first_has_let_them_in(tmp_path: Path) -> None:
    def another() -> str:
        return subprocess.run(
            [sys.executable, "-c", SHARE, str(tmp_path)], capture_output=True, encoding="utf-8", check=True
        ).stdout.strip()

    with hold(tmp_path, shared=True) as held:
        assert held.alone
        held.share()
        assert another() == "False"
        assert other_process(tmp_path).returncode != 0  # who wants it alone
        assert held.try_alone()
    assert another() == "True"
