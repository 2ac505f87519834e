"""Converts Kyverno's rules that verify signatures to lists of allowed images; nothing is verified here.

The references for the same namespaces become one policy: of separate policies, each would deny the images of the
others.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from trow.policy.patterns import ANY, ImagePattern
from trow.policy.rules import Effect, Mode
from trow.policytools.importing.drafts import DraftScope, ImportResult, PolicyDraft, RuleDraft, Signed
from trow.policytools.importing.globs import NameForm, translation_of
from trow.policytools.importing.values import mapping, sequence, text, texts

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

_NAME: Final = "verified-images"
_MODES: Final = {"Deny": Mode.ENFORCE, "Warn": Mode.WARN, "Audit": Mode.AUDIT}
_UNVERIFIED: Final = "signatures and attestations are not verified here: these images are allowed without them"
_OTHERS: Final = "images that match no reference were not checked there; they are denied here"
# Conditions of an `ImageValidatingPolicy`.
_CONDITIONS: Final = ("matchConditions", "images")
_SELECTORS: Final = ("namespaceSelector", "objectSelector", "excludeResourceRules")


def signed_by_rule(rule: Mapping[str, object], scope: DraftScope, mode: Mode, where: str, result: ImportResult) -> None:
    """Add the references of `verifyImages` in a rule to the result."""
    globs: list[str] = []
    for each in sequence(rule["verifyImages"], f"{where}, verifyImages"):
        verify = mapping(each, f"{where}, verifyImages")
        for key in ("imageReferences", "skipImageReferences"):
            globs += texts(verify.get(key), f"{where}, {key}")
        # Kyverno up to 1.6.
        globs += filter(None, [text(verify.get("image"), f"{where}, image")])
    _add(globs, NameForm.HOSTED, scope, mode, where, result)


def signed_by_policy(spec: Mapping[str, object], where: str, namespace: str | None, result: ImportResult) -> None:
    """Add the references of an `ImageValidatingPolicy` to the result."""
    constraints = mapping(spec.get("matchConstraints"), f"{where}, matchConstraints")
    limits = [key for key in _CONDITIONS if spec.get(key)] + [key for key in _SELECTORS if constraints.get(key)]
    if limits:
        result.left_out(where, f"{', '.join(limits)}: policies here have no such conditions")
        return
    globs = []
    for each in sequence(spec.get("matchImageReferences"), f"{where}, matchImageReferences"):
        reference = mapping(each, f"{where}, matchImageReferences")
        if isinstance(glob := reference.get("glob"), str) and glob:
            globs.append(glob)
        else:
            result.left_out(f"{where}, matchImageReferences", "an expression in CEL cannot be imported")
    actions = texts(spec.get("validationActions"), f"{where}, validationActions") or ["Deny"]
    mode = Mode.strictest(_MODES.get(action, Mode.ENFORCE) for action in actions)
    _add(globs, NameForm.WRITTEN, DraftScope(namespace), mode, where, result)


def _add(globs: Sequence[str], form: NameForm, scope: DraftScope, mode: Mode, where: str, result: ImportResult) -> None:
    rules = []
    for glob in globs:
        translate = partial(translation_of, glob, form, for_allow=True)
        if patterns := result.patterns(f"{where}, reference {glob!r}", translate):
            rules.append(RuleDraft(glob, Effect.ALLOW, patterns))
    if not rules:
        result.left_out(where, "no reference of it could be imported, and signatures are not verified here")
    elif any(ImagePattern(ANY) in rule.patterns for rule in rules):
        result.left_out(where, "it verifies the signatures of all images and does not say where they may come from")
    else:
        result.left_out(where, _UNVERIFIED)
        result.changed(where, _OTHERS)
        result.signed.append(Signed(scope, mode, tuple(rules)))


def drafts_of_signed(signed: Sequence[Signed]) -> Iterator[PolicyDraft]:
    """One policy for each scope, with the strictest mode of its rules."""
    for scope in dict.fromkeys(each.scope for each in signed):
        of_scope = [each for each in signed if each.scope == scope]
        rules = tuple(dict.fromkeys(rule for each in of_scope for rule in each.rules))
        mode = Mode.strictest(each.mode for each in of_scope)
        yield PolicyDraft(_NAME, Effect.DENY, rules, mode, scope)
