"""A data directory of another user, and of a group: a volume that the kubelet has given to a Pod's fsGroup."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import tempfile
import traceback
from pathlib import Path
from typing import TYPE_CHECKING, Final

import apsw
import pytest

from trow.cli import main
from trow.lib.datadir import hold, try_to_hold
from trow.lib.files import make_file
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ALICE: Final = 61_001
BOB: Final = 61_002
GROUP: Final = 61_100


@pytest.fixture
def volume() -> Iterator[Path]:
    """Where every user gets to, unlike the folders of pytest."""
    path = Path(tempfile.mkdtemp(prefix="trow-"))
    yield path
    shutil.rmtree(path)


def as_user(user: int, do: Callable[[], None], group: int | None = None) -> str:
    """What goes wrong when somebody else does this, in a process of their own."""
    reading, writing = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.setgroups([group] if group is not None else [])
            os.setgid(user)
            os.setuid(user)
            do()
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child ends here, whatever happened
            os.write(writing, traceback.format_exc().encode()[-4000:])
            os._exit(1)
    os.close(writing)
    with os.fdopen(reading) as said:
        text = said.read()
    os.waitpid(child, 0)
    return text


def use(path: Path) -> None:
    """What a start does with its directory, without reading anything of Trow, which may belong to root alone."""
    with hold(path):
        FilesystemBlobs(path).prepare()
        make_file(path / "trow.db")
        with contextlib.closing(apsw.Connection(str(path / "trow.db"))) as database:
            database.execute("PRAGMA journal_mode = WAL")
            database.execute("CREATE TABLE IF NOT EXISTS one (row)")
            database.execute("INSERT INTO one VALUES (1)")


def allow_as_the_kubelet_does(volume: Path) -> None:
    """fsGroup with fsGroupChangePolicy Always: pkg/volume/volume_linux.go of Kubernetes."""
    for path in (volume, *volume.rglob("*")):
        os.chown(path, -1, GROUP)
        path.chmod(path.stat().st_mode | (0o2770 if path.is_dir() else 0o660))


def test_the_directory_of_another_user_is_refused_with_the_fix(volume: Path) -> None:
    os.chown(volume, ALICE, ALICE)
    volume.chmod(0o777)
    said = as_user(BOB, lambda: use(volume))
    assert f"{volume} belongs to user {ALICE}, and this is user {BOB}: run trow as its owner, or change" in said
    assert f"chown -R {BOB} {volume}" in said
    assert list(volume.iterdir()) == []


def test_a_dry_run_says_of_owners_and_modes_what_a_start_says(volume: Path) -> None:
    def look() -> None:
        with try_to_hold(volume / "data"):
            pass

    volume.chmod(0o755)
    assert f"cannot write to {volume}/data: Permission denied; give another" in as_user(BOB, look)
    (volume / "data").mkdir(mode=0o777)
    os.chown(volume / "data", ALICE, ALICE)
    assert f"belongs to user {ALICE}, and this is user {BOB}" in as_user(BOB, look)
    assert as_user(ALICE, look) == ""
    assert list((volume / "data").iterdir()) == []


def test_root_does_not_write_into_the_directory_of_a_user(volume: Path) -> None:
    os.chown(volume, ALICE, ALICE)
    with pytest.raises(Exception, match=f"belongs to user {ALICE}, and this is user root"):
        use(volume)


def test_a_volume_of_an_fs_group_serves_one_user_after_the_other(volume: Path) -> None:
    volume.chmod(0o755)
    for user in (ALICE, ALICE, BOB, ALICE):
        allow_as_the_kubelet_does(volume)
        assert as_user(user, lambda: use(volume), GROUP) == ""
        assert not (volume / "trow.db").stat().st_mode & 0o007
    assert (volume / "trow.db").stat().st_uid == ALICE


def test_a_file_of_a_user_who_was_there_before_is_told_of(volume: Path) -> None:
    """With fsGroupChangePolicy OnRootMismatch the kubelet leaves what is in the volume as it is."""
    volume.chmod(0o755)
    allow_as_the_kubelet_does(volume)
    assert as_user(ALICE, lambda: use(volume), GROUP) == ""
    said = as_user(BOB, lambda: use(volume), GROUP)
    assert f"cannot write to {volume}" in said
    assert "Permission denied" in said


def test_a_volume_that_everybody_may_write_to_is_used_and_told_of(
    volume: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """As an emptyDir without an fsGroup is."""
    volume.chmod(0o777)
    assert as_user(ALICE, lambda: use(volume)) == ""
    assert {path.stat().st_mode & 0o077 for path in volume.iterdir()} == {0}

    def said() -> None:
        use(volume)
        assert "everybody may write to the data directory" in caplog.text

    assert as_user(ALICE, said) == ""


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("fsck", 2),
        ("recover", 2),
        ("token list", 2),
        ("keys list", 2),
        ("audit search", 2),
        ("audit verify", 2),  # 1 would say that the record was altered
        ("audit anchor", 2),
        (f"audit who-runs sha256:{'0' * 64}", 2),
    ],
)
def test_a_command_of_another_user_says_whose_it_is(volume: Path, command: str, expected: int) -> None:
    words = command.split()

    def run(directory: Path) -> None:
        with contextlib.redirect_stderr(io.StringIO()) as said:
            code = main([*words, "--data-dir", str(directory)])
        raise AssertionError(code, said.getvalue())

    with pytest.raises(AssertionError):  # whatever it loads is loaded then, for that may belong to root alone
        run(volume / "missing")
    volume.chmod(0o755)
    use(volume / "data")
    said = as_user(BOB, lambda: run(volume / "data"))
    assert "run this as the user that trow runs as" in said
    assert f"AssertionError: ({expected}, " in said
