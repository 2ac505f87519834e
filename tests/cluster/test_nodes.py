"""The node agent in a real cluster: Pods pull from Trow with their own ServiceAccount, and its guide is followed."""

from __future__ import annotations

import contextlib
import json
import re
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
from deploy.helm.schema import CHART
from deploy.image.__main__ import cache
from deploy.image.agent import build_agent

import trow
from support import own
from support.administrator import Administrator
from support.helm import Helm
from support.nodes import NodeCluster, architecture
from support.pages import ROOT, blocks
from support.reader import Reader, steps
from support.tutorial import TUTORIAL
from support.waiting import until
from tools.find import SYSTEM_PATH

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.nodes import Node
    from support.pages import Block

GUIDE: Final = ROOT / "docs" / "how-to" / "set-up-nodes.md"
NAMESPACE: Final = "trow"
HOST: Final = "localhost:30500"
AGENT: Final = "images.test/trow-node-agent"
HOSTS: Final = f"/etc/containerd/certs.d/{HOST}/hosts.toml"
FLAGS: Final = re.compile(r"start it with (\S+) (\S+) \(kubeadm")
VALUES: Final[dict[str, Any]] = {
    "image": {"repository": own.NAME},
    "host": HOST,
    "service": {"type": "NodePort", "nodePort": 30500},
    "persistence": {"enabled": False},
    "admission": {"enabled": False},
    "nodes": {"enabled": True, "image": {"repository": AGENT}},
}
# A minute for the kubelet to try again what failed.
SECONDS: Final = 120


class Installed:
    """Trow in a cluster, with its agent on the nodes."""

    def __init__(self, cluster: NodeCluster, folder: Path) -> None:
        self.cluster = cluster
        self.helm = Helm("helm", folder, NAMESPACE, cluster)

    def pod(self) -> dict[str, Any]:
        """The agent's Pod that is there to stay."""
        asked = ("get", "pods", "--selector=app.kubernetes.io/component=node-agent", "--output=json")
        pods = json.loads(self.helm.kubectl(*asked))["items"]
        found: dict[str, Any] = next((pod for pod in pods if "deletionTimestamp" not in pod["metadata"]), {})
        return found

    def report(self) -> str:
        """What the agent has said last, "" before it has."""
        status = self.pod().get("status", {})
        said = [
            state["terminated"]
            for each in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", []))
            for state in (each["state"], each.get("lastState", {}))
            if "message" in state.get("terminated", {})
        ]
        return str(max(said, key=lambda each: str(each["finishedAt"]))["message"]) if said else ""

    def wait_for_report(self, word: str) -> str:
        try:
            until(lambda: word in self.report(), SECONDS)
        except AssertionError as error:
            raise AssertionError(f"{self.report()}\n{self.cluster.describe(NAMESPACE)}") from error
        return self.report()

    def client(self) -> Administrator:
        return Administrator(f"{self.cluster.address}:30500", self.helm.secret("trow-admin", "password"))


@contextlib.contextmanager
def installed(folder: Path, own_image: Path, values: dict[str, Any], nodes: int = 1) -> Iterator[Installed]:
    """In a cluster whose kubelets know no credential provider, and whose nodes have both images."""
    build_agent(folder / "agent", [architecture()], cache(), own.CREATED, lambda _text: None)
    with NodeCluster.start(folder / "cluster", nodes=nodes) as cluster:
        cluster.import_image(own_image, own.REFERENCE)
        cluster.import_image(folder / "agent", f"{AGENT}:{trow.__version__}")
        cluster.create_namespace(NAMESPACE)
        found = Installed(cluster, folder)
        found.helm.install(values)
        cluster.wait_ready(NAMESPACE, "statefulset/trow", SECONDS)
        yield found


@pytest.fixture
def bare(tmp_path: Path, own_image: Path) -> Iterator[Installed]:
    """The agent is there from the beginning."""
    with installed(tmp_path, own_image, VALUES) as found:
        yield found


def set_flags(installed: Installed) -> None:
    """Do what the agent says."""
    found = FLAGS.search(installed.wait_for_report("credentials: blocked: the kubelet runs without"))
    assert found is not None, installed.report()
    installed.cluster.node.kubelet_flags = [found[1], found[2]]
    installed.cluster.node.restart_kubelet()
    installed.wait_for_report("credentials: ready:")


def test_a_node_is_prepared_used_and_put_back(bare: Installed) -> None:
    """From the first report to the last, since each step needs the one before."""
    cluster, node, helm = bare.cluster, bare.cluster.node, bare.helm
    # containerd is told, and the kubelet has to be
    report = bare.wait_for_report("registry: ready: containerd 2.4.2 reads /etc/containerd/certs.d (one)")
    assert f'server = "http://{cluster.address}:30500"' in node.path(HOSTS).read_text()
    assert "credentials: blocked:" in report
    until(lambda: "401" in pull_check(bare) or "403" in pull_check(bare) or "denied" in pull_check(bare), SECONDS)
    set_flags(bare)
    cluster.wait_ready(NAMESPACE, "daemonset/trow-nodes", SECONDS)

    # team-a pulls with its own ServiceAccount, and team-b is told why it may not
    with bare.client() as client:
        client.push("team-a/app")
        for team in ("team-a", "team-b"):
            cluster.create_namespace(team)
        may_pull = ("create", "rolebinding", "pull", "--namespace=team-a", "--clusterrole=trow-image-puller")
        cluster.kubectl(*may_pull, "--serviceaccount=team-a:default")
        follow_tutorial(bare)
        cluster.wait_ready("team-a", "pod/app", SECONDS)
        cluster.run_pod("team-b", "app", f"{HOST}/team-a/app:v1")
        cluster.wait_for_reason("team-b", "app", "denied")
        assert "denied" in cluster.kubectl("describe", "pod", "app", "--namespace=team-b")
        (record, *_) = until(partial(client.pulls, "team-a/app"))
    told = json.dumps(record)
    assert '"system:serviceaccount:team-a:default"' in told
    assert '"app"' in told
    assert '"node1"' in told

    # it can write where it has to, and nowhere else, also not where something is mounted below the root of the node
    inside = ("exec", bare.pod()["metadata"]["name"], f"--namespace={NAMESPACE}", "--container=agent", "--")
    shown = cluster.kubectl(*inside, "cat", "/proc/self/mountinfo")
    mounts = (line.split() for line in shown.splitlines())
    writable = {each[4] for each in mounts if each[4].startswith("/host") and not each[5].startswith("ro")}
    assert writable == {"/host/etc/containerd/certs.d", "/host/etc/kubernetes/image-credential-provider"}

    # a restarted agent finds everything as it should be
    before = node.path(HOSTS).stat()
    helm.kubectl("delete", "pod", bare.pod()["metadata"]["name"])
    cluster.wait_ready(NAMESPACE, "daemonset/trow-nodes", SECONDS)
    assert "registry: ready:" in bare.wait_for_report("credentials: ready:")
    assert node.path(HOSTS).stat() == before

    # and all is put back
    helm.upgrade({**VALUES, "nodes": {**VALUES["nodes"], "restore": True}})
    cluster.wait_ready(NAMESPACE, "daemonset/trow-nodes", SECONDS)
    assert "the kubelet does not start without" in bare.report()
    assert not node.path(HOSTS).exists()
    node.kubelet_flags = []
    node.restart_kubelet()
    helm.kubectl("rollout", "restart", "daemonset/trow-nodes")
    cluster.wait_ready(NAMESPACE, "daemonset/trow-nodes", SECONDS)
    assert "credentials: off: the credential provider is gone" in bare.report()
    helm.upgrade({**VALUES, "nodes": {"enabled": False}})
    assert left(node) == []


def follow_tutorial(installed: Installed) -> None:
    """What a reader of the tutorial runs where the nodes are set up."""
    cluster = installed.cluster
    (block,) = (each for each in blocks(TUTORIAL) if "set-up" in each.words)
    with Reader(cluster.folder, "kubectl", environment={"KUBECONFIG": str(cluster.kubeconfig)}) as reader:
        reader.follow(block)


def left(node: Node) -> list[Path]:
    """What the agent has written there and has not taken away."""
    folders = ("/etc/containerd/certs.d", "/etc/kubernetes/image-credential-provider")
    return [path for folder in folders for path in node.path(folder).rglob("*") if path.is_file()]


# The guide


def test_the_guide_sets_nodes_up_and_puts_them_back(tmp_path: Path, own_image: Path) -> None:
    """Where no node can look the name of the registry up: the agent leads them to the address of the Service.

    Nothing is different from the page but that its name is reached by a NodePort, and where the agent's image is.
    """
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "deploy").symlink_to(ROOT / "deploy")
    values = {"image": {"repository": own.NAME}, "host": "registry.example.com", "service": {"type": "NodePort"}}
    with installed(tmp_path, own_image, {**values, "persistence": {"enabled": False}}, nodes=2) as found:
        cluster, helm = found.cluster, found.helm
        port = helm.kubectl("get", "service", "trow", "--output=jsonpath={.spec.ports[0].nodePort}")
        replaced = {
            "https://registry.example.com": f"http://{cluster.address}:{port}",
            "registry.example.net/trow-node-agent": AGENT,
        }
        environment = {"KUBECONFIG": str(cluster.kubeconfig)}
        removals = 0
        with Reader(clone, "helm", "kubectl", replaced=replaced, environment=environment) as reader:
            for block, shown in steps(GUIDE):
                without_helm = "kubectl delete daemonset" in block.code
                if without_helm:  # the block before has taken it all away
                    helm.run("upgrade", "trow", str(CHART), "--reset-then-reuse-values", "--set=nodes.enabled=true")
                    until(lambda: all(map(left, cluster.nodes)), SECONDS)
                if "on-the-node" in block.words:
                    for node in cluster.nodes:
                        type_there(node, block, tmp_path)
                else:
                    reader.follow(block, shown)
                if without_helm or "nodes.enabled=false" in block.code:
                    removals += 1
                    assert [left(node) for node in cluster.nodes] == [[], []]
        assert removals == 2


def type_there(node: Node, block: Block, folder: Path) -> None:
    """Run a block on a node that has kubeadm's file of flags, and no systemd: what is asked of that is done here."""
    program, asked, flags = map(node.path, ("/opt/bin/systemctl", "/var/lib/systemctl", "/etc/default/kubelet"))
    for path in (program, asked, flags):
        path.parent.mkdir(parents=True, exist_ok=True)
    program.write_text('#!/bin/sh\necho "$*" >>/var/lib/systemctl\n', "utf-8")
    program.chmod(0o755)
    with Reader(folder, place=node.machine.command, environment={"PATH": f"/opt/bin:{SYSTEM_PATH}"}) as reader:
        reader.follow(block)
    assert asked.read_text("utf-8") == "restart kubelet\n"
    asked.unlink()
    node.kubelet_flags = re.findall(r'--[^\s"]+', flags.read_text("utf-8"))
    node.restart_kubelet()


def test_every_command_of_the_guide_is_run() -> None:
    for block in blocks(GUIDE):
        assert block.language != "sh" or block.words >= {"run", "nodes"}, block.code


def pull_check(installed: Installed) -> str:
    """Why the node cannot pull, in the kubelet's words."""
    pod = installed.pod()
    return installed.cluster.waiting_reason(NAMESPACE, pod["metadata"]["name"]) if pod else ""
