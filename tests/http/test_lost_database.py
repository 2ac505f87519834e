"""A start never takes the remains of a registry for an empty one."""

from __future__ import annotations

import contextlib
import shutil
import socket
import sqlite3
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.registry import Client, Repository
from support.server import START_SECONDS, Trow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

pytestmark = pytest.mark.slow

LARGE: Final = factories.blob(100_000)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a registry that has been stopped."""
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        repository = Repository(client, "lost/database")
        repository.push_blob(LARGE)
        repository.push(factories.image(), "latest")
    return tmp_path / "data"


def refusal(data: Path, *flags: str) -> str:
    """What is said to the person who tries to start it; nothing is changed by that."""
    before = content(data)
    argv = [sys.executable, "-m", "trow", "serve", "--port", "0", "--data-dir", str(data), *flags]
    done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=START_SECONDS)
    assert done.returncode == 1, done
    assert "Traceback" not in done.stderr
    assert content(data) == before
    return done.stderr


def content(data: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in data.rglob("*") if path.is_file() and path.name != "trow.lock"}


def test_uploads_go_on_after_a_start_that_came_to_nothing(tmp_path: Path) -> None:
    """Such as one whose listener for probes found its port taken."""
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        location = Repository(client, "lost/upload").begin()
        assert client.patch(location, LARGE.content).status == 202
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        argv = [sys.executable, "-m", "trow", "serve", "--port", "0", "--data-dir", str(tmp_path / "data")]
        argv += ["--probes", f"127.0.0.1:{port}"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=START_SECONDS)
        assert (done.returncode, f"port {port}" in done.stderr) == (1, True)
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        assert client.put(f"{location}?digest={LARGE.digest}").status == 201


def remove(database: Path) -> None:
    database.unlink()


def cut_to_nothing(database: Path) -> None:
    database.write_bytes(b"")


def make_one_without_tables(database: Path) -> None:
    database.unlink()
    with contextlib.closing(sqlite3.connect(database)) as connection:
        connection.execute("VACUUM")
        connection.execute("PRAGMA user_version = 0")


@pytest.mark.parametrize("lose", [remove, cut_to_nothing, make_one_without_tables])
def test_a_start_without_its_database_is_refused_with_the_fix(lose: Callable[[Path], None], data: Path) -> None:
    lose(data / "trow.db")
    said = refusal(data)
    assert f"{data}/trow.db" in said
    assert "although a registry was here: put the database back from a backup" in said
    assert "--new-database" in said


@pytest.mark.parametrize("left", ["blobs", "audit.db"])
def test_blobs_or_an_audit_trail_alone_tell_of_a_registry(left: str, data: Path) -> None:
    for path in data.iterdir():
        if path.name != left:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert "although a registry was here" in refusal(data)


def test_an_empty_database_can_be_asked_for(data: Path) -> None:
    (data / "trow.db").unlink()
    with Trow.start(data.parent, "--new-database") as trow, Client(trow.url) as client:
        assert client.get("/v2/_catalog").json == {"repositories": []}
        repository = Repository(client, "lost/database")
        assert client.head(repository.blob(LARGE.digest)).status == 404
        repository.push_blob(LARGE)
        assert client.get(repository.blob(LARGE.digest)).body == LARGE.content


def test_asking_for_an_empty_database_empties_none(data: Path) -> None:
    with Trow.start(data.parent, "--new-database") as trow, Client(trow.url) as client:
        assert client.get("/v2/lost/database/tags/list").json["tags"] == ["latest"]


def test_the_database_of_another_program_is_refused(data: Path) -> None:
    (data / "trow.db").unlink()
    with contextlib.closing(sqlite3.connect(data / "trow.db")) as connection:
        connection.execute("CREATE TABLE bookmark (url TEXT)")
    for flags in ([], ["--new-database"]):
        assert "the database is not one of Trow" in refusal(data, *flags)


def test_a_database_that_has_lost_a_table_is_refused(data: Path) -> None:
    with contextlib.closing(sqlite3.connect(data / "trow.db")) as connection:
        connection.execute("DROP TABLE tag")
    assert "has lost tables; put the right one back" in refusal(data)


def test_what_is_no_database_is_refused_with_the_way_to_repair_it(data: Path) -> None:
    (data / "trow.db").write_bytes(b"\0" * 8192)
    said = refusal(data)
    assert f"{data}/trow.db is damaged (" in said
    assert "trow fsck says what is lost" in said


@pytest.mark.parametrize("made", [[], ["blobs"], ["trow.db"], ["trow.lock", "trow.db", "blobs/sha256", "blobs/sha512"]])
def test_a_first_start_that_was_interrupted_is_no_loss(made: list[str], tmp_path: Path) -> None:
    """And folders that a person has made, to mount a volume there, are none either."""
    (tmp_path / "data").mkdir()
    for name in made:
        path = tmp_path / "data" / name
        path.touch() if "trow." in name else path.mkdir(parents=True)
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        assert client.get("/v2/").status == 200
