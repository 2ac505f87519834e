from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from trow.lib.anchor import Anchor

if TYPE_CHECKING:
    from pathlib import Path


def test_a_path_leads_where_it_led(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    with contextlib.closing(Anchor(file)) as anchor:
        file.write_bytes(b"changed, but the same")
        assert anchor.holds()
        file.rename(tmp_path / "aside")
        assert not anchor.holds()
        file.touch()
        assert not anchor.holds()
        (tmp_path / "aside").replace(file)
        assert anchor.holds()


def test_another_folder_is_never_taken_for_the_one_that_was_removed(tmp_path: Path) -> None:
    """Filesystems give the number of a freed one to the next."""
    folder = tmp_path / "folder"
    for _ in range(20):
        folder.mkdir()
        with contextlib.closing(Anchor(folder)) as anchor:
            folder.rmdir()
            folder.mkdir()
            assert not anchor.holds()
        folder.rmdir()


def test_a_link_counts_by_what_it_leads_to(tmp_path: Path) -> None:
    (tmp_path / "one").touch()
    (tmp_path / "two").touch()
    (tmp_path / "link").symlink_to("one")
    with contextlib.closing(Anchor(tmp_path / "link")) as anchor:
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("one")
        assert anchor.holds()
        (tmp_path / "link").unlink()
        (tmp_path / "link").symlink_to("two")
        assert not anchor.holds()


def test_nothing_can_be_remembered_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        Anchor(tmp_path / "absent")


def test_locks_of_the_process_stay(tmp_path: Path) -> None:
    """Closing any other descriptor of a file ends them, and SQLite would not notice."""
    (tmp_path / "file").touch()
    program = "import fcntl, sys; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | fcntl.LOCK_NB)"
    fd = os.open(tmp_path / "file", os.O_RDWR)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    Anchor(tmp_path / "file").close()
    done = subprocess.run([sys.executable, "-c", program, str(tmp_path / "file")], capture_output=True, check=False)
    assert b"BlockingIOError" in done.stderr
    os.close(fd)
