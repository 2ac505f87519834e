"""Constraints of Gatekeeper's library about images: `K8sAllowedRepos`, `K8sAllowedReposv2`, `K8sDisallowedRepos`.

They compare what is written in a Pod, character by character. https://github.com/open-policy-agent/gatekeeper-library
and, for `match`, https://open-policy-agent.github.io/gatekeeper/website/docs/howto.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.app.importing.drafts import Draft, DraftRule, Imported
from trow.app.importing.globs import Form, Inexpressible, Meaning, Nothing, meaning_of
from trow.app.importing.prefixes import meaning_of_prefix
from trow.app.importing.values import mapping, sequence, text, texts
from trow.policy.rules import Effect, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CONSTRAINTS: Final = "constraints.gatekeeper.sh/"
_TEMPLATES: Final = "templates.gatekeeper.sh/"
# What is done with images that are like an entry, and where the entries are.
_KINDS: Final = {
    "K8sAllowedRepos": (Effect.ALLOW, "repos"),
    "K8sAllowedReposv2": (Effect.ALLOW, "allowedImages"),
    "K8sDisallowedRepos": (Effect.DENY, "repos"),
}
_MODES: Final = {"deny": Mode.ENFORCE, "warn": Mode.WARN, "dryrun": Mode.AUDIT}
# Points of enforcement at which something can be refused; beside them there are `audit.gatekeeper.sh` and the like.
_REFUSING: Final = frozenset({"*", "validation.gatekeeper.sh", "vap.k8s.io"})
_STRICTEST: Final = (Mode.AUDIT, Mode.WARN, Mode.ENFORCE)
# Conditions on what is judged. Without them more would be refused than anybody asked for.
_CONDITIONS: Final = ("labelSelector", "namespaceSelector", "name")


def recognised(item: Mapping[str, object]) -> bool:
    """Whether it is an object of Gatekeeper."""
    return str(item.get("apiVersion")).startswith((_CONSTRAINTS, _TEMPLATES))


def imported(item: Mapping[str, object]) -> Imported:
    """The policy of a constraint.

    Raises:
        UnreadableSource: it has not the form that its template asks for.
    """
    into = Imported()
    kind = str(item.get("kind"))
    name = text(mapping(item.get("metadata"), "metadata").get("name"), "metadata.name")
    where = f"{kind}/{name}"
    if str(item["apiVersion"]).startswith(_TEMPLATES):
        into.note(where, "is a template; constraints of it are imported, if it is one of " + ", ".join(_KINDS))
    elif kind not in _KINDS:
        into.left_out(where, f"is none of {', '.join(_KINDS)}")
    elif namespaces := _namespaces(mapping(mapping(item.get("spec"), "spec").get("match"), "spec.match"), where, into):
        _import(kind, name, mapping(item.get("spec"), "spec"), namespaces, into)
    return into


def _import(
    kind: str, name: str, spec: Mapping[str, object], namespaces: tuple[Sequence[str], Sequence[str]], into: Imported
) -> None:
    effect, key = _KINDS[kind]
    where = f"{kind}/{name}"
    parameters = mapping(spec.get("parameters"), "spec.parameters")
    for unknown in sorted(set(parameters) - {key}):
        into.left_out(f"{where}, parameters.{unknown}", "is none of the library's parameters")
    entries = texts(parameters.get(key), f"spec.parameters.{key}")
    rules = tuple(rule for entry in entries for rule in _rules(kind, where, entry, into))
    default = Effect.DENY if effect is Effect.ALLOW else Effect.ALLOW
    include, exclude = map(tuple, namespaces)
    draft = Draft(name, default, rules, _mode(spec, where, into), include=include, exclude=exclude)
    into.finish(draft, len(entries))


def _rules(kind: str, where: str, entry: str, into: Imported) -> Iterator[DraftRule]:
    effect, key = _KINDS[kind]
    place = f"{where}, {key} {entry!r}"
    try:
        meaning = _meaning(kind, entry, trusting=effect is Effect.ALLOW)
    except Inexpressible as error:
        into.left_out(place, str(error))
        return
    for remark in meaning.remarks:
        into.changed(place, remark)
    yield DraftRule(entry, effect, meaning.patterns)


def _meaning(kind: str, entry: str, *, trusting: bool) -> Meaning:
    if kind != "K8sAllowedReposv2":
        return meaning_of_prefix(entry, Form.WRITTEN, trusting=trusting)
    if "*" in entry.removesuffix("*"):
        raise Nothing(f"{entry!r} has a star that is not at its end, where it is a character that no name has")
    return meaning_of(entry, Form.WRITTEN, trusting=trusting)


def _namespaces(match: Mapping[str, object], where: str, into: Imported) -> tuple[Sequence[str], Sequence[str]] | None:
    """Included and excluded ones; None if the constraint cannot be imported."""
    if conditions := [key for key in _CONDITIONS if match.get(key)]:
        into.left_out(where, f"match.{', match.'.join(conditions)}: there are no such conditions here")
        return None
    if match.get("scope") == "Cluster":
        into.left_out(where, "match.scope: Cluster is about nothing that has images")
        return None
    if not _pods(match):
        into.changed(where, "match.kinds has no Pods, but here they are what is judged in the end")
    namespaces = texts(match.get("namespaces"), "spec.match.namespaces")
    return namespaces, texts(match.get("excludedNamespaces"), "spec.match.excludedNamespaces")


def _pods(match: Mapping[str, object]) -> bool:
    kinds = [mapping(each, "spec.match.kinds") for each in sequence(match.get("kinds"), "spec.match.kinds")]
    named = [name for each in kinds for name in texts(each.get("kinds"), "spec.match.kinds[].kinds")]
    return not kinds or bool({"Pod", "*"} & set(named))


def _mode(spec: Mapping[str, object], where: str, into: Imported) -> Mode:
    action = text(spec.get("enforcementAction"), "spec.enforcementAction") or "deny"
    if action != "scoped":
        if action not in _MODES:
            into.changed(f"{where}, enforcementAction", f"{action!r} is unknown; what is denied is refused")
        return _MODES.get(action, Mode.ENFORCE)
    scoped = sequence(spec.get("scopedEnforcementActions"), "spec.scopedEnforcementActions")
    found = {_scoped(mapping(each, "spec.scopedEnforcementActions")) for each in scoped}
    mode = max(found, key=_STRICTEST.index, default=Mode.ENFORCE)
    if len(found) > 1:
        into.changed(f"{where}, scopedEnforcementActions", f"one mode is for all of a policy: {mode.value}")
    return mode


def _scoped(action: Mapping[str, object]) -> Mode:
    """What an action comes to: nothing is refused but where the API server asks before it stores."""
    mode = _MODES.get(str(action.get("action")), Mode.ENFORCE)
    where = "spec.scopedEnforcementActions[].enforcementPoints"
    points = {str(mapping(each, where).get("name")) for each in sequence(action.get("enforcementPoints"), where)}
    return mode if not points or points & _REFUSING else Mode.AUDIT
