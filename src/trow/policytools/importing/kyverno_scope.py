"""`match`, `exclude` and `preconditions` of Kyverno's rules: a policy here applies to what starts in namespaces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from trow.lib.globs import matches
from trow.policytools.importing.drafts import Scope
from trow.policytools.importing.values import mapping, sequence, texts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.policytools.importing.drafts import ImportResult

# What may stand beside namespaces: which objects it is about, which is always the same here.
_HARMLESS: Final = frozenset({"kinds", "operations", "namespaces"})
_CREATE: Final = "CREATE"
_UPDATE: Final = "UPDATE"
# Nothing beside it: what is put together with something else is another condition.
_OPERATION: Final = re.compile(r"\{\{\s*request\.operation\s*(?:\|\|\s*['\"`][A-Za-z]*['\"`]\s*)?\}\}")
_IS_IN: Final = frozenset({"equal", "equals", "in", "anyin"})
_IS_NOT_IN: Final = frozenset({"notequal", "notequals", "notin", "anynotin", "allnotin"})


def scope_of(rule: Mapping[str, object], namespace: str | None, where: str, result: ImportResult) -> Scope | None:
    """Where a rule is in force; None if that cannot be expressed here, which is then noted."""
    filters = _filters(rule.get("match"), f"{where}, match")
    selector = _selector(filters, namespace) if filters else {}
    if filters is None or not all(_simple(each, selecting=bool(selector)) for each in filters):
        result.left_out(where, "match: conditions other than kinds, operations and namespaces cannot be expressed here")
        return None
    if filters and not any(filters := [each for each in filters if _on(each, _CREATE)]):
        result.left_out(where, "match: it does not apply to created objects, and only those start new images")
        return None
    if not any(_pods(each) for each in filters):
        result.changed(where, "match does not name Pods; policies here always apply to Pods")
    named = [texts(_resources(each).get("namespaces"), f"{where}, namespaces") for each in filters]
    include = [] if not all(named) else [name for names in named for name in names]
    exclude = _excluded(rule, where, result)
    if namespace is not None:
        return Scope(namespace)
    return Scope(None, tuple(dict.fromkeys(include)), tuple(dict.fromkeys(exclude)), selector)


def _excluded(rule: Mapping[str, object], where: str, result: ImportResult) -> Sequence[str]:
    filters = _filters(rule.get("exclude"), f"{where}, exclude")
    found: list[str] = []
    for each in filters or []:
        names = texts(_resources(each).get("namespaces"), f"{where}, namespaces")
        if _simple(each) and names and _pods(each) and _on(each, _CREATE, _UPDATE):
            found += names
        else:
            result.changed(where, "exclude: the policy applies there too, because only namespaces can be excluded here")
    if filters is None:
        result.changed(where, "exclude: the policy applies there too, because conditions cannot be combined here")
    return found


def _filters(value: object, where: str) -> Sequence[Mapping[str, object]] | None:
    """What any of has to hold; None if several have to hold together."""
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


def _selector(filters: Sequence[Mapping[str, object]], namespace: str | None) -> Mapping[str, object]:
    """The labels of namespaces that are asked for, where one policy here can say it."""
    selecting = [mapping(_resources(each).get("namespaceSelector"), "namespaceSelector") for each in filters]
    return selecting[0] if len(filters) == 1 and namespace is None else {}


def _simple(each: Mapping[str, object], *, selecting: bool = False) -> bool:
    """Whether it asks for nothing but kinds, operations and namespaces."""
    said = _HARMLESS | ({"namespaceSelector"} if selecting else set())
    return set(each) <= {"resources"} and set(_resources(each)) <= said


def _on(each: Mapping[str, object], *operations: str) -> bool:
    """Whether it is about all of these operations."""
    given = texts(_resources(each).get("operations"), "operations")
    return not given or set(operations) <= set(given)


def _pods(each: Mapping[str, object]) -> bool:
    kinds = texts(_resources(each).get("kinds"), "kinds")
    return not kinds or any(kind.rpartition("/")[2] in ("Pod", "*") for kind in kinds)


def on_creation(conditions: object) -> bool:
    """Whether preconditions are about operations alone, and hold where something is created."""
    if isinstance(conditions, list):
        return all(map(_holds_on_creation, conditions))
    block = mapping(conditions, "preconditions")
    every, some = (sequence(block.get(key), f"preconditions.{key}") for key in ("all", "any"))
    told = [_holds_on_creation(each) for each in some]
    return set(block) <= {"all", "any"} and all(map(_holds_on_creation, every)) and (any(told) or not told)


def _holds_on_creation(condition: object) -> bool:
    each = mapping(condition, "preconditions")
    value, operator = each.get("value"), str(each.get("operator")).lower()
    values = [value] if isinstance(value, str) else [*sequence(value, "preconditions, value")]
    among = any(matches(str(one), _CREATE) for one in values)
    if not _OPERATION.fullmatch(str(each.get("key"))):
        return False
    return among if operator in _IS_IN else not among and operator in _IS_NOT_IN
