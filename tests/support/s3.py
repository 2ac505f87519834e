"""Servers of the S3 protocol on loopback, and blobs in a bucket of one."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import tempfile
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, Self

from aiobotocore.session import get_session

from support.loop import at_end
from support.waiting import until
from tools.find import tool
from trow.storage.bucket import Bucket, BucketSettings
from trow.storage.filesystem import FilesystemBlobs
from trow.storage.s3 import S3Blobs

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Iterator

    from trow.registry.location import BlobLocation

START_SECONDS: Final = 60
BUCKET: Final = "trow"
KEY, SECRET = "testtesttest", "testsecrettestsecret"
Kind = Literal["versitygw", "minio"]


class S3Server:
    """A server with one bucket, in which each test has a prefix of its own."""

    def __init__(self, kind: Kind, folder: Path) -> None:
        self._kind = kind
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self._numbers = count(1)
        with socket.create_server(("127.0.0.1", 0)) as free, socket.create_server(("127.0.0.1", 0)) as other:
            self._address = f"127.0.0.1:{free.getsockname()[1]}"
            self._console = f"127.0.0.1:{other.getsockname()[1]}"
        self.url = f"http://{self._address}"

    @classmethod
    @contextlib.contextmanager
    def start(cls, kind: Kind) -> Iterator[Self]:
        folder = Path(tempfile.mkdtemp(prefix=f"trow-{kind}-"))
        server = cls(kind, folder)
        try:
            server.up()
            asyncio.run(server.make_bucket())
            yield server
        finally:
            server.down()
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def environment(self) -> dict[str, str]:
        """What a program needs to be let in."""
        return {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET, "AWS_EC2_METADATA_DISABLED": "true"}

    def up(self) -> None:
        """Start it, at the same port as before."""
        data = self._folder / "data"
        data.mkdir(exist_ok=True)
        if self._kind == "minio":
            argv = ["server", "--quiet", "--address", self._address, "--console-address", self._console, str(data)]
        else:
            argv = ["--quiet", "--port", self._address, "posix", str(data)]
        given = {
            "MINIO_ROOT_USER": KEY,
            "MINIO_ROOT_PASSWORD": SECRET,
            "ROOT_ACCESS_KEY": KEY,
            "ROOT_SECRET_KEY": SECRET,
        }
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [str(tool(self._kind)), *argv],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=self._folder, env={**os.environ, **given},
            )  # fmt: skip
        until(self._ready, START_SECONDS)

    def _ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, (self._folder / "log").read_text()
        host, _, port = self._address.rpartition(":")
        with contextlib.suppress(OSError), socket.create_connection((host, int(port)), 1):
            return True
        return False

    def down(self) -> None:
        """End it at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_SECONDS)
            self._process = None

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """It answers nothing meanwhile."""
        assert self._process is not None
        self._process.send_signal(19)
        try:
            yield
        finally:
            self._process.send_signal(18)

    def client(self) -> Any:
        """What looks at the bucket around Trow, as a context."""
        return get_session().create_client(
            "s3", endpoint_url=self.url, region_name="us-east-1", aws_access_key_id=KEY, aws_secret_access_key=SECRET
        )

    async def make_bucket(self) -> None:
        async with self.client() as client:
            await client.create_bucket(Bucket=BUCKET)

    def settings(self, **more: Any) -> BucketSettings:
        """A place of its own in the bucket."""
        given = {"prefix": f"test{next(self._numbers)}/", "region": "us-east-1", "path_style": True, "timeout": 10.0}
        return BucketSettings(**{"name": BUCKET, "endpoint": self.url, **given, **more})


class LateBucket:
    """A bucket that is opened by the first who uses it: fixtures have no event loop."""

    def __init__(self, settings: BucketSettings) -> None:
        self._settings = settings
        self._bucket: Bucket | None = None
        self._opening = asyncio.Lock()

    async def opened(self) -> Bucket:
        async with self._opening:
            if self._bucket is None:
                opened = Bucket.opened(self._settings)
                self._bucket = await opened.__aenter__()
                at_end.append(lambda: opened.__aexit__(None, None, None))
        return self._bucket

    async def read(self, *arguments: Any) -> AsyncGenerator[bytes, None]:
        async with contextlib.aclosing((await self.opened()).read(*arguments)) as pieces:
            async for piece in pieces:
                yield piece

    def __getattr__(self, name: str) -> Any:
        async def call(*arguments: Any) -> Any:
            return await getattr(await self.opened(), name)(*arguments)

        return call


class Reservations:
    """What the metadata would say of locations: any may be had."""

    def __init__(self) -> None:
        self.reserved: list[BlobLocation] = []

    async def __call__(self, location: BlobLocation) -> bool:
        self.reserved.append(location)
        return True


def s3_blobs(server: S3Server, spool: Path, **more: Any) -> tuple[S3Blobs, FilesystemBlobs]:
    """Blobs in a place of their own, and their spool, which is to be closed."""
    files = FilesystemBlobs(spool)
    files.prepare()
    bucket: Any = LateBucket(server.settings())
    return S3Blobs(bucket, files, Reservations(), **more), files
