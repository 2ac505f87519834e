"""The cluster of the tests is a real one, and nothing of it can be left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest
import urllib3

from support import machine, nodes, own
from support.machine import Machine, MachineError
from support.nodes import BUSYBOX, CGROUPS, NodeCluster
from support.waiting import until
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterator

TESTS: Final = Path(__file__).parents[1]
SERVE: Final = "mkdir /tmp/web && echo hello >/tmp/web/index.html && exec httpd -f -p 8080 -h /tmp/web"


@pytest.fixture
def namespace(node_cluster: NodeCluster) -> str:
    return node_cluster.new_namespace()


def containers(cluster: NodeCluster, namespace: str, pod: str) -> tuple[str, int]:
    """The id of a Pod's container, and how often it was started again."""
    (status,) = json.loads(cluster.kubectl("get", "pod", pod, f"--namespace={namespace}", "--output=json"))["status"][
        "containerStatuses"
    ]
    return status["containerID"], status["restartCount"]


def test_pods_of_all_nodes_are_reached_by_service_by_name_and_by_node(
    node_cluster: NodeCluster, namespace: str
) -> None:
    for node in node_cluster.nodes:
        node_cluster.run_pod(namespace, node.name, BUSYBOX, "sh", "-c", SERVE, nodeName=node.name)
    for node in node_cluster.nodes:
        node_cluster.wait_ready(namespace, f"pod/{node.name}")
    there = f"--namespace={namespace}"
    node_cluster.kubectl(
        "expose", "pod/node2", "--name=web", "--port=80", "--target-port=8080", "--type=NodePort", there
    )
    service = node_cluster.kubectl("get", "service/web", there, "--output=jsonpath={.spec.clusterIP}")
    for pod in ("node1", "node2"):
        inside = ("exec", pod, there, "--")
        assert f"Address: {service}\n" in node_cluster.kubectl(
            *inside, "nslookup", f"web.{namespace}.svc.cluster.local"
        )
        fetch = (*inside, "wget", "-q", "-O", "-", f"http://{service}/")
        until(lambda fetch=fetch: node_cluster.kubectl(*fetch, check=False) == "hello\n")  # type: ignore[misc]
    port = node_cluster.kubectl("get", "service/web", there, "--output=jsonpath={.spec.ports[0].nodePort}")
    for node in node_cluster.nodes:
        assert urllib3.request("GET", f"http://{node.address}:{port}/", timeout=5).data == b"hello\n"


def test_a_volume_is_bound_to_a_claim_and_belongs_to_the_pods_group(node_cluster: NodeCluster, namespace: str) -> None:
    node_cluster.add_volume("1Gi")
    claim = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}
    metadata = {"name": "data", "namespace": namespace}
    made = {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": metadata, "spec": claim}
    node_cluster.apply(json.dumps(made))
    user = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
    mounted = {"name": "main", "image": BUSYBOX, "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
    mounted["command"] = ["sh", "-c", "echo kept >/data/file && sleep 1000"]
    volumes = [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}]
    node_cluster.run_pod(namespace, "user", BUSYBOX, containers=[mounted], volumes=volumes, securityContext=user)
    node_cluster.wait_ready(namespace, "pod/user")
    reading = ("exec", "user", f"--namespace={namespace}", "--", "cat", "/data/file")
    assert until(lambda: node_cluster.kubectl(*reading, check=False)) == "kept\n"


def test_the_kubelet_says_why_an_image_cannot_be_pulled(node_cluster: NodeCluster, namespace: str) -> None:
    node_cluster.run_pod(namespace, "lost", "127.0.0.1:1/nobody/nothing:1")
    assert "connection refused" in node_cluster.wait_for_reason(namespace, "lost", "ErrImagePull")


def test_a_node_has_no_more_rights_than_its_own(node_cluster: NodeCluster) -> None:
    """The API server lets a kubelet read what its Pods need, and nothing else (NodeRestriction)."""
    kubelet = node_cluster.node.path("/etc/kubernetes/kubelet.conf")
    said = node_cluster.kubectl("auth", "whoami", f"--kubeconfig={kubelet}", "--output=jsonpath={.status.userInfo}")
    assert json.loads(said)["username"] == "system:node:node1"
    assert "forbidden" in node_cluster.kubectl("get", "secrets", f"--kubeconfig={kubelet}", check=False)


def test_a_container_goes_on_while_containerd_and_the_kubelet_are_restarted(
    node_cluster: NodeCluster, namespace: str
) -> None:
    node_cluster.run_pod(namespace, "long", BUSYBOX)
    node_cluster.wait_ready(namespace, "pod/long")
    before = containers(node_cluster, namespace, "long")
    for node in node_cluster.nodes:
        node.restart_containerd()
        node.restart_kubelet()
        node.wait_until_ready()
    node_cluster.run_pod(namespace, "later", BUSYBOX)
    node_cluster.wait_ready(namespace, "pod/later")
    assert containers(node_cluster, namespace, "long") == before


def test_pods_are_started_again_after_a_reboot(node_cluster: NodeCluster, namespace: str) -> None:
    node = node_cluster.nodes[1]
    node_cluster.run_pod(namespace, "rebooted", BUSYBOX, nodeName=node.name)
    node_cluster.wait_ready(namespace, "pod/rebooted")
    before = containers(node_cluster, namespace, "rebooted")
    node.reboot()
    until(lambda: containers(node_cluster, namespace, "rebooted")[1] == 1)
    node_cluster.wait_ready(namespace, "pod/rebooted")
    assert containers(node_cluster, namespace, "rebooted")[0] != before[0]


def card(cluster: NodeCluster, address: str) -> str:
    """The hardware address of a machine, as it is told to whoever asks now."""
    interface = f"trow{cluster.host.split('.')[2]}"
    machine.call(str(tool("ip")), "neighbour", "flush", "dev", interface)
    with contextlib.suppress(OSError), socket.create_connection((address, 1), timeout=5):
        pass
    asked = [str(tool("ip")), "-json", "neighbour", "show", address, "dev", interface]
    (found,) = json.loads(subprocess.run(asked, check=True, capture_output=True, text=True).stdout)
    return str(found["lladdr"])


def test_machines_find_each_other_where_they_were_after_a_reboot(node_cluster: NodeCluster) -> None:
    """What a machine has learnt of its neighbours is not asked again for up to a minute."""
    addresses = (node_cluster.host, *(node.address for node in node_cluster.nodes))
    before = [card(node_cluster, address) for address in addresses]
    bridges = [node.run("ip", "-brief", "link", "show", "pods0").split()[2] for node in node_cluster.nodes]
    for node in node_cluster.nodes:
        node.reboot()
    assert [card(node_cluster, address) for address in addresses] == before
    assert [node.run("ip", "-brief", "link", "show", "pods0").split()[2] for node in node_cluster.nodes] == bridges


def test_nodes_that_a_test_left_broken_are_up_for_the_next(node_cluster: NodeCluster, namespace: str) -> None:
    first, second = node_cluster.nodes
    first.kubelet.stop()
    second.shut_down()
    node_cluster.repair()
    for node in node_cluster.nodes:
        node_cluster.run_pod(namespace, node.name, BUSYBOX, nodeName=node.name)
        node_cluster.wait_ready(namespace, f"pod/{node.name}")


def test_the_own_image_runs(node_cluster: NodeCluster, own_image: Path, namespace: str) -> None:
    node_cluster.import_image(own_image, own.REFERENCE)
    run = {"image": own.REFERENCE, "args": ["version"], "name": "main", "imagePullPolicy": "Never"}
    node_cluster.run_pod(namespace, "trow", own.REFERENCE, containers=[run], restartPolicy="Never")
    phase = ("get", "pod/trow", f"--namespace={namespace}", "--output=jsonpath={.status.phase}")
    until(lambda: node_cluster.kubectl(*phase) == "Succeeded")


# Nothing is left


def left(number: int) -> list[str]:
    """What there is of a cluster outside its own namespaces."""
    network = Path(f"/sys/class/net/trow{number}")
    return ["network"] * network.exists() + [str(group) for group in CGROUPS.glob(f"**/trow-tests-{number}")]


def processes(folder: Path) -> list[str]:
    """Programs whose arguments name a folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            said = each.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in said:
            found.append(said)
    return found


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    """Two clusters at once have names and addresses of their own."""
    with NodeCluster.start(tmp_path / "a") as first, Machine.start("other", tmp_path / "b"):
        numbers = [int(first.address.split(".")[2])]
        namespace = first.new_namespace()
        first.run_pod(namespace, "web", BUSYBOX)
        first.wait_ready(namespace, "pod/web")
        assert left(numbers[0])
        assert processes(tmp_path)
    assert left(numbers[0]) == []
    assert processes(tmp_path) == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text("utf-8")


KILLED: Final = """
import sys
from pathlib import Path
from support.nodes import BUSYBOX, NodeCluster

cluster = NodeCluster.start(Path(sys.argv[1]))
namespace = cluster.new_namespace()
cluster.run_pod(namespace, "web", BUSYBOX)
cluster.wait_ready(namespace, "pod/web")
print(cluster.address, flush=True)
sys.stdin.read()
"""


def test_a_killed_test_run_leaves_nothing_that_the_next_does_not_clear_away(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join((str(TESTS), str(TESTS.parent)))}
    argv = [sys.executable, "-c", KILLED, str(tmp_path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, text=True, env=environment) as running:
        assert running.stdout is not None
        number = int(running.stdout.readline().split(".")[2])
        assert processes(tmp_path)
        running.send_signal(signal.SIGKILL)
    until(lambda: not processes(tmp_path))
    for held in numbers_until(number):
        held.close()
    assert left(number) == []


def numbers_until(wanted: int) -> Iterator[nodes.Number]:
    """The free numbers up to one."""
    held: list[nodes.Number] = []
    while not held or held[-1].number != wanted:
        assert len(held) < 250, f"{wanted} is not free"
        held.append(nodes.Number())
    return iter(held)


def test_a_failed_start_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "CONTAINERD", "version = 99\n")
    with pytest.raises(AssertionError, match="containerd2 ended with 1"):
        NodeCluster.start(tmp_path)
    assert processes(tmp_path) == []


# Where it cannot run


def test_without_root_it_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(MachineError, match="needs root: run the tests as root"):
        NodeCluster.start(tmp_path)


def test_without_control_groups_it_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nodes, "CGROUPS", tmp_path / "nothing")
    with pytest.raises(MachineError, match="needs control groups"):
        NodeCluster.start(tmp_path)


def test_without_namespaces_it_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(machine, "FIRST", "echo 'unshare: unshare failed: Operation not permitted' >&2; exit 1")
    with pytest.raises(MachineError, match=r"^a machine needs namespaces .*: unshare: .* not permitted$"):
        NodeCluster.start(tmp_path)
