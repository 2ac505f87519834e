"""How long to wait before something that has failed is tried again."""

from __future__ import annotations

import random


class Backoff:
    """Pauses between attempts: each is about twice as long as the one before, up to a limit.

    A pause is anything from half of that to all of it, so that replicas that fail together do not all come back at the
    same moment.

    Args:
        first: seconds of the first pause, at most.
        longest: seconds of any pause, at most.

    Attributes:
        failures: how many attempts have failed since the last one that succeeded.
        pause: seconds to wait before the next attempt; 0.0 after one that succeeded.
    """

    def __init__(self, first: float, longest: float) -> None:
        self.failures = 0
        self.pause = 0.0
        self._first = first
        self._longest = longest

    def fail(self) -> float:
        """Count a failed attempt; returns the seconds to wait before the next one."""
        most = min(self._longest, self._first * 2.0 ** min(self.failures, 30))
        self.failures += 1
        self.pause = random.uniform(most / 2, most)  # noqa: S311 - no secret
        return self.pause

    def succeed(self) -> None:
        """Start again with the first pause, after a success."""
        self.failures, self.pause = 0, 0.0
