"""Who may do what, by the rights of a token, the grants of a robot, the rules, and the cluster."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import TYPE_CHECKING, Final, Literal

from trow.access.permissions import LISTS, READING, Permission
from trow.access.prefixes import EVERYWHERE, merged, shared
from trow.access.rules import Decision
from trow.identity import remedies
from trow.identity.rule_decisions import RuleDecisions

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.identity import Delegation, Grant, Identity
    from trow.access.ports import Authorizer
    from trow.access.rules import PermissionRule
    from trow.lib.globs import RepositoryGlob
    from trow.oci.names import Repository

_GLOBAL: Final = frozenset({Permission.AUDIT, Permission.ADMIN})
# Repositories that are matched with globs at once, on the event loop.
_FEW: Final = 100
_MOST_GRANTS_TOLD: Final = 3
_OPEN: Final = Decision(allowed=True, reason="open to everybody")
_LOGGED_IN: Final = Decision(allowed=True, reason="logged in")
_NOT_LOGGED_IN: Final = Decision(allowed=False, reason="nobody is logged in")
_OPEN_TO_ALL: Final = Decision(allowed=True, reason="open to all: no authentication is configured")
_EVERYBODY: Final = Decision(allowed=True, reason="everybody may pull: auth.anonymous")
_LIST_EXTERNAL: Final = Decision(allowed=True, reason="what is listed is decided for each repository")


class AuthorizerChain:
    """Decides in this order; what says nothing about a request leaves it to the next.

    1. What is open to everybody, or needs no more than an identity.
    2. A registry token: it carries some of its holder's rights. For pull, push, attach and delete it decides alone; for
       the rest it has to carry the list (or push, to overwrite a tag), and then the holder's own right decides.
    3. What everybody may do; who may pull anonymously may pull logged in.
    4. A robot's grants, which decide alone.
    5. The rules.
    6. Another authorizer, such as the cluster's.

    Args:
        rules: they never change; other rules need another chain.
        anonymous: what is allowed without credentials, and so to everybody.
        external: asked for all that is not yet allowed, save for robots.
        open_to_all: allow everything, where no authentication is configured.
    """

    def __init__(
        self,
        rules: Sequence[PermissionRule],
        *,
        anonymous: Literal["none", "pull"] = "none",
        external: Authorizer | None = None,
        open_to_all: bool = False,
    ) -> None:
        self._rules = tuple(rules)
        self._public: frozenset[Permission] = READING if anonymous == "pull" else frozenset()
        self._external = external
        self._open_to_all = open_to_all
        self._by_rules = RuleDecisions(self._rules)

    async def decide(self, identity: Identity, permission: Permission, repository: Repository) -> Decision:
        if (decision := self._at_once(identity, permission)) is not None:
            return decision
        if identity.delegation is not None:
            decision = _delegated(identity.delegation, permission, repository)
            if decision is not None:
                return decision
            identity = identity.undelegated()
        own = self._own(identity, permission, repository)
        if own.allowed or self._external is None or identity.grants is not None:
            return own
        if permission is Permission.LIST and not repository and not identity.anonymous:
            return _LIST_EXTERNAL
        asked = await self._external.decide(identity, permission, repository)
        if asked.allowed or not self._rules:
            return asked if asked.allowed else replace(asked, fix=asked.fix or own.fix)
        fix = f"{own.fix}, or {asked.fix}" if asked.fix else own.fix
        return Decision(allowed=False, reason=f"{own.reason}; {asked.reason}", fix=fix)

    async def visible(self, identity: Identity, repositories: Sequence[Repository]) -> Sequence[bool]:
        """Decides by the rights of the holder, whatever the token is for."""
        if self._open_to_all or self._public:
            return [True] * len(repositories)
        holder = identity.undelegated()
        if holder.grants is not None:
            return await _seen(self._reach(holder), repositories)
        own = await _seen(self._reach(holder), repositories)
        left = [repository for repository, seen in zip(repositories, own, strict=True) if not seen]
        if self._external is None or not left:
            return own
        answers = dict(zip(left, await self._external.visible(holder, left), strict=True))
        return [seen or answers[repository] for repository, seen in zip(repositories, own, strict=True)]

    def prefixes(self, identity: Identity) -> Sequence[str]:
        if self._open_to_all or self._public:
            return EVERYWHERE
        holder = identity.undelegated()
        lists, pulls = (merged(glob.beginning for glob in globs) for globs in self._reach(holder))
        own = shared(lists, pulls)
        if self._external is None or holder.grants is not None:
            return own
        return merged([*own, *self._external.prefixes(holder)])

    def _reach(self, holder: Identity) -> tuple[Sequence[RepositoryGlob], Sequence[RepositoryGlob]]:
        """Where the holder may list, and where pull: whom a rule is about is found out once for all repositories."""
        allowed = (
            [(grant.permissions, (grant.repositories,)) for grant in holder.grants]
            if holder.grants is not None
            else [(rule.permissions, rule.repositories) for rule in self._rules if rule.subjects.include(holder)]
        )
        lists, pulls = (
            [glob for permissions, globs in allowed if side in permissions for glob in globs]
            for side in (Permission.LIST, Permission.PULL)
        )
        return lists, pulls

    def _at_once(self, identity: Identity, permission: Permission) -> Decision | None:
        if permission is Permission.OPEN:
            return _OPEN
        if self._open_to_all:
            return _OPEN_TO_ALL
        if permission is Permission.PING:
            return _NOT_LOGGED_IN if identity.anonymous and identity.delegation is None else _LOGGED_IN
        return None

    def _own(self, identity: Identity, permission: Permission, repository: Repository) -> Decision:
        if permission in self._public:
            return _EVERYBODY
        if identity.grants is not None:
            return _granted(identity, identity.grants, permission, repository)
        decision = self._by_rules.decide(identity, permission, repository)
        if decision.allowed:
            return decision
        fix = f"add {remedies.rule_text(identity, permission, repository)} to access.rules"
        return Decision(allowed=False, reason="no rule of access.rules allows it", fix=fix)


def _delegated(delegation: Delegation, permission: Permission, repository: Repository) -> Decision | None:
    """What a token says; None where it lets the holder's own right decide."""
    if permission in LISTS:
        name = LISTS[permission]
        return None if name in delegation.lists else _not_carried(f"the list {name!r}")
    if permission is Permission.TAG_OVERWRITE:
        return None if delegation.covers(Permission.PUSH, repository) else _not_carried(f"'push' on {repository}")
    # Pushing includes attaching.
    attached = permission is Permission.ATTACH and delegation.covers(Permission.PUSH, repository)
    if attached or delegation.covers(permission, repository):
        return Decision(allowed=True, reason=f"allowed by registry token {delegation.id}")
    return _not_carried(f"{permission.value!r} on {repository}")


def _not_carried(what: str) -> Decision:
    return Decision(allowed=False, reason=f"the registry token does not carry {what}", fix="ask for a token that does")


def _granted(identity: Identity, grants: Sequence[Grant], permission: Permission, repository: Repository) -> Decision:
    for grant in grants:
        covers = grant.repositories.covers(repository) if repository else grant.repositories == "**"
        # Lists show what may be seen; audit and admin concern all there is.
        if permission in grant.permissions and (covers or (not repository and permission not in _GLOBAL)):
            return Decision(allowed=True, reason=f"allowed by robot token {identity.credential}")
    told = [f"{','.join(sorted(each.value for each in one.permissions))} on {one.repositories}" for one in grants]
    told[_MOST_GRANTS_TOLD:] = ["more"] if len(told) > _MOST_GRANTS_TOLD else []
    return Decision(
        allowed=False,
        reason=f"its token {identity.credential} grants {'; '.join(told)} and nothing else",
        fix=f"make another token with `{remedies.robot_token_command(identity, permission, repository)}`",
    )


async def _seen(
    reach: tuple[Sequence[RepositoryGlob], Sequence[RepositoryGlob]], repositories: Sequence[Repository]
) -> Sequence[bool]:
    """Which repositories may be both listed and pulled; many are looked at beside the event loop."""

    def look() -> Sequence[bool]:
        return [all(any(glob.covers(each) for glob in side) for side in reach) for each in repositories]

    return look() if len(repositories) <= _FEW else await asyncio.to_thread(look)
