"""Every store that there is. A new adapter is added here, and passes all tests of its port or is wrong."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

import pytest

from support.clock import Clock
from support.memory import MemoryBlobs, MemoryMetadata, Rows
from support.metadata import EmbeddedMetadata
from support.postgres import PostgresMetadata, PostgresServer
from support.s3 import S3Server, s3_blobs
from trow.sql.postgres import PostgresSettings
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fixtures import Database, Open
    from trow.registry.ports import Blobs


@pytest.fixture(scope="session")
def versitygw() -> Iterator[S3Server]:
    with S3Server.start("versitygw") as server:
        yield server


@pytest.fixture(scope="session")
def minio() -> Iterator[S3Server]:
    with S3Server.start("minio") as server:
        yield server


# Servers of others, which a test for every edit does not wait for.
IN_BUCKETS: Final = [pytest.param(name, marks=pytest.mark.slow) for name in ("versitygw", "minio")]


@pytest.fixture(params=["bytes", "stream", "redirect", "filesystem", *IN_BUCKETS])
def blobs(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Blobs]:
    if request.param in {"versitygw", "minio"}:
        server: S3Server = request.getfixturevalue(request.param)
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        in_bucket, spool = s3_blobs(server, tmp_path)
        with contextlib.closing(spool):
            yield in_bucket
    elif request.param != "filesystem":
        yield MemoryBlobs(form=request.param)
    else:
        store = FilesystemBlobs(tmp_path)
        store.prepare()
        yield store
        store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer.start() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgres", "memory"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Open]:
    """Opens the same database, again and again; what was open before is closed."""
    rows = Rows()
    opened: list[Database] = []
    stack = contextlib.ExitStack()
    if request.param == "postgres":
        settings = PostgresSettings(stack.enter_context(request.getfixturevalue("postgres").database()))

    def close() -> None:
        while opened:
            opened.pop().close()

    def open_again(history: int = 10) -> Database:
        close()
        if request.param == "sqlite":
            opened.append(EmbeddedMetadata(tmp_path / "trow.db", clock, history=history))
        elif request.param == "postgres":
            opened.append(PostgresMetadata(settings, clock, history=history))
        else:
            opened.append(MemoryMetadata(rows, clock, history=history))
        return opened[-1]

    with stack:
        yield open_again
        close()


@pytest.fixture
def metadata(reopen: Open) -> Database:
    return reopen()
