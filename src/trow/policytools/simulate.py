"""What would break if a policy were on: everything that runs, from a live cluster or a dump of it, judged by it.

A Pod that runs is not touched by a new policy, but it would not start again on another node, and no further one would.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.lib.kube_objects import Owner, controller_of, metadata, text
from trow.policytools.documents import Document, Location
from trow.policytools.evaluation import Evaluation, evaluate_object
from trow.policytools.judging import EvaluationOutcome, OfflineJudge
from trow.policytools.running import pods_of, runs

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from trow.kube.objects import Objects
    from trow.policytools.evaluation import ObjectEvaluation
    from trow.policytools.judging import PolicyEvaluation
    from trow.policytools.loading import Policies

CLUSTER: Final = "the cluster"
_NAMESPACES: Final = "/api/v1/namespaces"
# A Deployment has ReplicaSets, which have Pods; whatever is built upon that hardly goes deeper.
_MOST_OWNERS: Final = 8


@dataclass(frozen=True, slots=True)
class Breakage:
    """What one rule would do to one image of one workload.

    Attributes:
        workload: what somebody made, such as ``Deployment web``; its Pods are counted, not listed.
        pods: how many of its Pods run the image, or are to.
    """

    outcome: EvaluationOutcome
    namespace: str
    workload: str
    result: PolicyEvaluation
    image: str
    pods: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """Everything that was found.

    Attributes:
        evaluation: each object and its verdict.
        breakages: what is not simply allowed, the worst first.
        workloads: how many there are, and how many of them would not start again.
        idle: how many objects were passed over, for they run nothing.
    """

    evaluation: Evaluation
    breakages: tuple[Breakage, ...]
    workloads: int
    broken: int
    idle: int


def from_cluster(kubeconfig: Path | None, context: str) -> list[Document]:
    """Everything in the cluster that names images, as far as it is built in; see `ask_cluster`."""
    # The client takes as much memory as all else: it is loaded where it is used.
    from trow.controllers.background_scan import COLLECTIONS  # noqa: PLC0415
    from trow.kube.command import ask_cluster  # noqa: PLC0415

    async def listed(objects: Objects) -> list[Document]:
        found = [await objects.list_all(path) for path in (_NAMESPACES, *COLLECTIONS)]
        items = [item for collection in found for item in collection.objects.values()]
        return [Document(Location(CLUSTER, number), item) for number, item in enumerate(items, 1)]

    return ask_cluster(kubeconfig, context, listed)


def simulate(documents: Iterable[Document], judge: OfflineJudge, policies: Policies, namespace: str) -> Simulation:
    """Judge what runs, and say it of what somebody made.

    Args:
        documents: objects; a Namespace comes before what is in it.
        judge: by whose rules.
        policies: the same, and what was read beside them.
        namespace: that of objects which do not say where they are.
    """
    evaluation, roots, idle = Evaluation(), _Roots(), 0
    found: list[_Found] = []
    for document in documents:
        item = document.value if isinstance(document.value, dict) else {}
        roots.add(item)
        policies.labels.learn(item)
        if not runs(item):
            idle += 1
        elif judged := evaluate_object(evaluation, document, judge, policies.extractor, namespace):
            found.append(_Found(judged, controller_of(metadata(item)), pods_of(item)))
    workloads: dict[tuple[str, str], EvaluationOutcome] = {}
    # By namespace, workload, image, policy and rule.
    against: dict[tuple[str, str, str, str, str], list[tuple[PolicyEvaluation, _Found]]] = defaultdict(list)
    for each in found:
        judged, root = each.judged, roots.of(each)
        before = workloads.get((judged.namespace, root), EvaluationOutcome.ALLOWED)
        workloads[judged.namespace, root] = max(before, judged.outcome, key=_rank)
        for image in judged.images:
            for result in image.results:
                if result.outcome is not EvaluationOutcome.ALLOWED:
                    key = (judged.namespace, root, image.use.text, result.finding.policy, result.finding.rule)
                    against[key].append((result, each))
    breakages = []
    for (where, workload, name, _, _), results in against.items():
        # The Pods that are there; where none is, or none was shown, those that there are to be.
        pods = len({each.judged.location for _, each in results if each.judged.kind.is_pod})
        pods = pods or max(each.pods for _, each in results)
        first = results[0][0]
        breakages.append(Breakage(first.outcome, where, workload, first, name, pods))
    breakages.sort(key=lambda each: (-_rank(each.outcome), each.namespace, each.workload, each.image))
    broken = sum(outcome is EvaluationOutcome.DENIED for outcome in workloads.values())
    return Simulation(evaluation, tuple(breakages), len(workloads), broken, idle)


def _rank(outcome: EvaluationOutcome) -> int:
    return [*EvaluationOutcome].index(outcome)


class _Found(NamedTuple):
    """What was judged, who manages it, and how many Pods it makes."""

    judged: ObjectEvaluation
    owner: Owner | None
    pods: int


class _Roots:
    """Finds what somebody made behind what controllers have made of it."""

    def __init__(self) -> None:
        self._owners: dict[str, Owner | None] = {}

    def add(self, item: Mapping[str, object]) -> None:
        """Take down who manages an object."""
        if uid := text(metadata(item).get("uid")):
            self._owners[uid] = controller_of(metadata(item))

    def of(self, found: _Found) -> str:
        """Kind and name of the outermost owner that is known."""
        name, owner = f"{found.judged.kind.name} {found.judged.name}", found.owner
        for _ in range(_MOST_OWNERS):
            if owner is None:
                break
            name, owner = f"{owner.kind} {owner.name}", self._owners.get(owner.uid)
        return name
