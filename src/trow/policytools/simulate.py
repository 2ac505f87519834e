"""`trow policy simulate`: what would break under a policy, of all that runs in a cluster or a dump of it.

A new policy does not affect a Pod that runs, but the Pod would not start again on another node, nor would further Pods.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from trow.lib.kube_objects import Owner, controller_of, metadata, text
from trow.policytools.documents import Document, Location
from trow.policytools.evaluation import Evaluation, evaluate_object
from trow.policytools.judging import EvaluationOutcome, OfflineJudge, worst
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
# Levels of owners, such as Deployment, ReplicaSet and Pod.
_MOST_OWNERS: Final = 8


@dataclass(frozen=True, slots=True)
class Breakage:
    """An image of a workload that a policy does not simply allow.

    Attributes:
        workload: the outermost owner, such as ``Deployment web``.
        result: the finding of one policy about the image.
        pods: the number of its Pods that run the image, or would run it.
    """

    outcome: EvaluationOutcome
    namespace: str
    workload: str
    result: PolicyEvaluation
    image: str
    pods: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result of a simulation.

    Attributes:
        evaluation: the evaluation of each object.
        breakages: the worst first.
        workloads: the number of workloads.
        broken: the number of workloads that would not start again.
        idle: the number of objects that were not evaluated, because they run nothing.
    """

    evaluation: Evaluation
    breakages: tuple[Breakage, ...]
    workloads: int
    broken: int
    idle: int


def from_cluster(kubeconfig: Path | None, context: str) -> list[Document]:
    """The objects of built-in kinds in a cluster that name images, and its Namespaces; see `ask_cluster`."""
    # The client needs as much memory as everything else, so it is imported only here.
    from trow.controllers.background_scan import COLLECTIONS  # noqa: PLC0415
    from trow.kube.command import ask_cluster  # noqa: PLC0415

    async def listed(objects: Objects) -> list[Document]:
        found = [await objects.list_all(path) for path in (_NAMESPACES, *COLLECTIONS)]
        items = [item for collection in found for item in collection.objects.values()]
        return [Document(Location(CLUSTER, number), item) for number, item in enumerate(items, 1)]

    return ask_cluster(kubeconfig, context, listed)


def simulate(documents: Iterable[Document], judge: OfflineJudge, policies: Policies, namespace: str) -> Simulation:
    """Evaluate what runs, and sum up the results by workload.

    Args:
        documents: objects; a Namespace comes before the objects in it.
        judge: evaluates the policies.
        policies: the policies, and what was read with them.
        namespace: of objects without a namespace.
    """
    evaluation, idle = Evaluation(), 0
    owners: dict[str, Owner | None] = {}  # the controller of each object, by uid
    found: list[_Evaluated] = []
    for document in documents:
        item = document.value if isinstance(document.value, dict) else {}
        owner = controller_of(metadata(item))
        if uid := text(metadata(item).get("uid")):
            owners[uid] = owner
        policies.labels.learn(item)
        if not runs(item):
            idle += 1
        elif evaluated := evaluate_object(evaluation, document, judge, policies.extractor, namespace):
            found.append(_Evaluated(evaluated, owner, pods_of(item)))
    workloads: dict[tuple[str, str], EvaluationOutcome] = {}
    # By namespace, workload, image, policy and rule.
    results_by_key: dict[tuple[str, str, str, str, str], list[tuple[PolicyEvaluation, _Evaluated]]] = defaultdict(list)
    for each in found:
        where, workload = each.object.namespace, _workload_of(each, owners)
        before = workloads.get((where, workload), EvaluationOutcome.ALLOWED)
        workloads[where, workload] = worst((before, each.object.outcome))
        for image in each.object.images:
            for result in image.results:
                if result.outcome is not EvaluationOutcome.ALLOWED:
                    key = (where, workload, image.use.text, result.finding.policy, result.finding.rule)
                    results_by_key[key].append((result, each))
    breakages = []
    for (where, workload, name, _, _), results in results_by_key.items():
        # The Pods that exist; if there are none, or the input has none, those that the workload would make.
        pods = len({each.object.location for _, each in results if each.object.kind.is_pod})
        pods = pods or max(each.pods for _, each in results)
        first = results[0][0]
        breakages.append(Breakage(first.outcome, where, workload, first, name, pods))
    breakages.sort(key=lambda each: (-each.outcome.severity, each.namespace, each.workload, each.image))
    broken = sum(outcome is EvaluationOutcome.DENIED for outcome in workloads.values())
    return Simulation(evaluation, tuple(breakages), len(workloads), broken, idle)


class _Evaluated(NamedTuple):
    """An object that was evaluated, its controller, and the number of Pods that it makes."""

    object: ObjectEvaluation
    owner: Owner | None
    pods: int


def _workload_of(evaluated: _Evaluated, owners: Mapping[str, Owner | None]) -> str:
    """Kind and name of the outermost owner that is known."""
    name, owner = f"{evaluated.object.kind.name} {evaluated.object.name}", evaluated.owner
    for _ in range(_MOST_OWNERS):
        if owner is None:
            break
        name, owner = f"{owner.kind} {owner.name}", owners.get(owner.uid)
    return name
