"""Who may do what: subjects, repositories, actions; what no rule allows is denied."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.access.identity import Method
from trow.access.permissions import Permission
from trow.lib.globs import matches

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.identity import Identity
    from trow.lib.globs import RepositoryGlob
    from trow.oci.names import Repository

ALL_REPOSITORIES: Final = "**"


@dataclass(frozen=True, slots=True)
class Decision:
    """Whether something may be done.

    Attributes:
        reason: which rule or object allows it, or why nothing does.
        fix: what an administrator can do to allow it; "" where that cannot be said.
    """

    allowed: bool
    reason: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Subjects:
    """Whom a rule is about: any of the users or of the groups, and all of the claims.

    Attributes:
        users: names; ``*`` is everybody who is logged in.
        groups: names of groups.
        issuer: the name of the OIDC issuer that claims are read from.
        claims: what a token's claims have to be; ``*`` in a value matches anything.
        anonymous: whether those without credentials are meant too.
    """

    users: frozenset[str] = frozenset()
    groups: frozenset[str] = frozenset()
    issuer: str = ""
    claims: tuple[tuple[str, str], ...] = ()
    anonymous: bool = False

    def include(self, identity: Identity) -> bool:
        """Whether the rule is about this identity."""
        if identity.anonymous:
            return self.anonymous
        if not self.users and not self.groups:
            named = bool(self.issuer)  # all who have the claims
        else:
            named = identity.name in self.users or "*" in self.users or not self.groups.isdisjoint(identity.groups)
        if not named or not self.issuer:
            return named
        return (
            identity.method is Method.OIDC
            and identity.values("issuer") == (self.issuer,)
            and all(any(matches(wanted, value) for value in identity.values(key)) for key, wanted in self.claims)
        )


@dataclass(frozen=True, slots=True)
class PermissionRule:
    """Some subjects may do some actions on some repositories."""

    name: str
    subjects: Subjects
    repositories: tuple[RepositoryGlob, ...]
    permissions: frozenset[Permission]

    def allows(self, identity: Identity, permission: Permission, repository: Repository) -> bool:
        """Whether this rule grants the permission; ``repository`` is "" where the permission concerns none."""
        if permission not in self.permissions or not self.subjects.include(identity):
            return False
        if repository:
            return any(glob.covers(repository) for glob in self.repositories)
        # Who may list anything may ask for the list; what concerns all repositories needs all of them.
        return permission is Permission.LIST or ALL_REPOSITORIES in self.repositories


def decide(
    rules: Sequence[PermissionRule], identity: Identity, permission: Permission, repository: Repository
) -> Decision:
    """The first rule that allows it decides; without one it is denied."""
    for rule in rules:
        if rule.allows(identity, permission, repository):
            return Decision(allowed=True, reason=f"allowed by {rule.name}")
    return Decision(allowed=False, reason="no rule allows it")
