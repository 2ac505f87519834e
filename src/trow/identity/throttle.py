"""Failed logins make the next ones wait, so that passwords cannot be guessed in bulk."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from trow.lib.source import source_of
from trow.oci.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

_WINDOW: Final = 15 * 60.0
_LONGEST_WAIT: Final = 300
_FREE_PER_USER: Final = 5
_FREE_PER_SOURCE: Final = 50
# What is remembered; what was idle for longest is forgotten first.
_MOST: Final = 10_000
_LONGEST_NAME: Final = 128
Key = TypeVar("Key", bound="Hashable")


class Throttle:
    """Counts failures by source and user, and by source.

    A window of 15 minutes opens with the first failure. From the fifth of a user from one source, and the fiftieth
    from one source, each has to be followed by a pause: 1, 2, 4, … seconds, and at most 300. The same
    wrong secret again is no further guess: a kubelet with an old pull secret sends it for ever.

    Attempts that run at the same time may all pass before the first has failed. How many, the authenticators limit:
    few passwords are checked at a time.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._users: _Failures[tuple[str, str]] = _Failures(_FREE_PER_USER)
        self._sources: _Failures[str] = _Failures(_FREE_PER_SOURCE)
        self._key = secrets.token_bytes(32)

    def check(self, source: str, user: str) -> None:
        """Before an attempt; the user is "" where a token says who it is.

        Raises:
            TooManyRequests: it has to wait.
        """
        key = _key(source, user)
        free_at = max(self._users.free_at(key), self._sources.free_at(key[0]))
        wait = free_at - self._clock()
        if wait > 0:
            seconds = math.ceil(wait)
            raise TooManyRequests("too many failed logins; wait as Retry-After says", retry_after=seconds)

    def failed(self, source: str, user: str, secret: str) -> None:
        """After a wrong attempt."""
        key = _key(source, user)
        now = self._clock()
        # With the user: one password tried on many users is many guesses.
        text = f"{user}:{secret}".encode("utf-8", "surrogatepass")
        guess = hashlib.blake2b(text, digest_size=16, key=self._key).digest()
        if self._users.count(key, now, guess):
            self._sources.count(key[0], now, guess)

    def succeeded(self, source: str, user: str) -> None:
        """After a right one; the source's count stays, for whoever guesses may well have an account too."""
        self._users.forget(_key(source, user))


@dataclass(slots=True)
class _Count:
    since: float
    failures: int = 0
    free_at: float = 0.0
    last: bytes = b""


class _Failures(Generic[Key]):
    def __init__(self, free: int) -> None:
        self._free = free
        self._counts: OrderedDict[Key, _Count] = OrderedDict()

    def free_at(self, key: Key) -> float:
        count = self._counts.get(key)
        return count.free_at if count else -math.inf

    def count(self, key: Key, now: float, guess: bytes) -> bool:
        """Count a guess; False where it is the one from before."""
        count = self._counts.get(key)
        if count is not None and count.last == guess and now - count.since < _WINDOW:
            return False
        count = self._counts.pop(key, None)
        if count is None or now - count.since >= _WINDOW:
            count = _Count(now)
        count.failures += 1
        count.last = guess
        if count.failures >= self._free:
            count.free_at = now + min(_LONGEST_WAIT, 2 ** min(count.failures - self._free, 9))
        self._counts[key] = count
        if len(self._counts) > _MOST:
            self._counts.popitem(last=False)
        return True

    def forget(self, key: Key) -> None:
        self._counts.pop(key, None)


def _key(source: str, user: str) -> tuple[str, str]:
    return source_of(source), user[:_LONGEST_NAME]
