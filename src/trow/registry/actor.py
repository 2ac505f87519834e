"""Who sends a request: a value that use cases and records get."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypedDict, Unpack

from trow.lib.source import source_of
from trow.registry.events import Event, Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.identity import Identity
    from trow.access.permissions import Permission
    from trow.oci.names import Repository
    from trow.registry.events import Action, Origin


class Caller(Protocol):
    """Who sends a request, and from where. A request is a caller itself, so that reading makes no object."""

    @property
    def identity(self) -> Identity:
        """Who it is."""

    @property
    def client(self) -> str:
        """The address that the request comes from, behind trusted proxies."""

    @property
    def origin(self) -> Origin:
        """The same as a record has it, which takes some work: only records ask for it."""


class Actor(Caller, Protocol):
    """A caller together with what they may do."""

    async def require(self, permission: Permission, repository: Repository) -> None:
        """See that the actor has the permission, by the credential that the request came with.

        Raises:
            Unauthorized, Denied, Unavailable: the actor does not, or it cannot be found out.
        """

    async def may(self, permission: Permission, repository: Repository) -> bool:
        """Whether the holder of the credential has the permission, whatever a token of ours carries.

        For what no token can be requested, such as the source of a mount that the client leaves to the registry
        (decision 0010).
        """

    async def visible(self, repositories: Sequence[Repository]) -> Sequence[bool]:
        """Which of these repositories the holder may list and pull."""

    def prefixes(self) -> Sequence[str]:
        """What the names of such repositories begin with; sorted, and none begins with another one."""


def owner_of(caller: Caller) -> str:
    """Whose share an upload or a search takes: a user's, or a source's if no credentials are shown."""
    name = caller.identity.name
    return f"user {name}" if name else f"source {source_of(caller.client)}"


class EventFields(TypedDict, total=False):
    """The further members of an `Event`."""

    status: int
    reason: str
    repository: str
    reference: str
    digest: str
    media_type: str
    previous: str
    source: str
    detail: str
    bytes: int
    started_at: float


def event_of(caller: Caller, action: Action, outcome: Outcome = Outcome.OK, **fields: Unpack[EventFields]) -> Event:
    """An event of a request: the one place where these are made."""
    return Event(action, outcome, actor=caller.identity, origin=caller.origin, **fields)
