"""Would these objects run: what `trow policy test` and `trow policy explain` find out without a cluster.

Workloads are judged as the Pods that they would make: no later gate asks here. What only a registry knows stays
undecided.
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
    from collections.abc import Iterable, Mapping, Sequence

    from trow.admission.image_extractor import ImageExtractor
    from trow.policy.images import ImageReference
    from trow.policy.pods import ImageUse
    from trow.policytools.documents import Document, Location
    from trow.policytools.judging import OfflineJudge, PolicyEvaluation
    from trow.policytools.loading import Policies

NO_NAME: Final = "(no name)"
_UNKNOWN_KIND: Final = (
    "seems to name images, but it is not known where a {kind} names them, so it was not judged; write"
    " admission.extra_kinds into a configuration, and name that file with -f too"
)


@dataclass(frozen=True, slots=True)
class ImageEvaluation:
    """One field that names an image. No result: no policy applies in the namespace.

    Attributes:
        reference: how it is read, under the name that Pods get for it; None if it cannot be.
    """

    use: ImageUse
    reference: ImageReference | None
    results: tuple[PolicyEvaluation, ...]

    @property
    def outcome(self) -> EvaluationOutcome:
        return worst(result.outcome for result in self.results)


@dataclass(frozen=True, slots=True)
class ObjectEvaluation:
    """One object that names images."""

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
    """Something in the input that cannot be judged."""

    location: Location
    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.location}: {self.what}: {self.why}" if self.what else f"{self.location}: {self.why}"


@dataclass(slots=True)
class Evaluation:
    """What became of all objects.

    Attributes:
        unknown_kinds: what looks as if it named images, but is of a kind that is not known.
        without_images: how many objects name no image.
    """

    objects: list[ObjectEvaluation] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    unknown_kinds: list[Unreadable] = field(default_factory=list)
    without_images: int = 0

    @property
    def outcome(self) -> EvaluationOutcome:
        """Denied wins over undecided, and what cannot be read is undecided."""
        unread = [EvaluationOutcome.UNDECIDED] if self.unreadable else []
        return worst([*(each.outcome for each in self.objects), *unread])

    @property
    def counts(self) -> Mapping[EvaluationOutcome, int]:
        """How many images came to what."""
        found = Counter(image.outcome for each in self.objects for image in each.images)
        return {outcome: found[outcome] for outcome in EvaluationOutcome}


def evaluate_files(files: Sequence[str], judge: OfflineJudge, policies: Policies, namespace: str) -> Evaluation:
    """Judge every object of the files.

    Args:
        files: paths of files and directories, or `-` for standard input.
        judge: by whose rules.
        policies: the same, and what was read beside them.
        namespace: that of objects which do not say where they are.

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
    return evaluate(found, judge, policies.extractor, namespace)


def evaluate(
    documents: Iterable[Document], judge: OfflineJudge, extractor: ImageExtractor, namespace: str
) -> Evaluation:
    """Judge every object.

    Args:
        documents: objects; lists were taken apart.
        judge: by whose rules.
        extractor: finds images.
        namespace: that of objects which do not say where they are.
    """
    evaluation = Evaluation()
    for document in documents:
        evaluate_object(evaluation, document, judge, extractor, namespace)
    return evaluation


def evaluate_object(
    evaluation: Evaluation, document: Document, judge: OfflineJudge, extractor: ImageExtractor, namespace: str
) -> ObjectEvaluation | None:
    """Judge an object, and take down what came of it; None if there was nothing to judge. Like `evaluate`."""
    item, location = document.value, document.location
    if not isinstance(item, dict):
        evaluation.unreadable.append(Unreadable(location, "", "is not an object of Kubernetes"))
        return None
    what = str(item.get("kind", ""))
    try:
        kind = Kind.of(item)
        where, name = _named(item, namespace)
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
    if not is_label(text):
        raise UnreadableObject(f"{text!r} is not the name of a namespace")
    return text
