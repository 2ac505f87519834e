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

    from trow.access.ports import FailedLogins

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
        if count is not None:
            _require_past(count.free_at, self._clock())

    def failed(self, source: str, user: str, secret: str) -> bool:
        """Call after a wrong attempt. Returns whether it was another guess than the last one."""
        key, now = _key(source, user), self._clock()
        guess = hashlib.blake2b(secret.encode("utf-8", "surrogatepass"), digest_size=16, key=self._key).digest()
        count = self._counts.get(key)
        if count is None or now - count.since >= _WINDOW:
            count = _Count(now)
        another = count.add(guess, now)
        self._counts.put(key, count)
        return another

    def succeeded(self, source: str, user: str) -> None:
        """Call after a right one."""
        self._counts.pop(_key(source, user))


class SharedThrottle:
    """The same over all replicas, which count together; a `Throttle` knows which guesses are the same again.

    Args:
        failures: where they are counted.
        clock: seconds since 1970.
    """

    def __init__(self, failures: FailedLogins, clock: Callable[[], float] = time.time) -> None:
        self._failures = failures
        self._clock = clock

    async def check(self, source: str, user: str) -> None:
        """As `Throttle.check`. Raises Unavailable too."""
        found, now = await self._failures.failed_logins(*_key(source, user)), self._clock()
        if found is not None and 0 <= now - found.since < _WINDOW:
            _require_past(_free_at(found.failures, found.last_at), now)

    async def failed(self, source: str, user: str) -> None:
        """Call after a wrong attempt that was another guess. Raises Unavailable."""
        await self._failures.add_failed_login(*_key(source, user), self._clock(), _WINDOW)

    async def succeeded(self, source: str, user: str) -> None:
        """Call after a right one; it writes only where there were wrong ones. Raises Unavailable."""
        key = _key(source, user)
        if await self._failures.failed_logins(*key) is not None:
            await self._failures.forget_failed_logins(*key)

    async def drop_old(self) -> None:
        """Forget what is past; call it every minute. Raises Unavailable."""
        await self._failures.drop_failed_logins(self._clock() - _WINDOW, _MOST)


def _require_past(free_at: float, now: float) -> None:
    if free_at > now:
        seconds = math.ceil(free_at - now)
        raise TooManyRequests(
            f"too many failed logins of this user from here; wait for {seconds} s", retry_after=seconds
        )


def _free_at(failures: int, last_at: float) -> float:
    """When the next attempt may come after this many failures."""
    if failures < _FREE:
        return -math.inf
    return last_at + float(min(_LONGEST_WAIT, 2 ** min(failures - _FREE, 9)))


@dataclass(slots=True)
class _Count:
    since: float
    failures: int = 0
    free_at: float = -math.inf
    last: bytes = b""

    def add(self, guess: bytes, now: float) -> bool:
        if guess == self.last:
            return False
        self.last = guess
        self.failures += 1
        self.free_at = _free_at(self.failures, now)
        return True


def _key(source: str, user: str) -> tuple[str, str]:
    return source_of(source), user[:LONGEST_NAME]
