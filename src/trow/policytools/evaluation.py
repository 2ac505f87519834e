"""The evaluation of manifests without a cluster, for `trow policy test` and `trow policy simulate`.

Workloads are evaluated as the Pods that they would make, because these Pods are never seen here. What depends on facts
that only a registry knows is undecided.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trow.lib.dns_names import is_label
from trow.policy.changes import reference_of
from trow.policy.kinds import seems_to_name_images
from trow.policy.pods import Kind, UnreadableObject
from trow.policytools.documents import UnreadableFile, objects, read
from trow.policytools.folders import files_of
from trow.policytools.judging import EvaluationOutcome, worst

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.admission.image_extractor import ImageExtractor
    from trow.policy.images import ImageReference
    from trow.policy.pods import ImageUse
    from trow.policytools.documents import Document, Location
    from trow.policytools.judging import OfflineJudge, PolicyEvaluation
    from trow.policytools.loading import Policies

NO_NAME: Final = "(no name)"
_UNKNOWN_KIND: Final = (
    "seems to name images, but it is not known where a {kind} names them, so it was not evaluated; add"
    " admission.extra_kinds to a configuration, and give that file with -f too"
)


@dataclass(frozen=True, slots=True)
class ImageEvaluation:
    """The evaluation of one image.

    Attributes:
        use: the field that names the image.
        reference: the parsed name that Pods get; None if it is not valid.
        results: one for each policy; empty if no policy applies in the namespace.
    """

    use: ImageUse
    reference: ImageReference | None
    results: tuple[PolicyEvaluation, ...]

    @property
    def outcome(self) -> EvaluationOutcome:
        return worst(result.outcome for result in self.results)


@dataclass(frozen=True, slots=True)
class ObjectEvaluation:
    """The evaluation of one object that names images."""

    location: Location
    kind: Kind
    namespace: str
    name: str
    images: tuple[ImageEvaluation, ...]

    def __str__(self) -> str:
        return f"{self.kind.name} {self.namespace}/{self.name}"

    @property
    def outcome(self) -> EvaluationOutcome:
        return worst(image.outcome for image in self.images)


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object that cannot be evaluated."""

    location: Location
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.location}: {self.what}: {self.why}" if self.what else f"{self.location}: {self.why}"


@dataclass(slots=True)
class Evaluation:
    """The evaluation of all objects.

    Attributes:
        objects: those that name images.
        unreadable: those that cannot be evaluated.
        unknown_kinds: those that seem to name images, but have an unknown kind.
        without_images: the number of objects that name no image.
    """

    objects: list[ObjectEvaluation] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    unknown_kinds: list[Unreadable] = field(default_factory=list)
    without_images: int = 0

    @property
    def outcome(self) -> EvaluationOutcome:
        """The worst outcome; an unreadable object is undecided."""
        unread = [EvaluationOutcome.UNDECIDED] if self.unreadable else []
        return worst([*(each.outcome for each in self.objects), *unread])

    @property
    def counts(self) -> Mapping[EvaluationOutcome, int]:
        """The number of images with each outcome."""
        found = Counter(image.outcome for each in self.objects for image in each.images)
        return {outcome: found[outcome] for outcome in EvaluationOutcome}


def evaluate_files(files: Sequence[str], judge: OfflineJudge, policies: Policies, namespace: str) -> Evaluation:
    """Evaluate all objects in files.

    Args:
        files: paths of files and directories, or `-` for standard input.
        judge: evaluates the policies.
        policies: the policies, and what was read with them.
        namespace: of objects without a namespace.

    Raises:
        UnreadableFile: a file is neither YAML nor JSON, or empty.
    """
    found: list[Document] = []
    for path in files:
        documents = [document for file in files_of(path) for document in read(file)]
        if not documents:
            raise UnreadableFile(f"{'standard input' if path == '-' else path}: is empty; give manifests")
        found += objects(documents)
    for document in found:
        policies.labels.learn(document.value)
    evaluation = Evaluation()
    for document in found:
        evaluate_object(evaluation, document, judge, policies.extractor, namespace)
    return evaluation


def evaluate_object(
    evaluation: Evaluation, document: Document, judge: OfflineJudge, extractor: ImageExtractor, namespace: str
) -> ObjectEvaluation | None:
    """Evaluate an object and add the result to the evaluation; None if the object has no images."""
    item, location = document.value, document.location
    if not isinstance(item, dict):
        evaluation.unreadable.append(Unreadable(location, "", "is not an object of Kubernetes"))
        return None
    what = str(item.get("kind", ""))
    try:
        kind = Kind.of(item)
        where, name = _namespace_and_name(item, namespace)
        what = f"{kind.name} {where}/{name}"
        uses = extractor.uses(kind, item)
    except UnreadableObject as error:
        evaluation.unreadable.append(Unreadable(location, what, str(error)))
        return None
    if uses:
        images = tuple(
            ImageEvaluation(use, reference_of(judge.changed(where, use).text), judge.evaluate(where, kind, use))
            for use in uses
        )
        evaluation.objects.append(ObjectEvaluation(location, kind, where, name, images))
        return evaluation.objects[-1]
    evaluation.without_images += 1
    if not extractor.knows(kind) and seems_to_name_images(kind, item):
        evaluation.unknown_kinds.append(Unreadable(location, what, _UNKNOWN_KIND.format(kind=kind)))
    return None


def _namespace_and_name(item: Mapping[str, object], namespace: str) -> tuple[str, str]:
    metadata = item.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise UnreadableObject("metadata is not an object")
    where, name = metadata.get("namespace") or namespace, metadata.get("name") or metadata.get("generateName")
    if not isinstance(where, str) or not isinstance(name or "", str):
        raise UnreadableObject("metadata.namespace or metadata.name is not a text")
    return namespace_of(where), name or NO_NAME


def namespace_of(text: str) -> str:
    """The text, if it is a valid name of a namespace. No policy selects an invalid name, so that would be allowed.

    Raises:
        UnreadableObject: it is not valid.
    """
    if not is_label(text):
        raise UnreadableObject(f"{text!r} is not the name of a namespace")
    return text
