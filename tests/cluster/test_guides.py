"""Guides with commands for a whole cluster, followed in one."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, Final

from support import own
from support.nodes import NodeCluster
from support.pages import ROOT, blocks
from support.reader import Reader, steps
from tools.find import tool

if TYPE_CHECKING:
    from pathlib import Path

UPGRADE: Final = ROOT / "docs" / "how-to" / "upgrade.md"
CHART: Final = ROOT / "deploy" / "helm" / "trow"
SECONDS: Final = 120


def test_an_installation_is_upgraded_and_rolled_back_as_the_page_says(tmp_path: Path, own_image: Path) -> None:
    """With the blocks for a Trow on a machine, in the order of the page."""
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "deploy").symlink_to(ROOT / "deploy")
    with NodeCluster.start(tmp_path / "cluster") as cluster:
        cluster.import_image(own_image, own.REFERENCE)
        cluster.add_volume()
        environment = {"KUBECONFIG": str(cluster.kubeconfig), "HOME": str(clone)}
        asked = ("install", "trow", str(CHART), "--namespace=trow", "--create-namespace")
        argv = [str(tool("helm")), *asked, f"--set=image.repository={own.NAME}"]
        subprocess.run(argv, env=environment, check=True, capture_output=True, timeout=SECONDS)
        cluster.wait_ready("trow", "statefulset/trow")
        before = password(cluster)
        with Reader(clone, "helm", "kubectl", environment=environment) as reader:
            reader.serve(f"trow serve --data-dir {clone / 'data'}")
            for block, shown in steps(UPGRADE):
                reader.follow(block, shown)
        cluster.wait_ready("trow", "pod/trow-0")
        assert password(cluster) == before


def password(cluster: NodeCluster) -> str:
    return cluster.kubectl("get", "secret", "trow-admin", "--namespace=trow", "--output=jsonpath={.data.password}")


def test_the_page_about_upgrades_has_commands_for_a_cluster() -> None:
    assert len([block for block in blocks(UPGRADE) if "nodes" in block.words]) == 2
