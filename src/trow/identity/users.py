"""Users with passwords: one from the configuration, many from a file."""

from __future__ import annotations

import asyncio
import hmac
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from trow.access.identity import Identity, Method
from trow.identity import htpasswd
from trow.identity.attempts import STRANGER, AttemptShares, CredentialHash
from trow.lib.caches import TtlCache
from trow.lib.file_watch import FileWatcher
from trow.lib.files import read_bounded
from trow.lib.shares import Bounds
from trow.lib.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from trow.identity.attempts import Attempt
    from trow.identity.htpasswd import PasswordUser

# Hashes are slow on purpose: more at once would take the processor from everybody else. Two places are for those whose
# password was never right here, and two for those whose was: strangers cannot keep them waiting.
_STRANGERS: Final = Bounds(total=2, each=2, waiting=1024, waiting_each=128, patience=15.0)
_KNOWN: Final = Bounds(total=2, each=2, waiting=1024, waiting_each=256, patience=15.0)
_REMEMBERED_FOR: Final = 300.0
_MOST_REMEMBERED: Final = 10_000


class Passwords(Protocol):
    """Verifies passwords."""

    async def verify(self, user: str, secret: str, attempt: Attempt = STRANGER) -> Identity | None:
        """The user, None where the name or the password is wrong.

        Raises:
            TooManyRequests, Unavailable: it cannot be decided now.
        """

    def find(self, user: str) -> Identity | None:
        """Who that would be with the right password; None where there is no such user."""


class SingleUser:
    """One user with one password.

    Raises:
        ValueError: nobody may have this name.
    """

    def __init__(self, user: str, password: str) -> None:
        self._identity = Identity(htpasswd.check_name(user), Method.PASSWORD)
        # Keyed hashes of equal length make the comparison's time independent of the credentials' content and length.
        self._hash = CredentialHash()
        self._expected = self._hash(user, password)

    async def verify(self, user: str, secret: str, attempt: Attempt = STRANGER) -> Identity | None:
        del attempt  # this costs nothing
        return self._identity if hmac.compare_digest(self._hash(user, secret), self._expected) else None

    def find(self, user: str) -> Identity | None:
        return self._identity if user == self._identity.name else None


class AnyPasswords:
    """Several sources, asked in turn."""

    def __init__(self, *sources: Passwords) -> None:
        self._sources = sources

    async def verify(self, user: str, secret: str, attempt: Attempt = STRANGER) -> Identity | None:
        for source in self._sources:
            if (identity := await source.verify(user, secret, attempt)) is not None:
                return identity
        return None

    def find(self, user: str) -> Identity | None:
        return next((found for source in self._sources if (found := source.find(user)) is not None), None)


class UsersFile:
    """The users of a file, which is read again when `look` finds that it has changed.

    Raises:
        BrokenFile: the file cannot be used at the start.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._hash = CredentialHash()
        self._file = FileWatcher(lambda: [path], _read)
        self._places = AttemptShares(_STRANGERS, _KNOWN, "password checks")
        self._comparisons: SingleFlight[bool] = SingleFlight()

    def look(self) -> None:
        """Take over what has changed; call it every second, beside the event loop."""
        self._file.look()

    async def verify(self, user: str, secret: str, attempt: Attempt = STRANGER) -> Identity | None:
        """A right password is remembered for minutes, and not beyond a change of the file."""
        loaded = self._file.get()
        if not loaded.users:
            return None
        key = self._hash(user, secret)
        known = loaded.verified.get(key, self._clock())
        if known is not None:
            return known
        if loaded.refused.get(key, self._clock()):
            return None
        found = loaded.users.get(user)
        # An unknown user costs what a known one does, and the same one always the same: no name can be told by time.
        compared = found or loaded.listed[int.from_bytes(self._hash(user, "")[:8], "big") % len(loaded.listed)]

        async def compare() -> bool:
            async with self._places.hold(attempt):
                return await asyncio.to_thread(htpasswd.verify_password, compared.hash, secret)

        # A client's parallel requests with the same password are one comparison. A hash may change in between.
        right = await self._comparisons.share(key + compared.hash.encode(), compare)
        if found is None or not right:
            loaded.refused.put(key, True, self._clock(), self._clock() + _REMEMBERED_FOR)
            return None
        identity = _identity(found)
        now = self._clock()
        loaded.verified.put(key, identity, now, now + _REMEMBERED_FOR)
        return identity

    def find(self, user: str) -> Identity | None:
        found = self._file.get().users.get(user)
        return None if found is None else _identity(found)


def _identity(user: PasswordUser) -> Identity:
    return Identity(user.name, Method.PASSWORD, groups=user.groups)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """A version of the file, and who has shown a password of it."""

    users: Mapping[str, PasswordUser]
    listed: Sequence[PasswordUser]
    verified: TtlCache[bytes, Identity] = field(default_factory=lambda: TtlCache(_MOST_REMEMBERED))
    # The same wrong password again costs nothing, however often a client repeats it.
    refused: TtlCache[bytes, bool] = field(default_factory=lambda: TtlCache(_MOST_REMEMBERED))


def _read(paths: Sequence[Path]) -> _Loaded:
    (path,) = paths
    users = htpasswd.parse(read_bounded(path, htpasswd.LONGEST_USERS_FILE), str(path))
    return _Loaded(users, list(users.values()))
