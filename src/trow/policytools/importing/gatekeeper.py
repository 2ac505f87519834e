"""Constraints of Gatekeeper's library about images: where they may come from, which tags they have, whether digests.

They compare the text in a Pod, character by character. https://github.com/open-policy-agent/gatekeeper-library
and, for `match`, https://open-policy-agent.github.io/gatekeeper/website/docs/howto.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, Protocol

from trow.oci.errors import OciError
from trow.oci.names import Tag
from trow.policy.patterns import ANY, ImagePattern
from trow.policy.rules import Effect, Mode
from trow.policytools.importing.drafts import ImportResult, PolicyDraft, RuleDraft
from trow.policytools.importing.globs import Form, MatchesNothing, NotTranslatable, Translation, translation_of
from trow.policytools.importing.prefixes import translation_of_prefix
from trow.policytools.importing.values import mapping, sequence, text, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_CONSTRAINTS: Final = "constraints.gatekeeper.sh/"
_TEMPLATES: Final = "templates.gatekeeper.sh/"
# What is done with images that are like an entry, and where the entries are.
_KINDS: Final = {
    "K8sAllowedRepos": (Effect.ALLOW, "repos"),
    "K8sAllowedReposv2": (Effect.ALLOW, "allowedImages"),
    "K8sDisallowedRepos": (Effect.DENY, "repos"),
    "K8sDisallowedTags": (Effect.DENY, "tags"),
}
_TAGS: Final = "K8sDisallowedTags"
_DIGESTS: Final = "K8sImageDigests"
_ALL: Final = (*_KINDS, _DIGESTS)
_EXEMPT: Final = "exemptImages"
_EXEMPTING: Final = (_TAGS, _DIGESTS)
_MODES: Final = {"deny": Mode.ENFORCE, "warn": Mode.WARN, "dryrun": Mode.AUDIT}
# Points of enforcement at which something can be refused; beside them there are others, such as `audit.gatekeeper.sh`.
_REFUSING: Final = frozenset({"*", "validation.gatekeeper.sh", "vap.k8s.io"})
_STRICTEST: Final = (Mode.AUDIT, Mode.WARN, Mode.ENFORCE)
# Conditions on what is judged. Without them more would be refused than anybody asked for.
_CONDITIONS: Final = ("labelSelector", "name")
_MATCHED: Final = frozenset(
    {*_CONDITIONS, "excludedNamespaces", "kinds", "namespaces", "namespaceSelector", "scope", "source"}
)


def detect(item: Mapping[str, object]) -> bool:
    """Whether it is an object of Gatekeeper."""
    return str(item.get("apiVersion")).startswith((_CONSTRAINTS, _TEMPLATES))


def convert(item: Mapping[str, object]) -> ImportResult:
    """The policy of a constraint.

    Raises:
        UnreadableSource: it does not have the form that its template requires.
    """
    result = ImportResult()
    kind = str(item.get("kind"))
    name = text(mapping(item.get("metadata"), "metadata").get("name"), "metadata.name")
    where = f"{kind}/{name}"
    if str(item["apiVersion"]).startswith(_TEMPLATES):
        result.note(where, "is a template; its constraints are imported if it is one of " + ", ".join(_ALL))
    elif kind not in _ALL:
        result.left_out(where, f"is not one of {', '.join(_ALL)}")
    elif namespaces := _namespaces(
        mapping(mapping(item.get("spec"), "spec").get("match"), "spec.match"), where, result
    ):
        _import(kind, name, mapping(item.get("spec"), "spec"), namespaces, result)
    return result


def _import(
    kind: str,
    name: str,
    spec: Mapping[str, object],
    namespaces: tuple[Sequence[str], Sequence[str]],
    result: ImportResult,
) -> None:
    where = f"{kind}/{name}"
    parameters = mapping(spec.get("parameters"), "spec.parameters")
    default, rules, entries = _said(kind, where, parameters, result)
    include, exclude = map(tuple, namespaces)
    selector = mapping(
        mapping(spec.get("match"), "spec.match").get("namespaceSelector"), "spec.match.namespaceSelector"
    )
    draft = PolicyDraft(name, default, rules, _mode(spec, where, result), include=include, exclude=exclude)
    excepted = tuple(_excepted(where, parameters, result)) if kind in _EXEMPTING else ()
    result.finish(replace(draft, digest=kind == _DIGESTS, selector=selector, excepted=excepted), entries)


def _excepted(where: str, parameters: Mapping[str, object], result: ImportResult) -> Iterator[ImagePattern]:
    for entry in texts(parameters.get(_EXEMPT), f"spec.parameters.{_EXEMPT}"):
        for rule in _ruled(f"{where}, {_EXEMPT} {entry!r}", entry, Effect.ALLOW, _of_name, result):
            yield from rule.patterns


def _said(
    kind: str, where: str, parameters: Mapping[str, object], result: ImportResult
) -> tuple[Effect, tuple[RuleDraft, ...], int]:
    """What is done with other images, the rules, and of how many entries they come."""
    effect, key = _KINDS.get(kind, (Effect.DENY, _EXEMPT))
    known = {key, _EXEMPT} if kind in _EXEMPTING else {key}
    for unknown in sorted(set(parameters) - known):
        result.left_out(f"{where}, parameters.{unknown}", "is not a parameter of the library")
    if kind == _DIGESTS:
        return Effect.ALLOW, (), 0
    entries = texts(parameters.get(key), f"spec.parameters.{key}")
    if kind == _TAGS and "latest" not in entries:
        result.changed(
            where, "an image without a tag is refused there; here it has the tag latest, so latest is denied too"
        )
        entries = [*entries, "latest"]
    rules = tuple(rule for entry in entries for rule in _rules(kind, where, entry, result))
    return Effect.DENY if effect is Effect.ALLOW else Effect.ALLOW, rules, len(entries)


def _rules(kind: str, where: str, entry: str, result: ImportResult) -> Iterator[RuleDraft]:
    effect, key = _KINDS[kind]
    yield from _ruled(f"{where}, {key} {entry!r}", entry, effect, _FORMS.get(kind, _of_prefix), result)


def _ruled(place: str, entry: str, effect: Effect, form: _Form, result: ImportResult) -> Iterator[RuleDraft]:
    try:
        translation = form(entry, for_allow=effect is Effect.ALLOW)
    except NotTranslatable as error:
        result.left_out(place, str(error))
        return
    for remark in translation.remarks:
        result.changed(place, remark)
    yield RuleDraft(entry, effect, translation.patterns)


class _Form(Protocol):
    """How a kind of constraint compares an entry with names."""

    def __call__(self, entry: str, *, for_allow: bool) -> Translation: ...


def _of_prefix(entry: str, *, for_allow: bool) -> Translation:
    return translation_of_prefix(entry, Form.WRITTEN, for_allow=for_allow)


def _of_name(entry: str, *, for_allow: bool) -> Translation:
    """As a whole, or as a beginning that a star ends."""
    if "*" in entry.removesuffix("*"):
        raise MatchesNothing(
            f"{entry!r} has a star that is not at its end; there it is an ordinary character, which no name contains"
        )
    return translation_of(entry, Form.WRITTEN, for_allow=for_allow)


def _of_tag(entry: str, *, for_allow: bool) -> Translation:  # noqa: ARG001 - it is the same
    try:
        return Translation((ImagePattern.parse(ANY, tag=str(Tag.parse(entry))),))
    except OciError as error:
        raise MatchesNothing(f"{entry!r} is not a valid tag: {error}") from None


_FORMS: Final[Mapping[str, _Form]] = {"K8sAllowedReposv2": _of_name, _TAGS: _of_tag}


def _namespaces(
    match: Mapping[str, object], where: str, result: ImportResult
) -> tuple[Sequence[str], Sequence[str]] | None:
    """Included and excluded ones; None if the constraint cannot be imported."""
    unknown = sorted(set(match) - _MATCHED)
    if conditions := [key for key in (*_CONDITIONS, *unknown) if match.get(key)]:
        result.left_out(where, f"match.{', match.'.join(conditions)}: policies here have no such conditions")
        return None
    if match.get("scope") == "Cluster":
        result.left_out(where, "match.scope: Cluster has no objects with images")
        return None
    if match.get("source") == "Generated":
        result.left_out(where, "match.source: Generated does not apply to created objects")
        return None
    if not _pods(match):
        result.changed(where, "match.kinds does not name Pods; policies here always apply to Pods")
    namespaces = texts(match.get("namespaces"), "spec.match.namespaces")
    return namespaces, texts(match.get("excludedNamespaces"), "spec.match.excludedNamespaces")


def _pods(match: Mapping[str, object]) -> bool:
    kinds = [mapping(each, "spec.match.kinds") for each in sequence(match.get("kinds"), "spec.match.kinds")]
    named = [name for each in kinds for name in texts(each.get("kinds"), "spec.match.kinds[].kinds")]
    return not kinds or bool({"Pod", "*"} & set(named))


def _mode(spec: Mapping[str, object], where: str, result: ImportResult) -> Mode:
    action = text(spec.get("enforcementAction"), "spec.enforcementAction") or "deny"
    if action != "scoped":
        if action not in _MODES:
            result.changed(f"{where}, enforcementAction", f"{action!r} is unknown; what is denied will be refused")
        return _MODES.get(action, Mode.ENFORCE)
    scoped = sequence(spec.get("scopedEnforcementActions"), "spec.scopedEnforcementActions")
    found = {_scoped(mapping(each, "spec.scopedEnforcementActions")) for each in scoped}
    mode = max(found, key=_STRICTEST.index, default=Mode.ENFORCE)
    if len(found) > 1:
        result.changed(f"{where}, scopedEnforcementActions", f"a policy has one mode: {mode.value}")
    return mode


def _scoped(action: Mapping[str, object]) -> Mode:
    """What an action comes to: nothing is refused but where the API server asks before it stores."""
    mode = _MODES.get(str(action.get("action")), Mode.ENFORCE)
    where = "spec.scopedEnforcementActions[].enforcementPoints"
    points = {str(mapping(each, where).get("name")) for each in sequence(action.get("enforcementPoints"), where)}
    return mode if not points or points & _REFUSING else Mode.AUDIT
