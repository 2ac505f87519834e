"""Who asks use cases for something, without requests and rules: they may do what a test says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.access.identity import ANONYMOUS, Identity
from trow.access.prefixes import EVERYWHERE
from trow.oci.errors import Denied
from trow.registry.events import Origin

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from trow.access.permissions import Permission
    from trow.oci.names import Repository


async def yes(_: Repository) -> bool:
    return True


async def no(_: Repository) -> bool:
    return False


class Somebody:
    """See `trow.registry.actor.Actor`.

    Args:
        held: the permissions that this one has.
        everything: whether it has all of them.
        reads: tells from which repositories it may mount; they are also those that it sees.
        prefixes: what their names begin with.

    Attributes:
        asked: which permissions were required of it.
        shown: which names it was asked about.
        origins: how often its origin was worked out.
    """

    def __init__(
        self,
        *held: Permission,
        everything: bool = False,
        identity: Identity = Identity("alice"),  # noqa: B008 - frozen
        client: str = "192.0.2.1",
        reads: Callable[[Repository], Awaitable[bool]] = yes,
        prefixes: Sequence[str] = EVERYWHERE,
    ) -> None:
        self.held = set(held)
        self.everything = everything
        self.identity = identity
        self.client = client
        self.asked: list[Permission] = []
        self.shown: list[list[Repository]] = []
        self.origins = 0
        self._reads = reads
        self._prefixes = prefixes

    @property
    def origin(self) -> Origin:
        self.origins += 1
        return Origin(self.client, agent="test/1")

    async def require(self, permission: Permission, repository: Repository) -> None:
        self.asked.append(permission)
        if not self.everything and permission not in self.held:
            raise Denied(f"you may not do this in {repository}", {"permission": permission.value})

    async def may(self, permission: Permission, repository: Repository) -> bool:
        assert permission.value == "pull"
        return await self._reads(repository)

    async def visible(self, repositories: Sequence[Repository]) -> Sequence[bool]:
        self.shown.append([*repositories])
        return [await self._reads(each) for each in repositories]

    def prefixes(self) -> Sequence[str]:
        return self._prefixes


def named(name: str, client: str = "192.0.2.1") -> Somebody:
    """Somebody with this name, who has no permission; "" shows no credentials."""
    return Somebody(identity=Identity(name) if name else ANONYMOUS, client=client)


def seeing(prefix: str, prefixes: Sequence[str] = EVERYWHERE) -> Somebody:
    """Somebody who sees what begins with this."""

    async def reads(repository: Repository) -> bool:
        return repository.startswith(prefix)

    return Somebody(reads=reads, prefixes=prefixes)
