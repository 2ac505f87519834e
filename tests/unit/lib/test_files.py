"""Files that are private, durable and of a limited size."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

import pytest

from trow.lib.files import BrokenFile, create_file, read_bounded, replace_file

if TYPE_CHECKING:
    from pathlib import Path


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def test_new_file_is_for_its_owner_alone_and_lies_alone(tmp_path: Path) -> None:
    create_file(tmp_path / "key", b"content")
    replace_file(tmp_path / "copy", b"content")
    assert [(each.name, mode(each), each.read_bytes()) for each in sorted(tmp_path.iterdir())] == [
        ("copy", 0o600, b"content"),
        ("key", 0o600, b"content"),
    ]


def test_of_those_who_create_a_file_at_the_same_time_one_does(tmp_path: Path) -> None:
    failures: list[FileExistsError] = []

    def create(number: int) -> None:
        try:
            create_file(tmp_path / "key", b"%d" % number)
        except FileExistsError as error:
            failures.append(error)

    threads = [threading.Thread(target=create, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failures) == 7
    assert [each.name for each in tmp_path.iterdir()] == ["key"]


def test_replaced_file_keeps_its_mode_and_readers_see_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"old")
    path.chmod(0o640)
    with path.open("rb") as reader:
        replace_file(path, b"new")
        assert reader.read() == b"old"
    assert path.read_bytes() == b"new"
    assert mode(path) == 0o640


def test_what_could_not_be_written_leaves_the_old_file_and_nothing_beside_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "users"
    path.write_bytes(b"old")
    monkeypatch.setattr("trow.lib.files.os.fsync", lambda _fd: os.open(tmp_path / "missing", os.O_RDONLY))
    for write in (create_file, replace_file):
        with pytest.raises(OSError, match="missing"):
            write(path, b"new")
    assert [(each.name, each.read_bytes()) for each in tmp_path.iterdir()] == [("users", b"old")]


def test_name_and_content_are_flushed_before_a_file_counts_as_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushed: list[tuple[bool, bool]] = []

    def fsync(fd: int) -> None:
        flushed.append((os.path.samestat(os.fstat(fd), tmp_path.stat()), (tmp_path / "key").exists()))

    monkeypatch.setattr("trow.lib.files.os.fsync", fsync)
    create_file(tmp_path / "key", b"content")
    assert flushed == [(False, False), (True, True)]


def test_file_that_is_not_small_or_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "large").write_bytes(b"x" * 2049)
    assert read_bounded(tmp_path / "large", 2049)
    with pytest.raises(BrokenFile, match=r"large is larger than 2 KiB; is this the right file"):
        read_bounded(tmp_path / "large", 2048)
    with pytest.raises(BrokenFile, match=r"none cannot be read \(No such file or directory\); check the path"):
        read_bounded(tmp_path / "none", 2048)
