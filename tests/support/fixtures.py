"""The types of fixtures that make or open something when a test asks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from support.admission import Gatekeeper
from support.memory import MemoryBlobs
from trow.access.ports import RobotTokens
from trow.admission.ports import Pins
from trow.registry.ports import Metadata, Outbox
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from support.gates import World

Write: TypeAlias = Callable[[str], Path]
Keep: TypeAlias = Callable[..., Gatekeeper]
LocalBlobs: TypeAlias = MemoryBlobs | FilesystemBlobs


class Make(Protocol):
    """Makes a world of the arguments of `World`."""

    def __call__(self, **settings: Any) -> World: ...


class Database(Metadata, RobotTokens, Outbox, Pins, Protocol):
    """Everything that is in one database, which can be closed."""

    def close(self) -> None: ...


class Open(Protocol):
    """Opens a database, whose tags keep this many lines of history."""

    def __call__(self, history: int = 10) -> Database: ...
