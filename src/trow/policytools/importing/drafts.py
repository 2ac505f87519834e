"""The result of an import: policies as Kubernetes objects, and remarks on them."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

from trow.policy.patterns import ANY, ImagePattern
from trow.policy.resources import API_VERSION, EXCEPTED_AT_MOST
from trow.policy.rules import CLUSTER, NAMESPACED, Effect, Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from trow.policy.pods import UsedBy

_NO_NAME: Final = re.compile(r"[^a-z0-9.]+")
_LONGEST_RULE: Final = 63
# Less than the 63 of a policy's name: a number may follow.
_LONGEST_NAME: Final = 59


class RemarkKind(Enum):
    """Whether the subject of a remark means the same, means something else, or is left out."""

    NOTE = "note"
    CHANGED = "changed"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Remark:
    """A remark on something that was imported.

    Attributes:
        where: in the source, in words.
        text: completes the sentence.
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
        used_by: what uses the images; empty: whatever does.
    """

    entry: str
    effect: Effect
    patterns: tuple[ImagePattern, ...]
    used_by: tuple[UsedBy, ...] = ()


@dataclass(frozen=True, slots=True)
class PolicyDraft:
    """A policy that is still to be written.

    Attributes:
        namespace: where a namespaced policy is; "" leaves that to whoever applies it; None: it is of the cluster.
        digest: whether images have to be named with a digest.
        selector: of namespaces by their labels, as Kubernetes has it.
        excepted: images that it never denies.
    """

    name: str
    default: Effect
    rules: tuple[RuleDraft, ...]
    mode: Mode = Mode.ENFORCE
    namespace: str | None = None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    digest: bool = False
    selector: Mapping[str, object] = field(default_factory=dict, hash=False)
    excepted: tuple[ImagePattern, ...] = ()

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
        return _NO_NAME.sub("-", self.name.lower())[:_LONGEST_NAME].strip("-.") or "imported"

    def manifest(self) -> dict[str, object]:
        """The Kubernetes object."""
        metadata = {"name": self.object_name, **({"namespace": self.namespace} if self.namespace else {})}
        spec: dict[str, object] = {} if self.mode is Mode.ENFORCE else {"mode": self.mode.value}
        if namespaces := {key: [*names] for key in ("include", "exclude") if (names := getattr(self, key))}:
            spec["namespaces"] = namespaces
        if self.selector and self.namespace is None:
            spec["namespaceSelector"] = dict(self.selector)
        spec["default"] = self.default.value
        if self.rules:
            spec["rules"] = list(_rules(self.rules))
        if self.digest:
            spec["require"] = {"digest": True}
        if self.excepted:
            spec["exceptions"] = list(_exceptions(self.excepted))
        kind = CLUSTER if self.namespace is None else NAMESPACED
        return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": spec}


def _rules(rules: Sequence[RuleDraft]) -> Iterator[dict[str, object]]:
    taken: set[str] = set()
    for rule in rules:
        name = _free(_NO_NAME.sub("-", f"{rule.effect.value}-{rule.entry}".lower()), taken)
        taken.add(name)
        used_by = {"usedBy": [each.value for each in rule.used_by]} if rule.used_by else {}
        images = [_image(pattern) for pattern in rule.patterns]
        yield {"name": name, "action": rule.effect.value, **used_by, "images": images}


def _exceptions(patterns: Sequence[ImagePattern]) -> Iterator[dict[str, object]]:
    """As many as are needed: each has a limited number of images."""
    for number, start in enumerate(range(0, len(patterns), EXCEPTED_AT_MOST), 1):
        images = [_image(pattern) for pattern in patterns[start : start + EXCEPTED_AT_MOST]]
        yield {"name": f"imported-{number}", "reason": "it was an exception in the imported policy", "images": images}


def _free(wanted: str, taken: set[str]) -> str:
    base, name, number = wanted[:_LONGEST_RULE].strip("-."), "", 1
    while not name or name in taken:
        end = "" if number == 1 else f"-{number}"
        name = base[: _LONGEST_RULE - len(end)].strip("-.") + end
        number += 1
    return name


def _image(pattern: ImagePattern) -> dict[str, str]:
    image = {"registry": pattern.registry}
    if pattern.repository != "**":
        image["repository"] = pattern.repository[:]
    if pattern.digest:
        image["digest"] = str(pattern.digest)
    elif pattern.tag != ANY:
        image["tag"] = pattern.tag
    return image


@dataclass(frozen=True, slots=True)
class Scope:
    """Where a policy is in force.

    Attributes:
        namespace: that of a namespaced policy; None: it is of the cluster.
    """

    namespace: str | None
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    selector: Mapping[str, object] = field(default_factory=dict, hash=False)


@dataclass(frozen=True, slots=True)
class Signed:
    """References of one rule to images whose signatures it verifies."""

    scope: Scope
    mode: Mode
    rules: tuple[RuleDraft, ...]


@dataclass(slots=True)
class ImportResult:
    """Policies and remarks.

    Attributes:
        signed: references to images whose signatures were verified; all of them together become policies.
    """

    drafts: list[PolicyDraft] = field(default_factory=list)
    signed: list[Signed] = field(default_factory=list)
    remarks: list[Remark] = field(default_factory=list)

    def add(self, other: ImportResult) -> None:
        """Add the result of another part of the source."""
        self.drafts += other.drafts
        self.signed += other.signed
        self.remarks += other.remarks

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

    def note(self, where: str, text: str) -> None:
        """Remark on something that means the same."""
        self.remarks.append(Remark(RemarkKind.NOTE, where, text))

    def changed(self, where: str, text: str) -> None:
        """Remark on something that means something else here."""
        self.remarks.append(Remark(RemarkKind.CHANGED, where, text))

    def left_out(self, where: str, text: str) -> None:
        """Remark on something that is left out."""
        self.remarks.append(Remark(RemarkKind.LEFT_OUT, where, text))
