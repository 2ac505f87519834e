"""People and programs of an OIDC issuer: GitHub Actions, GitLab, Keycloak, another cluster's ServiceAccounts.

A token is believed because a key of its issuer signed it, and the key is found in the issuer's own list by its id; what
a token says of keys is refused (CVE-2025-24976).
"""

from __future__ import annotations

import hashlib
import math
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, TypeGuard

import jwt

from trow.access.identity import Identity, Method
from trow.identity.credentials import Stale
from trow.identity.jwts import LONGEST_TOKEN, is_jwt, unverified_header
from trow.identity.oidc_keys import KEY_OF, IssuerKeys
from trow.lib.dns_names import is_label
from trow.lib.globs import matches
from trow.lib.urls import problem_with
from trow.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trow.identity.oidc_keys import SignatureKey

# RFC 9068 names access tokens; other kinds of JWT (logout, events) are not credentials.
_TYPES: Final = frozenset({"", "jwt", "at+jwt", "application/at+jwt"})
_KEY_HEADERS: Final = frozenset({"jwk", "jku", "x5u", "x5c", "crit", "b64", "zip", "enc"})

# What somebody can do whose token is refused: it is either another token, or what auth.oidc says of tokens.
_ANOTHER: Final = "get another from its issuer"
_RULES: Final = "get another from its issuer, or have an administrator change auth.oidc"

# How far clocks may differ.
_LEEWAY_SECONDS: Final = 30.0
_RESERVED: Final = ("system:", "robot:", "certificate:")
_LONGEST_NAME: Final = 256

_MOST_CLAIMS: Final = 64
_LONGEST_CLAIM: Final = 1024
# Facts about the token rather than its holder, and keys that have a meaning of their own here.
_NOT_KEPT: Final = frozenset({"exp", "iat", "nbf", "jti", "issuer"})
_CLUSTER_PREFIX: Final = "authentication.kubernetes.io/"
_CLUSTER_CLAIM: Final = "kubernetes.io"
_DEEPEST: Final = 3


@dataclass(frozen=True, slots=True)
class IssuerSettings:
    """One issuer that is believed, and what is made of its tokens.

    Attributes:
        name: what rules call the issuer.
        issuer: its URL, exactly its ``iss``.
        audiences: whom tokens may be meant for; any of them has to be in ``aud``.
        algorithms: the only ones that are accepted.
        username_claim, username_prefix: what the identity's name is made of; the prefix is ``NAME:`` by default.
        groups_claim, groups_prefix: the same for groups; None reads none.
        required_claims: claims that a token needs; ``*`` in a value stands for anything.
        jwks_uri: where its keys are; None asks the issuer, which then has to have them at its own address.
        ca_file: who signed the issuer's certificate, where the system does not know.

    Raises:
        ValueError: something contradicts, or could make a name that is somebody else's.
    """

    name: str
    issuer: str
    audiences: tuple[str, ...]
    algorithms: tuple[str, ...] = ("RS256", "ES256", "EdDSA")
    username_claim: str = "sub"
    username_prefix: str | None = None
    groups_claim: str | None = None
    groups_prefix: str | None = None
    required_claims: Mapping[str, str] = field(default_factory=dict)
    jwks_uri: str | None = None
    ca_file: Path | None = None

    def __post_init__(self) -> None:
        """See Raises."""
        for problem in self._problems():
            raise ValueError(f"OIDC issuer {self.name!r}: {problem}")

    @property
    def user_prefix(self) -> str:
        """What the names of its users begin with."""
        return f"{self.name}:" if self.username_prefix is None else self.username_prefix

    @property
    def group_prefix(self) -> str:
        """What the names of its groups begin with."""
        return f"{self.name}:" if self.groups_prefix is None else self.groups_prefix

    def _problems(self) -> Iterator[str]:
        if not is_label(self.name):
            yield "its name has to be of lower-case letters, digits and '-'"
        if not self.audiences or not all(self.audiences):
            yield "audiences are missing: name whom its tokens are meant for, else those for others would be accepted"
        unknown = [name for name in self.algorithms if name not in KEY_OF]
        if unknown or not self.algorithms:
            yield f"algorithms may only be of {', '.join(KEY_OF)}, not {', '.join(unknown) or 'none at all'}"
        if not self.username_claim:
            yield "username_claim is empty; 'sub' is the usual one"
        for key, prefix in (("username_prefix", self.user_prefix), ("groups_prefix", self.group_prefix)):
            if ":" not in prefix or any(prefix.startswith(own) or own.startswith(prefix) for own in _RESERVED):
                yield (
                    f"{key} {prefix!r} could make names that are somebody else's; it has to contain ':' and may not"
                    f" begin like {', '.join(_RESERVED)}"
                )
        for key, url in (("issuer", self.issuer), ("jwks_uri", self.jwks_uri)):
            if url is not None and (problem := problem_with(url)):
                yield f"{key} {url!r} {problem}; write https://HOST/PATH"


def conflict_between(issuers: Sequence[IssuerSettings]) -> str | None:
    """What is wrong between issuers, if anything: a name must show which of them knows it."""
    for number, one in enumerate(issuers):
        for other in issuers[number + 1 :]:
            if one.issuer == other.issuer:
                return f"OIDC issuers {one.name!r} and {other.name!r} have the same URL"
            for a, b in ((one.user_prefix, other.user_prefix), (one.group_prefix, other.group_prefix)):
                if a.startswith(b) or b.startswith(a):
                    return f"OIDC issuers {one.name!r} and {other.name!r}: prefix {a!r} begins like {b!r}"
    return None


class TrustedIssuer:
    """Verifies the tokens of one issuer.

    Raises:
        ValueError: the CA file is not usable.
    """

    def __init__(self, settings: IssuerSettings, clock: Callable[[], float] = time.time) -> None:
        self.settings = settings
        self._clock = clock
        self._keys = IssuerKeys(settings, clock)

    async def verify(self, token: str) -> Identity:
        if not is_jwt(token):
            raise Unauthorized(
                f"the credential is not a JWT of at most {LONGEST_TOKEN} bytes;"
                " send all of the token, or one with fewer claims"
            )
        kid, algorithm = self._header(token)
        key = await self._keys.find(kid, algorithm)
        claims = self._signed(token, key, algorithm)
        self._check_times(claims)
        token_id = claims.get("jti")
        digest = hashlib.sha256(token.encode()).hexdigest()
        return self.identity_of(claims, token_id if _is_name(token_id) else f"sha256:{digest[:16]}")

    def identity_of(self, claims: Mapping[str, object], credential: str = "") -> Identity:
        """The identity of claims that the issuer has signed, or would sign.

        Args:
            claims: what the token says.
            credential: an identifier of it.

        Raises:
            Unauthorized: this identity is not let in.
        """
        texts = dict(_flat(claims))
        for claim, wanted in self.settings.required_claims.items():
            if not any(matches(wanted, value) for value in texts.get(claim, ())):
                raise Unauthorized(
                    f"the token's claim {claim!r} is not the one that {self.settings.name} needs; {_RULES}"
                )
        subject = claims.get("sub")
        return Identity(
            self.settings.user_prefix + self._username(claims),
            Method.OIDC,
            uid=subject if _is_name(subject) else "",
            groups=self._groups(claims),
            extra=_kept(texts, self.settings.name),
            credential=credential,
        )

    def _header(self, token: str) -> tuple[str, str]:
        header = unverified_header(token)
        kid, algorithm, kind = header.get("kid"), header.get("alg"), header.get("typ", "")
        if not isinstance(algorithm, str) or algorithm not in self.settings.algorithms:
            raise Unauthorized(f"the token is not signed with {', '.join(self.settings.algorithms)}; {_ANOTHER}")
        if not _KEY_HEADERS.isdisjoint(header):
            raise Unauthorized(f"the token's header brings its own key or extensions; {_ANOTHER}")
        if not isinstance(kind, str) or kind.lower() not in _TYPES:
            raise Unauthorized("the token is of a type that is not a credential; use an ID token or an access token")
        if not isinstance(kid, str) or not kid:
            raise Unauthorized(f"the token's header does not name its key (kid); {_ANOTHER}")
        return kid, algorithm

    def _signed(self, token: str, key: SignatureKey, algorithm: str) -> Mapping[str, object]:
        settings = self.settings
        try:
            claims: dict[str, object] = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=list(settings.audiences),
                issuer=settings.issuer,
                # Times are checked below, by the clock that everything else goes by.
                options={
                    "require": ["iss", "aud", "exp", "iat"],
                    "verify_exp": False,
                    "verify_nbf": False,
                    "verify_iat": False,
                },
            )
        except jwt.InvalidAudienceError:
            raise Unauthorized(
                f"the token is for another audience than {' or '.join(settings.audiences)};"
                " ask its issuer for one for that"
            ) from None
        except jwt.InvalidIssuerError:
            raise Unauthorized(f"the token is not issued by {settings.issuer}; {_ANOTHER}") from None
        except jwt.MissingRequiredClaimError as error:
            raise Unauthorized(f"the token has no claim {error.claim!r}; {_ANOTHER}") from None
        except (jwt.PyJWTError, ValueError, TypeError, RecursionError):
            raise Unauthorized(
                "the token or its signature is not valid; send it as its issuer gave it, or get a new one"
            ) from None
        return claims

    def _check_times(self, claims: Mapping[str, object]) -> None:
        now, leeway = self._clock(), _LEEWAY_SECONDS
        issued, expires = _seconds(claims, "iat"), _seconds(claims, "exp")
        if expires + leeway <= now:
            raise Stale("the token has expired; get a new one")
        if issued - leeway > now or ("nbf" in claims and _seconds(claims, "nbf") - leeway > now):
            raise Unauthorized("the token is not valid yet; compare the clocks of the issuer and of this registry")

    def _username(self, claims: Mapping[str, object]) -> str:
        claim = self.settings.username_claim
        name = claims.get(claim)
        if not _is_name(name):
            raise Unauthorized(
                f"the token's claim {claim!r} is not a name of at most {_LONGEST_NAME} characters; {_RULES}"
            )
        if claim == "email" and claims.get("email_verified", True) is not True:
            raise Unauthorized(
                "the token's e-mail address is not verified; verify it with the issuer, then get a new token"
            )
        return name

    def _groups(self, claims: Mapping[str, object]) -> tuple[str, ...]:
        claim = self.settings.groups_claim
        found = claims.get(claim, []) if claim else []
        names = [found] if isinstance(found, str) else found
        if not isinstance(names, list) or not all(_is_name(name) for name in names):
            raise Unauthorized(f"the token's claim {claim!r} is not a list of names; {_RULES}")
        return tuple(sorted({self.settings.group_prefix + name for name in names}))


def _kept(texts: Mapping[str, tuple[str, ...]], issuer: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """Bounded and sorted. What is too long is left out: shortened, it could be taken for something else."""
    kept = [
        (claim, values)
        for claim, values in sorted(texts.items())
        if claim not in _NOT_KEPT
        and not claim.startswith(_CLUSTER_PREFIX)
        and len(claim) + sum(map(len, values)) <= _LONGEST_CLAIM
    ]
    return tuple(sorted([("issuer", (issuer,)), *kept[: _MOST_CLAIMS - 1]]))


def _flat(claims: Mapping[str, object], prefix: str = "", depth: int = 0) -> Iterator[tuple[str, tuple[str, ...]]]:
    """A token's claims as texts, as far as they are scalars or lists of texts."""
    for claim, value in claims.items():
        name = prefix + claim
        values = value if isinstance(value, list) else [value]
        texts = tuple(text for each in values if (text := _text(each)) is not None)
        if _is_text(name) and texts and len(texts) == len(values):
            yield name, texts
        # Where a ServiceAccount of another cluster runs: such as kubernetes.io.pod.name.
        elif isinstance(value, dict) and depth < _DEEPEST and (depth or claim == _CLUSTER_CLAIM):
            yield from _flat(value, f"{name}.", depth + 1)


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (int, float)):
        return str(value)
    return value if isinstance(value, str) and _is_text(value) else None


def _is_text(value: str) -> bool:
    # JSON can spell halves of characters, which nothing can write down again.
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _is_name(value: object) -> TypeGuard[str]:
    # Printable: it is written into logs and headers.
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_NAME and value.isprintable()


def _seconds(claims: Mapping[str, object], claim: str) -> float:
    value = claims[claim]
    # Infinity is a number to JSON's reader, and would never expire.
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise Unauthorized(f"the token's claim {claim!r} is not a time; {_ANOTHER}")
    return value
