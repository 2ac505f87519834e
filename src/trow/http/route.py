"""A row of the table of routes without its handler."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from trow.access.permissions import Permission
    from trow.registry.events import Action


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """Says that a route records nothing, and why."""

    why: str


Recorded: TypeAlias = "frozenset[Action] | Unrecorded"


@dataclass(frozen=True, slots=True)
class Route:
    """What a request asks for. A route for GET answers HEAD too.

    Attributes:
        permission: what the request needs.
        records: the actions that an answer may leave in the audit trail. Refusals are not
            listed: they are recorded where they are decided.
    """

    method: str
    path: str
    permission: Permission
    records: Recorded
