"""The result of an import: policies as Kubernetes objects, and remarks on them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from trow.policy.patterns import ANY, ImagePattern
from trow.policy.resources import API_VERSION, EXEMPT_AT_MOST
from trow.policy.rules import CLUSTER, NAMESPACED, Effect, Mode
from trow.policytools.importing.globs import NotTranslatable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from trow.policy.pods import UsedBy
    from trow.policytools.importing.globs import Translation

_NOT_IN_NAME: Final = re.compile(r"[^a-z0-9.]+")
_LONGEST_RULE: Final = 63
# A policy's name may have 63 characters; a number may follow.
_LONGEST_NAME: Final = 59
_REASON: Final = "it was an exception in the imported policy"


class RemarkKind(Enum):
    """Whether the subject of a remark has the same meaning, has another meaning, or is left out."""

    NOTE = "note"
    CHANGED = "changed"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark on a part of the source.

    Attributes:
        where: the part of the source, for people.
        text: the end of the sentence.
    """

    kind: RemarkKind
    where: str
    text: str

    def __str__(self) -> str:
        return f"{self.kind.value}: {self.where}: {self.text}"


@dataclass(frozen=True, slots=True)
class RuleDraft:
    """A rule, named after the entry of the source that it comes from.

    Attributes:
        used_by: as in `ImageRule`.
    """

    entry: str
    effect: Effect
    patterns: tuple[ImagePattern, ...]
    used_by: tuple[UsedBy, ...] = ()


@dataclass(frozen=True, slots=True)
class DraftScope:
    """Where a policy applies.

    Attributes:
        namespace: of a namespaced policy; "": it is set when the policy is applied; None: the policy is cluster-scoped.
        selector: a label selector of namespaces.
    """

    namespace: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    selector: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class PolicyDraft:
    """A policy before it becomes a Kubernetes object.

    Attributes:
        digest: whether it requires digests.
        exempt: images that it exempts.
    """

    name: str
    default: Effect
    rules: tuple[RuleDraft, ...]
    mode: Mode = Mode.ENFORCE
    scope: DraftScope = DraftScope()
    digest: bool = False
    exempt: tuple[ImagePattern, ...] = ()

    @property
    def allows_all(self) -> bool:
        """Whether it denies no image."""
        allowing = (rule for rule in self.rules if rule.effect is Effect.ALLOW and not rule.used_by)
        every = any(ImagePattern(ANY) in rule.patterns for rule in allowing)
        denying = any(rule.effect is Effect.DENY for rule in self.rules)
        return (every or self.default is Effect.ALLOW) and not denying and not self.digest

    @property
    def object_name(self) -> str:
        """The name, as Kubernetes allows it."""
        return _NOT_IN_NAME.sub("-", self.name.lower())[:_LONGEST_NAME].strip("-.") or "imported"

    def manifest(self) -> dict[str, object]:
        """The Kubernetes object."""
        scope = self.scope
        metadata = {"name": self.object_name, **({"namespace": scope.namespace} if scope.namespace else {})}
        spec: dict[str, object] = {} if self.mode is Mode.ENFORCE else {"mode": self.mode.value}
        if namespaces := {key: [*names] for key in ("include", "exclude") if (names := getattr(scope, key))}:
            spec["namespaces"] = namespaces
        if scope.selector and scope.namespace is None:
            spec["namespaceSelector"] = dict(scope.selector)
        spec["default"] = self.default.value
        if self.rules:
            spec["rules"] = list(_rule_objects(self.rules))
        if self.digest:
            spec["require"] = {"digest": True}
        if self.exempt:
            parts = [self.exempt[at : at + EXEMPT_AT_MOST] for at in range(0, len(self.exempt), EXEMPT_AT_MOST)]
            spec["exceptions"] = [
                {"name": f"imported-{number}", "reason": _REASON, "images": [*map(_image, part)]}
                for number, part in enumerate(parts, 1)
            ]
        kind = CLUSTER if scope.namespace is None else NAMESPACED
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _rule_objects(rules: Sequence[RuleDraft]) -> Iterator[dict[str, object]]:
    taken: set[str] = set()
    for rule in rules:
        base = _NOT_IN_NAME.sub("-", f"{rule.effect.value}-{rule.entry}".lower())[:_LONGEST_RULE].strip("-.")
        name, number = base, 1
        while name in taken:
            number += 1
            name = f"{base[: _LONGEST_RULE - len(f'-{number}')].strip('-.')}-{number}"
        taken.add(name)
        used_by = {"usedBy": [each.value for each in rule.used_by]} if rule.used_by else {}
        yield {"name": name, "action": rule.effect.value, **used_by, "images": [*map(_image, rule.patterns)]}


def _image(pattern: ImagePattern) -> dict[str, str]:
    image = {"registry": pattern.registry}
    if pattern.repository != "**":
        image["repository"] = pattern.repository[:]  # a plain text: YAML writers take no subclass
    if pattern.digest:
        image["digest"] = str(pattern.digest)
    elif pattern.tag != ANY:
        image["tag"] = pattern.tag
    return image


@dataclass(frozen=True, slots=True)
class Signed:
    """The references of one rule that verifies signatures."""

    scope: DraftScope
    mode: Mode
    rules: tuple[RuleDraft, ...]


@dataclass(slots=True)
class ImportResult:
    """The result of an import.

    Attributes:
        signed: references to images whose signatures the source verifies; together they become policies.
    """

    drafts: list[PolicyDraft] = field(default_factory=list)
    signed: list[Signed] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def finish(self, draft: PolicyDraft, entries: int) -> None:
        """Add a policy, unless none of its entries could be imported or it would deny nothing."""
        if entries and not draft.rules:
            self.left_out(draft.name, "no entry of it could be imported, so no policy is written")
        elif draft.allows_all:
            self.left_out(
                draft.name,
                "it allows every image, so no policy is written: how a name is spelled makes no difference here",
            )
        else:
            self.drafts.append(draft)

    def patterns(self, where: str, translate: Callable[[], Translation]) -> tuple[ImagePattern, ...]:
        """The patterns of an entry, with remarks on changes; none, with a remark, if the entry is left out."""
        try:
            translation = translate()
        except NotTranslatable as error:
            self.left_out(where, str(error))
            return ()
        for remark in translation.remarks:
            self.changed(where, remark)
        return translation.patterns

    def note(self, where: str, text: str) -> None:
        """Add a remark on something with the same meaning."""
        self.remarks.append(Remark(RemarkKind.NOTE, where, text))

    def changed(self, where: str, text: str) -> None:
        """Add a remark on something that has another meaning here."""
        self.remarks.append(Remark(RemarkKind.CHANGED, where, text))

    def left_out(self, where: str, text: str) -> None:
        """Add a remark on something that is left out."""
        self.remarks.append(Remark(RemarkKind.LEFT_OUT, where, text))
