"""The doctor in a cluster with nodes: what real kubelets and a real containerd say, and what it makes of that."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from support.doctor import examined, fine, problem
from support.nodes import BUSYBOX
from support.waiting import until
from trow.doctor.findings import DiagnosisStatus

if TYPE_CHECKING:
    from pathlib import Path

    from support.nodes import NodeCluster

SERVE: Final = "mkdir /tmp/web && exec httpd -f -p 8080 -h /tmp/web"


@pytest.fixture
def namespace(node_cluster: NodeCluster) -> str:
    return node_cluster.new_namespace()


@pytest.mark.parametrize(
    ("host", "word", "meaning"),
    [
        ("127.0.0.1:1", "connection refused", "nobody listens at 127.0.0.1:1 as seen from the node"),
        ("registry.invalid", "registry.invalid", "the node finds no address for registry.invalid"),
    ],
)
def test_what_a_kubelet_says_is_understood(
    node_cluster: NodeCluster, namespace: str, host: str, word: str, meaning: str
) -> None:
    node_cluster.run_pod(namespace, "lost", f"{host}/{namespace}/nothing:1")
    node_cluster.wait_for_reason(namespace, "lost", word)
    findings = examined("pods", host=host, kubeconfig=node_cluster.kubeconfig)
    found = problem([each for each in findings if namespace in each.where], "pods")
    assert found.where == f"Pod {namespace}/lost"
    assert found.what.startswith(meaning)


def test_an_image_that_comes_is_no_problem(node_cluster: NodeCluster, namespace: str) -> None:
    node_cluster.run_pod(namespace, "web", BUSYBOX, "sleep", "1000")
    node_cluster.wait_ready(namespace, "pod/web")
    fine(examined("pods", host="images.test", kubeconfig=node_cluster.kubeconfig), "pods")


def test_ports_and_clocks_of_nodes_that_are_well(node_cluster: NodeCluster, namespace: str) -> None:
    node_cluster.run_pod(namespace, "web", BUSYBOX, "sh", "-c", SERVE)
    node_cluster.wait_ready(namespace, "pod/web")
    there = f"--namespace={namespace}"
    node_cluster.kubectl("expose", "pod/web", "--port=80", "--target-port=8080", "--type=NodePort", there)
    given = {"kubeconfig": node_cluster.kubeconfig, "namespace": namespace}
    # kube-proxy learns of a Service a moment after it is made.
    until(lambda: examined("node-port", **given)[0].status is DiagnosisStatus.OK)
    ports = fine(examined("node-port", **given), "node-port")
    assert ports.what == f"answers on {len(node_cluster.nodes)} nodes"
    # A node that has just come has no Lease for some seconds.
    until(lambda: {each.status for each in examined("cluster-clock", **given)} == {DiagnosisStatus.OK})
    assert len(examined("cluster-clock", **given)) == 1 + len(node_cluster.nodes)


def test_the_containerd_of_a_node_reads_hosts_toml(node_cluster: NodeCluster, tmp_path: Path) -> None:
    configuration = node_cluster.node.path("/etc/containerd/config.toml").read_text("utf-8")
    dump = tmp_path / "containerd.toml"
    dump.write_text(configuration, "utf-8")
    fine(examined("config-path", host="registry.example.com", containerd_config=dump), "config-path")
    lines = [line for line in configuration.splitlines() if "config_path" not in line]
    dump.write_text("\n".join(lines), "utf-8")
    found = problem(examined("config-path", host="registry.example.com", containerd_config=dump), "config-path")
    assert found.what.startswith("config_path is not set")
