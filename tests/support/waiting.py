"""Until other threads, processes and controllers have done what a test looks for."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

Found = TypeVar("Found")
PATIENCE_SECONDS: Final = 30.0
# The API server's own view of tokens, kinds, policies and roles follows a change, and a refusal holds for 5 s.
SETTLE_SECONDS: Final = 25.0
_PAUSE_SECONDS: Final = 0.02
_SHORT_PAUSE_SECONDS: Final = 0.005
_LONG_PAUSE_SECONDS: Final = 0.1


def until(look: Callable[[], Found], seconds: float = PATIENCE_SECONDS) -> Found:
    """What is found, once something is; the test fails if nothing ever is."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"nothing was found within {seconds:g} s"
        threading.Event().wait(_PAUSE_SECONDS)
    return found


async def eventually(look: Callable[[], object], seconds: float = PATIENCE_SECONDS) -> None:
    """The same, while the event loop goes on."""
    async with asyncio.timeout(seconds):
        while not look():  # noqa: ASYNC110 - other threads and processes tell of nothing
            await asyncio.sleep(_SHORT_PAUSE_SECONDS)


def settles(condition: Callable[[], bool], seconds: float = SETTLE_SECONDS) -> bool:
    """Whether a condition comes true in time; looking is a request or a process."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        threading.Event().wait(_LONG_PAUSE_SECONDS)
    return True
