"""Authenticates and authorises requests, before anything else is done with them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeAlias

from trow.access.permissions import Permission, phrase
from trow.access.ports import Proof
from trow.oci.errors import Denied, OciError, Unauthorized
from trow.registry.events import Action

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trow.access.identity import Identity
    from trow.access.ports import Authenticator, Authorizer
    from trow.access.rules import Decision
    from trow.http.challenge import Challenge
    from trow.http.recorder import Recorder
    from trow.http.request import Request
    from trow.oci.names import Repository
    from trow.registry.events import Origin
    from trow.registry.ports import Metadata

Ask: TypeAlias = "Callable[[Request, Authenticator], Awaitable[Identity]]"


class AccessController:
    """Authenticates and authorises requests.

    Args:
        authenticator: None: clients are not authenticated, and credentials are ignored.
        challenge: asks a request without good credentials for others.
    """

    def __init__(
        self,
        authenticator: Authenticator | None,
        authorizer: Authorizer,
        metadata: Metadata,
        recorder: Recorder,
        challenge: Challenge,
    ) -> None:
        self._authenticator = authenticator
        self._authorizer = authorizer
        self._metadata = metadata
        self.recorder: Final = recorder
        self.challenge: Final = challenge

    async def admit(self, request: Request, permission: Permission) -> None:
        """Identify who sends the request and see that they may.

        Raises:
            Unauthorized, Denied, TooManyRequests, Unavailable: they may not, or it cannot be found out.
        """
        if self._authenticator is not None:
            await self.identify(request, by_header)
        await self.require(request, permission, request.repository)

    async def identify(self, request: Request, ask: Ask) -> None:
        """Find out who sends the request.

        Args:
            request: is given its identity.
            ask: hands the credentials to the authenticator.

        Raises:
            Unauthorized, TooManyRequests, Unavailable: the credentials are not good, or it cannot be found out.
        """
        if self._authenticator is None:
            return
        try:
            request.identity = await ask(request, self._authenticator)
        except OciError as error:
            self.recorder.refused(request, Action.LOGIN, error)
            raise

    async def require(self, request: Request, permission: Permission, repository: Repository) -> None:
        """See that the request's identity has the permission.

        Raises:
            Unauthorized, Denied, Unavailable: it does not, or it cannot be found out.
        """
        identity = request.identity
        decision = await self._authorizer.decide(identity, permission, repository)
        if decision.allowed:
            # Only now: whether the repository is there is nothing for those who may not see it.
            if identity.delegation is not None and repository:
                await self._check_generation(request, repository)
            return
        error = await self._refusal(identity, permission, repository, decision)
        if not identity.anonymous:
            self.recorder.refused(request, Action.ACCESS, error, repository)
        raise error

    async def _check_generation(self, request: Request, repository: Repository) -> None:
        """A token for a repository that was deleted is not one for its namesake (Harbor issue 22900)."""
        delegation = request.identity.delegation
        record = await self._metadata.repository(repository)
        if record is None or delegation is None or delegation.generation >= record.generation:
            return
        if record.created_by != request.identity.name:
            error = Unauthorized("the token is older than the repository; ask for a new one", {"name": repository})
            self.recorder.refused(request, Action.ACCESS, error, repository)
            raise error

    async def _refusal(
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

    def actor(self, request: Request) -> RequestActor:
        """Who sends the request, for use cases that have to ask what they may."""
        return RequestActor(request, self, self._authorizer)


class RequestActor:
    """The `Actor` of one request. What is refused is recorded."""

    __slots__ = ("_access", "_authorizer", "_request", "client", "identity")

    def __init__(self, request: Request, access: AccessController, authorizer: Authorizer) -> None:
        self.identity = request.identity
        self.client = request.client
        self._request = request
        self._access = access
        self._authorizer = authorizer

    @property
    def origin(self) -> Origin:
        return self._request.origin

    async def require(self, permission: Permission, repository: Repository) -> None:
        await self._access.require(self._request, permission, repository)

    async def may(self, permission: Permission, repository: Repository) -> bool:
        return (await self._authorizer.decide(self.identity.undelegated(), permission, repository)).allowed

    async def visible(self, repositories: Sequence[Repository]) -> Sequence[bool]:
        return await self._authorizer.visible(self.identity, repositories)

    def prefixes(self) -> Sequence[str]:
        return self._authorizer.prefixes(self.identity)


def by_header(request: Request, authenticator: Authenticator) -> Awaitable[Identity]:
    """Authenticate by the headers and the client certificate of the request."""
    return authenticator.identify(Proof(request.authorization, request.client, request.certificate))
