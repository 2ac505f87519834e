"""The keys of an OIDC issuer: found by discovery, or where the settings say, and fetched when they are needed."""

from __future__ import annotations

import math
import ssl
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar
from urllib.parse import urlsplit

import jwt
import msgspec
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from trow.lib.http_client import HttpClient, HttpError
from trow.lib.single_flight import SingleFlight
from trow.lib.urls import problem_with
from trow.oci.errors import Unauthorized, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trow.identity.oidc import IssuerSettings

# What signs with a private key, and the kind and curve of the key that fits. HS* and none are not among them: with
# those, whoever knows the public key, or nothing, could sign.
KEY_OF: Final[Mapping[str, tuple[str, str]]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"), ("RSA", "")),
    "ES256": ("EC", "P-256"),
    "ES384": ("EC", "P-384"),
    "ES512": ("EC", "P-521"),
    "EdDSA": ("OKP", "Ed25519"),
}
_LEAST_RSA_BITS: Final = 2048
_MOST_RSA_BITS: Final = 8192
_MOST_KEYS: Final = 100
_MOST_BYTES: Final = 1 << 20
# RFC 7517, section 8.5.2: an API server gives its keys under this type alone.
_HEADERS: Final = {"Accept": "application/json, application/jwk-set+json"}
_FETCH_SECONDS: Final = 5.0
_FRESH_SECONDS: Final = 600.0
# Between attempts while there are keys, also for the sake of unknown ones: strangers can make them up, and have the
# issuer asked no more often. A key that is new waits no longer than this, also when it is a stranger who was first.
_PAUSE_SECONDS: Final = 10.0
_PAUSE_WITHOUT_KEYS_SECONDS: Final = 5.0
_STALE_SECONDS: Final = 24 * 3600.0

SignatureKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class _Key:
    """A public key, and what may be verified with it."""

    public: SignatureKey
    algorithms: frozenset[str]


class _Discovery(msgspec.Struct):
    issuer: str
    jwks_uri: str


class _Jwks(msgspec.Struct):
    keys: list[dict[str, Any]]


class _Jwk(msgspec.Struct):
    """RFC 7517, section 4: what a key says of itself."""

    kid: str
    kty: str
    crv: str = ""
    alg: str = ""
    use: str = "sig"
    key_ops: tuple[str, ...] = ("verify",)


class _KeysUnavailable(Exception):
    """Why keys cannot be had, in words for people."""


class IssuerKeys:
    """The issuer's keys by id, fetched when they are first needed, get old, or one is missing."""

    def __init__(self, settings: IssuerSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._tls = _tls(settings)
        self._keys: Mapping[str, _Key] = {}
        self._fetched = self._tried = -math.inf
        self._fetches = 0
        self._reason = ""
        self._flights: SingleFlight[None] = SingleFlight()

    async def find(self, kid: str, algorithm: str) -> SignatureKey:
        """The key with this id, if the algorithm is one of its own.

        Raises:
            Unauthorized: the issuer has no such key.
            Unavailable: nobody can tell now: the keys cannot be had, or may not be asked for again yet.
        """
        before = self._fetches
        if self._age() > _FRESH_SECONDS:
            await self._flights.share(b"", self._load)
        if kid not in self._keys and self._age() <= _STALE_SECONDS:
            await self._flights.share(b"", self._load)
        if self._age() > _STALE_SECONDS:
            raise Unavailable(
                f"the keys of OIDC issuer {self._settings.name} cannot be had: {self._reason}; try again later"
            )
        key = self._keys.get(kid)
        if key is None and self._fetches == before:
            raise Unavailable(
                f"the token is signed with a key that {self._settings.issuer} had not listed when it was asked last;"
                " try again in a moment"
            )
        if key is None:
            raise Unauthorized(
                f"the token is signed with a key that {self._settings.issuer} does not list; get a new token"
            )
        if algorithm not in key.algorithms:
            raise Unauthorized("the token's algorithm is not the one of its key; get a new token")
        return key.public

    def _age(self) -> float:
        # By amount: when the clock is set back the keys are old too.
        return abs(self._clock() - self._fetched)

    async def _load(self) -> None:
        """Fetch the keys unless that was tried a moment ago; all who ask meanwhile wait for the same attempt."""
        pause = _PAUSE_SECONDS if self._keys else _PAUSE_WITHOUT_KEYS_SECONDS
        if abs(self._clock() - self._tried) < pause:
            return
        self._tried = self._clock()
        try:
            self._keys = self._usable(await self._fetch(await self._jwks_uri(), _Jwks))
            self._fetched = self._clock()
            self._fetches += 1
        except _KeysUnavailable as error:
            self._reason = str(error)

    async def _jwks_uri(self) -> str:
        if self._settings.jwks_uri:
            return self._settings.jwks_uri
        url = f"{self._settings.issuer.rstrip('/')}/.well-known/openid-configuration"
        found = await self._fetch(url, _Discovery)
        if found.issuer != self._settings.issuer:
            raise _KeysUnavailable(f"{url} is about another issuer; configure its url as it writes itself")
        # Nothing is asked that is not configured, so that an issuer cannot send us to other machines.
        if problem_with(found.jwks_uri) or _origin(found.jwks_uri) != _origin(url):
            raise _KeysUnavailable(f"{url} names keys at another address; configure that as jwks_uri if it is right")
        return found.jwks_uri

    async def _fetch(self, url: str, kind: type[_Document]) -> _Document:
        try:
            # A connection for each: keys are fetched every ten minutes.
            async with HttpClient(self._tls) as client:
                answer = await client.request(
                    "GET", url, headers=_HEADERS, seconds=_FETCH_SECONDS, most_bytes=_MOST_BYTES
                )
        except HttpError as error:
            raise _KeysUnavailable(f"{url} {error}") from None
        if answer.status != HTTPStatus.OK:
            raise _KeysUnavailable(f"{url} answers with status {answer.status}")
        try:
            return msgspec.json.decode(answer.body, type=kind)
        except (msgspec.DecodeError, UnicodeError, RecursionError):
            raise _KeysUnavailable(f"{url} holds something else than is expected there") from None

    def _usable(self, jwks: _Jwks) -> Mapping[str, _Key]:
        keys: dict[str, _Key] = {}
        for raw in jwks.keys[:_MOST_KEYS]:
            parsed = _parse(raw, self._settings.algorithms)
            if parsed is not None:
                keys.setdefault(*parsed)
        if not keys:
            raise _KeysUnavailable(f"none of its keys fits {', '.join(self._settings.algorithms)}")
        return keys


_Document = TypeVar("_Document", _Discovery, _Jwks)


def _parse(raw: dict[str, Any], accepted: Sequence[str]) -> tuple[str, _Key] | None:
    """A key and its id; None when it is not for signatures, or not for those that are accepted."""
    try:
        jwk = msgspec.convert(raw, _Jwk)
        pinned = {"Ed25519": "EdDSA"}.get(jwk.alg, jwk.alg)  # RFC 9864 has renamed it
        fitting = frozenset(name for name in accepted if KEY_OF[name] == (jwk.kty, jwk.crv) and pinned in ("", name))
        if jwk.use != "sig" or "verify" not in jwk.key_ops or "d" in raw or not fitting:
            return None
        public = jwt.PyJWK(raw, algorithm=next(iter(fitting))).key
    except (msgspec.ValidationError, jwt.PyJWTError, ValueError, TypeError, KeyError):
        return None
    if isinstance(public, RSAPublicKey) and not _LEAST_RSA_BITS <= public.key_size <= _MOST_RSA_BITS:
        return None
    return (jwk.kid, _Key(public, fitting)) if isinstance(public, SignatureKey) else None


def _tls(settings: IssuerSettings) -> ssl.SSLContext | None:
    try:
        return ssl.create_default_context(cafile=settings.ca_file) if settings.ca_file else None
    except (OSError, ValueError):
        raise ValueError(f"OIDC issuer {settings.name!r}: ca_file {settings.ca_file} holds no certificates") from None


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or {"https": 443, "http": 80}.get(parts.scheme)
