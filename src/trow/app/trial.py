"""Would these objects run: what `trow policy test` and `trow policy explain` find out without a cluster.

Workloads are judged as the Pods that they would make: no later gate asks here. What only a registry knows stays
undecided.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from trow.app.documents import UnreadableFile, objects, read
from trow.policy import images
from trow.policy.decide import INVALID, REQUIRE_AGE, REQUIRE_EXISTS, REQUIRE_PLATFORM, Finding, Request, Rules, judge
from trow.policy.images import InvalidImage
from trow.policy.kinds import is_filled_in, seems_to_name_images
from trow.policy.pods import Kind, UnreadableObject
from trow.policy.rules import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from trow.admission.subjects import Subjects
    from trow.app.documents import Document, Place
    from trow.policy.images import ImageReference
    from trow.policy.pods import ImageUse
    from trow.policy.rules import Policy, Requirements

NO_NAME: Final = "(no name)"
_UNTOLD: Final = (
    "has something like images in it, but nobody has told where in a {kind} they are, so that it was not judged; write"
    " admission.extra_kinds into a configuration and name that by -f, too"
)
# RFC 1123, as Kubernetes has it for namespaces.
_NAMESPACE: Final = re.compile(r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?")


class Outcome(Enum):
    """What comes of it, from best to worst."""

    ALLOWED = "allowed"
    AUDITED = "audited"
    WARNED = "warned"
    UNDECIDED = "undecided"
    DENIED = "denied"


_WORST: Final = tuple(Outcome)
_DENIAL: Final = {Mode.ENFORCE: Outcome.DENIED, Mode.WARN: Outcome.WARNED}


def worst(outcomes: Iterable[Outcome]) -> Outcome:
    """The one that counts for all of them."""
    return max(outcomes, key=_WORST.index, default=Outcome.ALLOWED)


@dataclass(frozen=True, slots=True)
class Opinion:
    """What one policy says of one image, and what comes of that."""

    finding: Finding
    outcome: Outcome


class Judge:
    """Asks policies as a cluster would, as far as that goes without a registry.

    Args:
        rules: policies and exceptions.
        now: seconds of Unix time.
    """

    def __init__(self, rules: Rules, now: float) -> None:
        self._now = now
        self._rules = rules
        self._here = Rules(tuple(policy.without_content() for policy in rules.policies), rules.exemptions)

    def opinions(self, namespace: str, uses: Sequence[ImageUse]) -> Iterator[Opinion]:
        """What each policy that applies in the namespace says of each image."""
        request = Request(namespace, tuple(uses))
        full = judge(self._rules, request, {}, self._now).findings
        here = judge(self._here, request, {}, self._now).findings
        asked = [policy for policy in self._rules.applying(namespace) for _ in uses]
        for policy, finding, without in zip(asked, full, here, strict=True):
            yield _opinion(policy, finding, without)

    def of_unfinished(self, namespace: str, use: ImageUse) -> Iterator[Opinion]:
        """What each policy that applies says of an image whose name is not finished yet: that depends on the rest."""
        reason, remedy = "is filled in when its Pods are made", "test what that makes of it"
        for policy in self._rules.applying(namespace):
            finding = Finding(
                policy.title, INVALID, policy.mode, use, None, allowed=False, reason=reason, remedy=remedy
            )
            yield Opinion(finding, _undecided(policy.mode))


def _undecided(mode: Mode) -> Outcome:
    return Outcome.UNDECIDED if mode is Mode.ENFORCE else _DENIAL.get(mode, Outcome.AUDITED)


def _opinion(policy: Policy, finding: Finding, without: Finding) -> Opinion:
    if finding.allowed:
        return Opinion(finding, Outcome.ALLOWED)
    if not without.allowed:
        return Opinion(without, _DENIAL.get(without.mode, Outcome.AUDITED))
    outcome = _undecided(finding.mode)
    rule = ", ".join(of_content(policy.require))
    reason, remedy = "cannot be decided without the registry", "ask a cluster, with kubectl apply --dry-run=server"
    return Opinion(replace(finding, rule=rule, reason=reason, remedy=remedy), outcome)


def of_content(require: Requirements) -> Iterator[str]:
    """The requirements that only a registry can answer."""
    if require.exists:
        yield REQUIRE_EXISTS
    if require.max_age is not None:
        yield REQUIRE_AGE
    if require.platforms:
        yield REQUIRE_PLATFORM


@dataclass(frozen=True, slots=True)
class JudgedImage:
    """One field that names an image. No opinion: no policy applies in the namespace."""

    use: ImageUse
    reference: ImageReference | None
    opinions: tuple[Opinion, ...]

    @property
    def outcome(self) -> Outcome:
        return worst(opinion.outcome for opinion in self.opinions)


@dataclass(frozen=True, slots=True)
class JudgedObject:
    """One object that names images."""

    place: Place
    kind: Kind
    namespace: str
    name: str
    images: tuple[JudgedImage, ...]

    def __str__(self) -> str:
        return f"{self.kind.name} {self.namespace}/{self.name}"

    @property
    def outcome(self) -> Outcome:
        return worst(image.outcome for image in self.images)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something in the input that cannot be judged."""

    place: Place
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.place}: {self.what}: {self.why}" if self.what else f"{self.place}: {self.why}"


@dataclass(slots=True)
class Trial:
    """What became of all objects.

    Attributes:
        strange: what looks as if it named images, but is of a kind that nobody has told of.
        skipped: how many objects name no image.
    """

    judged: list[JudgedObject] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    strange: list[Unreadable] = field(default_factory=list)
    skipped: int = 0

    @property
    def outcome(self) -> Outcome:
        """Denied wins over undecided, and what cannot be read is undecided."""
        unread = [Outcome.UNDECIDED] if self.unreadable else []
        return worst([*(each.outcome for each in self.judged), *unread])

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many images came to what."""
        found = Counter(image.outcome for each in self.judged for image in each.images)
        return {outcome: found[outcome] for outcome in Outcome}


def tried(files: Sequence[str], judge: Judge, subjects: Subjects, namespace: str) -> Trial:
    """Judge every object of the files.

    Args:
        files: paths, or `-` for standard input.
        judge: by whose rules.
        subjects: finds images.
        namespace: that of objects which do not say where they are.

    Raises:
        UnreadableFile: a file is neither YAML nor JSON, or empty.
    """
    found: list[Document] = []
    for file in files:
        documents = read(file)
        if not documents:
            raise UnreadableFile(f"{'standard input' if file == '-' else file}: is empty, so there is nothing to test")
        found += objects(documents)
    return try_all(found, judge, subjects, namespace)


def try_all(documents: Iterable[Document], judge: Judge, subjects: Subjects, namespace: str) -> Trial:
    """Judge every object.

    Args:
        documents: objects; lists were taken apart.
        judge: by whose rules.
        subjects: finds images.
        namespace: that of objects which do not say where they are.
    """
    trial = Trial()
    for document in documents:
        _try(trial, document, judge, subjects, namespace)
    return trial


def _try(trial: Trial, document: Document, judge: Judge, subjects: Subjects, namespace: str) -> None:
    item, place = document.value, document.place
    if not isinstance(item, dict):
        trial.unreadable.append(Unreadable(place, "", "is no object of Kubernetes"))
        return
    what = str(item.get("kind", ""))
    try:
        kind = Kind.of(item)
        where, name = _named(item, namespace)
        what = f"{kind.name} {where}/{name}"
        uses = subjects.uses(kind, item)
    except UnreadableObject as error:
        trial.unreadable.append(Unreadable(place, what, str(error)))
        return
    if uses:
        trial.judged.append(JudgedObject(place, kind, where, name, tuple(_judged(judge, kind, where, uses))))
        return
    trial.skipped += 1
    if not subjects.knows(kind) and seems_to_name_images(kind, item):
        trial.strange.append(Unreadable(place, what, _UNTOLD.format(kind=kind)))


def _named(item: Mapping[str, object], namespace: str) -> tuple[str, str]:
    metadata = item.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UnreadableObject("metadata is not an object")
    where, name = metadata.get("namespace") or namespace, metadata.get("name") or metadata.get("generateName")
    if not isinstance(where, str) or not isinstance(name or "", str):
        raise UnreadableObject("metadata.namespace or metadata.name is not a text")
    return namespace_of(where), name or NO_NAME


def namespace_of(text: str) -> str:
    """The text, if it can be the name of a namespace: no policy covers what cannot.

    Raises:
        UnreadableObject: it cannot.
    """
    if not _NAMESPACE.fullmatch(text):
        raise UnreadableObject(f"{text!r} is not the name of a namespace")
    return text


def _judged(judge: Judge, kind: Kind, namespace: str, uses: Sequence[ImageUse]) -> Iterator[JudgedImage]:
    for use in uses:
        of_use = (
            judge.of_unfinished(namespace, use) if is_filled_in(kind, use.text) else judge.opinions(namespace, [use])
        )
        yield JudgedImage(use, reference_of(use.text), tuple(of_use))


def reference_of(text: str) -> ImageReference | None:
    """How an image's name is read; None if it cannot be."""
    try:
        return images.parse(text)
    except InvalidImage:
        return None
