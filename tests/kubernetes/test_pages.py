"""The pages for which a cluster is needed, followed in the order of the documentation, all of them in one cluster.

The control plane is real, and its API server asks the Trow that the pages start.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
from typing import TYPE_CHECKING, Any, Final

import yaml

from support.cluster import Cluster
from support.pages import ROOT, blocks, prose
from support.reader import Reader, steps
from support.reports import DEFINITION
from trow.config import Config
from trow.config.values import ServiceName

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

DOCS: Final = ROOT / "docs"
RBAC: Final = DOCS / "how-to" / "kubernetes-rbac.md"
ADMISSION: Final = DOCS / "how-to" / "switch-on-admission.md"
API_SERVER: Final = "https://127.0.0.1:6443"
WEBHOOKS: Final = "127.0.0.1:9443"
CERT_MANAGER: Final = "cert-manager.io/v1"
NODE: Final = "node-1"
# What tells that something is left: kinds of objects that pages make outside of namespaces, and namespaces themselves.
KINDS: Final = (
    "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,validatingwebhookconfigurations,"
    "mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings"
)


def pages() -> list[Path]:
    """Those for which a cluster is needed, as the documentation lists them."""
    listed = re.findall(r"\]\((how-to/[a-z-]+\.md)\)", (DOCS / "README.md").read_text("utf-8"))
    found = [DOCS / each for each in listed]
    return [page for page in found if any("kubernetes" in block.words for block in blocks(page))]


PAGES: Final = pages()


def test_pages_can_be_followed_one_after_the_other_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but addresses is different from what they say. Readers begin with an empty cluster."""
    folder = tmp_path / "clone"
    folder.mkdir()
    monkeypatch.chdir(folder)
    (folder / "deploy").symlink_to(ROOT / "deploy")
    with Cluster.start(tmp_path / "cluster") as cluster, held_port() as port:
        cluster.apply(json.dumps(DEFINITION))
        cluster.apply(f"{{apiVersion: v1, kind: Node, metadata: {{name: {NODE}}}}}")
        before = there(cluster)
        replaced = {API_SERVER: cluster.url, WEBHOOKS: f"127.0.0.1:{port}"}
        environment = {"KUBECONFIG": str(cluster.kubeconfig)}
        with Reader(folder, "crane", "kubectl", replaced=replaced, environment=environment) as reader:
            for page in PAGES:
                follow(reader, page, cluster, afterwards=False)
            for page in reversed(PAGES):
                follow(reader, page, cluster, afterwards=True)
        assert there(cluster) == before


def follow(reader: Reader, page: Path, cluster: Cluster, *, afterwards: bool) -> None:
    """Those blocks of a page that are for the end, or the others."""
    for block, shown in steps(page):
        if ("afterwards" in block.words) == afterwards:
            if "kubectl delete namespace" in block.code:
                end_pods(cluster)
            reader.follow(block, shown)
            if page.name in ("kubernetes-rbac.md", "audit.md"):
                schedule(cluster)


def there(cluster: Cluster) -> set[str]:
    return set(cluster.kubectl("get", KINDS, "--output", "name").split())


def pods(cluster: Cluster) -> Iterator[tuple[str, str, bool]]:
    """Namespace, name, and whether it has a node."""
    for pod in json.loads(cluster.kubectl("get", "pods", "--all-namespaces", "--output", "json"))["items"]:
        yield pod["metadata"]["namespace"], pod["metadata"]["name"], "nodeName" in pod["spec"]


def schedule(cluster: Cluster) -> None:
    """What the scheduler does: Pods get a node."""
    for namespace, name, scheduled in pods(cluster):
        if not scheduled:
            binding = {
                "apiVersion": "v1",
                "kind": "Binding",
                "metadata": {"name": name},
                "target": {"apiVersion": "v1", "kind": "Node", "name": NODE},
            }
            path = f"/api/v1/namespaces/{namespace}/pods/{name}/binding"
            cluster.kubectl("create", "--raw", path, "--filename", "-", input=json.dumps(binding))


def end_pods(cluster: Cluster) -> None:
    """What the kubelet does before a namespace can go."""
    for namespace, name, scheduled in pods(cluster):
        if scheduled:
            cluster.kubectl("delete", "pod", name, "--namespace", namespace, "--force", "--grace-period", "0")


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """A port for a Trow that is started again; both sides ask to share it."""
    with socket.socket() as held:
        held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_every_command_of_these_pages_is_run() -> None:
    for page in PAGES:
        for block in blocks(page):
            assert block.language != "sh" or block.words >= {"run", "kubernetes"} or "serve" in block.words, block.code


def test_every_refusal_is_shown() -> None:
    for page in PAGES:
        for block, shown in steps(page):
            assert shown or "kubectl" not in block.code or "fails" not in block.words, block.code


def test_every_object_of_these_pages_is_applied() -> None:
    """But for those of cert-manager, which these clusters do not have, and those that a command only reads."""
    for page in PAGES:
        commands = "".join(block.code for block in blocks(page) if "run" in block.words)
        for block in blocks(page):
            if block.language == "yaml" and objects(block.code):
                assert f"--filename {block.file}" in commands or f" {block.file}" in commands, block.file


def objects(code: str) -> list[Any]:
    """Those objects that these clusters know."""
    return [each for each in yaml.safe_load_all(code) if each.get("apiVersion", CERT_MANAGER) != CERT_MANAGER]


def test_pages_show_the_service_that_the_webhooks_are_called_by() -> None:
    (service,) = (block for block in blocks(ADMISSION) if block.file == "service.yaml")
    shown = yaml.safe_load(service.code)["metadata"], yaml.safe_load(service.code)["spec"]["ports"]
    (settings,) = (yaml.safe_load(block.code) for block in blocks(ADMISSION) if block.file == "trow.yaml")
    called = ServiceName.parse(settings["admission"]["service"])
    assert (called.namespace, called.name) == (shown[0]["namespace"], shown[0]["name"])
    assert called.port in [port["port"] for port in shown[1]]


def test_excluded_namespaces_are_on_the_page() -> None:
    section = prose(ADMISSION).partition("## Excluded namespaces\n")[2].partition("\n## ")[0]
    shown = re.findall(r"^\| `(.+?)` \|", section, re.MULTILINE)
    assert set(shown) == set(Config().admission.excluded_namespaces)


def test_every_role_is_on_the_page() -> None:
    roles = yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "rbac.yaml").read_text("utf-8"))
    assert all(f"`{role['metadata']['name']}`" in prose(RBAC) for role in roles)
