"""Converts `match`, `exclude` and `preconditions` of Kyverno's rules to the namespaces of a policy."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from trow.lib.globs import matches
from trow.policytools.importing.drafts import DraftScope
from trow.policytools.importing.values import mapping, sequence, texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from collections.abc import Set as AbstractSet

    from trow.policytools.importing.drafts import ImportResult

# Conditions that can be expressed, or make no difference here.
_SUPPORTED: Final = frozenset({"kinds", "operations", "namespaces"})
_CREATE: Final = "CREATE"
_UPDATE: Final = "UPDATE"
# The whole key; with other text it is another condition.
_OPERATION: Final = re.compile(r"\{\{\s*request\.operation\s*(?:\|\|\s*['\"`][A-Za-z]*['\"`]\s*)?\}\}")
_IS_IN: Final = frozenset({"equal", "equals", "in", "anyin"})
_IS_NOT_IN: Final = frozenset({"notequal", "notequals", "notin", "anynotin", "allnotin"})


def scope_of(rule: Mapping[str, object], namespace: str | None, where: str, result: ImportResult) -> DraftScope | None:
    """Where a rule applies; None, with a remark, if that cannot be expressed here."""
    filters = _filters(rule.get("match"), f"{where}, match")
    selector: Mapping[str, object] = {}
    if filters is not None and len(filters) == 1 and namespace is None:
        selector = mapping(_resources(filters[0]).get("namespaceSelector"), "namespaceSelector")
    supported = _SUPPORTED | ({"namespaceSelector"} if selector else set())
    if filters is None or not all(_has_only(each, supported) for each in filters):
        result.left_out(where, "match: conditions other than kinds, operations and namespaces cannot be expressed here")
        return None
    if filters and not any(filters := [each for each in filters if _covers_operations(each, _CREATE)]):
        result.left_out(where, "match: it does not apply to created objects, and only those start new images")
        return None
    if not any(_covers_pods(each) for each in filters):
        result.changed(where, "match does not name Pods; policies here always apply to Pods")
    exclude = _excluded(rule, where, result)
    if namespace is not None:
        return DraftScope(namespace)
    named = [texts(_resources(each).get("namespaces"), f"{where}, namespaces") for each in filters]
    include = [] if not all(named) else [name for names in named for name in names]
    return DraftScope(None, tuple(dict.fromkeys(include)), tuple(dict.fromkeys(exclude)), selector)


def _excluded(rule: Mapping[str, object], where: str, result: ImportResult) -> Sequence[str]:
    filters = _filters(rule.get("exclude"), f"{where}, exclude")
    found: list[str] = []
    for each in filters or []:
        names = texts(_resources(each).get("namespaces"), f"{where}, namespaces")
        if _has_only(each, _SUPPORTED) and names and _covers_pods(each) and _covers_operations(each, _CREATE, _UPDATE):
            found += names
        else:
            result.changed(where, "exclude: the policy applies there too, because only namespaces can be excluded here")
    if filters is None:
        result.changed(where, "exclude: the policy applies there too, because conditions cannot be combined here")
    return found


def _filters(value: object, where: str) -> Sequence[Mapping[str, object]] | None:
    """The conditions, any of which has to be true; None if several have to be true together."""
    block = mapping(value, where)
    if not block:
        return []
    if "any" in block and len(block) == 1:
        return [mapping(each, where) for each in sequence(block["any"], where)]
    if "all" in block and len(block) == 1:
        every = [mapping(each, where) for each in sequence(block["all"], where)]
        return every if len(every) == 1 else None
    return [block] if not {"any", "all"} & set(block) else None


def _resources(each: Mapping[str, object]) -> Mapping[str, object]:
    return mapping(each.get("resources"), "resources")


def _has_only(each: Mapping[str, object], conditions: AbstractSet[str]) -> bool:
    return set(each) <= {"resources"} and set(_resources(each)) <= conditions


def _covers_operations(each: Mapping[str, object], *operations: str) -> bool:
    given = texts(_resources(each).get("operations"), "operations")
    return not given or set(operations) <= set(given)


def _covers_pods(each: Mapping[str, object]) -> bool:
    kinds = texts(_resources(each).get("kinds"), "kinds")
    return not kinds or any(kind.rpartition("/")[2] in ("Pod", "*") for kind in kinds)


def on_creation(conditions: object) -> bool:
    """Whether preconditions depend only on the operation, and are true for CREATE."""
    if isinstance(conditions, list):
        return all(map(_true_on_creation, conditions))
    block = mapping(conditions, "preconditions")
    every, some = (sequence(block.get(key), f"preconditions.{key}") for key in ("all", "any"))
    return (
        set(block) <= {"all", "any"}
        and all(map(_true_on_creation, every))
        and (not some or any(map(_true_on_creation, some)))
    )


def _true_on_creation(condition: object) -> bool:
    each = mapping(condition, "preconditions")
    value, operator = each.get("value"), str(each.get("operator")).lower()
    values = [value] if isinstance(value, str) else [*sequence(value, "preconditions, value")]
    among = any(matches(str(one), _CREATE) for one in values)
    if not _OPERATION.fullmatch(str(each.get("key"))):
        return False
    return among if operator in _IS_IN else not among and operator in _IS_NOT_IN
