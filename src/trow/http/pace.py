"""How slowly a body may arrive."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """The least rate of a body.

    Attributes:
        seconds: how long a body is waited for that has nothing to its credit.
        rate: this many bytes buy one more second; 0 lets any byte buy all of ``seconds``.
    """

    seconds: float
    rate: int = 0


class Patience:
    """How long one body may still be waited for.

    Each byte buys time, of which no more than the pace's ``seconds`` are kept. So a body may pause, and may be slow for
    as long as it likes when it comes at the least rate on the whole; one that comes a byte now and then ends. Only
    waiting counts: while the registry itself is busy a client owes nothing.
    """

    __slots__ = ("_pace", "left")

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self.left = pace.seconds

    def note(self, waited: float, received: int) -> None:
        """Count what a piece of the body took in seconds, and what it brought in bytes."""
        bought = received / self._pace.rate if self._pace.rate and received else self._pace.seconds * bool(received)
        self.left = max(0.0, min(self._pace.seconds, self.left - waited + bought))

    def reset(self) -> None:
        """Start again: what was waited for has come."""
        self.left = self._pace.seconds
