"""The embedded default: nobody has a name, or one user has, with HTTP Basic credentials (RFC 7617)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
from typing import TYPE_CHECKING, Final, Literal

from trow.oci.errors import Unauthorized
from trow.registry.ports import ANONYMOUS, Identity, Permission

if TYPE_CHECKING:
    from trow.oci.names import Repository

# Longer credentials are refused before they are looked at (CVE-2025-30204).
_LONGEST: Final = 4096
_READING: Final = frozenset({Permission.PING, Permission.PULL, Permission.CATALOG})


class NoAuthenticator:
    """Everybody is anonymous; credentials cannot be checked and are ignored."""

    challenge = ""

    async def identify(self, authorization: str | None) -> Identity:
        """See `Authenticator.identify`."""
        del authorization
        return ANONYMOUS


class SingleUser:
    """One user with one password."""

    challenge = 'Basic realm="Trow", charset="UTF-8"'

    def __init__(self, user: str, password: str) -> None:
        self._identity = Identity(user)
        # Keyed hashes of equal length make the comparison's time independent of the credentials' content and length.
        self._key = secrets.token_bytes(32)
        self._expected = self._hash(f"{user}:{password}".encode())

    async def identify(self, authorization: str | None) -> Identity:
        """See `Authenticator.identify`."""
        credentials = b":" if authorization is None else _basic(authorization)
        # Some clients send empty credentials when they have none.
        if credentials == b":":
            return ANONYMOUS
        if hmac.compare_digest(self._hash(credentials), self._expected):
            return self._identity
        raise Unauthorized("the user name or the password is wrong")

    def _hash(self, credentials: bytes) -> bytes:
        return hashlib.blake2b(credentials, key=self._key).digest()


def _basic(authorization: str) -> bytes:
    scheme, _, encoded = authorization.partition(" ")
    if len(authorization) > _LONGEST or scheme.lower() != "basic":
        raise Unauthorized("the Authorization header is not HTTP Basic")
    try:
        return base64.b64decode(encoded.strip(), validate=True)
    except (binascii.Error, ValueError):
        raise Unauthorized("the Authorization header is not valid base64") from None


class SingleAuthorizer:
    """The user may do everything; the anonymous what the configuration grants them."""

    def __init__(self, anonymous: Literal["none", "pull", "all"], *, has_user: bool) -> None:
        self._granted: frozenset[Permission] = {
            "none": frozenset[Permission](),
            "pull": _READING,
            "all": frozenset(Permission),
        }[anonymous]
        if has_user:
            # A client learns on the ping that it can log in; one that may only pull never needs the ping.
            self._granted -= {Permission.PING}

    async def allows(self, identity: Identity, permission: Permission, repository: Repository) -> bool:
        """See `Authorizer.allows`."""
        del repository
        return not identity.anonymous or permission in self._granted
