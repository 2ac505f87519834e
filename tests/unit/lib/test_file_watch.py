"""Files that are read again when they change."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

import pytest

from support.waiting import until
from trow.lib.file_watch import MISSING, CurrentFile, FileChanges, FileWatcher, version_of
from trow.lib.files import BrokenFile, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(b"one")
    path.chmod(0o640)
    return path


def exchange_link(path: Path) -> None:
    """As Kubernetes does with a Secret."""
    path.with_name("other").write_bytes(path.read_bytes())
    path.with_name("link").symlink_to("other")
    path.with_name("link").replace(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda path: path.write_bytes(b"longer"),
        lambda path: replace_file(path, b"two"),
        exchange_link,
        lambda path: path.unlink(),
    ],
    ids=["written", "replaced", "link exchanged", "gone"],
)
def test_file_has_changed(path: Path, change: Callable[[Path], object]) -> None:
    before = version_of(path)
    assert version_of(path) == before != MISSING
    change(path)
    assert version_of(path) != before


def test_same_size_and_time_hide_no_change(path: Path) -> None:
    before, facts = version_of(path), path.stat()

    def changed() -> bool:
        path.write_bytes(b"two")
        os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        return version_of(path) != before

    assert until(changed)  # the filesystem's clock has steps of milliseconds


def test_other_permissions_are_a_change_for_who_could_not_read_the_file(path: Path) -> None:
    before = version_of(path)

    def changed() -> bool:
        path.chmod(0o600)
        return version_of(path) != before

    assert until(changed)


def test_new_version_that_cannot_be_used_leaves_the_last_good_one_in_force(path: Path) -> None:
    def read(paths: Sequence[Path]) -> bytes:
        if (content := paths[0].read_bytes()).startswith(b"bad"):
            raise BrokenFile("it is bad")
        return content

    watcher = FileWatcher(lambda: [path], read)
    for content, value in ((b"three", b"three"), (b"bad", b"three"), (b"better", b"better")):
        path.write_bytes(content)
        watcher.look()
        assert watcher.get() == value


async def test_current_file_is_read_again_only_when_it_has_changed(path: Path) -> None:
    read: list[bytes] = []

    def noted(content: bytes) -> bytes:
        read.append(content)
        return content

    file = CurrentFile(path, noted, 4)
    assert [await file.get(), await file.get()] == [b"one", b"one"]
    await asyncio.to_thread(path.write_bytes, b"longer")
    assert await file.get() == b"long"
    assert read == [b"one", b"long"]
    await asyncio.to_thread(path.unlink)
    with pytest.raises(FileNotFoundError):
        await file.get()


async def test_changed_files_are_taken_when_none_is_missing_and_again_after_a_failure(path: Path) -> None:
    other = path.with_name("other")
    taken: list[bytes] = []

    async def take() -> None:
        taken.append(await asyncio.to_thread(path.read_bytes))
        if len(taken) == 1:
            raise ValueError("not this one")

    changes = await FileChanges.since_now([path, other])
    watching = asyncio.create_task(changes.follow(take, 0.001))
    async with asyncio.timeout(60):
        for content in (b"first", b"second"):
            await asyncio.to_thread(path.write_bytes, content)
            while taken[-1:] != [content]:
                await asyncio.to_thread(other.write_bytes, b"")
                await asyncio.sleep(0.01)
    watching.cancel()


async def test_change_between_the_first_look_and_the_following_is_not_missed(path: Path) -> None:
    taken = asyncio.Event()

    async def take() -> None:
        taken.set()

    changes = await FileChanges.since_now([path])
    await asyncio.to_thread(path.write_bytes, b"longer")
    watching = asyncio.create_task(changes.follow(take))
    async with asyncio.timeout(60):
        await taken.wait()
    watching.cancel()


async def test_files_that_stay_as_they_were_are_not_taken(path: Path) -> None:
    changes = await FileChanges.since_now([path])

    async def take() -> None:
        raise AssertionError("nothing has changed")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await changes.follow(take, 0.001)
