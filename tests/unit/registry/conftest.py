"""The use cases over a database in a file, and over each kind of blob store that needs no server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.core import pushing
from support.memory import MemoryBlobs
from support.metadata import EmbeddedMetadata
from trow.registry.pull import Pull
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.fixtures import LocalBlobs
    from trow.registry.push import Push


@pytest.fixture
def metadata(tmp_path: Path) -> Iterator[EmbeddedMetadata]:
    database = EmbeddedMetadata(tmp_path / "trow.db")
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
def push(blobs: LocalBlobs, metadata: EmbeddedMetadata) -> Push:
    return pushing(blobs, metadata)


@pytest.fixture
def pull(blobs: LocalBlobs, metadata: EmbeddedMetadata) -> Pull:
    return Pull(blobs, metadata)
