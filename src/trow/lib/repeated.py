"""Log lines that clients can cause again and again: the first is logged at once, equal ones are counted a while."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_Key = TypeVar("_Key", bound="Hashable")

REPEATED_SECONDS: Final = 60.0
MOST_COUNTED: Final = 100


class Repeated(Generic[_Key]):
    """Reports events, and of equal ones once a minute how many there were. It belongs to one event loop.

    Args:
        tell: says what happened, and how often; None is anything else, where different ones are too many.
        most: how many different ones are counted at a time.
    """

    def __init__(
        self, tell: Callable[[_Key | None, int], None], *, most: int = MOST_COUNTED, seconds: float = REPEATED_SECONDS
    ) -> None:
        self._tell = tell
        self._most = most
        self._seconds = seconds
        self._counts: dict[_Key | None, int] = {}

    def note(self, key: _Key) -> None:
        """Report an event, or count it."""
        known: _Key | None = key if key in self._counts or len(self._counts) < self._most else None
        if known in self._counts:
            self._counts[known] += 1
            return
        self._counts[known] = 0
        self._tell(known, 1)
        asyncio.get_running_loop().call_later(self._seconds, self._settle, known)

    def _settle(self, key: _Key | None) -> None:
        if count := self._counts.pop(key, 0):
            self._tell(key, count)

    def settle(self) -> None:
        """Report all that was counted; call it last."""
        for key in list(self._counts):
            self._settle(key)
