"""Failures that last, such as a server that is down: logged when they begin and when they end, not each time."""

from __future__ import annotations

import logging
import math
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

# Reasons can differ each time, as where they name what was tried.
SECONDS_BETWEEN_REASONS: Final = 60.0


class FailureLog:
    """Logs that something fails, and that it works again.

    Args:
        log: whose lines they are.
        fails: what is logged, before the reason: at the first failure, and when the reason is another one, which is
            said once in a minute at most.
        works: what is logged when it works again.
        level: of the first; the second is information.

    Attributes:
        reason: why it fails; "" while it works.
    """

    def __init__(
        self,
        log: logging.Logger,
        fails: str,
        works: str,
        *,
        level: int = logging.WARNING,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.reason = ""
        self._log = log
        self._fails = fails
        self._works = works
        self._level = level
        self._clock = clock
        self._logged_at = -math.inf

    def fail(self, reason: object, cause: BaseException | None = None) -> None:
        """Report a failure; ``cause`` is an unexpected error, whose traceback is logged."""
        before, self.reason = self.reason, str(reason) or type(reason).__name__
        now = self._clock()
        if not before or (self.reason != before and now >= self._logged_at + SECONDS_BETWEEN_REASONS):
            self._logged_at = now
            self._log.log(self._level, "%s: %s", self._fails, self.reason, exc_info=cause)

    def succeed(self) -> None:
        """Report a success."""
        if self.reason:
            self._log.info(self._works)
        self.reason = ""
