"""`trow fsck` over a registry whose disk has gone wrong: it goes on to the end and tells of everything."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import apsw
import pytest

import factories
from support.core import REPO, digest, pieces, publication
from support.metadata import EmbeddedMetadata
from trow.metadata.inventory import SqliteInventory
from trow.oci.names import UploadId
from trow.registry.fsck import Fsck
from trow.registry.ports import BlobRecord
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from factories import Blob
    from trow.registry.fsck import FsckReport

PAGE: Final = 4096
MANY: Final = 300


class Stored:
    """A registry of some hundred manifests, small blobs in the database, and a few that are files."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.database = directory / "trow.db"
        self.blobs = FilesystemBlobs(directory)
        self.small = [factories.blob(1000) for _ in range(MANY)]
        self.large = [factories.blob(100_000) for _ in range(3)]
        self.images = [factories.image(0) for _ in range(MANY)]
        self.places: dict[str, Path] = {}

    async def fill(self) -> None:
        self.blobs.prepare()
        with contextlib.closing(self.blobs), contextlib.closing(EmbeddedMetadata(self.database)) as metadata:
            for blob in self.large:
                staged = await self.blobs.stage(UploadId.new(), "sha256", "")
                await staged.write(pieces(blob.content))
                location = await staged.commit(digest(blob.digest))
                await staged.discard()
                self.places[blob.digest] = self.blobs.path(location)
                await metadata.link_blob(REPO, digest(blob.digest), BlobRecord(blob.size, None, location))
            for blob in self.small:
                record = BlobRecord(blob.size, blob.content)
                await metadata.link_blob(REPO, digest(blob.digest), record)
            for number, image in enumerate(self.images):
                await metadata.publish(publication(REPO, image, f"v{number}"))

    async def check(self, *, quarantine: bool = False) -> FsckReport:
        blobs = FilesystemBlobs(self.directory)  # as the command has it: nothing is made
        with contextlib.closing(SqliteInventory(self.database)) as inventory:
            return await Fsck(blobs, inventory, lambda _: None, quarantine=quarantine).run()

    def place(self, blob: Blob) -> Path:
        return self.places[blob.digest]

    def pages(self, name: str, kind: str) -> list[int]:
        """The pages of a table or an index; kind is that of `dbstat`: leaf, internal or overflow."""
        with contextlib.closing(apsw.Connection(str(self.database))) as connection:
            rows = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ?", (name, kind))
            return [int(str(page)) for (page,) in rows.fetchall()]

    def spoil(self, page: int) -> None:
        with self.database.open("r+b") as file:
            file.seek((page - 1) * PAGE)
            file.write(b"\xa5" * PAGE)


async def filled(tmp_path: Path) -> Stored:
    stored = Stored(tmp_path)
    await stored.fill()
    return stored


async def test_a_whole_registry_has_no_problem(tmp_path: Path) -> None:
    report = await (await filled(tmp_path)).check()
    assert report.problems == []
    assert report.checked == 2 * MANY + 3


TABLES: Final = ["blob", "manifest", "sqlite_autoindex_blob_1", "sqlite_autoindex_manifest_1", "blob_size"]


@pytest.mark.slow
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("kind", ["leaf", "internal"])
async def test_a_page_that_cannot_be_read_does_not_end_the_check(name: str, kind: str, tmp_path: Path) -> None:
    stored = await filled(tmp_path)
    pages = stored.pages(name, kind)
    if not pages:
        assert kind == "internal"
        pages = stored.pages(name, "leaf")
    stored.spoil(pages[len(pages) // 2])
    stored.place(stored.large[0]).write_bytes(b"short")
    stored.place(stored.large[1]).unlink()
    report = await stored.check()
    assert any("the database is damaged" in problem for problem in report.problems)
    # What lies elsewhere is found all the same, whatever the database can tell of it.
    assert f"blob {stored.large[0].digest}: its file is damaged" in report.problems
    assert any(problem.startswith(f"blob {stored.large[1].digest}: ") for problem in report.problems)
    assert report.checked > MANY


async def test_a_page_of_an_index_costs_no_row(tmp_path: Path) -> None:
    stored = await filled(tmp_path)
    pages = stored.pages("sqlite_autoindex_blob_1", "leaf")
    stored.spoil(pages[len(pages) // 2])
    with contextlib.closing(SqliteInventory(stored.database)) as inventory:
        seen = [digest async for digest in inventory.blobs()]
    assert len(seen) == len(set(seen))
    assert set(seen) == {blob.digest for blob in (*stored.small, *stored.large)}


def remove(database: Path) -> None:
    database.unlink()


def cut_to_nothing(database: Path) -> None:
    database.write_bytes(b"")


def overwrite(database: Path) -> None:
    database.write_bytes(b"\xa5" * 40_000)


def cut_in_half(database: Path) -> None:
    database.write_bytes(database.read_bytes()[: database.stat().st_size // 2 // PAGE * PAGE])


def lose_the_first_page(database: Path) -> None:
    database.write_bytes(b"\0" * PAGE + database.read_bytes()[PAGE:])


@pytest.mark.slow
@pytest.mark.parametrize("damage", [remove, cut_to_nothing, overwrite, cut_in_half, lose_the_first_page])
async def test_files_are_held_against_their_names_where_there_is_no_database(
    damage: Callable[[Path], None], tmp_path: Path
) -> None:
    stored = await filled(tmp_path)
    damage(stored.database)
    stored.place(stored.large[0]).write_bytes(bytes(100_000))
    report = await stored.check()
    assert any("the database is damaged" in problem for problem in report.problems)
    assert f"blob {stored.large[0].digest}: its file is damaged" in report.problems
    assert report.checked >= 3


async def test_what_quarantine_can_do_is_done_around_the_damage(tmp_path: Path) -> None:
    stored = await filled(tmp_path)
    pages = stored.pages("blob", "leaf")
    stored.spoil(pages[len(pages) // 2])
    stored.place(stored.large[0]).write_bytes(bytes(100_000))
    report = await stored.check(quarantine=True)
    assert report.quarantined == 1
    assert not stored.place(stored.large[0]).exists()


async def test_names_that_point_at_nothing_are_told_of_and_removed(tmp_path: Path) -> None:
    stored = await filled(tmp_path)
    with contextlib.closing(apsw.Connection(str(stored.database))) as connection:
        connection.execute("DELETE FROM manifest WHERE digest = ?", (stored.images[0].digest,))
        connection.execute("DELETE FROM blob WHERE digest = ?", (stored.small[0].digest,))
    expected = [
        f"repository {REPO}: links blob {stored.small[0].digest}, which is not here",
        f"repository {REPO}: tag v0 points at {stored.images[0].digest}, which is not here",
    ]
    for quarantine, removed in ((False, 0), (True, 2)):
        report = await stored.check(quarantine=quarantine)
        assert (report.problems, report.removed) == (expected, removed)
    assert (await stored.check()).problems == []


async def test_a_file_that_is_no_blob_is_told_of(tmp_path: Path) -> None:
    stored = await filled(tmp_path)
    place = stored.place(stored.large[0])
    (place.parent / "notes.txt").write_text("who put this here?", "utf-8")
    (tmp_path / "blobs" / place.name).write_bytes(b"")
    assert sorted((await stored.check()).problems) == [
        f"blobs/{place.name}: no blob has such a name",
        f"blobs/sha256/{place.parent.name}/notes.txt: no blob has such a name",
    ]


def flip(stored: Stored, text: str) -> None:
    """Turn a bit of every text that begins like this, which makes it one that is not in UTF-8."""
    content = stored.database.read_bytes()
    stored.database.write_bytes(content.replace(text.encode(), bytes([text.encode()[0] | 0x80]) + text.encode()[1:]))


@pytest.mark.parametrize("table", ["blob", "manifest"])
@pytest.mark.parametrize("name", ["../../outside", "sha257:" + "a" * 64, b"\x00\xff", 7])
async def test_keys_that_are_no_digests_do_not_end_the_check(tmp_path: Path, table: str, name: object) -> None:
    stored = await filled(tmp_path)
    with contextlib.closing(apsw.Connection(str(stored.database))) as connection:
        connection.execute(f"UPDATE {table} SET digest = ? WHERE rowid = 3", (name,))
        connection.execute("UPDATE manifest SET content = 'text' WHERE rowid = 5")
        connection.execute("UPDATE blob SET content = 'text' WHERE rowid = 6")
    before = sorted(tmp_path.parent.iterdir())
    report = await stored.check(quarantine=True)
    assert any(f"{table}" in problem and "is not a digest" in problem for problem in report.problems)
    assert f"manifest {REPO}@{stored.images[4].digest}: it is damaged" in report.problems
    assert report.quarantined == 2
    assert sorted(tmp_path.parent.iterdir()) == before


async def test_texts_that_are_none_do_not_end_the_check(tmp_path: Path) -> None:
    stored = await filled(tmp_path)
    flip(stored, stored.small[100].digest)
    flip(stored, stored.images[100].digest)
    stored.place(stored.large[0]).write_bytes(b"short")
    report = await stored.check(quarantine=True)
    assert any("the database is damaged" in problem for problem in report.problems)
    assert f"blob {stored.large[0].digest}: its file is damaged" in report.problems


async def test_what_cannot_be_moved_is_told_of(tmp_path: Path) -> None:
    stored = await filled(tmp_path)
    stored.place(stored.large[0]).write_bytes(b"short")
    (tmp_path / "quarantine").rmdir()
    (tmp_path / "quarantine").write_bytes(b"a file")
    report = await stored.check(quarantine=True)
    assert report.quarantined == 0
    assert any("cannot be moved" in problem for problem in report.problems)
    assert stored.place(stored.large[0]).exists()
    (tmp_path / "quarantine").unlink()
    assert (await stored.check(quarantine=True)).quarantined == 1
