"""The pages about Kubernetes, followed from the first command to the last with a real cluster and a live registry."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import yaml

from support.cluster import Cluster
from support.pages import ROOT, blocks, prose
from support.reader import Reader, steps

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

RBAC: Final = ROOT / "docs" / "how-to" / "kubernetes-rbac.md"
AUDIT: Final = ROOT / "docs" / "how-to" / "audit.md"
API_SERVER: Final = "https://127.0.0.1:6443"
NODE: Final = "node-1"


def test_pages_can_be_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second page goes on where the first ends. The cluster is their own, for readers begin with an empty one."""
    folder = tmp_path / "clone"
    folder.mkdir()
    (folder / "deploy").symlink_to(ROOT / "deploy")
    monkeypatch.chdir(folder)
    with Cluster.start(tmp_path / "cluster") as cluster:
        cluster.apply(f"{{apiVersion: v1, kind: Node, metadata: {{name: {NODE}}}}}")
        environment = {"KUBECONFIG": str(cluster.kubeconfig)}
        replaced = {API_SERVER: cluster.url}
        with Reader(folder, "crane", "kubectl", replaced=replaced, environment=environment) as reader:
            for page in (RBAC, AUDIT):
                for block, shown in steps(page):
                    reader.follow(block, shown)
                    schedule(cluster)


def schedule(cluster: Cluster) -> None:
    """What the scheduler does: Pods get a node."""
    listed = cluster.kubectl("get", "pods", "--all-namespaces", "--output", "json")
    for pod in json.loads(listed)["items"]:
        if "nodeName" not in pod["spec"]:
            namespace, name = pod["metadata"]["namespace"], pod["metadata"]["name"]
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            }
            path = f"/api/v1/namespaces/{namespace}/pods/{name}/binding"
            cluster.kubectl("create", "--raw", path, "--filename", "-", input=json.dumps(binding))


def test_every_command_of_these_pages_is_run() -> None:
    for page in (RBAC, AUDIT):
        for block in blocks(page):
            assert block.language != "sh" or block.words >= {"run", "kubernetes"} or "serve" in block.words, block.code


def test_every_role_is_on_the_page() -> None:
    roles = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "rbac.yaml").read_text("utf-8"))
    assert all(f"`{role['metadata']['name']}`" in prose(RBAC) for role in roles)
