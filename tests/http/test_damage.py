"""Content that was lost or damaged on the disk: nobody is told that it is here, and the next good copy replaces it."""

from __future__ import annotations

import secrets
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import factories
from support.registry import Client, Repository
from support.server import Trow
from support.store import fsck

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from factories import Blob

LARGE = 100_000


@pytest.fixture
def data(trow: Trow) -> Path:
    return trow.folder / "data"


@pytest.fixture
def stored(client: Client) -> tuple[Repository, Blob]:
    """A large blob, which is a file, and a repository that has it."""
    repository, blob = Repository(client, f"damage/{secrets.token_hex(8)}"), factories.blob(LARGE)
    repository.push_blob(blob)
    return repository, blob


def place(data: Path, blob: Blob) -> Path:
    encoded = blob.digest.partition(":")[2]
    [found] = (data / "blobs" / "sha256" / encoded[:2]).glob(f"{encoded}*")
    return found


def lose(file: Path) -> None:
    file.unlink()


def cut_short(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-1])


def empty(file: Path) -> None:
    file.write_bytes(b"")


DAMAGES = [lose, cut_short, empty]


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("named", [True, False])
def test_a_blob_whose_bytes_are_lost_is_not_mounted_but_sent_again(
    damage: Callable[[Path], None],
    named: bool,  # noqa: FBT001
    client: Client,
    stored: tuple[Repository, Blob],
    other: Repository,
    data: Path,
) -> None:
    repository, blob = stored
    damage(place(data, blob))
    source = f"&from={repository.name}" if named else ""
    reply = client.post(f"{other.uploads}?mount={blob.digest}{source}")
    assert reply.status == 202
    assert client.head(other.blob(blob.digest)).status == 404
    assert client.put(f"{reply.headers['location']}?digest={blob.digest}", blob.content).status == 201
    assert client.get(other.blob(blob.digest)).body == blob.content
    assert client.get(repository.blob(blob.digest)).body == blob.content
    assert client.post(f"{other.uploads}?mount={blob.digest}{source}").status == 201


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_blob_whose_bytes_are_lost_is_not_here(
    damage: Callable[[Path], None], client: Client, stored: tuple[Repository, Blob], data: Path
) -> None:
    repository, blob = stored
    damage(place(data, blob))
    for method in ("HEAD", "GET"):
        assert client.request(method, repository.blob(blob.digest)).status == 404


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_manifest_over_lost_bytes_is_refused_and_says_which_to_push_again(
    damage: Callable[[Path], None], repository: Repository, client: Client, data: Path
) -> None:
    """Where images may be sparse, too: what the repository says it has is no blob that lies elsewhere."""
    image = factories.image(3, layer_size=LARGE)
    for blob in image.blobs:
        repository.push_blob(blob)
    for layer in image.blobs[1:3]:
        damage(place(data, layer))
    reply = repository.put(image, "latest")
    assert (reply.status, set(reply.codes)) == (400, {"MANIFEST_BLOB_UNKNOWN"})
    assert [error["detail"]["digest"] for error in reply.json["errors"]] == [b.digest for b in image.blobs[1:3]]
    assert "push it again" in reply.json["errors"][0]["message"]
    assert client.get(repository.manifest("latest")).status == 404
    repository.push(image, "latest")
    assert client.get(repository.manifest("latest")).body == image.raw


@pytest.mark.slow
def test_what_fsck_has_put_into_quarantine_is_sent_again(tmp_path: Path) -> None:
    blob = factories.blob(LARGE)
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        Repository(client, "damage/one").push_blob(blob)
    place(tmp_path / "data", blob).write_bytes(bytes(LARGE))
    assert fsck(tmp_path / "data", "--quarantine").quarantined == 1
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        one, two = Repository(client, "damage/one"), Repository(client, "damage/two")
        assert client.head(one.blob(blob.digest)).status == 404
        reply = client.post(f"{two.uploads}?mount={blob.digest}&from={one.name}")
        assert reply.status == 202
        assert client.put(f"{reply.headers['location']}?digest={blob.digest}", blob.content).status == 201
        for repository in (one, two):
            assert client.get(repository.blob(blob.digest)).body == blob.content


def test_a_good_copy_replaces_a_damaged_file_of_the_same_size(
    client: Client, stored: tuple[Repository, Blob], other: Repository, data: Path
) -> None:
    repository, blob = stored
    place(data, blob).write_bytes(bytes(LARGE))
    other.push_blob(blob)
    assert client.get(repository.blob(blob.digest)).body == blob.content
    assert client.get(other.blob(blob.digest)).body == blob.content


def test_a_good_copy_replaces_damaged_content_in_the_database(
    client: Client, repository: Repository, data: Path
) -> None:
    blob, image = factories.blob(100), factories.image()
    repository.push_blob(blob)
    repository.push(image, "latest")
    for wrong in (bytes(100), bytes(3)):
        with closing(sqlite3.connect(data / "trow.db", isolation_level=None)) as database:
            database.execute("UPDATE blob SET content = ? WHERE digest = ?", (wrong, blob.digest))
            database.execute("UPDATE manifest SET content = ? WHERE digest = ?", (wrong, image.digest))
        repository.push_blob(blob)
        repository.push(image, "latest")
        assert client.get(repository.blob(blob.digest)).body == blob.content
        assert client.get(repository.manifest(image.digest)).body == image.raw


def test_content_of_the_database_that_is_cut_short_is_not_here(
    client: Client, repository: Repository, other: Repository, data: Path
) -> None:
    blob = factories.blob(100)
    repository.push_blob(blob)
    with closing(sqlite3.connect(data / "trow.db", isolation_level=None)) as database:
        database.execute("UPDATE blob SET content = ? WHERE digest = ?", (b"short", blob.digest))
    assert client.head(repository.blob(blob.digest)).status == 404
    assert client.post(f"{other.uploads}?mount={blob.digest}&from={repository.name}").status == 202
