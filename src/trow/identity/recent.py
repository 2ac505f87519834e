"""What was found out lately, so that it need not be found out again for every request."""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

Key = TypeVar("Key", bound="Hashable")
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """Values that are good until a time of their own; beyond ``most``, the one that was used least lately goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._entries: OrderedDict[Key, tuple[Value, float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Value | None:
        """The value, None where there is none or it has had its time."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        value, since, until = entry
        # The lower bound is for clocks that are set back: nothing shall hold for longer than it was given.
        if not since <= now < until:
            del self._entries[key]
            return None
        self._entries.move_to_end(key)
        return value

    def put(self, key: Key, value: Value, now: float, until: float) -> None:
        """Remember the value from now until that time."""
        if until <= now:
            return
        self._entries[key] = (value, now, until)
        self._entries.move_to_end(key)
        if len(self._entries) > self._most:
            self._entries.popitem(last=False)

    def discard(self, key: Key) -> None:
        """Forget one."""
        self._entries.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
