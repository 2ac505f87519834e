"""Registry tokens: what the token service gives for credentials, so that one login serves a whole pull.

A token is a JWT (RFC 7519) signed with Ed25519. It carries its holder, so that the record of a pull can name the pod
and the node, and some of the holder's rights for some minutes (`Delegation`).
"""

from __future__ import annotations

import base64
import math
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias

import jwt
import msgspec

from trow.access.identity import Delegation, Grant, Identity, Method
from trow.access.permissions import Permission
from trow.access.ports import IssuedToken
from trow.identity.credentials import Stale
from trow.identity.jwts import LONGEST_TOKEN, is_jwt, issuer_of
from trow.identity.keys import LONGEST_TOKEN_LIFE
from trow.lib.caches import TtlCache
from trow.lib.globs import RepositoryGlob
from trow.oci.errors import Denied, NameInvalid, Unauthorized
from trow.oci.names import Repository

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.identity.keys import KeyRing, KeySet

ISSUER: Final = "trow"
Grants: TypeAlias = tuple[tuple[Repository, frozenset[Permission]], ...]

_ALGORITHM: Final = "EdDSA"
# Clocks of replicas differ a little; that a token has expired needs no patience.
_LEEWAY: Final = 30.0
# A larger one would not pass through the header limits of common proxies.
_LARGEST: Final = LONGEST_TOKEN // 2
_MOST_REMEMBERED: Final = 4096
_LONGEST_REMEMBERED: Final = 4096


class _Header(msgspec.Struct, forbid_unknown_fields=True):
    """Whatever else a header might say - jwk, jku, x5c, x5u, crit - makes the token invalid (CVE-2025-24976)."""

    alg: Literal["EdDSA"]
    kid: str
    typ: Literal["JWT"]


class _Access(msgspec.Struct, forbid_unknown_fields=True):
    type: Literal["repository", "registry"]
    name: str
    actions: list[str]


class _Holder(msgspec.Struct, forbid_unknown_fields=True, omit_defaults=True):
    method: str
    uid: str = ""
    groups: tuple[str, ...] = ()
    extra: tuple[tuple[str, tuple[str, ...]], ...] = ()
    credential: str = ""
    grants: tuple[tuple[str, tuple[str, ...]], ...] | None = None


class _Claims(msgspec.Struct, forbid_unknown_fields=True):
    """All of them are required. A claim that is not known here might be a limit, so it makes the token invalid."""

    iss: str
    aud: str
    sub: str
    iat: float
    nbf: float
    exp: float
    jti: str
    generation: int
    access: list[_Access]
    holder: _Holder


class UnknownKey(Unauthorized):
    """A token was signed with a key that is not here, or not yet."""


class RegistryTokens:
    """Issues registry tokens and verifies them.

    Args:
        keys: what they are signed with.
        service: this registry's name, which its replicas share; tokens for another name are refused.
        lifetime: how long a token is good for, in seconds.

    Raises:
        ValueError: the lifetime is too long.
    """

    def __init__(
        self, keys: KeyRing, service: str, lifetime: float = 300.0, clock: Callable[[], float] = time.time
    ) -> None:
        if not 0 < lifetime <= LONGEST_TOKEN_LIFE:
            raise ValueError(f"a token's lifetime is between 1 and {LONGEST_TOKEN_LIFE:.0f} seconds")
        self._keys = keys
        self._service = service
        self._lifetime = lifetime
        self._clock = clock
        self._jws = jwt.PyJWS(algorithms=[_ALGORITHM])
        self._verified: TtlCache[str, Identity] = TtlCache(_MOST_REMEMBERED)
        self._ring: KeySet | None = None

    def issue(
        self, identity: Identity, grants: Grants, lists: frozenset[str] = frozenset(), generation: int = 0
    ) -> IssuedToken:
        """A token with which these rights of the identity can be used; see `Tokens.issue`.

        Who comes with a token gets no more than it has, and no longer: the new one ends when the old one does.

        Raises:
            Denied: the holder has too many groups, claims or grants for a token.
            Stale: the token that the identity came with ends now.
        """
        now = self._clock()
        issued_at = now
        if (old := identity.delegation) is not None:
            issued_at = min(old.issued_at, now)
            generation = min(old.generation, generation)
            lists &= old.lists
            grants = tuple(
                (repository, frozenset(each for each in permissions if old.covers(each, repository)))
                for repository, permissions in grants
            )
        expires_at = issued_at + self._lifetime
        if expires_at <= now:
            raise Stale("the token has expired; log in again")
        claims = _Claims(
            iss=ISSUER,
            aud=self._service,
            sub=identity.name,
            iat=issued_at,
            nbf=issued_at,
            exp=expires_at,
            jti=secrets.token_hex(16),
            generation=generation,
            # The claim as docker's token specification has it.
            access=[_Access("repository", str(name), _words(granted)) for name, granted in grants if granted]
            + [_Access("registry", name, ["*"]) for name in sorted(lists)],
            holder=_holder(identity),
        )
        return IssuedToken(self._signed(claims), issued_at, max(1, math.floor(expires_at - now)))

    def is_ours(self, text: str) -> bool:
        """Whether it claims to be one of these tokens; cheap, and no proof."""
        return issuer_of(text) == ISSUER

    def remembered(self, text: str) -> Identity | None:
        """Whose token this is, where it was verified lately; never beyond its end, nor beyond a change of the keys."""
        ring = self._keys.current()
        if ring is not self._ring:
            self._verified.clear()
            self._ring = ring
        return self._verified.get(text, self._clock())

    def verify(self, text: str) -> Identity:
        """Whose token this is, with what it delegates.

        Raises:
            UnknownKey: it was signed with a key that is not known as of the last look.
            Unauthorized: it is malformed, not ours, or not for this registry.
            Stale: it has expired.
        """
        known = self.remembered(text)
        if known is not None:
            return known
        claims = self._claims(text)
        self._check(claims)
        identity = _identity(claims)
        if len(text) <= _LONGEST_REMEMBERED:
            self._verified.put(text, identity, self._clock(), claims.exp)
        return identity

    async def verify_soon(self, text: str) -> Identity:
        """The same, and where the key is not known, once more after a look at the keys. Raises like `verify`."""
        try:
            return self.verify(text)
        except UnknownKey:
            await self._keys.look_soon()
            return self.verify(text)

    def _signed(self, claims: _Claims) -> str:
        key = self._keys.signing()
        text = self._jws.encode(msgspec.json.encode(claims), key.private, _ALGORITHM, {"kid": key.id})
        if len(text) > _LARGEST:
            raise Denied(
                "the token would be too large: ask for fewer repositories at once, or have fewer groups and claims of"
                " this identity taken over"
            )
        return text

    def _claims(self, text: str) -> _Claims:
        """What a genuine token says."""
        if not is_jwt(text):
            raise Unauthorized("the token is malformed; send all of it, or log in again")
        encoded = text.partition(".")[0]
        try:
            header = msgspec.json.decode(base64.urlsafe_b64decode(encoded + "=" * (-len(encoded) % 4)), type=_Header)
        except (ValueError, RecursionError):
            raise Unauthorized("the token is not one that this registry issues; log in again") from None
        key = self._keys.verifying(header.kid)
        if key is None:
            raise UnknownKey("the token was signed with a key that is not in use here; log in again")
        try:
            decoded: dict[str, Any] = self._jws.decode_complete(text, key.public, [_ALGORITHM])
            return msgspec.json.decode(decoded["payload"], type=_Claims)
        except (jwt.InvalidTokenError, ValueError):
            raise Unauthorized("the token is not one that this registry issues; log in again") from None

    def _check(self, claims: _Claims) -> None:
        if claims.iss != ISSUER or claims.aud != self._service:
            raise Unauthorized("the token is meant for another service; log in to this one")
        now = self._clock()
        if max(claims.iat, claims.nbf) > now + _LEEWAY:
            raise Unauthorized("the token is not valid yet; compare the clocks of the registry's machines")
        # A thousandth for the rounding of sums.
        if not claims.exp - claims.iat <= LONGEST_TOKEN_LIFE + 0.001:
            raise Unauthorized("the token lives longer than a token may; log in again")
        if not now < claims.exp:
            raise Stale("the token has expired; log in again")


def _holder(identity: Identity) -> _Holder:
    grants = identity.grants
    return _Holder(
        identity.method.value,
        identity.uid,
        identity.groups,
        identity.extra,
        identity.credential,
        # A robot's rights are its grants alone: left out, rules that are not about it would decide.
        None if grants is None else tuple((str(each.repositories), tuple(_words(each.permissions))) for each in grants),
    )


def _words(permissions: frozenset[Permission]) -> list[str]:
    return sorted(permission.value for permission in permissions)


def _identity(claims: _Claims) -> Identity:
    holder, granted = claims.holder, claims.holder.grants
    try:
        delegated = tuple(
            (Repository.parse(each.name), _read(each.actions)) for each in claims.access if each.type == "repository"
        )
        lists = frozenset(each.name for each in claims.access if each.type == "registry")
        return Identity(
            claims.sub,
            Method(holder.method),
            uid=holder.uid,
            groups=holder.groups,
            extra=holder.extra,
            credential=holder.credential,
            grants=None
            if granted is None
            else tuple(Grant(RepositoryGlob.parse(glob), _read(words)) for glob, words in granted),
            delegation=Delegation(claims.jti, claims.iat, delegated, lists, claims.generation),
        )
    except (ValueError, NameInvalid):
        # A newer version may have issued it.
        raise Unauthorized("the token names rights that are not known here; log in again") from None


def _read(words: list[str] | tuple[str, ...]) -> frozenset[Permission]:
    return frozenset(map(Permission, words))
