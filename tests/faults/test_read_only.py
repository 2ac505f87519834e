"""A volume that takes no writes: a start says so, a running registry goes on serving pulls and recovers."""

from __future__ import annotations

import random
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from factories import digest_of, image_of
from faults.volume import ext4, tmpfs
from support.client import WireClient
from support.server import START_SECONDS, Trow
from support.store import assert_clean

if TYPE_CHECKING:
    from pathlib import Path

MIB: Final = 2**20
REPOSITORY: Final = "read/only"
SMALL: Final = b"there before"
LARGE: Final = random.Random(1).randbytes(200_000)
MANIFEST: Final = image_of(SMALL, [LARGE])


def furnish(trow: Trow) -> None:
    with WireClient(trow.host) as client:
        assert client.push_whole(REPOSITORY, SMALL).status == 201
        assert client.push_whole(REPOSITORY, LARGE).status == 201
        assert client.put_manifest(REPOSITORY, "kept", MANIFEST).status == 201


def assert_pulls_go_on(client: WireClient) -> None:
    assert client.ask("GET", "/healthz").status == 200
    assert client.get_blob(REPOSITORY, digest_of(SMALL)).body == SMALL
    assert client.get_blob(REPOSITORY, digest_of(LARGE)).body == LARGE
    assert client.get_manifest(REPOSITORY, "kept").body == MANIFEST
    assert client.ask("GET", f"/v2/{REPOSITORY}/tags/list").status == 200


def assert_refused(client: WireClient, method: str, path: str, body: bytes | None = None) -> None:
    answer = client.ask(method, path, [("Content-Type", "application/vnd.oci.image.manifest.v1+json")], body)
    assert (answer.status, answer.codes) == (503, ["UNAVAILABLE"]), answer
    assert int(answer.header("retry-after")) > 0


@pytest.mark.parametrize("folder", ["data", "new/data"])
def test_a_start_on_a_read_only_volume_says_so(folder: str, tmp_path: Path) -> None:
    with tmpfs(tmp_path / "volume", 16 * MIB) as volume:
        with volume.start(tmp_path) as trow:
            furnish(trow)
        volume.remount("ro")
        argv = [sys.executable, "-m", "trow", "serve", "--port", "0", "--data-dir", str(volume.path / folder)]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=START_SECONDS)
    assert done.returncode > 0
    assert str(volume.path / folder) in done.stderr
    assert "Read-only file system" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_volume_that_is_remounted_read_only_and_back(tmp_path: Path) -> None:
    """The databases, which are always open for writing, lie beside it: the kernel remounts no volume in use."""
    aside, large = tmp_path / "aside", random.Random(2).randbytes(200_000)
    aside.mkdir()
    with tmpfs(tmp_path / "volume", 16 * MIB) as volume:
        volume.data.mkdir()
        for name in ("trow.db", "trow.lock", "audit.db"):
            (volume.data / name).symlink_to(aside / name)
        with volume.start(tmp_path) as trow, WireClient(trow.host) as client:
            furnish(trow)
            assert client.ask("GET", "/readyz").status == 200
            volume.remount("ro")
            assert client.ask("GET", "/readyz").status == 503
            assert_refused(client, "POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(large)}", large)
            assert client.get_blob(REPOSITORY, digest_of(large)).status == 404
            assert_pulls_go_on(client)
            volume.remount("rw")
            assert client.ask("GET", "/readyz").status == 200
            assert client.push_whole(REPOSITORY, large).status == 201
            assert client.get_blob(REPOSITORY, digest_of(large)).body == large
        assert_clean(volume.data)


def test_a_volume_that_the_kernel_makes_read_only(tmp_path: Path) -> None:
    """As after an error of the disk: every write fails, to open files too, until the volume is mounted again."""
    large, manifest = random.Random(3).randbytes(200_000), image_of(SMALL, [LARGE], annotations={"new": "1"})
    with ext4(tmp_path / "volume", 48 * MIB) as volume, volume.start(tmp_path) as trow, WireClient(trow.host) as client:
        furnish(trow)
        session = client.begin(REPOSITORY)
        volume.remount("abort")
        for content in (b"small", large):
            assert_refused(client, "POST", f"/v2/{REPOSITORY}/blobs/uploads/?digest={digest_of(content)}", content)
            assert client.get_blob(REPOSITORY, digest_of(content)).status == 404
        assert_refused(client, "PATCH", session, large)
        assert_refused(client, "PUT", f"/v2/{REPOSITORY}/manifests/new", manifest)
        assert_refused(client, "DELETE", f"/v2/{REPOSITORY}/manifests/kept")
        assert_refused(client, "DELETE", f"/v2/{REPOSITORY}/blobs/{digest_of(SMALL)}")
        assert client.ask("GET", "/readyz").status == 503
        assert client.get_manifest(REPOSITORY, "new").status == 404
        assert_pulls_go_on(client)
    with ext4(tmp_path / "volume", 48 * MIB) as volume:
        with volume.start(tmp_path) as trow, WireClient(trow.host) as client:
            assert_pulls_go_on(client)
            assert client.push_whole(REPOSITORY, large).status == 201
        assert_clean(volume.data)
