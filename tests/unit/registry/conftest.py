"""The use cases over a database in a file, and over each kind of blob store that needs no server."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import pytest

from trow.metadata.sqlite import SqliteMetadata
from trow.registry.pull import Pull
from trow.registry.push import Push
from trow.storage.filesystem import FilesystemBlobs
from trow.storage.memory import MemoryBlobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LocalBlobs: TypeAlias = MemoryBlobs | FilesystemBlobs


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[SqliteMetadata]:
    database = SqliteMetadata(tmp_path / "trow.db")
    yield database
    database.close()


@pytest.fixture(params=["memory", "filesystem"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[LocalBlobs]:
    if request.param == "memory":
        yield MemoryBlobs()
        return
    store = FilesystemBlobs(tmp_path)
    store.prepare()
    yield store
    store.close()


@pytest.fixture
def push(blobs: LocalBlobs, metadata: SqliteMetadata) -> Push:
    return Push(blobs, metadata, most_uploads=10, most_bytes=1_000_000, expiry=3600)


@pytest.fixture
def pull(blobs: LocalBlobs, metadata: SqliteMetadata) -> Pull:
    return Pull(blobs, metadata)
