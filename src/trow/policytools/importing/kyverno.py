"""Imports Kyverno's policies about images.

Patterns on `image` are imported rule by rule. Rules that verify signatures are imported as a list of allowed images,
without the verification. https://kyverno.io/docs/policy-types and, for how names are compared, `pkg/utils/image` and
`ext/wildcard` of https://github.com/kyverno/kyverno.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.policy.rules import Mode
from trow.policytools.importing.drafts import ImportResult, PolicyDraft
from trow.policytools.importing.kyverno_images import images_of, rules_of
from trow.policytools.importing.kyverno_scope import on_creation, scope_of
from trow.policytools.importing.kyverno_signed import signed_by_policy, signed_by_rule
from trow.policytools.importing.values import UnreadableSource, mapping, sequence, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUPS: Final = ("kyverno.io/", "policies.kyverno.io/")
_RULED: Final = ("ClusterPolicy", "Policy")
_SIGNED: Final = ("ImageValidatingPolicy", "NamespacedImageValidatingPolicy")
_LIMITS: Final = ("preconditions", "celPreconditions", "context", "imageExtractors")
_OTHERS: Final = ("mutate", "generate")
_OVERRIDES: Final = ("validationFailureActionOverrides", "failureActionOverrides")
# Fields of a policy that have no influence on which images are allowed, or that are read here.
_KNOWN: Final = frozenset(
    {
        *("admission", "applyRules", "background", "emitWarning", "failurePolicy", "generateExisting", "rules"),
        *("generateExistingOnPolicyUpdate", "mutateExistingOnPolicyUpdate", "schemaValidation", "useServerSideApply"),
        *("validationFailureAction", "validationFailureActionOverrides", "webhookConfiguration"),
        "webhookTimeoutSeconds",
    }
)


def detect(item: Mapping[str, object]) -> bool:
    """Whether it is an object of Kyverno."""
    return str(item.get("apiVersion")).startswith(_GROUPS)


def convert(item: Mapping[str, object]) -> ImportResult:
    """Convert a policy.

    Raises:
        UnreadableSource: it does not have the format of Kyverno.
    """
    result = ImportResult()
    kind, metadata = str(item.get("kind")), mapping(item.get("metadata"), "metadata")
    name = text(metadata.get("name"), "metadata.name")
    where = f"{kind}/{name}"
    spec = mapping(item.get("spec"), "spec")
    namespaced = kind in ("Policy", "NamespacedImageValidatingPolicy")
    namespace = text(metadata.get("namespace"), "metadata.namespace") if namespaced else None
    if kind in _SIGNED:
        signed_by_policy(spec, where, namespace, result)
    elif kind in _RULED:
        _convert_rules(spec, where, name, namespace, result)
    else:
        result.left_out(where, f"is not one of {', '.join((*_RULED, *_SIGNED))}")
    return result


def _convert_rules(
    spec: Mapping[str, object], where: str, name: str, namespace: str | None, result: ImportResult
) -> None:
    rules = sequence(spec.get("rules"), "spec.rules")
    if not rules:
        result.left_out(where, "has no rules, so no policy is written")
    if mapping(spec.get("webhookConfiguration"), "spec.webhookConfiguration").get("matchConditions"):
        result.left_out(where, "webhookConfiguration.matchConditions: policies here have no such conditions")
        return
    for unknown in sorted(set(spec) - _KNOWN):
        result.changed(where, f"{unknown}: is unknown and is ignored")
    if spec.get("applyRules") == "One" and len(rules) > 1:
        result.changed(where, "applyRules: One: here all rules apply, not only the first that matches")
    for number, each in enumerate(rules):
        try:
            _convert_rule(mapping(each, f"spec.rules[{number}]"), spec, where, name, namespace, result)
        except UnreadableSource as error:
            if len(rules) == 1:
                raise
            result.left_out(f"{where}, rule {number + 1}", str(error))


def _convert_rule(
    rule: Mapping[str, object],
    spec: Mapping[str, object],
    policy: str,
    name: str,
    namespace: str | None,
    result: ImportResult,
) -> None:
    title = text(rule.get("name"), f"{policy}, name of a rule")
    where = f"{policy}, rule {title}"
    if others := [key for key in _OTHERS if rule.get(key)]:
        result.left_out(where, f"{', '.join(others)}: does not say which images may run")
        return
    if limits := [key for key in _LIMITS if rule.get(key) and not (key == "preconditions" and on_creation(rule[key]))]:
        result.left_out(where, f"{', '.join(limits)}: policies here have no such conditions")
        return
    scope = scope_of(rule, namespace, where, result)
    if scope is None:
        return
    mode = _mode(rule, spec, where, result)
    if rule.get("verifyImages"):
        signed_by_rule(rule, scope, mode, where, result)
        return
    images = images_of(mapping(rule.get("validate"), f"{where}, validate"), where, result)
    found = rules_of(images, where, result) if images else None
    if found is not None:
        draft = PolicyDraft(f"{name}-{title}", found.default, found.rules, mode, scope, found.digest)
        result.finish(draft, 0 if found.digest else 1)


def _mode(rule: Mapping[str, object], spec: Mapping[str, object], where: str, result: ImportResult) -> Mode:
    """The strictest mode of the rule, because a policy has one mode here."""
    own = [mapping(rule.get("validate"), "validate")]
    own += [mapping(each, "verifyImages") for each in sequence(rule.get("verifyImages"), "verifyImages")]
    actions = {str(each["failureAction"]).lower() for each in own if each.get("failureAction")}
    actions = actions or {str(spec.get("validationFailureAction") or "Audit").lower()}
    overrides = [each for part in (spec, *own) for key in _OVERRIDES for each in sequence(part.get(key), key)]
    if overrides:
        actions |= {str(mapping(each, "an override").get("action")).lower() for each in overrides}
        result.changed(where, "different actions for some namespaces: the strictest applies to all namespaces here")
    return Mode.AUDIT if actions == {"audit"} or spec.get("admission") is False else Mode.ENFORCE
