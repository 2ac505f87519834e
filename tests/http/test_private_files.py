"""Nobody else on the machine reads what is stored, whatever the umask of the one who starts it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest

import factories
from support.registry import Client, Repository
from support.server import Trow
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow


@pytest.fixture
def open_umask() -> Iterator[None]:
    before = os.umask(0)
    yield
    os.umask(before)


def readable_by_others(data: Path) -> dict[str, str]:
    found = {path: path.stat().st_mode for path in (data, *data.rglob("*"))}
    return {str(path): stat.filemode(mode) for path, mode in found.items() if mode & (stat.S_IRWXG | stat.S_IRWXO)}


def test_everything_in_the_data_directory_is_for_its_owner_alone(tmp_path: Path, open_umask: None) -> None:
    data = tmp_path / "data"
    with Trow.start(tmp_path, user=("alice", "secret")) as trow, Client(trow.url, ("alice", "secret")) as client:
        repository = Repository(client, "private/files")
        repository.push(factories.image(1, layer_size=100_000), "latest")
        session = repository.begin()
        assert client.patch(session, factories.blob(200_000).content).status == 202
        assert client.get("/token?service=trow").status == 200
        names = {path.name for path in data.rglob("*")}
        assert {"trow.db", "trow.db-wal", "trow.db-shm", "audit.db", "audit.db-wal", "trow.lock", "keys"} <= names
        assert any((data / "uploads").iterdir())
        assert readable_by_others(data) == {}
    assert readable_by_others(data) == {}


def test_what_a_command_makes_beside_no_server_is_for_its_owner_alone(tmp_path: Path, open_umask: None) -> None:
    with Trow.start(tmp_path) as trow:
        pass
    trow.command("token", "create", "--name", "ci", "--repository", "**", "--action", "pull")
    trow.command("keys", "rotate")
    assert readable_by_others(tmp_path / "data") == {}


def test_a_directory_that_everybody_could_read_is_closed_at_start(tmp_path: Path) -> None:
    with Trow.start(tmp_path):
        pass
    data = tmp_path / "data"
    for path in (data, *data.iterdir()):
        path.chmod(path.stat().st_mode | 0o055)
    with Trow.start(tmp_path) as trow:
        assert readable_by_others(data) == {}
        until(lambda: b"others could read the data directory; it is closed to them now" in trow.stderr.read_bytes())
