"""What would break if a policy were on: everything that runs, from a live cluster or a dump of it, judged by it.

A Pod that runs is not touched by a new policy, but it would not start again on another node, and no further one would.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.app.documents import Document, Place, objects, read
from trow.app.judging import Judge, Outcome
from trow.app.trial import Trial, try_all
from trow.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from trow.admission.subjects import Subjects
    from trow.app.judging import Opinion
    from trow.app.trial import JudgedImage, JudgedObject

CLUSTER: Final = "the cluster"
# A Deployment has ReplicaSets, which have Pods; whatever is built upon that hardly goes deeper.
_MOST_OWNERS: Final = 8


@dataclass(frozen=True, slots=True)
class Breakage:
    """What one rule would do to one image of one workload.

    Attributes:
        workload: what somebody made, such as ``Deployment web``; its Pods are counted, not listed.
        count: how many objects of it name the image.
    """

    outcome: Outcome
    namespace: str
    workload: str
    opinion: Opinion
    image: str
    count: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """Everything that was found.

    Attributes:
        trial: each object and its verdict.
        breakages: what is not simply allowed, the worst first.
        workloads: how many there are, and how many of them would not start again.
    """

    trial: Trial
    breakages: tuple[Breakage, ...]
    workloads: int
    broken: int


def from_files(files: Sequence[str]) -> list[Document]:
    """The objects of dumps such as ``kubectl get -A -o json`` writes.

    Raises:
        UnreadableFile: a file is neither YAML nor JSON.
    """
    return [document for file in files for document in objects(read(file))]


def from_cluster(kubeconfig: Path) -> list[Document]:
    """Everything in the cluster that names images, as far as it is built in.

    Raises:
        StartError: the cluster cannot be asked.
    """
    # The client takes as much memory as all else: it is loaded where it is used.
    from trow.kube.access import Access, AccessError  # noqa: PLC0415
    from trow.kube.client import KubeClient  # noqa: PLC0415
    from trow.kube.errors import KubeRefused  # noqa: PLC0415
    from trow.kube.objects import Objects  # noqa: PLC0415
    from trow.kube.scan import COLLECTIONS  # noqa: PLC0415
    from trow.oci.errors import Unavailable  # noqa: PLC0415

    async def listed() -> list[Document]:
        client = KubeClient(Access.from_kubeconfig(kubeconfig))
        try:
            found = [await Objects(client).list_all(path) for path in COLLECTIONS]
        finally:
            await client.close()
        items = [item for collection in found for item in collection.objects.values()]
        return [Document(Place(CLUSTER, number), item) for number, item in enumerate(items, 1)]

    try:
        return asyncio.run(listed())
    except (AccessError, KubeRefused, Unavailable) as error:
        raise StartError(f"the cluster of {kubeconfig} cannot be asked: {error}") from None


def simulated(documents: Sequence[Document], judge: Judge, subjects: Subjects, namespace: str) -> Simulation:
    """Judge everything, and say it of what somebody made.

    Args:
        documents: objects.
        judge: by whose rules.
        subjects: finds images.
        namespace: that of objects which do not say where they are.
    """
    trial = try_all(documents, judge, subjects, namespace)
    roots = _Roots(documents)
    workloads: dict[tuple[str, str], Outcome] = {}
    found: dict[tuple[str, str, str, str, str], list[tuple[JudgedImage, Opinion]]] = defaultdict(list)
    for judged in trial.judged:
        root = roots.of(judged)
        before = workloads.get((judged.namespace, root), Outcome.ALLOWED)
        workloads[judged.namespace, root] = max(before, judged.outcome, key=_rank)
        for image, opinion in _against(judged):
            key = (judged.namespace, root, image.use.text, opinion.finding.policy, opinion.finding.rule)
            found[key].append((image, opinion))
    broken = sum(outcome is Outcome.DENIED for outcome in workloads.values())
    return Simulation(trial, tuple(_breakages(found)), len(workloads), broken)


def _against(judged: JudgedObject) -> Iterator[tuple[JudgedImage, Opinion]]:
    for image in judged.images:
        for opinion in image.opinions:
            if opinion.outcome is not Outcome.ALLOWED:
                yield image, opinion


def _breakages(
    found: Mapping[tuple[str, str, str, str, str], Sequence[tuple[JudgedImage, Opinion]]],
) -> Iterable[Breakage]:
    made = (
        Breakage(opinions[0][1].outcome, namespace, workload, opinions[0][1], image, len(opinions))
        for (namespace, workload, image, _, _), opinions in found.items()
    )
    return sorted(made, key=lambda each: (-_rank(each.outcome), each.namespace, each.workload, each.image))


def _rank(outcome: Outcome) -> int:
    return [*Outcome].index(outcome)


class _Roots:
    """Finds what somebody made behind what controllers have made of it."""

    def __init__(self, documents: Iterable[Document]) -> None:
        self._names: dict[Place, str] = {}
        self._owners: dict[str, Mapping[str, object]] = {}
        self._items: dict[Place, Mapping[str, object]] = {}
        for document in documents:
            if isinstance(document.value, dict):
                self._items[document.place] = document.value
                self._owners[_uid(document.value)] = document.value

    def of(self, judged: JudgedObject) -> str:
        """Kind and name of the outermost owner that is known."""
        item = self._items.get(judged.place, {})
        name = f"{judged.kind.name} {judged.name}"
        for _ in range(_MOST_OWNERS):
            owner = _controller(item)
            if owner is None:
                break
            name = f"{owner.get('kind')} {owner.get('name')}"
            item = self._owners.get(str(owner.get("uid")), {})
        return name


def _metadata(item: Mapping[str, object]) -> Mapping[str, object]:
    found = item.get("metadata")
    return found if isinstance(found, dict) else {}


def _uid(item: Mapping[str, object]) -> str:
    return str(_metadata(item).get("uid"))


def _controller(item: Mapping[str, object]) -> Mapping[str, object] | None:
    owners = _metadata(item).get("ownerReferences")
    for owner in owners if isinstance(owners, list) else ():
        if isinstance(owner, dict) and owner.get("controller") is True:
            return owner
    return None
