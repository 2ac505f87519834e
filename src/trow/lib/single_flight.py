"""One question for all who ask the same at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

_Value = TypeVar("_Value")


class SingleFlight(Generic[_Value]):
    """Whoever asks what is being asked already waits for the same answer."""

    def __init__(self) -> None:
        self._under_way: dict[bytes, asyncio.Task[_Value]] = {}

    async def share(self, key: bytes, ask: Callable[[], Coroutine[Any, Any, _Value]]) -> _Value:
        """The answer of ``ask``, or of the one under way. It goes on when a client that waits for it vanishes."""
        task = self._under_way.get(key)
        if task is None:
            task = self._under_way[key] = asyncio.create_task(ask())

            def landed(done: asyncio.Task[_Value]) -> None:
                del self._under_way[key]
                if not done.cancelled():
                    done.exception()  # nobody may have waited for it, and asyncio would complain

            task.add_done_callback(landed)
        return await asyncio.shield(task)
