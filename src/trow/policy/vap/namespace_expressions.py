"""The namespaces that policies select, as CEL expressions over the name of the namespace.

Such an expression ignores the labels of namespaces, so it may select too many namespaces, never too few.
`labels_as_names` turns what is known of the labels into names.
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

ALWAYS: Final = "true"
NEVER: Final = "false"
NAMESPACE: Final = "request.?namespace.orValue('')"
# Characters of an expression; cel-go reads 100 000.
LONGEST: Final = 95_000
_LONGEST_PART: Final = 45_000


def namespaces_of(policies: Iterable[Policy]) -> str:
    """Whether any of the policies selects the namespace; `ALWAYS` where the expression would be too long."""
    included: dict[tuple[str, ...], set[str]] = defaultdict(set)
    for policy in policies:
        include, exclude = namespace_globs(policy)
        included[tuple(sorted(exclude))].update(include)
    expression = any_of(
        *(
            _matches_any(sorted(names)) + (f" && !({_matches_any(exclude)})" if exclude else "")
            for exclude, names in sorted(included.items())
        )
    )
    return expression if len(expression) <= _LONGEST_PART else ALWAYS


def labels_as_names(policies: Iterable[Policy], known: Mapping[str, Mapping[str, str]]) -> list[Policy]:
    """The policies, with the namespaces excluded that their selectors do not match.

    A namespace that is not known stays selected. Its labels may change before the expression is written again; whoever
    can change them can take the namespace out of the policy anyway.

    Args:
        policies: any.
        known: labels of namespaces by name.
    """
    unmatched: dict[Selector, tuple[str, ...]] = {}

    def excluding(policy: Policy) -> Policy:
        names, selector = policy.namespaces, policy.namespaces.selector
        if policy.kind == NAMESPACED or selector == EVERY:
            return policy
        if selector not in unmatched:
            unmatched[selector] = tuple(name for name, labels in known.items() if not selector.matches(name, labels))
        others = (name for name in unmatched[selector] if names.cover_name(name))
        return replace(policy, namespaces=replace(names, exclude=(*names.exclude, *others)))

    return [excluding(policy) for policy in policies]


class MutatedNamespaces:
    """The namespaces in which Pods get other image names than their templates have.

    Args:
        policies: all that are in force: one policy may change Pods that another one evaluates.
    """

    def __init__(self, policies: Iterable[Policy]) -> None:
        self._of: dict[str, list[Policy]] = defaultdict(list)
        for policy in policies:
            if policy.mutate.anything:
                self._of[policy.namespace].append(policy)

    def where(self, policy: Policy) -> str:
        """The namespaces of the policies that may change Pods which this policy evaluates."""
        names = ("", policy.namespace) if policy.kind == NAMESPACED else tuple(self._of)
        return namespaces_of(each for name in names for each in self._of.get(name, ()) if _may_overlap(each, policy))


def namespace_globs(policy: Policy) -> tuple[Sequence[str], Sequence[str]]:
    """The namespaces that a policy includes, and those that it excludes, as globs over names."""
    if policy.kind == NAMESPACED:
        return (policy.namespace,), ()
    return policy.namespaces.include, policy.namespaces.exclude


def _may_overlap(one: Policy, other: Policy) -> bool:
    """Whether there may be a namespace that both select."""
    for each in (one, other):
        names, _ = namespace_globs(each)
        if not any("*" in name for name in names):
            return any(one.applies(name) and other.applies(name) for name in names)
    return True


def any_of(*parts: str) -> str:
    """Whether any of these expressions is true."""
    needed = [part for part in parts if part != NEVER]
    if ALWAYS in needed:
        return ALWAYS
    return " || ".join(f"({part})" for part in needed) or NEVER


def all_of(where: str, what: str) -> str:
    """Whether both expressions are true."""
    if NEVER in (where, what):
        return NEVER
    needed = [part for part in dict.fromkeys((where, what)) if part != ALWAYS]
    return needed[0] if len(needed) == 1 else " && ".join(f"({part})" for part in needed) or ALWAYS


def _matches_any(globs: Sequence[str]) -> str:
    if ANY in globs:
        return ALWAYS
    exact, wild = [each for each in globs if "*" not in each], [each for each in globs if "*" in each]
    parts = [f"{NAMESPACE} in {texts(exact)}"] if exact else []
    parts += [matches(f"({NAMESPACE})", "|".join(map(glob, wild)))] if wild else []
    return parts[0] if len(parts) == 1 else f"({' || '.join(parts)})"
