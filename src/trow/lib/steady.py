"""The time of day, for what lives for so long and no longer, also when somebody sets the clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


def steady_clock(clock: Callable[[], float] = time.time) -> Callable[[], float]:
    """Seconds since 1970 as ``clock`` has them now, and as many more as go by from now on (clock_gettime(2))."""
    began = clock() - time.monotonic()
    return lambda: began + time.monotonic()
