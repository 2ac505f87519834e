"""How far each sink has come; told by the sinks, kept in the trail's database by its writer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Mapping

    Place: TypeAlias = tuple[str, str]


class Positions:
    """The last record of each writer that each sink has had. For any thread."""

    def __init__(self, stored: Mapping[Place, int]) -> None:
        self._lock = threading.Lock()
        self._current = dict(stored)
        self._changed: set[Place] = set()

    def get(self, sink: str, writer: str) -> int | None:
        """None when the sink has never had one."""
        with self._lock:
            return self._current.get((sink, writer))

    def move(self, sink: str, writer: str, sequence: int) -> None:
        """Never moves back."""
        place = sink, writer
        with self._lock:
            if sequence > self._current.get(place, -1):
                self._current[place] = sequence
                self._changed.add(place)

    def take(self) -> dict[Place, int]:
        """What has changed since the last call."""
        with self._lock:
            changed = {place: self._current[place] for place in self._changed}
            self._changed.clear()
            return changed
