"""Login attempts: which source each counts for, and whether it has a place among credentials that are known."""

from __future__ import annotations

import hashlib
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.lib.caches import TtlCache
from trow.lib.shares import Shares

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from trow.lib.shares import Bounds

_REMEMBERED_SECONDS: Final = 7 * 86400.0
_MOST_REMEMBERED: Final = 10_000


@dataclass(frozen=True, slots=True)
class Attempt:
    """An attempt to log in with a credential.

    Attributes:
        source: where it comes from, as ``source_of`` says it.
        known: whether this very credential was good before.
    """

    source: str
    known: bool = False


STRANGER: Final = Attempt("")


class AttemptShares:
    """Places for checks of credentials. Those that were good before do not wait behind those that never were.

    Args:
        strangers: the places of credentials that were never good here.
        known: the places of those that were.
        what: what the places are for, as a refusal names it.
    """

    def __init__(self, strangers: Bounds, known: Bounds, what: str) -> None:
        self._strangers = Shares(strangers, what)
        self._known = Shares(known, what)

    def hold(self, attempt: Attempt) -> AbstractAsyncContextManager[None]:
        """Hold a place; raises like `Shares.hold`."""
        return (self._known if attempt.known else self._strangers).hold(attempt.source)


class CredentialHash:
    """Hashes a user and a secret with a key that only this process has."""

    def __init__(self) -> None:
        self._key = secrets.token_bytes(32)

    def __call__(self, user: str, secret: str) -> bytes:
        name = user.encode("utf-8", "surrogatepass")
        # The length keeps "a:b" with "c" apart from "a" with "b:c".
        content = b"%d:%b%b" % (len(name), name, secret.encode("utf-8", "surrogatepass"))
        return hashlib.blake2b(content, key=self._key).digest()


class KnownCredentials:
    """Credentials that were good here in the last days, known by their hash.

    It opens nothing: a credential that is remembered is verified like any other, but without waiting behind others.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hash = CredentialHash()
        self._remembered: TtlCache[bytes, bool] = TtlCache(_MOST_REMEMBERED)

    def includes(self, user: str, secret: str) -> bool:
        """Whether the credential was good before."""
        return self._remembered.get(self._hash(user, secret), self._clock()) is not None

    def add(self, user: str, secret: str) -> None:
        """Remember a credential that was good."""
        now = self._clock()
        self._remembered.put(self._hash(user, secret), True, now, now + _REMEMBERED_SECONDS)

    def discard(self, user: str, secret: str) -> None:
        """Forget a credential that is no longer good."""
        self._remembered.pop(self._hash(user, secret))
