"""Who sends a request: each kind of credential is known by its form and goes to who can verify it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from trow.access.identity import ANONYMOUS, Identity, Method
from trow.identity.attempts import Attempt, AttemptShares, KnownCredentials
from trow.identity.credentials import LONGEST_CREDENTIAL, Bearer, parse_authorization
from trow.identity.htpasswd import LONGEST_NAME
from trow.identity.jwts import is_jwt, issuer_of
from trow.identity.robots import PREFIX
from trow.identity.throttle import SharedThrottle, Throttle
from trow.identity.tokens import ISSUER
from trow.lib.shares import Bounds, Shares
from trow.lib.source import source_of
from trow.oci.errors import Unauthorized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.access.ports import ClientCertificate, Proof
    from trow.identity.tokens import RegistryTokens
    from trow.identity.users import Passwords

_BEARER: Final = "Bearer "
# Attempts of one user from one source, one at a time.
_LOGINS: Final = Bounds(total=2048, each=1, waiting=4096, waiting_each=32, patience=30.0)
# Tokens that the API server is asked about at a time: those that were never good, and those that were.
_TOKEN_REVIEWS: Final = Bounds(total=8, each=8, waiting=1024, waiting_each=256, patience=10.0)
_KNOWN_TOKEN_REVIEWS: Final = Bounds(total=1024, each=1024, waiting=1024, waiting_each=1024, patience=10.0)


class TokenVerifier(Protocol):
    """Verifies one kind of token."""

    async def verify(self, token: str) -> Identity:
        """Whose token this is.

        Raises:
            Unauthorized: it is not good; `Stale` where it was genuine once, which does not count as a failed login.
            Unavailable: the issuer or the cluster does not answer.
        """


@dataclass(frozen=True, slots=True)
class Verifiers:
    """Who verifies what; None is not configured.

    Attributes:
        issuers: OIDC verifiers by the ``iss`` of their tokens.
        kubernetes: gets the JWTs of all other issuers.
    """

    tokens: RegistryTokens | None = None
    robots: TokenVerifier | None = None
    passwords: Passwords | None = None
    issuers: Mapping[str, TokenVerifier] = field(default_factory=dict)
    kubernetes: TokenVerifier | None = None


class AuthenticatorChain:
    """Finds out who sends a request.

    A token may be given as a password, with any user name: image pull secrets and kubelets cannot do otherwise.
    Credentials count before a client certificate.

    Passwords can be guessed, so failures make the next attempt wait, by source and user. Tokens cannot: they are random
    or signed. Nobody is kept waiting for wrong ones, whoever sends them from the same address (decision 0018). A
    credential that was good before passes without waiting behind those that never were.

    Raises:
        ValueError: an OIDC issuer has the name of this registry's own tokens.
    """

    def __init__(
        self, verifiers: Verifiers, throttle: Throttle | None = None, shared: SharedThrottle | None = None
    ) -> None:
        if ISSUER in verifiers.issuers:
            raise ValueError(f"{ISSUER!r} is the issuer of the registry's own tokens")
        self._verifiers = verifiers
        self._throttle = throttle or Throttle()
        self._shared = shared  # None where this process alone takes logins
        self._known = KnownCredentials()
        self._logins = Shares(_LOGINS, "logins of one user")
        self._token_reviews = AttemptShares(
            _TOKEN_REVIEWS, _KNOWN_TOKEN_REVIEWS, "tokens that the cluster is asked about"
        )

    async def identify(self, proof: Proof) -> Identity:
        authorization = proof.authorization
        # Nearly every request of a pull comes this way.
        if authorization is not None and self._verifiers.tokens is not None and authorization.startswith(_BEARER):
            known = self._verifiers.tokens.remembered(authorization[len(_BEARER) :])
            if known is not None:
                return known
        credentials = parse_authorization(authorization)
        if credentials is None:
            return ANONYMOUS if proof.certificate is None else _certificate(proof.certificate)
        if isinstance(credentials, Bearer):
            return await self._token(credentials.token, proof.client)
        return await self.verify_secret(credentials.user, credentials.secret, proof.client)

    async def verify_secret(self, user: str, secret: str, client: str) -> Identity:
        if len(user) + len(secret) > LONGEST_CREDENTIAL:
            raise Unauthorized(
                f"the credentials are longer than {LONGEST_CREDENTIAL // 1024} KiB;"
                " use a token with fewer claims or groups"
            )
        if is_jwt(secret) or (self._verifiers.robots is not None and secret.startswith(PREFIX)):
            return await self._token(secret, client)
        return await self._login(user, secret, client)

    async def _token(self, token: str, client: str) -> Identity:
        if self._verifiers.tokens is not None and self._verifiers.tokens.is_ours(token):
            return await self._verifiers.tokens.verify_soon(token)
        verifier = self._verifier_of(token)
        if verifier is not self._verifiers.kubernetes:
            return await verifier.verify(token)
        # The API server is asked, and it has other clients too.
        attempt = Attempt(source_of(client), known=self._known.includes("", token))
        try:
            async with self._token_reviews.hold(attempt):
                identity = await verifier.verify(token)
        except Unauthorized:
            self._known.discard("", token)
            raise
        self._known.add("", token)
        return identity

    def _verifier_of(self, token: str) -> TokenVerifier:
        if self._verifiers.robots is not None and token.startswith(PREFIX):
            return self._verifiers.robots
        # What cannot be read is refused here, and the API server is not asked about it.
        issuer = issuer_of(token)
        verifier = self._verifiers.issuers.get(issuer, self._verifiers.kubernetes) if issuer else None
        if verifier is None:
            raise Unauthorized(
                "the token is malformed, or its issuer is not one that is trusted here;"
                " send all of it, or have an administrator add the issuer to auth.oidc"
            )
        return verifier

    async def _login(self, user: str, secret: str, client: str) -> Identity:
        if self._known.includes(user, secret):
            return await self._password(user, secret, client, known=True)
        # One after the other: guesses at the same time would all pass before the first has failed.
        async with self._logins.hold(f"{source_of(client)} {user[:LONGEST_NAME]}"):
            self._throttle.check(client, user)
            if self._shared is not None:
                await self._shared.check(client, user)
            return await self._password(user, secret, client, known=False)

    async def _password(self, user: str, secret: str, client: str, *, known: bool) -> Identity:
        if self._verifiers.passwords is None:
            raise Unauthorized("this registry takes no passwords; use a token in its place")
        identity = await self._verifiers.passwords.verify(user, secret, Attempt(source_of(client), known))
        if identity is None:
            self._known.discard(user, secret)
            if self._throttle.failed(client, user, secret) and self._shared is not None:
                await self._shared.failed(client, user)
            raise Unauthorized(
                "the user name or the password is wrong; log in again, or have an administrator set a new password"
            )
        self._known.add(user, secret)
        self._throttle.succeeded(client, user)
        if self._shared is not None and not known:
            await self._shared.succeeded(client, user)
        return identity


@functools.lru_cache(maxsize=1024)
def _certificate(certificate: ClientCertificate) -> Identity:
    if not certificate.name:
        raise Unauthorized("the client certificate has neither a common name nor a URI; issue one with a name")
    groups = tuple(f"certificate:{each}" for each in certificate.organizations)
    return Identity(
        f"certificate:{certificate.name}", Method.CERTIFICATE, groups=groups, credential=certificate.fingerprint
    )
