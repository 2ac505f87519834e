"""A registry whose blobs are in a bucket: real clients push and pull, through Trow and from the bucket itself."""

from __future__ import annotations

import contextlib
import json
import random
import threading
import time
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Final

import pytest

import factories
from clients.image import TAG, tar
from faults.process import memory
from support.pages import ROOT
from support.reader import Reader, steps
from support.registry import Client, Repository
from support.s3 import BUCKET, S3Server
from support.server import Trow
from support.store import fsck
from support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clients.box import Box

PAGE: Final = ROOT / "docs" / "how-to" / "store-blobs-in-a-bucket.md"
READERS: Final = 32
MOST_MEMORY: Final = 200 * 2**20
MEGABYTE: Final = 10**6


@pytest.fixture(scope="module", params=["versitygw", "minio"])
def server(request: pytest.FixtureRequest) -> Iterator[S3Server]:
    with S3Server.start(request.param) as found, pytest.MonkeyPatch.context() as patch:
        for name, value in found.environment.items():
            patch.setenv(name, value)
        yield found


def start(server: S3Server, folder: Path, *, redirect: bool = False) -> Trow:
    place = {"bucket": BUCKET, "prefix": f"{folder.name}/", "endpoint": server.url, "path_style": True}
    given = {**place, "region": "us-east-1", "redirect": redirect, "timeout": "5s"}
    return Trow.start(folder, config={"storage": "s3", "s3": given})


def test_the_page_can_be_followed(server: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    here = {"http://127.0.0.1:9000": server.url, "prefix: registry/": f"prefix: {tmp_path.name}/"}
    with Reader(tmp_path, "crane", replaced=here, environment=server.environment) as reader:
        for block, shown in steps(PAGE):
            if "bucket" in block.words:
                reader.follow(block, shown)


@pytest.mark.parametrize("redirect", [False, True], ids=["through trow", "from the bucket"])
def test_an_image_of_many_parts_goes_there_and_back(
    server: S3Server,
    box: Box,
    tmp_path: Path,
    redirect: bool,  # noqa: FBT001
) -> None:
    layer = box.home / "layer.tar"
    layer.write_bytes(tar({"random": random.randbytes(20 * MEGABYTE)}))
    with start(server, tmp_path, redirect=redirect) as trow:
        one, two = f"{trow.host}/a/b:{TAG}", f"{trow.host}/c/d:{TAG}"
        box.run("crane", "append", f"--new_layer={layer}", f"--new_tag={one}", "--insecure")
        box.run("crane", "validate", f"--remote={one}", "--insecure")
        flags = ("--src-tls-verify=false", "--dest-tls-verify=false")
        box.run("skopeo", "copy", *flags, f"docker://{one}", f"docker://{two}")
        box.run("skopeo", "copy", flags[0], f"docker://{two}", f"oci:{box.home / 'out'}:{TAG}")
        box.run("crane", "validate", f"--remote={two}", "--insecure")
        with Client(trow.url) as client:
            digest = json.loads(client.get("/v2/a/b/manifests/" + TAG).body)["layers"][0]["digest"]
            answer = client.get(f"/v2/a/b/blobs/{digest}")
            assert answer.status == (307 if redirect else 200)
            assert client.head(f"/v2/a/b/blobs/{digest}").status == 200
    assert fsck(tmp_path / "data", "--config", str(tmp_path / "trow.yaml")).problems == ()


def test_slow_readers_take_little_memory(server: S3Server, tmp_path: Path) -> None:
    """Thirty-two at a megabyte a second: what a client does not take is left in the bucket."""
    blob = factories.blob(64 * MEGABYTE)
    with start(server, tmp_path) as trow:
        with Client(trow.url) as client:
            Repository(client, "a/b").push_blob(blob)
        ends = time.monotonic() + 10
        taken: list[int] = []

        def read() -> None:
            with contextlib.closing(HTTPConnection(trow.host, timeout=30)) as connection:
                connection.request("GET", f"/v2/a/b/blobs/{blob.digest}")
                answer, count = connection.getresponse(), 0
                while time.monotonic() < ends:
                    count += len(answer.read(MEGABYTE // 5))
                    threading.Event().wait(0.2)
                taken.append(count)

        readers = [threading.Thread(target=read) for _ in range(READERS)]
        for reader in readers:
            reader.start()
        most = 0
        while any(reader.is_alive() for reader in readers):
            most = max(most, memory(trow.process.pid))
            threading.Event().wait(0.2)
        assert len(taken) == READERS
        assert min(taken) > MEGABYTE
        assert most < MOST_MEMORY


def test_a_registry_is_not_ready_without_its_bucket(server: S3Server, tmp_path: Path) -> None:
    blob = factories.blob(100_000)
    with start(server, tmp_path) as trow, Client(trow.url) as client:
        repository = Repository(client, "a/b")
        repository.push_blob(blob)
        assert client.get("/readyz").status == 200
        server.down()
        try:
            assert client.get("/readyz").status == 503
            assert client.get(repository.blob(blob.digest)).status in {200, 503}
            assert client.post(f"{repository.uploads}?digest={blob.digest}", blob.content).status == 503
        finally:
            server.up()
        until(lambda: client.get("/readyz").status == 200)
        assert client.get(repository.blob(blob.digest)).body == blob.content
        assert 'trow_bucket_seconds_count{operation="put",result="failed"}' in client.get("/metrics").body.decode()
