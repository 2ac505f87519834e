"""The time of day, for what lives for so long and no longer, also when somebody sets the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def steady_clock() -> Callable[[], float]:
    """Seconds since 1970 as they were when this was called, and as many more as have gone by since (clock(7))."""
    began = time.time() - time.monotonic()
    return lambda: began + time.monotonic()
