"""Who sends a request: each kind of credential is known by its form and goes to who can verify it."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from trow.identity.credentials import LONGEST, Bearer, Stale, parse
from trow.identity.jwts import is_jwt, issuer_of
from trow.identity.robots import PREFIX
from trow.identity.throttle import Throttle
from trow.identity.tokens import ISSUER
from trow.oci.errors import Unauthorized
from trow.policy.identity import ANONYMOUS, Identity, Method

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from trow.identity.tokens import RegistryTokens
    from trow.identity.users import Passwords
    from trow.registry.ports import ClientCertificate, Proof

_BEARER: Final = "Bearer "


class TokenVerifier(Protocol):
    """Knows one kind of token."""

    async def verify(self, token: str) -> Identity:
        """Whose token this is.

        Raises:
            Unauthorized: it is not good; `Stale` where it was genuine once, which is no failed login.
            Unavailable: who would know does not answer.
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

    A token may stand where a password stands, with any user name: image pull secrets and kubelets know nothing else.
    Credentials count before a client certificate. Failures are throttled, save those of registry tokens: a signature
    cannot be guessed, and clients send tokens that have run out all the time.

    Raises:
        ValueError: an OIDC issuer has the name of this registry's own tokens.
    """

    def __init__(self, verifiers: Verifiers, throttle: Throttle | None = None) -> None:
        if ISSUER in verifiers.issuers:
            raise ValueError(f"{ISSUER!r} is the issuer of the registry's own tokens")
        self._by = verifiers
        self._throttle = throttle or Throttle()

    async def identify(self, proof: Proof) -> Identity:
        """See `Authenticator.identify`."""
        authorization = proof.authorization
        # Nearly every request of a pull comes this way.
        if authorization is not None and self._by.tokens is not None and authorization.startswith(_BEARER):
            known = self._by.tokens.remembered(authorization[len(_BEARER) :])
            if known is not None:
                return known
        credentials = parse(authorization)
        if credentials is None:
            return ANONYMOUS if proof.certificate is None else _certificate(proof.certificate)
        if isinstance(credentials, Bearer):
            return await self._token(credentials.token, proof.client)
        return await self.verify_secret(credentials.user, credentials.secret, proof.client)

    async def verify_secret(self, user: str, secret: str, client: str) -> Identity:
        """See `Authenticator.verify_secret`."""
        if len(user) + len(secret) > LONGEST:
            raise Unauthorized(f"the credentials are longer than {LONGEST // 1024} KiB")
        if self._is_token(secret):
            return await self._token(secret, client)
        return await self._throttled(lambda: self._password(user, secret), client, user, secret)

    def _is_token(self, secret: str) -> bool:
        return is_jwt(secret) or (self._by.robots is not None and secret.startswith(PREFIX))

    async def _token(self, token: str, client: str) -> Identity:
        if self._by.tokens is not None and self._by.tokens.is_ours(token):
            return self._by.tokens.verify(token)
        verifier = self._verifier(token)
        return await self._throttled(lambda: verifier.verify(token), client, "", token)

    def _verifier(self, token: str) -> TokenVerifier:
        if self._by.robots is not None and token.startswith(PREFIX):
            return self._by.robots
        # What cannot be read is refused here: nobody else is troubled with it.
        issuer = issuer_of(token)
        verifier = self._by.issuers.get(issuer, self._by.kubernetes) if issuer else None
        if verifier is None:
            raise Unauthorized("the token is malformed, or its issuer is not one that is trusted here")
        return verifier

    async def _password(self, user: str, secret: str) -> Identity:
        if self._by.passwords is None:
            raise Unauthorized("nobody logs in with a password here; use a token in its place")
        identity = await self._by.passwords.verify(user, secret)
        if identity is None:
            raise Unauthorized("the user name or the password is wrong")
        return identity

    async def _throttled(
        self, verify: Callable[[], Awaitable[Identity]], client: str, user: str, secret: str
    ) -> Identity:
        self._throttle.check(client, user)
        try:
            identity = await verify()
        except Stale:
            raise
        except Unauthorized:
            self._throttle.failed(client, user, secret)
            raise
        self._throttle.succeeded(client, user)
        return identity


@functools.lru_cache(maxsize=1024)
def _certificate(certificate: ClientCertificate) -> Identity:
    if not certificate.name:
        raise Unauthorized("the client certificate has neither a common name nor a URI; issue one with a name")
    groups = tuple(f"certificate:{each}" for each in certificate.organizations)
    return Identity(
        f"certificate:{certificate.name}", Method.CERTIFICATE, groups=groups, credential=certificate.fingerprint
    )
