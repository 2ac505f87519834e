"""What the store on a filesystem does beyond its port: its files, and what it makes of damage."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

import factories
from support.core import OWNER, digest, names, pieces
from support.waiting import until
from trow.lib.reserve import Reserve
from trow.oci.errors import BlobUnknown, BodyIncomplete, StorageFull, Unavailable
from trow.oci.names import UploadId
from trow.registry.location import BlobLocation
from trow.registry.ports import LocalFile, StoredName
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from factories import Blob
    from trow.oci.digest import Digest
    from trow.storage.filesystem import FileStaged


@pytest.fixture
def blobs(tmp_path: Path) -> Iterator[FilesystemBlobs]:
    store = FilesystemBlobs(tmp_path)
    store.prepare()
    yield store
    store.close()


@contextlib.contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file of this process grows beyond ``size`` bytes meanwhile: a full disk that needs no mount."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


async def stage(blobs: FilesystemBlobs, blob: Blob) -> FileStaged:
    staged = await blobs.stage(UploadId.new(), "sha256", OWNER)
    await staged.write(pieces(blob.content))
    return staged


class Committed(NamedTuple):
    staged: FileStaged
    location: BlobLocation
    place: Path


async def commit(blobs: FilesystemBlobs, blob: Blob) -> Committed:
    """As far as a push comes before the metadata knows of it."""
    staged = await stage(blobs, blob)
    location = await staged.commit(digest(blob.digest))
    return Committed(staged, location, blobs.path(location))


async def committed(blobs: FilesystemBlobs, blob: Blob) -> Committed:
    """And to its end."""
    done = await commit(blobs, blob)
    await done.staged.discard()
    return done


async def commit_as_before(blobs: FilesystemBlobs, blob: Blob) -> Path:
    """As far as a push came in a Trow that had no locations, and called files by their content alone."""
    done = await commit(blobs, blob)
    former = blobs.path(BlobLocation.former(digest(blob.digest)))
    done.place.rename(former)
    return former


def files(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


async def nothing_known(_: BlobLocation) -> bool:
    return False


async def all_known(_: BlobLocation) -> bool:
    return True


# Files


async def test_blob_has_its_place(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    blob = factories.blob(100_000)
    encoded = blob.digest.partition(":")[2]
    staged, _, path = await commit(blobs, blob)
    upload = next((tmp_path / "uploads").iterdir()).name
    place = f"blobs/sha256/{encoded[:2]}/{encoded}.{upload.partition('@')[0]}"
    assert files(tmp_path) == sorted([place, f"uploads/{upload}"])
    assert upload.endswith(f"@{blob.digest}")
    await staged.discard()
    assert files(tmp_path) == [place]
    assert path == tmp_path / place
    assert (tmp_path / place).stat().st_nlink == 1
    assert (tmp_path / place).stat().st_mode & 0o007 == 0


async def test_few_bytes_stay_in_memory_until_they_have_to_go(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    staged = await stage(blobs, factories.blob(factories.INLINE))
    assert files(tmp_path) == []
    await staged.suspend()
    assert len(files(tmp_path / "uploads")) == 1
    await staged.discard()
    assert files(tmp_path) == []


def test_folders_are_made_as_often_as_asked_for(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    blobs.prepare()
    assert {"blobs", "uploads", "quarantine"} <= {path.name for path in tmp_path.iterdir()}


def test_folders_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "blobs").touch()
    with pytest.raises(OSError, match="blobs"):
        FilesystemBlobs(tmp_path).prepare()


async def test_second_commit_leaves_the_first_where_it_is(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    blob = factories.blob(100_000)
    first, second = await committed(blobs, blob), await committed(blobs, blob)
    assert first.place != second.place
    for each in (first, second):
        assert each.place.read_bytes() == blob.content
        assert each.place.stat().st_nlink == 1
    assert files(tmp_path / "uploads") == []


async def test_blob_of_before_locations_is_read_and_removed_like_any_other(
    blobs: FilesystemBlobs, tmp_path: Path
) -> None:
    blob = factories.blob(100_000)
    former = await commit_as_before(blobs, blob)
    assert await blobs.recover(all_known, crashed=True) == 1
    location = BlobLocation.former(digest(blob.digest))
    assert await blobs.locate(location, blob.size) == LocalFile(former, blob.size)
    assert b"".join([piece async for piece in blobs.read(location)]) == blob.content
    assert [each.location async for each in names(blobs, 9)] == [location]
    new = await committed(blobs, blob)
    assert await blobs.delete(location)
    assert files(tmp_path) == [str(new.place.relative_to(tmp_path))]


async def test_session_whose_bytes_are_a_blob_that_others_have_cannot_change_it(blobs: FilesystemBlobs) -> None:
    blob = factories.blob(100_000)
    staged, _, place = await committed(blobs, blob)
    assert staged.offset == 0
    more = factories.blob(100_000)
    await staged.write(pieces(more.content))
    assert await staged.digest("sha256") == more.digest
    await staged.suspend()
    assert place.read_bytes() == blob.content


# Damage


@pytest.mark.parametrize("size", [0, 99_999, 100_001])
async def test_file_that_is_not_what_was_received_becomes_no_blob(
    blobs: FilesystemBlobs, tmp_path: Path, size: int
) -> None:
    blob = factories.blob(100_000)
    staged = await stage(blobs, blob)
    os.truncate(next((tmp_path / "uploads").iterdir()), size)
    with pytest.raises(Unavailable):
        await staged.commit(digest(blob.digest))
    assert staged.offset == 0
    assert files(tmp_path) == []


@pytest.mark.parametrize("damaged", [b"", b"short", bytes(100_001)])
async def test_file_of_another_size_is_no_blob(blobs: FilesystemBlobs, damaged: bytes) -> None:
    _, location, place = await committed(blobs, factories.blob(100_000))
    place.write_bytes(damaged)
    assert await blobs.locate(location, 100_000) is None


async def test_folder_in_place_of_a_blob_is_no_blob(blobs: FilesystemBlobs) -> None:
    location = BlobLocation.of(digest(factories.blob().digest), UploadId.new())
    blobs.path(location).mkdir(parents=True)
    assert await blobs.locate(location, blobs.path(location).stat().st_size) is None


async def test_lost_file_is_not_here_and_comes_back_elsewhere(blobs: FilesystemBlobs) -> None:
    blob = factories.blob(100_000)
    _, location, place = await committed(blobs, blob)
    place.unlink()
    place.parent.rmdir()
    assert await blobs.locate(location, blob.size) is None
    assert (await committed(blobs, blob)).place.read_bytes() == blob.content


async def test_names_are_those_of_files(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    """Those that no blob can have, too; what lies behind a link is somewhere else, and is not a blob."""
    _, location, place = await committed(blobs, factories.blob(100_000))
    (place.parent / "notes.txt").touch()
    (tmp_path / "blobs" / place.name).touch()
    (tmp_path / "blobs" / "elsewhere").symlink_to(tmp_path / "quarantine")
    expected = [
        StoredName(place.name, None),
        StoredName(location, location),
        StoredName(f"sha256/{place.parent.name}/notes.txt", None),
    ]
    found = [each async for each in names(blobs, 1)]
    assert sorted(found, key=lambda each: each.name) == expected


async def test_folder_that_cannot_be_read_is_told_of_once(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    folder = tmp_path / "blobs" / "sha256" / "ab"
    folder.mkdir()
    scandir = os.scandir

    def refused(path: Path) -> object:
        if path == folder:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return scandir(path)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "scandir", refused)
        assert [each async for each in names(blobs, 1)] == [StoredName("sha256/ab", None, "Input/output error")]


async def test_what_is_in_quarantine_is_in_its_folder(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    blob, small = factories.blob(100_000), factories.blob(10)
    await blobs.quarantine(digest(blob.digest), (await committed(blobs, blob)).location)
    await blobs.quarantine(digest(small.digest), small.content)
    assert files(tmp_path) == sorted(f"quarantine/{each.digest}" for each in (blob, small))
    assert (tmp_path / "quarantine" / blob.digest).read_bytes() == blob.content
    assert (tmp_path / "quarantine" / small.digest).read_bytes() == small.content


# Trouble


async def test_no_file_stays_open(blobs: FilesystemBlobs) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    await committed(blobs, factories.blob(100_000))
    before = count()
    for _ in range(10):
        await (await stage(blobs, factories.blob(100_000))).discard()
        await (await stage(blobs, factories.blob(100_000))).suspend()
        await committed(blobs, factories.blob(100_000))
    assert count() == before


@pytest.mark.parametrize("step", [10_000, 400_000])
async def test_full_disk_loses_nothing_that_was_taken(blobs: FilesystemBlobs, step: int) -> None:
    blob = factories.blob(3_000_000)
    staged = await blobs.stage(UploadId.new(), "sha256", OWNER)
    parts = [blob.content[i : i + step] for i in range(0, blob.size, step)]
    with largest_file(1_000_000), pytest.raises(StorageFull):
        await staged.write(pieces(*parts))
    taken = staged.offset
    assert taken <= 1_000_000
    assert await staged.digest("sha256") == factories.digest_of(blob.content[:taken])
    await staged.write(pieces(blob.content[taken:]))
    assert await staged.digest("sha256") == blob.digest
    location = await staged.commit(digest(blob.digest))
    assert blobs.path(location).read_bytes() == blob.content
    await staged.discard()


class _FullWhenHashed(Reserve):
    """Tells that the disk is full, as soon as what is to be written has been hashed."""

    staged: FileStaged
    full = True

    @property
    def missing(self) -> bool:
        return self.full and until(lambda: self.staged._hashed > 0)  # noqa: SLF001 - nothing else tells of it


async def test_bytes_that_could_not_be_written_are_in_no_digest(tmp_path: Path) -> None:
    """Also where their sender is gone before it is told: others may come in their place."""
    reserve = _FullWhenHashed()
    store = FilesystemBlobs(tmp_path, reserve)
    store.prepare()
    reserve.staged = staged = await store.stage(UploadId.new(), "sha256", OWNER)
    with contextlib.closing(store):
        lost, taken = factories.blob(100_000), factories.blob(100_000)
        with pytest.raises(BodyIncomplete):
            await staged.write(pieces(lost.content, then=BodyIncomplete("the client is gone")))
        reserve.full = False
        await staged.write(pieces(taken.content))
        assert await staged.digest("sha256") == taken.digest


async def test_full_disk_when_few_bytes_have_to_be_put_aside(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    staged = await stage(blobs, factories.blob(1000))
    with largest_file(10), pytest.raises(StorageFull):
        await staged.suspend()
    size = sum(path.stat().st_size for path in (tmp_path / "uploads").iterdir())
    assert staged.offset == size
    await staged.discard()
    assert files(tmp_path) == []


async def test_bytes_are_read_once_for_a_digest_that_was_not_announced(
    blobs: FilesystemBlobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or whoever asks for a wrong one again and again has gigabytes read each time."""
    blob, read = factories.blob(100_000), list[str]()
    staged = await stage(blobs, blob)
    read_digest = staged._read_digest  # noqa: SLF001 - what costs is counted

    def counted(algorithm: str) -> Digest:
        read.append(algorithm)
        return read_digest(algorithm)

    monkeypatch.setattr(staged, "_read_digest", counted)
    assert [await staged.digest("sha512") for _ in range(3)] == [blob.sha512] * 3
    assert read == ["sha512"]
    await staged.truncate(99_999)
    assert await staged.digest("sha512") == factories.digest_of(blob.content[:-1], "sha512")
    await staged.write(pieces(blob.content[-1:]))
    assert await staged.digest("sha512") == blob.sha512
    assert len(read) == 3


async def test_staged_bytes_that_somebody_removed(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    blob = factories.blob(100_000)
    staged = await stage(blobs, blob)
    for path in (tmp_path / "uploads").iterdir():
        path.unlink()
    with pytest.raises(BlobUnknown):
        await staged.digest("sha512")
    await staged.discard()


async def test_storage_that_does_not_work_is_not_taken_for_an_absent_blob(
    blobs: FilesystemBlobs, tmp_path: Path
) -> None:
    (tmp_path / "blobs" / "sha256").rmdir()
    (tmp_path / "blobs" / "sha256").touch()
    with pytest.raises(Unavailable) as caught:
        await blobs.locate(BlobLocation.of(digest(factories.blob().digest), UploadId.new()), 200)
    assert str(tmp_path) not in caught.value.message


async def test_readiness(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    await blobs.check()
    assert files(tmp_path) == []
    (tmp_path / "uploads").rmdir()
    with pytest.raises(Unavailable):
        await blobs.check()


async def test_readiness_of_a_full_disk(blobs: FilesystemBlobs) -> None:
    with largest_file(0), pytest.raises(StorageFull):
        await blobs.check()


def test_space(blobs: FilesystemBlobs) -> None:
    used, free = blobs.space()
    assert used > 0
    assert free > 0


# After a crash


async def test_recovery_removes_what_was_staged(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    for size in (10, 100_000):
        await (await stage(blobs, factories.blob(size))).suspend()
    assert await blobs.recover(all_known, crashed=True) == 2
    assert files(tmp_path) == []


@pytest.mark.parametrize("before", [False, True], ids=["now", "before locations"])
async def test_recovery_removes_a_blob_that_nobody_was_told_of(
    blobs: FilesystemBlobs,
    tmp_path: Path,
    before: bool,  # noqa: FBT001
) -> None:
    blob = factories.blob(100_000)
    place = await commit_as_before(blobs, blob) if before else (await commit(blobs, blob)).place
    asked = []

    async def known(location: BlobLocation) -> bool:
        asked.append(location)
        return False

    assert await blobs.recover(known, crashed=True) == 1
    assert [blobs.path(location) for location in asked] == [place]
    assert files(tmp_path) == []


@pytest.mark.parametrize("before", [False, True], ids=["now", "before locations"])
async def test_recovery_keeps_a_blob_that_is_known(blobs: FilesystemBlobs, before: bool) -> None:  # noqa: FBT001
    blob = factories.blob(100_000)
    place = await commit_as_before(blobs, blob) if before else (await commit(blobs, blob)).place
    assert await blobs.recover(all_known, crashed=True) == 1
    assert place.read_bytes() == blob.content
    assert place.stat().st_nlink == 1


@pytest.mark.parametrize("answer", [nothing_known, all_known])
async def test_recovery_asks_about_what_nobody_could_tell(
    blobs: FilesystemBlobs, answer: Callable[[BlobLocation], Awaitable[bool]]
) -> None:
    done = await commit(blobs, factories.blob(100_000))
    await done.staged.leave()
    await done.staged.discard()  # as a push does that fails
    assert await blobs.recover(answer, crashed=False) == 1
    assert done.place.exists() == (answer is all_known)


async def test_recovery_of_one_blob_from_two_sessions(blobs: FilesystemBlobs, tmp_path: Path) -> None:
    blob = factories.blob(100_000)
    for _ in range(2):
        await commit(blobs, blob)
    assert await blobs.recover(nothing_known, crashed=True) == 2
    assert files(tmp_path) == []


async def test_recovery_of_nothing(blobs: FilesystemBlobs) -> None:
    assert await blobs.recover(nothing_known, crashed=True) == 0


# The event loop


_watching: dict[int, list[str]] = {}


def _note(event: str, arguments: tuple[object, ...]) -> None:
    if _watching and event.partition(".")[0] in {"open", "os", "shutil"}:
        _watching.get(threading.get_ident(), []).append(f"{event} {arguments}")


sys.addaudithook(_note)  # forever, as there is no way back: it notes nothing unless a test watches


async def test_no_file_is_touched_on_the_event_loop(blobs: FilesystemBlobs) -> None:
    """A disk that is busy would stop every other request."""
    touched = _watching[threading.get_ident()] = []
    try:
        for size in (10, 300_000):
            blob = factories.blob(size)
            upload = UploadId.new()
            staged = await blobs.stage(upload, "sha256", OWNER)
            await staged.write(pieces(blob.content[: size // 2]))
            await staged.suspend()
            staged = await blobs.resume(upload, "sha256", OWNER)
            await staged.write(pieces(blob.content[size // 2 :], b"more"))
            await staged.truncate(size)
            assert await staged.digest("sha256") == blob.digest
            await staged.commit(digest(blob.digest))
            await staged.revoke()
            await staged.commit(digest(blob.digest))
            await staged.discard()
    finally:
        _watching.clear()
    assert touched == []
