"""Blobs that are not files here: a stream, or the address of somebody who has them."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import pytest

import factories
from support.core import digest
from support.memory import MemoryBlobs
from support.registry import Client, Repository
from support.waiting import eventually
from trow.app import application, stores
from trow.config import Config
from trow.http.server import HttpServer, reserve
from trow.lib.datadir import hold
from trow.lib.logs import Output
from trow.oci.errors import Unavailable
from trow.registry.location import BlobLocation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator
    from pathlib import Path

    from factories import Blob
    from support.memory import Form
    from support.registry import Reply
    from trow.app.stores import Stores
    from trow.http.metrics import Metrics
    from trow.lib.datadir import Hold

LARGE: Final = 3_000_000
MEGABYTE: Final = 1024 * 1024
STOP_SECONDS: Final = 5.0


class Watched(MemoryBlobs):
    """Tells how many readers there are and how many pieces they were given; after ``breaks`` of them it fails."""

    readers = 0
    pieces = 0
    breaks: int | None = None

    async def read(self, location: BlobLocation, start: int = 0, end: int | None = None) -> AsyncGenerator[bytes, None]:
        self.readers += 1
        try:
            async for piece in super().read(location, start, end):
                if self.pieces == self.breaks:
                    raise Unavailable("the store is gone")
                self.pieces += 1
                yield piece
        finally:
            self.readers -= 1


@dataclass(frozen=True)
class Served:
    """A registry in this process, whose blobs are somewhere else."""

    blobs: Watched
    address: tuple[str, int]

    async def push(self, blob: Blob) -> str:
        """Push it; returns the path where it is."""
        with self._client() as client:
            await asyncio.to_thread(Repository(client, "a/b").push_blob, blob)
        return f"/v2/a/b/blobs/{blob.digest}"

    async def ask(self, method: str, path: str, **headers: str) -> Reply:
        with self._client() as client:
            return await asyncio.to_thread(client.request, method, path, None, headers)

    def _client(self) -> Client:
        return Client(f"http://{self.address[0]}:{self.address[1]}")


@contextlib.asynccontextmanager
async def served(folder: Path, monkeypatch: pytest.MonkeyPatch, form: Form) -> AsyncIterator[Served]:
    blobs = Watched(form=form)

    @contextlib.asynccontextmanager
    async def opened(config: Config, metrics: Metrics, held: Hold, *, new_database: bool) -> AsyncIterator[Stores]:
        async with stores.stores_of(config, metrics, held, new_database=new_database) as found:
            yield replace(found, blobs=blobs)

    monkeypatch.setattr(application, "stores_of", opened)
    output = Output("text", os.open(os.devnull, os.O_WRONLY))
    async with contextlib.AsyncExitStack() as stack:
        held = stack.enter_context(hold(folder))
        registry = await stack.enter_async_context(application.application_of(Config(data_dir=folder), output, held))
        (address,) = reserve("127.0.0.1", 0, "--port")
        server = HttpServer(registry.registry, [address], None)
        await server.start()
        try:
            yield Served(blobs, (address.host, address.port))
        finally:
            await server.stop(STOP_SECONDS)
            address.reservation.close()
            output.lines.close(STOP_SECONDS)


async def test_stream_is_sent_whole_and_in_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = factories.blob(LARGE)
    async with served(tmp_path, monkeypatch, "stream") as registry:
        path = await registry.push(blob)
        for asked, start, end in [
            ({}, 0, LARGE),
            ({"range": "bytes=1000000-"}, 1_000_000, LARGE),
            ({"range": "bytes=5-2999998"}, 5, 2_999_999),
            ({"range": "bytes=5-14"}, 5, 15),
        ]:
            reply = await registry.ask("GET", path, **asked)
            assert reply.status == (206 if asked else 200)
            assert reply.body == blob.content[start:end]
            assert reply.headers["content-length"] == str(end - start)
            assert reply.headers["docker-content-digest"] == blob.digest
        before = registry.blobs.pieces
        reply = await registry.ask("HEAD", path)
        assert (reply.status, reply.headers["content-length"]) == (200, str(LARGE))
        assert registry.blobs.pieces == before, "nothing is read for it"
        await eventually(lambda: not registry.blobs.readers)


@pytest.mark.slow
async def test_stream_waits_for_a_client_that_reads_slowly(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory stays as it is, others are served, and a client that leaves is noticed."""
    blob = factories.blob(64 * MEGABYTE)
    async with served(tmp_path, monkeypatch, "stream") as registry:
        path = await registry.push(blob)
        with socket.create_connection(registry.address) as slow:
            slow.sendall(f"GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n".encode())
            await eventually(lambda: registry.blobs.pieces)
            other = await registry.ask("GET", path, range=f"bytes=0-{8 * MEGABYTE - 1}")
            assert other.body == blob.content[: 8 * MEGABYTE]
            assert registry.blobs.readers == 1
            assert registry.blobs.pieces < 8 + 32
        await eventually(lambda: not registry.blobs.readers)


async def test_stream_whose_store_fails_is_cut_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob, other = factories.blob(8 * MEGABYTE), factories.blob(LARGE)
    async with served(tmp_path, monkeypatch, "stream") as registry:
        path, whole = await registry.push(blob), await registry.push(other)
        registry.blobs.breaks = 2
        with pytest.raises(Exception, match="IncompleteRead"):
            await registry.ask("GET", path)
        registry.blobs.breaks = None
        assert (await registry.ask("GET", whole)).body == other.content


async def test_client_is_sent_to_where_a_blob_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blob = factories.blob(LARGE)
    async with served(tmp_path, monkeypatch, "redirect") as registry:
        path = await registry.push(blob)
        for asked in ({}, {"range": "bytes=5-14"}):
            reply = await registry.ask("GET", path, **asked)
            assert (reply.status, reply.body) == (307, b"")
            assert reply.headers["location"].startswith(
                f"https://blobs.example/{BlobLocation.former(digest(blob.digest))}"
            )
        reply = await registry.ask("HEAD", path)
        assert (reply.status, reply.headers["content-length"]) == (200, str(LARGE))
        assert registry.blobs.pieces == 0
