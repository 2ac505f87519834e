"""References to images whose signatures Kyverno verifies: here they are what may run, and nothing is verified.

All of them that are in force in the same namespaces become one policy: as policies of their own, each would deny what
the others list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.policy.patterns import ANY, ImagePattern
from trow.policy.rules import Effect, Mode
from trow.policytools.importing.drafts import ImportResult, PolicyDraft, RuleDraft
from trow.policytools.importing.globs import Form, NotTranslatable, translation_of
from trow.policytools.importing.kyverno_scope import Scope
from trow.policytools.importing.values import mapping, sequence, text, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NAME: Final = "verified-images"
_MODES: Final = {"Deny": Mode.ENFORCE, "Warn": Mode.WARN, "Audit": Mode.AUDIT}
_STRICTEST: Final = (Mode.AUDIT, Mode.WARN, Mode.ENFORCE)
_UNVERIFIED: Final = "signatures and attestations are not verified here: these images are allowed without"
_OTHERS: Final = "images that no reference covers were not looked at, and are denied here"
# Conditions of the newer kind of policy.
_CONDITIONS: Final = ("matchConditions", "images")
_SELECTORS: Final = ("namespaceSelector", "objectSelector", "excludeResourceRules")


@dataclass(frozen=True, slots=True)
class Signed:
    """References of one rule."""

    scope: Scope
    mode: Mode
    rules: tuple[RuleDraft, ...]


def signed_by_rule(rule: Mapping[str, object], scope: Scope, mode: Mode, where: str, into: ImportResult) -> None:
    """Take the references of a rule's `verifyImages`."""
    globs: list[str] = []
    for each in sequence(rule["verifyImages"], f"{where}, verifyImages"):
        verify = mapping(each, f"{where}, verifyImages")
        for key in ("imageReferences", "skipImageReferences"):
            globs += texts(verify.get(key), f"{where}, {key}")
        # Kyverno up to 1.6.
        globs += filter(None, [text(verify.get("image"), f"{where}, image")])
    _take(globs, Form.HOSTED, scope, mode, where, into)


def signed_by_policy(spec: Mapping[str, object], where: str, namespace: str | None, into: ImportResult) -> None:
    """Take the references of an `ImageValidatingPolicy`."""
    constraints = mapping(spec.get("matchConstraints"), f"{where}, matchConstraints")
    limits = [key for key in _CONDITIONS if spec.get(key)] + [key for key in _SELECTORS if constraints.get(key)]
    if limits:
        into.left_out(where, f"{', '.join(limits)}: there are no such conditions here")
        return
    globs = []
    for each in sequence(spec.get("matchImageReferences"), f"{where}, matchImageReferences"):
        reference = mapping(each, f"{where}, matchImageReferences")
        if isinstance(glob := reference.get("glob"), str) and glob:
            globs.append(glob)
        else:
            into.left_out(f"{where}, matchImageReferences", "an expression in CEL cannot be read")
    actions = texts(spec.get("validationActions"), f"{where}, validationActions") or ["Deny"]
    mode = max((_MODES.get(action, Mode.ENFORCE) for action in actions), key=_STRICTEST.index)
    _take(globs, Form.WRITTEN, Scope(namespace), mode, where, into)


def _take(globs: Sequence[str], form: Form, scope: Scope, mode: Mode, where: str, into: ImportResult) -> None:
    rules = tuple(_rules(globs, form, where, into))
    if not rules:
        into.left_out(where, "nothing is left of it: it verifies signatures")
    elif any(ImagePattern(ANY) in rule.patterns for rule in rules):
        into.left_out(where, "it verifies signatures of all images, and says nothing of where they may come from")
    else:
        into.left_out(where, _UNVERIFIED)
        into.changed(where, _OTHERS)
        into.signed.append(Signed(scope, mode, rules))


def _rules(globs: Sequence[str], form: Form, where: str, into: ImportResult) -> Iterator[RuleDraft]:
    for glob in globs:
        place = f"{where}, reference {glob!r}"
        try:
            meaning = translation_of(glob, form, trusting=True)
        except NotTranslatable as error:
            into.left_out(place, str(error))
            continue
        for remark in meaning.remarks:
            into.changed(place, remark)
        yield RuleDraft(glob, Effect.ALLOW, meaning.patterns)


def drafts_of(signed: Sequence[Signed]) -> Iterator[PolicyDraft]:
    """One policy for each scope, as strict as the strictest."""
    for scope in dict.fromkeys(each.scope for each in signed):
        of_scope = [each for each in signed if each.scope == scope]
        rules = tuple(dict.fromkeys(rule for each in of_scope for rule in each.rules))
        mode = max((each.mode for each in of_scope), key=_STRICTEST.index)
        yield PolicyDraft(
            _NAME, Effect.DENY, rules, mode, scope.namespace, scope.include, scope.exclude, selector=scope.selector
        )
