"""Decisions of rules, so that they need not be made again for every request."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, TypeAlias

from trow.access import rules as access_rules
from trow.access.identity import Method
from trow.lib.caches import LruCache

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.identity import Identity
    from trow.access.permissions import Permission
    from trow.access.rules import Decision, PermissionRule
    from trow.oci.names import Repository

MOST_DECISIONS: Final = 8192
_DIGEST_BYTES: Final = 16
_ANONYMOUS: Final = b""

_Key: TypeAlias = "tuple[bytes, Permission, Repository]"


class RuleDecisions:
    """What rules say, as `trow.access.rules.decide` does.

    Rules never change and a decision follows from the arguments alone, so it is good for as long as the rules. Of an
    identity only that is kept by which rules tell it from others, and only as a digest: names, groups and claims can be
    long, and whoever brings them chooses them.
    """

    def __init__(self, rules: Sequence[PermissionRule]) -> None:
        self._rules = tuple(rules)
        subjects = [rule.subjects for rule in self._rules]
        self._users = frozenset[str]().union(*(each.users for each in subjects))
        self._groups = frozenset[str]().union(*(each.groups for each in subjects))
        claims = {key for each in subjects for key, _ in each.claims}
        self._claims = tuple(sorted(claims | {"issuer"})) if any(each.issuer for each in subjects) else ()
        self._decisions: LruCache[_Key, Decision] = LruCache(MOST_DECISIONS)

    def decide(self, identity: Identity, permission: Permission, repository: Repository) -> Decision:
        """What the rules say."""
        key = self._distinct(identity), permission, repository
        decision = self._decisions.get(key)
        if decision is None:
            decision = access_rules.decide(self._rules, identity, permission, repository)
            self._decisions.put(key, decision)
        return decision

    def _distinct(self, identity: Identity) -> bytes:
        if identity.anonymous:
            return _ANONYMOUS
        name = identity.name if identity.name in self._users else ""
        groups = sorted(self._groups.intersection(identity.groups)) if self._groups else ()
        of_issuer = bool(self._claims) and identity.method is Method.OIDC
        claims = [tuple(identity.values(key)) for key in self._claims] if of_issuer else ()
        facts = repr((name, groups, of_issuer, claims)).encode()
        return hashlib.blake2b(facts, digest_size=_DIGEST_BYTES).digest()
