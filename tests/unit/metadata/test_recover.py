"""A new database of what a damaged one still tells: all that does not lie on the damaged page itself."""

from __future__ import annotations

import contextlib
import stat
from typing import TYPE_CHECKING, Final

import apsw
import pytest

import factories
from support.core import REPO, digest, publication
from support.metadata import EmbeddedMetadata
from trow.lib.datadir import hold
from trow.lib.errors import StartError
from trow.metadata.inventory import SqliteInventory
from trow.metadata.salvage import recover
from trow.registry.fsck import Fsck
from trow.registry.ports import BlobRecord
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from pathlib import Path

PAGE: Final = 4096
MANY: Final = 400


async def fill(directory: Path) -> None:
    (directory / "blobs").mkdir()
    with contextlib.closing(EmbeddedMetadata(directory / "trow.db")) as metadata:
        for number in range(MANY):
            blob, image = factories.blob(500), factories.image(0)
            await metadata.link_blob(REPO, digest(blob.digest), BlobRecord(500, blob.content))
            await metadata.publish(publication(REPO, image, f"v{number}"))


async def problems(directory: Path, *, quarantine: bool = False) -> list[str]:
    blobs = FilesystemBlobs(directory)
    with contextlib.closing(SqliteInventory(directory / "trow.db")) as inventory:
        return (await Fsck(blobs, inventory, lambda _: None, quarantine=quarantine).run()).problems


def content(database: Path) -> dict[str, set[tuple[object, ...]]]:
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        names = connection.execute("SELECT name FROM sqlite_schema WHERE type = 'table'").fetchall()
        return {
            str(name): set(connection.execute(f"SELECT * FROM {name}").fetchall())
            for (name,) in names
            if name != "repository_generation"
        }


def spoil(database: Path, name: str, kind: str = "leaf") -> set[tuple[object, ...]]:
    """Damage a page of a table or an index; returns the rows of a table that lay on it."""
    before = content(database)
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        rows = connection.execute("SELECT pageno FROM dbstat WHERE name = ? AND pagetype = ?", (name, kind)).fetchall()
    page = int(str(rows[len(rows) // 2][0]))
    with database.open("r+b") as file:
        file.seek((page - 1) * PAGE)
        old = file.read(PAGE)
        file.seek((page - 1) * PAGE)
        file.write(b"\xa5" * PAGE)
    return {row for row in before.get(name, set()) if any(isinstance(v, str) and v.encode() in old for v in row[:2])}


@pytest.mark.slow
async def test_a_whole_database_is_copied_as_it_is(tmp_path: Path) -> None:
    await fill(tmp_path)
    before = content(tmp_path / "trow.db")
    tables, kept = recover(tmp_path)
    assert all(table.whole for table in tables)
    assert content(tmp_path / "trow.db") == before
    assert content(kept / "trow.db") == before
    assert (tmp_path / "trow.db").stat().st_mode & 0o077 == 0
    EmbeddedMetadata(tmp_path / "trow.db").close()


@pytest.mark.slow
@pytest.mark.parametrize("name", [None, "repository", "repository_generation"])
async def test_numbers_of_repositories_go_on(name: str | None, tmp_path: Path) -> None:
    await fill(tmp_path)
    with contextlib.closing(EmbeddedMetadata(tmp_path / "trow.db")) as metadata:
        before = await metadata.generation()
    if name:
        spoil(tmp_path / "trow.db", name)
    recover(tmp_path)
    with contextlib.closing(EmbeddedMetadata(tmp_path / "trow.db")) as metadata:
        assert await metadata.generation() > before


@pytest.mark.slow
@pytest.mark.parametrize("name", ["blob", "manifest", "tag", "tag_event", "blob_link"])
async def test_a_damaged_page_costs_the_rows_on_it_alone(name: str, tmp_path: Path) -> None:
    await fill(tmp_path)
    database = tmp_path / "trow.db"
    before = content(database)
    lost = spoil(database, name)
    tables, _ = recover(tmp_path)
    after = content(database)
    assert {table.table: table.whole for table in tables} == {table: table != name for table in before}
    assert {table: rows for table, rows in after.items() if table != name} == {
        table: rows for table, rows in before.items() if table != name
    }
    assert before[name] - after[name] <= lost
    assert after[name] <= before[name]
    assert len(after[name]) > MANY // 2
    assert not any("the database is damaged" in problem for problem in await problems(tmp_path, quarantine=True))
    assert await problems(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["sqlite_autoindex_blob_1", "sqlite_autoindex_manifest_1", "blob_size", "tag_digest"])
async def test_a_damaged_index_costs_nothing(name: str, tmp_path: Path) -> None:
    await fill(tmp_path)
    before = content(tmp_path / "trow.db")
    spoil(tmp_path / "trow.db", name)
    recover(tmp_path)
    assert content(tmp_path / "trow.db") == before


@pytest.mark.slow
async def test_what_was_deleted_does_not_come_back(tmp_path: Path) -> None:
    await fill(tmp_path)
    database = tmp_path / "trow.db"
    with contextlib.closing(apsw.Connection(str(database))) as connection:
        connection.execute("DELETE FROM blob_link WHERE digest > 'sha256:8'")
    before = content(database)["blob_link"]
    spoil(database, "blob_link")
    recover(tmp_path)
    assert content(database)["blob_link"] <= before


def test_where_no_registry_is_nothing_is_made(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    for path in (tmp_path, tmp_path / "misspelt"):
        with pytest.raises(StartError, match=r"there is no registry in .*; give the --data-dir"):
            recover(path)
    assert list(tmp_path.iterdir()) == []
    assert stat.S_IMODE(tmp_path.stat().st_mode) == 0o755


async def test_what_cannot_be_recovered_is_left_as_it_is(tmp_path: Path) -> None:
    database = tmp_path / "trow.db"
    (tmp_path / "audit.db").write_bytes(b"a trail")
    with pytest.raises(StartError, match="is missing; put it back from a backup"):
        recover(tmp_path)
    database.write_bytes(b"\xa5" * 40_000)
    with pytest.raises(StartError, match=r"cannot be recovered: .*; put it back from a backup"):
        recover(tmp_path)
    assert database.read_bytes() == b"\xa5" * 40_000
    assert not (tmp_path / "trow.db.recovered").exists()


async def test_a_database_in_use_is_not_recovered(tmp_path: Path) -> None:
    await fill(tmp_path)
    with hold(tmp_path), pytest.raises(StartError, match="in use by another trow"):
        recover(tmp_path)


@pytest.mark.slow
async def test_a_text_that_is_none_any_more_costs_its_row_alone(tmp_path: Path) -> None:
    await fill(tmp_path)
    database = tmp_path / "trow.db"
    before = content(database)
    database.write_bytes(database.read_bytes().replace(b"v200sha256:", b"\xf6200sha256:"))
    tables, _ = recover(tmp_path)
    assert {table.table for table in tables if not table.whole} == {"tag", "tag_event"}
    for table, rows in content(database).items():
        assert rows == {row for row in before[table] if "v200" not in row}


@pytest.mark.slow
async def test_what_stands_in_the_way_is_told_of_and_nothing_is_changed(tmp_path: Path) -> None:
    await fill(tmp_path)
    before = content(tmp_path / "trow.db")
    (tmp_path / "quarantine").write_bytes(b"a file")
    with pytest.raises(StartError, match="quarantine"):
        recover(tmp_path)
    assert content(tmp_path / "trow.db") == before
    assert not (tmp_path / "trow.db.recovered").exists()
