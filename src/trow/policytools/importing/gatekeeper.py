"""Imports the constraints of Gatekeeper's library about images: allowed and disallowed repositories, tags and digests.

They compare the text in a Pod, character by character. https://github.com/open-policy-agent/gatekeeper-library
and, for `match`, https://open-policy-agent.github.io/gatekeeper/website/docs/howto.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from trow.oci.errors import OciError
from trow.oci.names import Tag
from trow.policy.patterns import ANY, ImagePattern
from trow.policy.rules import Effect, Mode
from trow.policytools.importing.drafts import DraftScope, ImportResult, PolicyDraft, RuleDraft
from trow.policytools.importing.globs import MatchesNothing, NameForm, Translation, translation_of
from trow.policytools.importing.prefixes import translation_of_prefix
from trow.policytools.importing.values import mapping, sequence, text, texts

if TYPE_CHECKING:
    from collections.abc import Mapping

_CONSTRAINTS: Final = "constraints.gatekeeper.sh/"
_TEMPLATES: Final = "templates.gatekeeper.sh/"
# The effect on images that match an entry, and the parameter with the entries.
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
_WITH_EXEMPTIONS: Final = (_TAGS, _DIGESTS)
_MODES: Final = {"deny": Mode.ENFORCE, "warn": Mode.WARN, "dryrun": Mode.AUDIT}
# The enforcement points that can deny; others, such as `audit.gatekeeper.sh`, only report.
_DENYING_POINTS: Final = frozenset({"*", "validation.gatekeeper.sh", "vap.k8s.io"})
# Conditions on objects. A policy without them would deny more than its source.
_CONDITIONS: Final = ("labelSelector", "name")
_MATCHED: Final = frozenset(
    {*_CONDITIONS, "excludedNamespaces", "kinds", "namespaces", "namespaceSelector", "scope", "source"}
)


def detect(item: Mapping[str, object]) -> bool:
    """Whether it is an object of Gatekeeper."""
    return str(item.get("apiVersion")).startswith((_CONSTRAINTS, _TEMPLATES))


def convert(item: Mapping[str, object]) -> ImportResult:
    """Convert a constraint.

    Raises:
        UnreadableSource: it does not have the format of its template.
    """
    result = ImportResult()
    kind = str(item.get("kind"))
    name = text(mapping(item.get("metadata"), "metadata").get("name"), "metadata.name")
    where = f"{kind}/{name}"
    if str(item["apiVersion"]).startswith(_TEMPLATES):
        result.note(where, "is a template; its constraints are imported if it is one of " + ", ".join(_ALL))
        return result
    if kind not in _ALL:
        result.left_out(where, f"is not one of {', '.join(_ALL)}")
        return result
    spec = mapping(item.get("spec"), "spec")
    scope = _scope(mapping(spec.get("match"), "spec.match"), where, result)
    if scope is None:
        return result
    parameters, exempt = mapping(spec.get("parameters"), "spec.parameters"), tuple[ImagePattern, ...]()
    default, rules, entries = _rules(kind, where, parameters, result)
    if kind in _WITH_EXEMPTIONS:
        for entry in texts(parameters.get(_EXEMPT), f"spec.parameters.{_EXEMPT}"):
            exempt += result.patterns(f"{where}, {_EXEMPT} {entry!r}", partial(_of_name, entry, for_allow=True))
    draft = PolicyDraft(name, default, rules, _mode(spec, where, result), scope, kind == _DIGESTS, exempt)
    result.finish(draft, entries)
    return result


def _rules(
    kind: str, where: str, parameters: Mapping[str, object], result: ImportResult
) -> tuple[Effect, tuple[RuleDraft, ...], int]:
    """The default, the rules, and the number of entries in the source."""
    effect, key = _KINDS.get(kind, (Effect.DENY, _EXEMPT))
    known = {key, _EXEMPT} if kind in _WITH_EXEMPTIONS else {key}
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
    of_prefix = partial(translation_of_prefix, form=NameForm.WRITTEN)
    translate = {"K8sAllowedReposv2": _of_name, _TAGS: _of_tag}.get(kind, of_prefix)
    rules = []
    for entry in entries:
        of_entry = partial(translate, entry, for_allow=effect is Effect.ALLOW)
        if patterns := result.patterns(f"{where}, {key} {entry!r}", of_entry):
            rules.append(RuleDraft(entry, effect, patterns))
    return Effect.DENY if effect is Effect.ALLOW else Effect.ALLOW, tuple(rules), len(entries)


def _of_name(entry: str, *, for_allow: bool) -> Translation:
    """The patterns of a whole name, or of a prefix with a star at its end."""
    if "*" in entry.removesuffix("*"):
        raise MatchesNothing(
            f"{entry!r} has a star that is not at its end; there it is an ordinary character, which no name contains"
        )
    return translation_of(entry, NameForm.WRITTEN, for_allow=for_allow)


def _of_tag(entry: str, *, for_allow: bool) -> Translation:  # noqa: ARG001 - a tag is one either way
    try:
        return Translation((ImagePattern.parse(ANY, tag=str(Tag.parse(entry))),))
    except OciError as error:
        raise MatchesNothing(f"{entry!r} is not a valid tag: {error}") from None


def _scope(match: Mapping[str, object], where: str, result: ImportResult) -> DraftScope | None:
    """The namespaces of a constraint; None, with a remark, if it cannot be imported."""
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
    kinds = [mapping(each, "spec.match.kinds") for each in sequence(match.get("kinds"), "spec.match.kinds")]
    named = {name for each in kinds for name in texts(each.get("kinds"), "spec.match.kinds[].kinds")}
    if kinds and not {"Pod", "*"} & named:
        result.changed(where, "match.kinds does not name Pods; policies here always apply to Pods")
    include = texts(match.get("namespaces"), "spec.match.namespaces")
    exclude = texts(match.get("excludedNamespaces"), "spec.match.excludedNamespaces")
    selector = mapping(match.get("namespaceSelector"), "spec.match.namespaceSelector")
    return DraftScope(include=tuple(include), exclude=tuple(exclude), selector=selector)


def _mode(spec: Mapping[str, object], where: str, result: ImportResult) -> Mode:
    action = text(spec.get("enforcementAction"), "spec.enforcementAction") or "deny"
    if action != "scoped":
        if action not in _MODES:
            result.changed(f"{where}, enforcementAction", f"{action!r} is unknown; what is denied will be refused")
        return _MODES.get(action, Mode.ENFORCE)
    scoped = sequence(spec.get("scopedEnforcementActions"), "spec.scopedEnforcementActions")
    modes = {_mode_of_action(mapping(each, "spec.scopedEnforcementActions")) for each in scoped}
    mode = Mode.strictest(modes)
    if len(modes) > 1:
        result.changed(f"{where}, scopedEnforcementActions", f"a policy has one mode: {mode.value}")
    return mode


def _mode_of_action(action: Mapping[str, object]) -> Mode:
    """The mode of a scoped action, which denies only at an enforcement point that can deny."""
    mode = _MODES.get(str(action.get("action")), Mode.ENFORCE)
    where = "spec.scopedEnforcementActions[].enforcementPoints"
    points = {str(mapping(each, where).get("name")) for each in sequence(action.get("enforcementPoints"), where)}
    return mode if not points or points & _DENYING_POINTS else Mode.AUDIT
