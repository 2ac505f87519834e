"""The ports of access: authentication, authorisation and tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.identity import Grant, Identity
    from trow.access.permissions import Permission
    from trow.access.rules import Decision
    from trow.oci.names import Repository


@dataclass(frozen=True, slots=True)
class ClientCertificate:
    """A client certificate that the TLS layer has verified up to a configured authority.

    Attributes:
        name: its subject's common name, or its first URI (SPIFFE) where it has one.
        organizations: its subject's organisations, which are its groups.
        fingerprint: SHA-256 of its DER form, in hexadecimal.
    """

    name: str
    organizations: tuple[str, ...]
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Proof:
    """The credentials of a request.

    Attributes:
        authorization: the ``Authorization`` header; None where there is none.
        client: the address that the request comes from, behind trusted proxies; failed attempts count against it.
        certificate: the verified client certificate of the connection.
    """

    authorization: str | None
    client: str
    certificate: ClientCertificate | None = None


class Authenticator(Protocol):
    """Finds out who sends a request."""

    async def identify(self, proof: Proof) -> Identity:
        """Who shows this proof.

        Raises:
            Unauthorized: the credentials are malformed, wrong, expired, revoked or meant for somebody else.
            TooManyRequests: too many wrong ones came from there.
            Unavailable: the one that would know does not answer.
        """

    async def verify_secret(self, user: str, secret: str, client: str) -> Identity:
        """Who has this password or token; ``user`` counts only where the secret is a password. Raises as above."""


class LoginFailures(NamedTuple):
    """Wrong passwords of one user from one source.

    Attributes:
        since: when the first of them came, in seconds since 1970.
        failures: how many.
        last_at: when the last one came.
    """

    since: float
    failures: int
    last_at: float


class FailedLogins(Protocol):
    """Counts wrong passwords, for all replicas together. Each method raises Unavailable."""

    async def failed_logins(self, source: str, user: str) -> LoginFailures | None:
        """Those of a user from a source; None where there are none."""

    async def add_failed_login(self, source: str, user: str, at: float, window: float) -> None:
        """Count one more; the count begins again where its first one is ``window`` seconds old."""

    async def forget_failed_logins(self, source: str, user: str) -> None:
        """The right password came."""

    async def drop_failed_logins(self, before: float, most: int) -> None:
        """Forget all whose first failure is older, and of the others all but the ``most`` that failed last."""


class Authorizer(Protocol):
    """Decides who may do what."""

    async def decide(self, identity: Identity, permission: Permission, repository: Repository) -> Decision:
        """Whether the identity has the permission; ``repository`` is "" where the permission concerns none.

        Raises:
            Unavailable: the one that would know does not answer, or does not know.
        """

    async def visible(self, identity: Identity, repositories: Sequence[Repository]) -> Sequence[bool]:
        """Which of these repositories the identity may list and pull."""

    def prefixes(self, identity: Identity) -> Sequence[str]:
        """What the names of such repositories begin with; sorted, and none begins with another one."""


class IssuedToken(NamedTuple):
    """A token of our own: its text, the time it counts from (since 1970), and its life from now on, in seconds."""

    text: str
    issued_at: float
    expires_in: int


class TokenIssuer(Protocol):
    """Makes tokens that `Authenticator.identify` accepts."""

    def issue(
        self,
        identity: Identity,
        grants: tuple[tuple[Repository, frozenset[Permission]], ...],
        lists: frozenset[str],
        generation: int,
    ) -> IssuedToken:
        """A token that carries these of its holder's permissions.

        Args:
            identity: its holder.
            grants: permissions by repository.
            lists: names of lists that concern no one repository.
            generation: the number of the repository that was made last (`Metadata.generation`).

        Raises:
            Denied: they are too many for a token.
            Unauthorized: the token that the identity came with has ended.
        """


@dataclass(frozen=True, slots=True)
class RobotToken:
    """A credential for a program, as it is stored: its secret only as a hash.

    Attributes:
        id: what the token begins with; not secret.
        name: what people call it.
        secret_hash: SHA-256 of the secret part, in hexadecimal; the secret has 256 random bits, so no salt is needed.
        grants: what it may do.
        created_at, expires_at, revoked_at: seconds since 1970; None is never.
    """

    id: str
    name: str
    secret_hash: str
    grants: tuple[Grant, ...]
    created_at: float
    created_by: str
    expires_at: float | None = None
    revoked_at: float | None = None


class RobotTokens(Protocol):
    """Where robot tokens are kept."""

    async def robot_token(self, token: str) -> RobotToken | None:
        """The token with this identifier, revoked and expired ones included."""
