"""The page about installing in a cluster is followed as it stands, from the first command to the last."""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Final

import trow
from support.nodes import BUSYBOX, NodeCluster
from support.pages import ROOT, blocks
from support.reader import Reader, steps
from support.waiting import until
from tools.find import search_path, tool

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PAGE: Final = ROOT / "docs" / "how-to" / "install-in-a-cluster.md"
# What nodes have the image as: as the page sets it, and as Kustomize has it.
IMAGES: Final = (f"registry.example.net/trow:{trow.__version__}", f"docker.io/library/trow:{trow.__version__}")
KINDS: Final = (
    "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,validatingwebhookconfigurations,"
    "mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings"
)
SECONDS: Final = 120


def test_the_page_is_followed_with_helm_and_then_with_kustomize(tmp_path: Path, own_image: Path) -> None:
    """Each part ends with its own uninstallation, after which the cluster is as before."""
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "deploy").symlink_to(ROOT / "deploy")
    with NodeCluster.start(tmp_path / "cluster") as cluster:
        for image in IMAGES:
            cluster.import_image(own_image, image)
        for _part in ("Helm", "Kustomize"):
            cluster.add_volume()
        before = there(cluster)
        environment = {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(clone)}
        with Reader(clone, "helm", "kubectl", environment=environment) as reader:
            for block, shown in steps(PAGE):
                reader.follow(block, shown)
                if "helm install" in block.code:
                    follow_notes(reader.heard[-1][1], environment)
                if "rollback" in block.code or "apply --server-side" in block.code:
                    cluster.wait_ready("trow", "statefulset/trow")
                    assert "registry.example.com" in cluster.kubectl("get", "ingress/trow", "--namespace=trow")
                if "helm uninstall" in block.code:
                    until(lambda: there(cluster) - before <= left(), SECONDS)
        until(lambda: there(cluster) == before, SECONDS)
        cluster.run_pod("default", "free", BUSYBOX)
        cluster.wait_ready("default", "pod/free")


def follow_notes(said: str, environment: Mapping[str, str]) -> None:
    """The commands that Helm prints; the last one needs an address for the host."""
    wait, password, login = re.findall(r"^  (\S.*)$", said, re.MULTILINE)
    assert login == "docker login registry.example.com --username admin"
    shell(wait, environment)
    assert re.fullmatch(r"[A-Za-z0-9]{32}", shell(password, environment))


def shell(command: str, environment: Mapping[str, str]) -> str:
    argv = ["bash", "-euo", "pipefail", "-c", command]
    env = {**environment, "PATH": f"{tool('kubectl').parent}:{search_path()}"}
    done = subprocess.run(argv, env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, f"{command}\n{done.stderr}"
    return done.stdout


def there(cluster: NodeCluster) -> set[str]:
    return set(cluster.kubectl("get", KINDS, "--output=name").split())


def left() -> set[str]:
    """What the page says is left of a release, and the namespace that Helm has made."""
    kinds = ("clusterimagepolicies", "imagepolicies", "policyexceptions")
    definitions = {f"customresourcedefinition.apiextensions.k8s.io/{kind}.policy.trow.io" for kind in kinds}
    return definitions | {"namespace/trow"}


def test_every_command_of_the_page_is_run() -> None:
    for block in blocks(PAGE):
        assert block.language != "sh" or block.words >= {"run", "nodes"}, block.code
