"""Failed logins make the next ones wait, so that passwords cannot be guessed in bulk."""

from __future__ import annotations

import hashlib
import math
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.identity.htpasswd import LONGEST_NAME
from trow.lib.caches import LruCache
from trow.lib.source import source_of
from trow.oci.errors import TooManyRequests

if TYPE_CHECKING:
    from collections.abc import Callable

_WINDOW: Final = 15 * 60.0
_LONGEST_WAIT: Final = 300
_FREE: Final = 5
# How many sources and users are remembered; the one that was idle longest is forgotten first.
_MOST: Final = 10_000


class Throttle:
    """Counts failures by source and user.

    A window of 15 minutes opens with the first failure. From the fifth of a user from one source on, each has to be
    followed by a pause: 1, 2, 4, … seconds, and at most 300. The same wrong secret again is not another guess: a
    kubelet with an old pull secret keeps sending it.

    A source as a whole never has to wait: behind one address may be a cluster (decision 0018). How many users can be
    tried from there is bounded by its share of the places where passwords are checked.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._counts: LruCache[tuple[str, str], _Count] = LruCache(_MOST)
        self._key = secrets.token_bytes(32)

    def check(self, source: str, user: str) -> None:
        """Call before an attempt.

        Raises:
            TooManyRequests: it has to wait.
        """
        count = self._counts.get(_key(source, user))
        wait = count.free_at - self._clock() if count is not None else 0.0
        if wait > 0:
            seconds = math.ceil(wait)
            raise TooManyRequests(
                f"too many failed logins of this user from here; wait for {seconds} s", retry_after=seconds
            )

    def failed(self, source: str, user: str, secret: str) -> None:
        """Call after a wrong attempt."""
        key, now = _key(source, user), self._clock()
        guess = hashlib.blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest()
        count = self._counts.get(key)
        if count is None or now - count.since >= _WINDOW:
            count = _Count(now)
        count.add(guess, now)
        self._counts.put(key, count)

    def succeeded(self, source: str, user: str) -> None:
        """Call after a right one."""
        self._counts.pop(_key(source, user))


@dataclass(slots=True)
class _Count:
    since: float
    failures: int = 0
    free_at: float = -math.inf
    last: bytes = b""

    def add(self, guess: bytes, now: float) -> None:
        if guess == self.last:
            return
        self.last = guess
        self.failures += 1
        if self.failures >= _FREE:
            self.free_at = now + min(_LONGEST_WAIT, 2 ** min(self.failures - _FREE, 9))


def _key(source: str, user: str) -> tuple[str, str]:
    return source_of(source), user[:LONGEST_NAME]
