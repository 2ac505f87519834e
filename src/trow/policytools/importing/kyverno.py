"""Kyverno's policies, as far as they say where images may come from.

Patterns on `image` come over, rule by rule. References to images whose signatures are verified come over as a list of
what may run, without the verification. https://kyverno.io/docs/policy-types and, for how names are compared,
`pkg/utils/image` and `ext/wildcard` of https://github.com/kyverno/kyverno.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.policy.rules import Mode
from trow.policytools.importing.drafts import ImportResult, PolicyDraft
from trow.policytools.importing.kyverno_images import images_of, ruled_by_use
from trow.policytools.importing.kyverno_scope import Scope, on_creation, scope_of
from trow.policytools.importing.kyverno_signed import signed_by_policy, signed_by_rule
from trow.policytools.importing.values import UnreadableSource, mapping, sequence, text

if TYPE_CHECKING:
    from collections.abc import Mapping

_GROUPS: Final = ("kyverno.io/", "policies.kyverno.io/")
_RULED: Final = ("ClusterPolicy", "Policy")
_SIGNED: Final = ("ImageValidatingPolicy", "NamespacedImageValidatingPolicy")
_LIMITS: Final = ("preconditions", "celPreconditions", "context", "imageExtractors")
_OTHERS: Final = ("mutate", "generate")
# What there is in a policy beside its rules: how strict it is, and how Kyverno goes about it.
_KNOWN: Final = frozenset(
    {
        *("admission", "applyRules", "background", "emitWarning", "failurePolicy", "generateExisting", "rules"),
        *("generateExistingOnPolicyUpdate", "mutateExistingOnPolicyUpdate", "schemaValidation", "useServerSideApply"),
        *("validationFailureAction", "validationFailureActionOverrides", "webhookConfiguration"),
        "webhookTimeoutSeconds",
    }
)


def recognised(item: Mapping[str, object]) -> bool:
    """Whether it is an object of Kyverno."""
    return str(item.get("apiVersion")).startswith(_GROUPS)


def imported(item: Mapping[str, object]) -> ImportResult:
    """The policies that a policy comes to.

    Raises:
        UnreadableSource: it has not the form that Kyverno asks for.
    """
    into = ImportResult()
    kind, metadata = str(item.get("kind")), mapping(item.get("metadata"), "metadata")
    name = text(metadata.get("name"), "metadata.name")
    where = f"{kind}/{name}"
    spec = mapping(item.get("spec"), "spec")
    of_namespace = kind in ("Policy", "NamespacedImageValidatingPolicy")
    namespace = text(metadata.get("namespace"), "metadata.namespace") if of_namespace else None
    if kind in _SIGNED:
        signed_by_policy(spec, where, namespace, into)
    elif kind in _RULED:
        _rules(spec, where, name, namespace, into)
    else:
        into.left_out(where, f"is none of {', '.join((*_RULED, *_SIGNED))}")
    return into


def _rules(spec: Mapping[str, object], where: str, name: str, namespace: str | None, into: ImportResult) -> None:
    rules = sequence(spec.get("rules"), "spec.rules")
    if not rules:
        into.left_out(where, "has no rules, so there is no policy")
    if mapping(spec.get("webhookConfiguration"), "spec.webhookConfiguration").get("matchConditions"):
        into.left_out(where, "webhookConfiguration.matchConditions: there are no such conditions here")
        return
    for unknown in sorted(set(spec) - _KNOWN):
        into.changed(where, f"{unknown}: is unknown, and means nothing here")
    if spec.get("applyRules") == "One" and len(rules) > 1:
        into.changed(where, "applyRules: One: rules after the first that applies count here, too")
    for number, each in enumerate(rules):
        try:
            _rule(mapping(each, f"spec.rules[{number}]"), spec, where, name, namespace, into)
        except UnreadableSource as error:
            if len(rules) == 1:
                raise
            into.left_out(f"{where}, rule {number + 1}", str(error))


def _rule(
    rule: Mapping[str, object],
    spec: Mapping[str, object],
    policy: str,
    name: str,
    namespace: str | None,
    into: ImportResult,
) -> None:
    title = text(rule.get("name"), f"{policy}, name of a rule")
    where = f"{policy}, rule {title}"
    if others := [key for key in _OTHERS if rule.get(key)]:
        into.left_out(where, f"{', '.join(others)}: says nothing of what may run")
        return
    if limits := [key for key in _LIMITS if rule.get(key) and not (key == "preconditions" and on_creation(rule[key]))]:
        into.left_out(where, f"{', '.join(limits)}: there are no such conditions here")
        return
    scope = scope_of(rule, namespace, where, into)
    if scope is None:
        return
    mode = _mode(rule, spec, where, into)
    if rule.get("verifyImages"):
        signed_by_rule(rule, scope, mode, where, into)
    else:
        _validated(rule, scope, mode, where, f"{name}-{title}", into)


def _validated(rule: Mapping[str, object], scope: Scope, mode: Mode, where: str, name: str, into: ImportResult) -> None:
    images = images_of(mapping(rule.get("validate"), f"{where}, validate"), where, into)
    found = ruled_by_use(images, where, into) if images else None
    if found is not None:
        default, rules, digest = found
        draft = PolicyDraft(
            name, default, rules, mode, scope.namespace, scope.include, scope.exclude, digest, scope.selector
        )
        into.finish(draft, 0 if digest else 1)


def _mode(rule: Mapping[str, object], spec: Mapping[str, object], where: str, into: ImportResult) -> Mode:
    """Enforced if anything of it is: a policy has one mode here."""
    own = [mapping(rule.get("validate"), "validate")]
    own += [mapping(each, "verifyImages") for each in sequence(rule.get("verifyImages"), "verifyImages")]
    actions = {str(each["failureAction"]).lower() for each in own if each.get("failureAction")}
    actions = actions or {str(spec.get("validationFailureAction") or "Audit").lower()}
    overrides = [each for part in (spec, *own) for key in _OVERRIDES for each in sequence(part.get(key), key)]
    if overrides:
        actions |= {str(mapping(each, "an override").get("action")).lower() for each in overrides}
        into.changed(where, "other actions for some namespaces: the strictest of them is for all of them here")
    return Mode.AUDIT if actions == {"audit"} or spec.get("admission") is False else Mode.ENFORCE


_OVERRIDES: Final = ("validationFailureActionOverrides", "failureActionOverrides")
