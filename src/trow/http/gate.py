"""Who may pass: identify, authorise, and word what a client has to show when it may not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from trow.access.permissions import LISTS, Permission, phrase
from trow.access.ports import Proof
from trow.oci.errors import Denied, OciError, Unauthorized
from trow.registry.events import Action, Event, Outcome
from trow.registry.publish import Author
from trow.registry.transfers import Caller

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trow.access.identity import Identity
    from trow.access.ports import Authenticator, Authorizer
    from trow.access.rules import Decision
    from trow.admission.pull_policy import PullGuard
    from trow.http.request import Request
    from trow.oci.names import Reference, Repository
    from trow.registry.ports import ManifestRecord, Metadata
    from trow.registry.transfers import Transfers

# What a token has to carry, in the words of the token service (distribution, "Token Scope Documentation").
_SCOPES: Final = {
    Permission.PULL: "pull",
    Permission.PUSH: "pull,push",
    Permission.ATTACH: "pull,push",
    Permission.TAG_OVERWRITE: "pull,push",
    Permission.DELETE: "delete",
}
BASIC: Final = 'Basic realm="Trow", charset="UTF-8"'


class Gate:
    """Lets requests through.

    Args:
        authenticator: None where nobody has to say who they are; then credentials are ignored.
        challenge: what a request without good credentials is asked for.
        public_url: where clients reach this registry; "" takes it from each request.
        service: the name of this registry in its tokens.
        pulls: asks the policies of images about pulls; None where they are not enforced here.
    """

    def __init__(  # noqa: PLR0913 - the composition root's one call
        self,
        authenticator: Authenticator | None,
        authorizer: Authorizer,
        metadata: Metadata,
        transfers: Transfers,
        *,
        challenge: Literal["bearer", "basic"],
        public_url: str,
        service: str,
        pulls: PullGuard | None = None,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._metadata = metadata
        self._transfers = transfers
        self._bearer = challenge == "bearer"
        self._public_url = public_url
        self._service = service
        self._pulls = pulls

    async def admit(self, request: Request, permission: Permission) -> None:
        """Identify who sends the request and see that they may.

        Raises:
            Unauthorized, Denied, TooManyRequests, Unavailable: they may not, or nobody knows.
        """
        if self._authenticator is not None:
            request.identity = await self._identify(request)
        await self.require(request, permission, request.repository)

    async def _identify(self, request: Request) -> Identity:
        assert self._authenticator is not None  # noqa: S101 - checked by the caller
        try:
            return await self._authenticator.identify(Proof(request.authorization, request.client, request.certificate))
        except OciError as error:
            self._transfers.gather(_refusal(request, Action.LOGIN, error))
            raise

    async def require(self, request: Request, permission: Permission, repository: Repository) -> None:
        """See that the request's identity has the permission.

        Raises:
            Unauthorized, Denied, Unavailable: it has not, or nobody knows.
        """
        identity = request.identity
        decision = await self._authorizer.decide(identity, permission, repository)
        if decision.allowed:
            # Only now: whether the repository is there is nothing for those who may not see it.
            if identity.delegation is not None and repository:
                await self._check_generation(request, repository)
            return
        error = await self._error(identity, permission, repository, decision)
        if not identity.anonymous:
            self._transfers.gather(_refusal(request, Action.ACCESS, error, str(repository)))
        raise error

    async def require_policy(self, request: Request, reference: Reference, record: ManifestRecord) -> None:
        """See that the policies of images let this run, where the request comes from somebody who runs images.

        Raises:
            Denied, Unavailable: they do not, or nobody knows.
        """
        if self._pulls is None or not self._pulls.concerns(request.identity):
            return
        try:
            await self._pulls.check(request.identity, request.peer.host, request.repository, reference, record)
        except OciError as error:
            self._transfers.gather(_refusal(request, Action.ADMISSION, error, str(request.repository)))
            raise

    async def may_mount_from(self, request: Request, repository: Repository) -> bool:
        """Whether the request's identity may pull from the source of a mount.

        The holder's own right counts, not what a token carries: nobody can ask for a token for a source that the client
        leaves to the registry (decision 0010).
        """
        holder = request.identity.undelegated()
        return (await self._authorizer.decide(holder, Permission.PULL, repository)).allowed

    def visible_to(self, request: Request) -> Callable[[Sequence[Repository]], Awaitable[Sequence[bool]]]:
        """Tells which repositories the request's identity may see."""

        async def visible(repositories: Sequence[Repository]) -> Sequence[bool]:
            return await self._authorizer.visible(request.identity, repositories)

        return visible

    def beginnings_for(self, request: Request) -> Sequence[str]:
        """What the names of such repositories begin with."""
        return self._authorizer.beginnings(request.identity)

    async def _check_generation(self, request: Request, repository: Repository) -> None:
        """A token for a repository that was deleted is not one for its namesake (Harbor issue 22900)."""
        delegation = request.identity.delegation
        record = await self._metadata.repository(repository)
        if record is None or delegation is None or delegation.generation >= record.generation:
            return
        if record.created_by != request.identity.name:
            error = Unauthorized("the token is older than the repository; ask for a new one", {"name": repository})
            self._transfers.gather(_refusal(request, Action.ACCESS, error, str(repository)))
            raise error

    async def _error(
        self, identity: Identity, permission: Permission, repository: Repository, decision: Decision
    ) -> Unauthorized | Denied:
        """401 where other credentials, or another token, would help; else 403.

        The message holds all of it, because it is what clients and kubelets show.
        """
        wish = phrase(permission, repository)
        if identity.anonymous:
            return Unauthorized(f"log in to {wish}", {"permission": permission.value})
        if identity.delegation is not None:
            own = await self._authorizer.decide(identity.undelegated(), permission, repository)
            if own.allowed:
                detail = {"permission": permission.value, "reason": decision.reason}
                return Unauthorized(f"{decision.reason}; {decision.fix}", detail)
            decision = own
        reason = f"may not {wish}: {decision.reason}"
        fix = f". For an administrator to allow it: {decision.fix}" if decision.fix else ""
        return Denied(f"{identity.name} {reason}{fix}", {"permission": permission.value, "reason": reason})

    def author(self, request: Request) -> Author:
        """The request's identity as somebody who publishes."""

        async def require(permission: Permission) -> None:
            await self.require(request, permission, request.repository)

        return Author(request.identity.name, require)

    def challenge(self, request: Request) -> str:
        """The ``WWW-Authenticate`` value for a request that is not let through (RFC 6750, section 3)."""
        address = self._address(request)
        if not self._bearer or request.path == "/token" or not address:
            return BASIC
        parts = [f'realm="{address}/token"', f'service="{self._service}"']
        permission = request.route.permission if request.route else Permission.PING
        if request.repository and permission in _SCOPES:
            parts.append(f'scope="repository:{request.repository}:{_SCOPES[permission]}"')
        elif permission in LISTS:
            parts.append(f'scope="registry:{LISTS[permission]}:*"')
        if request.identity.delegation is not None:
            parts.append('error="insufficient_scope"')
        return f"Bearer {','.join(parts)}"

    def _address(self, request: Request) -> str:
        """Where the client reaches this registry; "" where it has not said that, and nobody else did."""
        peer = request.peer
        return self._public_url or (f"{peer.scheme}://{peer.host}" if peer.host else "")


def caller(request: Request) -> Caller:
    """Who transfers something, for the record."""
    return Caller(request.identity, request.client, lambda: request.origin)


def _refusal(request: Request, action: Action, error: OciError, repository: str = "") -> Event:
    reason = str((error.detail or {}).get("reason") or error.message)
    parameters = request.parameters
    return Event(
        action,
        Outcome.DENIED if isinstance(error, Unauthorized | Denied) else Outcome.FAILED,
        request.identity,
        request.origin,
        reason=reason,
        repository=repository or parameters.get("repository", ""),
        reference=parameters.get("reference") or parameters.get("digest", ""),
        detail=f"{request.method} {request.route.path}" if request.route else request.method,
    )
