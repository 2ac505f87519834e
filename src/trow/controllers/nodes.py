"""Which node can pull from Trow, since when, and if not, why: read from the status of the node agents' Pods.

The container ``pull-check`` of such a Pod is pulled each time that it starts, so that its status is the kubelet's own
word. What the agent found is in the termination messages of its containers (`deploy/nodes/trow-node-agent`).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from trow.controllers.pull_errors import cause_of, words_of
from trow.kube.errors import KubeRefused
from trow.lib.kube_objects import (
    condition_of,
    labels,
    mapping,
    metadata,
    object_name,
    object_namespace,
    objects_in,
    text,
)
from trow.lib.threads import aside
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trow.kube.objects import Manifest, Objects

_NODES: Final = "/api/v1/nodes"
_LABEL: Final = ("app.kubernetes.io/component", "node-agent")
_PULL_CHECK: Final = "pull-check"
# Reasons of the kubelet for which a container waits for its image.
_NOT_PULLED: Final = frozenset({
    "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError",
    "RegistryUnavailable", "SignatureValidationFailed",
})  # fmt: skip
# A container that ended is started again within seconds; a longer pause is something else.
_PAUSE: Final = timedelta(seconds=60)
_NO_AGENT_FIX: Final = "install the node agent (nodes.enabled), and see that its DaemonSet tolerates the node's taints"


class NodeReadiness(Struct, frozen=True, rename="camel"):
    """Whether a node can pull.

    Attributes:
        since: RFC 3339; for "yes" the start of the pulls in a row that the status still shows.
        checked: when the last pull succeeded.
        reason: the kubelet's words, or why nothing is known.
        agent: what the agent reports, line by line.
    """

    node: str
    runtime: str
    version: str
    can_pull: Literal["yes", "no", "unknown"]
    since: str | None = None
    checked: str | None = None
    reason: str = ""
    fix: str = ""
    agent: tuple[str, ...] = ()


class NodeReader:
    """Reads all nodes and the agents' Pods.

    Args:
        namespace: of the agents; "" looks in all.
    """

    def __init__(self, objects: Objects, namespace: str = "") -> None:
        self._objects = objects
        self._pods = f"/api/v1/namespaces/{namespace}/pods" if namespace else "/api/v1/pods"

    async def read(self) -> Sequence[NodeReadiness]:
        """Every node, by name.

        Raises:
            Unavailable: the API server does not tell.
        """
        try:
            nodes = await self._objects.list_all(_NODES, part=_part_of_node)
            pods = await self._objects.list_all(self._pods, part=_part_of_pod)
        except KubeRefused as error:
            raise Unavailable(error.message) from None
        return await aside(lambda: readiness(nodes.objects.values(), pods.objects.values()))


def _part_of_node(node: Manifest) -> Manifest:
    """Without what is large: a node names fifty images."""
    status = mapping(node.get("status"))
    return {
        "metadata": {"name": object_name(node)},
        "status": {"nodeInfo": status.get("nodeInfo"), "conditions": [condition_of(status, "Ready")]},
    }


def _part_of_pod(pod: Manifest) -> Manifest:
    """Of a Pod that speaks for its node, what is read below; of another one nothing."""
    if not _is_agent(pod):
        return {}
    head, spec, status = metadata(pod), mapping(pod.get("spec")), mapping(pod.get("status"))
    checks = [each for each in objects_in(spec, "containers") if each.get("name") == _PULL_CHECK]
    return {
        "metadata": {key: value for key, value in head.items() if key != "managedFields"},
        "spec": {
            "nodeName": spec.get("nodeName"),
            "serviceAccountName": spec.get("serviceAccountName"),
            "containers": [{"name": _PULL_CHECK, "image": each.get("image")} for each in checks],
            "volumes": spec.get("volumes"),
        },
        "status": status,
    }


def _is_agent(pod: Manifest) -> bool:
    """Whether a Pod may speak for its node.

    Anybody may give a Pod the label. But who is let to mount the root of a node could do everything there.
    """
    volumes = objects_in(mapping(pod.get("spec")), "volumes")
    return labels(pod).get(_LABEL[0]) == _LABEL[1] and any(
        mapping(each.get("hostPath")).get("path") == "/" for each in volumes
    )


def readiness(nodes: Iterable[Manifest], pods: Iterable[Manifest]) -> Sequence[NodeReadiness]:
    """What the objects say of each node; of several agents on a node the youngest counts."""
    agents: dict[str, Manifest] = {}
    for pod in sorted(filter(_is_agent, pods), key=lambda each: text(metadata(each).get("creationTimestamp"))):
        if "deletionTimestamp" not in metadata(pod):
            agents[text(mapping(pod.get("spec")).get("nodeName"))] = pod
    found = (_of_node(node, agents.get(object_name(node))) for node in nodes)
    return sorted(found, key=lambda each: each.node)


def _of_node(node: Manifest, pod: Manifest | None) -> NodeReadiness:
    status = mapping(node.get("status"))
    runtime, _, version = text(mapping(status.get("nodeInfo")).get("containerRuntimeVersion")).partition("://")
    name = object_name(node)
    ready = condition_of(status, "Ready")
    if pod is None:
        return NodeReadiness(name, runtime, version, "unknown", reason="no node agent runs there", fix=_NO_AGENT_FIX)
    agent = tuple(_report(mapping(pod.get("status"))).splitlines())
    if text(ready.get("status")) != "True":
        since = text(ready.get("lastTransitionTime")) or None
        reason = text(ready.get("message")) or "the node is not ready"
        fix = "see what keeps its kubelet from being ready: kubectl describe node"
        return NodeReadiness(name, runtime, version, "unknown", since, reason=reason, fix=fix, agent=agent)
    can, since, checked, reason = _of_pod(mapping(pod.get("status")))
    fix = "" if can == "yes" else _fix(reason, agent, pod)
    return NodeReadiness(name, runtime, version, can, since, checked, reason, fix, agent)


def _of_pod(status: Mapping[str, object]) -> tuple[Literal["yes", "no", "unknown"], str | None, str | None, str]:
    container = next((each for each in objects_in(status, "containerStatuses") if each.get("name") == _PULL_CHECK), {})
    now, before = mapping(container.get("state")), mapping(mapping(container.get("lastState")).get("terminated"))
    waiting = mapping(now.get("waiting"))
    began = text(mapping(now.get("running")).get("startedAt")) or text(mapping(now.get("terminated")).get("startedAt"))
    earlier = text(before.get("startedAt"))
    if began:
        return "yes", earlier if _in_a_row(text(before.get("finishedAt")), began) else began, began, ""
    if waiting.get("reason") in _NOT_PULLED:
        changed = condition_of(status, "ContainersReady").get("lastTransitionTime")
        since = text(before.get("finishedAt")) or text(changed)
        return "no", since or None, earlier or None, text(waiting.get("message")) or text(waiting.get("reason"))
    if earlier:  # it was pulled, and waits to be started again
        return "yes", earlier, earlier, ""
    reason = text(status.get("message")) or text(waiting.get("reason")) or "the agent's Pod has not started there"
    return "unknown", None, None, reason


def _in_a_row(ended: str, began: str) -> bool:
    """Whether a container was started again as soon as it had ended."""
    try:
        return datetime.fromisoformat(began) - datetime.fromisoformat(ended) <= _PAUSE
    except (ValueError, TypeError):
        return False


def _report(status: Mapping[str, object]) -> str:
    """What a container of the agent said last."""
    said = [
        (text(ended.get("finishedAt")), text(ended.get("message")))
        for member in ("initContainerStatuses", "containerStatuses")
        for each in objects_in(status, member)
        for state in ("state", "lastState")
        if (ended := mapping(mapping(each.get(state)).get("terminated"))).get("message")
    ]
    return max(said)[1] if said else ""


def _fix(reason: str, agent: Sequence[str], pod: Manifest) -> str:
    """What the agent says is to be done; else what usually is behind these words of the kubelet.

    Credentials help nobody who does not reach the registry.
    """
    cause = cause_of(reason)
    blocked = [line for line in agent if ": blocked: " in line]
    if cause is not None and not cause.credentials:
        blocked = [line for line in blocked if not line.startswith("credentials: ")]
    fixes = [fix for line in blocked if (fix := line.partition("; fix: ")[2])]
    if fixes or cause is None:
        return "; ".join(fixes)
    spec = mapping(pod.get("spec"))
    images = (text(each.get("image")) for each in objects_in(spec, "containers") if each.get("name") == _PULL_CHECK)
    namespace, account = object_namespace(pod), text(spec.get("serviceAccountName")) or "default"
    words = words_of(next(images, ""), namespace, account, text(spec.get("nodeName")))
    return cause.agent_fix.format(**words)
