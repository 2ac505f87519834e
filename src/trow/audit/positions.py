"""How far each sink has come; told by the sinks, kept in the trail's database by its writer."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Positions:
    """The last record that each sink has had. For any thread."""

    def __init__(self, stored: Mapping[str, int]) -> None:
        self._lock = threading.Lock()
        self._current = dict(stored)
        self._changed: set[str] = set()

    def get(self, sink: str) -> int | None:
        """None when the sink has never had one."""
        with self._lock:
            return self._current.get(sink)

    def move(self, sink: str, sequence: int) -> None:
        """Never moves back."""
        with self._lock:
            if sequence > self._current.get(sink, -1):
                self._current[sink] = sequence
                self._changed.add(sink)

    def take(self) -> dict[str, int]:
        """What has changed since the last call."""
        with self._lock:
            changed = {sink: self._current[sink] for sink in self._changed}
            self._changed.clear()
            return changed
