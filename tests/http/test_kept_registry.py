"""A data directory that an earlier Trow has left opens, and nothing of what it holds is lost (tests/data/README.md)."""

from __future__ import annotations

import hashlib
import json
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.registry import Client
from support.server import Trow
from support.store import assert_clean

if TYPE_CHECKING:
    from collections.abc import Iterator

ARCHIVE: Final = Path(__file__).parents[1] / "data" / "registry.tar.xz"
ALICE: Final = ("alice", "correct horse")
# The session was last used when the directory was made.
FOR_EVER: Final = {"registry": {"upload_expiry": "1000000h", "empty_upload_expiry": "1000000h"}}


@dataclass(frozen=True)
class Kept:
    """A server on the kept directory, and what it has to know."""

    trow: Trow
    alice: Client
    expected: dict[str, Any]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kept]:
    folder = tmp_path_factory.mktemp("kept")
    with tarfile.open(ARCHIVE) as archive:
        archive.extractall(folder, filter="data")
    expected = json.loads((folder / "kept.json").read_text("utf-8"))
    with Trow.start(folder, user=ALICE, config=FOR_EVER) as trow, Client(trow.url, ALICE) as alice:
        yield Kept(trow, alice, expected)


def test_every_answer_is_what_it_was(kept: Kept) -> None:
    """Manifests by tag and by digest, blobs of both algorithms and both places, lists, histories, and what is gone."""
    answers = kept.expected["answers"]
    assert len(answers) > 40
    for path, before in answers.items():
        found = kept.alice.get(path, accept="*/*")
        assert (found.status, found.headers["content-type"]) == (before["status"], before["type"]), path
        assert found.headers.get("docker-content-digest") == before["digest"], path
        if "json" in before:
            assert found.json == before["json"], path
        if "/blobs/" in path or "/manifests/" in path:
            found_digest = hashlib.sha256(found.body).hexdigest()
            assert found.status == 404 or found_digest == before["sha256"], path


def test_every_record_is_there_and_verifies(kept: Kept) -> None:
    found = kept.trow.command("audit", "search", "--limit", "1000", "--json")
    records = {record["hash"]: record for record in map(json.loads, found.splitlines())}
    expected = kept.expected["records"]
    assert len(expected) > 50
    assert [records[each["hash"]] for each in expected] == expected
    kept.trow.command("audit", "verify")


def test_robot_token_is_good_for_what_it_was(kept: Kept) -> None:
    token = kept.expected["token"]
    with Client(kept.trow.url, ("ci", token["token"])) as robot:
        assert robot.get("/v2/library/app/manifests/v1", accept="*/*").status == 200
        assert robot.get("/v2/team/mounted/manifests/v1", accept="*/*").status == 403
    assert json.loads(kept.trow.command("token", "list", "--json"))[0]["id"] == token["id"]


def test_upload_that_was_open_goes_on(kept: Kept) -> None:
    upload = kept.expected["upload"]
    assert kept.alice.get(upload["upload"]).headers["range"] == upload["range"]
    done = kept.alice.put(f"{upload['upload']}?digest={upload['digest']}", upload["rest"].encode())
    assert done.status == 201
    assert kept.alice.get(f"/v2/library/app/blobs/{upload['digest']}").status == 200


def test_fsck_finds_nothing_wrong(kept: Kept) -> None:
    assert assert_clean(kept.trow.folder / "data").checked > 20
