"""What somebody may be allowed to do: pure values that routes, rules, grants and tokens name."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.oci.names import Repository


class Permission(Enum):
    """What a route needs. `OPEN`, `PING`, `LIST`, `AUDIT` and `ADMIN` concern no single repository."""

    OPEN = "open"
    PING = "ping"
    LIST = "list"
    PULL = "pull"
    PUSH = "push"
    ATTACH = "attach"
    TAG_OVERWRITE = "tag-overwrite"
    DELETE = "delete"
    AUDIT = "audit"
    ADMIN = "admin"

    # Members are looked up for every request, and Enum's own hash is computed in Python.
    __hash__ = object.__hash__


# What a rule may grant. Pushing includes attaching (a signature is a push with a subject); admin is everything.
ACTIONS: Final = (
    Permission.PULL,
    Permission.PUSH,
    Permission.ATTACH,
    Permission.TAG_OVERWRITE,
    Permission.DELETE,
    Permission.LIST,
    Permission.AUDIT,
    Permission.ADMIN,
)
_IMPLIED: Final[Mapping[Permission, frozenset[Permission]]] = {
    Permission.PUSH: frozenset({Permission.PUSH, Permission.ATTACH}),
    Permission.ADMIN: frozenset(ACTIONS),
}
READING: Final = frozenset({Permission.PULL, Permission.LIST})
EVERYTHING: Final = frozenset(ACTIONS)
# The names under which registry tokens carry what concerns no single repository.
LISTS: Final[Mapping[Permission, str]] = {
    Permission.LIST: "catalog",
    Permission.AUDIT: "audit",
    Permission.ADMIN: "admin",
}


def expand(actions: Sequence[Permission]) -> frozenset[Permission]:
    """The actions with what they include."""
    return frozenset().union(*(_IMPLIED.get(action, frozenset({action})) for action in actions))


_PHRASES: Final[Mapping[Permission, str]] = {
    Permission.OPEN: "ask this",
    Permission.PING: "use this registry",
    Permission.LIST: "list repositories",
    Permission.PULL: "pull",
    Permission.PUSH: "push to",
    # What every request of a push needs before it is known what is pushed.
    Permission.ATTACH: "push or attach anything to",
    Permission.TAG_OVERWRITE: "let a tag point at something else in",
    Permission.DELETE: "delete anything of",
    Permission.AUDIT: "read the audit record",
    Permission.ADMIN: "administer the registry",
}


def phrase(permission: Permission, repository: Repository) -> str:
    """What somebody wants to do, in words that follow "may not"."""
    return f"{_PHRASES[permission]} {repository}".rstrip()
