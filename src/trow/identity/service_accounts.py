"""The cluster's own accounts: a ServiceAccount's token is a password.

The API server says whose token it is. Its answers are remembered for at most a minute, so that a pull asks once, and so
that pulls go on for that long when it is down.
"""

from __future__ import annotations

import hashlib
import math
import re
import time
from typing import TYPE_CHECKING, Final, Protocol

from trow.access.identity import Identity, Method
from trow.identity.jwts import LONGEST_TOKEN, is_jwt, unverified_claims
from trow.lib.caches import TtlCache
from trow.lib.dns_names import LABEL, SUBDOMAIN
from trow.lib.single_flight import SingleFlight
from trow.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trow.access.reviews import TokenReviewStatus, UserInfo

_ACCOUNT: Final = re.compile(rf"system:serviceaccount:{LABEL}:{SUBDOMAIN}")
_CREDENTIAL: Final = "authentication.kubernetes.io/credential-id"
_ACCEPTED_SECONDS: Final = 60.0
_REFUSED_SECONDS: Final = 5.0
_MOST_REMEMBERED: Final = 10_000


class TokenReviews(Protocol):
    """Finds out whose a token is. Raises `Unavailable`."""

    async def token(self, token: str, audiences: Sequence[str]) -> TokenReviewStatus: ...


class ServiceAccountTokens:
    """Tokens of the cluster's ServiceAccounts, as kubelets and ``kubectl create token`` get them.

    Args:
        reviews: whom to ask.
        audiences: what tokens have to be meant for. Those for the API server itself are refused: with them a
            registry could act as the client that pulls.
        clock: seconds since 1970.
    """

    def __init__(self, reviews: TokenReviews, audiences: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        if not audiences or not all(audiences):
            raise ValueError("audiences of ServiceAccount tokens are missing: name the registry's host, for example")
        self._reviews = reviews
        self._audiences = tuple(audiences)
        self._clock = clock
        # Two caches, so that a flood of wrong tokens does not displace the right ones.
        self._accepted: TtlCache[bytes, Identity] = TtlCache(_MOST_REMEMBERED)
        self._refused: TtlCache[bytes, str] = TtlCache(_MOST_REMEMBERED)
        self._flights: SingleFlight[Identity] = SingleFlight()

    async def verify(self, token: str) -> Identity:
        if not is_jwt(token):
            raise Unauthorized(
                f"the credential is not the token of a ServiceAccount: that is a JWT of at most {LONGEST_TOKEN} bytes;"
                " send all of it"
            )
        key = hashlib.sha256(token.encode()).digest()
        identity = self._accepted.get(key, self._clock())
        if identity is not None:
            return identity
        refusal = self._refused.get(key, self._clock())
        if refusal is not None:
            raise Unauthorized(refusal)
        return await self._flights.share(key, lambda: self._review(token, key))

    async def _review(self, token: str, key: bytes) -> Identity:
        status = await self._reviews.token(token, self._audiences)
        refusal = self._refusal(status)
        now = self._clock()
        if refusal:
            self._refused.put(key, refusal, now, now + _REFUSED_SECONDS)
            raise Unauthorized(refusal)
        identity = _identity(status.user, key)
        # The token says when it ends, and the cluster has just verified it. Tokens from Secrets do not end.
        expires = unverified_claims(token).get("exp", math.inf)
        until = float(expires) if isinstance(expires, (int, float)) else now
        self._accepted.put(key, identity, now, min(now + _ACCEPTED_SECONDS, until))
        return identity

    def _refusal(self, status: TokenReviewStatus) -> str:
        wanted = " or ".join(self._audiences)
        if not status.authenticated:
            return (
                "the cluster refuses the ServiceAccount token: it has expired, its Pod or ServiceAccount is gone, or it"
                f" is for another audience than {wanted}; get one with kubectl create token NAME --audience"
                f" {self._audiences[0]}"
            )
        if set(self._audiences).isdisjoint(status.audiences):
            return f"the token is for the API server; get one with kubectl create token NAME --audience {wanted}"
        if not _ACCOUNT.fullmatch(status.user.username):
            return "the token is not a ServiceAccount's; log in by OIDC or with a password"
        return ""


def account(name: str) -> Identity:
    """A ServiceAccount as the API server describes it, without a Pod.

    Raises:
        ValueError: none has this name.
    """
    if not _ACCOUNT.fullmatch(name):
        raise ValueError(f"{name!r} is not a ServiceAccount; write system:serviceaccount:NAMESPACE:NAME")
    namespace = name.split(":")[2]
    groups = ("system:authenticated", "system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return Identity(name, Method.KUBERNETES, groups=groups)


def _identity(user: UserInfo, key: bytes) -> Identity:
    credential = next(iter(user.extra.get(_CREDENTIAL, ())), "")
    return Identity(
        user.username,
        Method.KUBERNETES,
        uid=user.uid,
        groups=tuple(sorted(user.groups)),
        extra=tuple(sorted((name, tuple(values)) for name, values in user.extra.items())),
        # Clusters before 1.32 do not name the token; a part of its hash tells it from others and opens nothing.
        credential=credential or f"sha256:{key.hex()[:16]}",
    )
