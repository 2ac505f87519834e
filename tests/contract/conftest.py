"""Every store that there is. A new adapter is added here, and passes all tests of its port or is wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeAlias

import pytest

from support.clock import Clock
from support.memory import MemoryBlobs
from support.metadata import EmbeddedMetadata
from trow.access.ports import RobotTokens
from trow.admission.ports import Pins
from trow.registry.ports import Blobs, Metadata
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Database(Metadata, RobotTokens, Pins, Protocol):
    """Metadata that can be closed, with the credentials of programs and the digests of owners beside it."""

    async def drop_old_pins(self, before: float, most: int) -> None: ...

    def close(self) -> None: ...


Open: TypeAlias = "Callable[[], Database]"


@pytest.fixture(params=["memory", "filesystem"])
def blobs(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Blobs]:
    if request.param == "memory":
        yield MemoryBlobs()
    else:
        store = FilesystemBlobs(tmp_path)
        store.prepare()
        yield store
        store.close()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["sqlite"])
def reopen(request: pytest.FixtureRequest, tmp_path: Path, clock: Clock) -> Iterator[Open]:
    """Opens the same database, again and again; what was open before is closed."""
    opened: list[Database] = []

    def close() -> None:
        while opened:
            opened.pop().close()

    def open_again() -> Database:
        close()
        opened.append({"sqlite": lambda: EmbeddedMetadata(tmp_path / "trow.db", clock)}[request.param]())
        return opened[-1]

    yield open_again
    close()


@pytest.fixture
def metadata(reopen: Open) -> Database:
    return reopen()
