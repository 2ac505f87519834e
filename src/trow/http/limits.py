"""How often one client may ask."""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Final

from trow.lib.caches import LruCache
from trow.lib.source import source_of
from trow.oci.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable

# Clients that are remembered; who was silent for longest is forgotten first, and then has a full bucket again.
_MOST_CLIENTS: Final = 10_000


class RateLimit:
    """A token bucket for each source of requests.

    Args:
        per_second: how many requests a client may send on average.
        burst: how many it may send at once after a pause.
    """

    def __init__(self, per_second: int, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._per_second = per_second
        self._burst = float(max(burst, 1))
        self._clock = clock
        self._buckets: LruCache[str, tuple[float, float]] = LruCache(_MOST_CLIENTS)

    def take(self, client: str) -> None:
        """Count a request.

        Raises:
            TooManyRequests: the client is over its rate.
        """
        client = source_of(client)
        now = self._clock()
        tokens, then = self._buckets.get(client) or (self._burst, now)
        tokens = min(self._burst, tokens + (now - then) * self._per_second)
        if tokens < 1:
            self._buckets.put(client, (tokens, now))
            wait = max(1, math.ceil((1 - tokens) / self._per_second))
            what = f"more than {self._per_second} requests a second (limits.requests_per_second)"
            raise TooManyRequests(f"{what}; wait for {wait} s", retry_after=wait)
        self._buckets.put(client, (tokens - 1, now))
