"""Caches of answers that many requests need.

Both caches have a bound: beyond it, what was used least lately goes. They are asked for each request, and answer in a
fraction of a microsecond.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

_Key = TypeVar("_Key", bound="Hashable")
_Value = TypeVar("_Value")


class LruCache(Generic[_Key, _Value]):
    """At most ``most`` values; the least recently used one goes first."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[_Key, _Value] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: _Key) -> _Value | None:
        """The value, None where there is none."""
        value = self._entries.get(key)
        if value is not None:
            self._entries.move_to_end(key)
        return value

    def put(self, key: _Key, value: _Value) -> None:
        """Remember a value, which is not None."""
        self._entries[key] = value
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def pop(self, key: _Key) -> _Value | None:
        """Forget a value, and return it; None where there was none."""
        return self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()


class TtlCache(Generic[_Key, _Value]):
    """Values that are good until a time of their own, ``most`` of them."""

    def __init__(self, most: int) -> None:
        self._entries: LruCache[_Key, tuple[_Value, float, float]] = LruCache(most)

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: _Key, now: float) -> _Value | None:
        """The value; None where there is none, or it has expired."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, since, until = entry
        # The lower bound is for clocks that are set back: no value may live longer than it was given.
        if since <= now < until:
            return value
        self._entries.pop(key)
        return None

    def put(self, key: _Key, value: _Value, now: float, until: float) -> None:
        """Remember the value from now until that time."""
        if now < until:
            self._entries.put(key, (value, now, until))

    def pop(self, key: _Key) -> None:
        """Forget one."""
        self._entries.pop(key)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
