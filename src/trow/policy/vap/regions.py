"""The namespaces that policies are about, as expressions of the API server: over the names alone.

Which labels a namespace has is left out, so that an expression says too much rather than too little; `by_names` says
what is known of them in names.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from trow.policy.patterns import ANY
from trow.policy.rules import NAMESPACED
from trow.policy.selectors import EVERY
from trow.policy.vap.cel import matches, texts
from trow.policy.vap.expressions import glob

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trow.policy.rules import Policy
    from trow.policy.selectors import Selector

EVERYWHERE: Final = "true"
NOWHERE: Final = "false"
NAMESPACE: Final = "request.?namespace.orValue('')"
# Of one expression, in characters; cel-go reads 100 000.
LONGEST: Final = 95_000
_LONGEST_PART: Final = 45_000


def about(policies: Iterable[Policy]) -> str:
    """The namespaces that any of these policies is about; everywhere, where they are too many to be told."""
    included: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for policy in policies:
        include, exclude = names_of(policy)
        included[tuple(sorted(exclude))].update(include)
    expression = any_of(*(_among(sorted(names)) + _but(exclude) for exclude, names in sorted(included.items())))
    return expression if len(expression) <= _LONGEST_PART else EVERYWHERE


def by_names(policies: Iterable[Policy], known: Mapping[str, Mapping[str, str]]) -> list[Policy]:
    """The policies, with those namespaces excluded that they pass over for their labels.

    A namespace that is not known may be meant. Whoever may change the labels of one may also take it out of a policy,
    so it makes no difference who can do so while nobody looks.

    Args:
        policies: any.
        known: labels of namespaces by name.
    """
    passed_over: dict[Selector, tuple[str, ...]] = {}

    def told(policy: Policy) -> Policy:
        selector = policy.namespaces.selector
        if policy.kind == NAMESPACED or selector == EVERY:
            return policy
        if selector not in passed_over:
            passed_over[selector] = tuple(name for name, labels in known.items() if not selector.matches(name, labels))
        names = policy.namespaces
        others = (name for name in passed_over[selector] if names.cover_name(name))
        return replace(policy, namespaces=replace(names, exclude=(*names.exclude, *others)))

    return [told(policy) for policy in policies]


class MutatedNamespaces:
    """Where Pods get other names for their images than what makes them has.

    Args:
        policies: all that are in force; any of them may have Pods changed that others are about.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._of: dict[str, list[Policy]] = defaultdict(list)
        for policy in policies:
            if policy.mutate.anything:
                self._of[policy.namespace].append(policy)

    def where(self, policy: Policy) -> str:
        """The namespaces of those that may change Pods that a policy is about."""
        names = ("", policy.namespace) if policy.kind == NAMESPACED else tuple(self._of)
        return about(each for name in names for each in self._of.get(name, ()) if _may_meet(each, policy))


def names_of(policy: Policy) -> tuple[Sequence[str], Sequence[str]]:
    """Namespaces that a policy is about, and those of them that it is not, by names in which ``*`` is anything."""
    if policy.kind == NAMESPACED:
        return (policy.namespace,), ()
    return policy.namespaces.include, policy.namespaces.exclude


def _may_meet(one: Policy, other: Policy) -> bool:
    """Whether there may be a namespace that both are about."""
    for each in (one, other):
        names, _ = names_of(each)
        if not any("*" in name for name in names):
            return any(one.applies(name) and other.applies(name) for name in names)
    return True


def any_of(*parts: str) -> str:
    """Where one of these holds."""
    needed = [part for part in parts if part != NOWHERE]
    if EVERYWHERE in needed:
        return EVERYWHERE
    return " || ".join(f"({part})" for part in needed) or NOWHERE


def all_of(where: str, what: str) -> str:
    """Where both hold."""
    if NOWHERE in (where, what):
        return NOWHERE
    needed = [part for part in dict.fromkeys((where, what)) if part != EVERYWHERE]
    return needed[0] if len(needed) == 1 else " && ".join(f"({part})" for part in needed) or EVERYWHERE


def _among(globs: Sequence[str]) -> str:
    if ANY in globs:
        return EVERYWHERE
    exact, wild = [each for each in globs if "*" not in each], [each for each in globs if "*" in each]
    parts = [f"{NAMESPACE} in {texts(exact)}"] if exact else []
    parts += [matches(f"({NAMESPACE})", "|".join(map(glob, wild)))] if wild else []
    return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"


def _but(globs: Sequence[str]) -> str:
    return f" && !({_among(globs)})" if globs else ""
