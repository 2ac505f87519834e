"""The page on recovery, followed line by line over a registry whose database has a damaged page."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.pages import ROOT, blocks
from support.registry import Client, Repository
from support.server import Trow
from support.store import assert_clean, fsck

if TYPE_CHECKING:
    from pathlib import Path

    from factories import Manifest

PAGE: Final = 4096
MANY: Final = 60
COMMANDS: Final = [block.code for block in blocks(ROOT / "docs/how-to/recover.md") if "run" in block.words]


def fill(trow: Trow) -> list[Manifest]:
    images = [factories.image(1, layer_size=3000) for _ in range(MANY)]
    with Client(trow.url) as client:
        repository = Repository(client, "recover/all")
        for number, image in enumerate(images):
            repository.push(image, f"v{number}")
        repository.push(factories.image(1, layer_size=100_000), "large")
    return images


def spoil(database: Path, table: str) -> None:
    """Damage a leaf in the middle of a table: SQLite's type 13 (fileformat2.html, section 1.6)."""
    with contextlib.closing(sqlite3.connect(database)) as connection:
        ((root,),) = connection.execute("SELECT rootpage FROM sqlite_schema WHERE name = ?", (table,))
    content = bytearray(database.read_bytes())
    page = content[(root - 1) * PAGE : root * PAGE]
    assert page[0] == 5, "the table has grown beyond one page"
    cells = int.from_bytes(page[3:5])
    pointer = int.from_bytes(page[12 + cells // 2 * 2 : 14 + cells // 2 * 2])
    leaf = int.from_bytes(page[pointer : pointer + 4])
    assert content[(leaf - 1) * PAGE] == 13
    content[(leaf - 1) * PAGE : leaf * PAGE] = b"\xa5" * PAGE
    database.write_bytes(content)


def follow(folder: Path) -> str:
    """What the commands of the page print."""
    said = []
    for code in COMMANDS:
        argv = ["sh", "-euc", code.replace("trow ", f"{sys.executable} -m trow ")]
        done = subprocess.run(argv, cwd=folder, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode in {0, 1}, done  # what was lost is said by the exit code too
        said.append(done.stdout)
    return "\n".join(said)


@pytest.mark.parametrize("table", ["manifest", "blob"])
def test_a_damaged_database_is_recovered_as_the_page_says(table: str, tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        images = fill(trow)
    spoil(tmp_path / "data" / "trow.db", table)
    damaged = fsck(tmp_path / "data")
    assert damaged.code == 1
    assert any("the database is damaged" in problem for problem in damaged.problems)
    assert f"{table}: " in follow(tmp_path)
    assert_clean(tmp_path / "data")
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        repository = Repository(client, "recover/all")
        left = [number for number in range(MANY) if client.get(repository.manifest(f"v{number}")).status == 200]
        assert len(left) > MANY // 2
        assert (len(left) < MANY) == (table == "manifest")
        assert client.get(repository.manifest("large")).status == 200
        for number, image in enumerate(images):
            repository.push(image, f"v{number}")
            assert client.get(repository.manifest(f"v{number}")).body == image.raw
            for blob in image.blobs:
                assert client.get(repository.blob(blob.digest)).body == blob.content
    assert_clean(tmp_path / "data")
