"""The tutorial of clusters, followed by somebody at a machine of their own, from an empty cluster to an empty one."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from typing import TYPE_CHECKING, Final

from support.machine import Machine
from support.nodes import NodeCluster, busybox
from support.pages import ROOT
from support.reader import Reader, steps
from support.server import listeners
from support.waiting import until
from tools.find import tool
from trow import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TUTORIAL: Final = ROOT / "docs" / "tutorial" / "denied-by-policy.md"
TROW: Final = f"docker.io/library/trow:{__version__}"
# An image of another registry, which here is one on the reader's machine.
COPIED: Final = "registry.k8s.io/pause:3.10"
READERS_PLACE: Final = 200
KINDS: Final = (
    "namespaces,customresourcedefinitions,clusterroles,clusterrolebindings,validatingwebhookconfigurations,"
    "mutatingwebhookconfigurations,validatingadmissionpolicies,validatingadmissionpolicybindings"
)


def follow(folder: Path, own_image: Path) -> list[tuple[str, str, float]]:
    """Do what the page says where nodes are not set up, and have the cluster in the end as it was before.

    Nothing but the address of the image that is copied is different from what the page says.

    Returns:
        What was run, what it printed, and how many seconds it took.
    """
    clone = folder / "clone"
    clone.mkdir()
    (clone / "deploy").symlink_to(ROOT / "deploy")
    with (
        NodeCluster.start(folder / "cluster") as cluster,
        Machine.start("laptop", folder / "laptop") as machine,
        _other_registry(machine, folder / "other") as image,
    ):
        cluster.plug_in(machine, READERS_PLACE)
        cluster.import_image(own_image, TROW)
        cluster.add_volume()
        until(lambda: TROW in cluster.kubectl("get", "nodes", "--output=jsonpath={.items[*].status.images[*].names}"))
        before = _there(cluster)
        environment = {"KUBECONFIG": str(cluster.kubeconfig)}
        with Reader(
            clone, "crane", "kubectl", replaced={COPIED: image}, environment=environment, place=machine.command
        ) as reader:
            for block, shown in steps(TUTORIAL):
                if "set-up" not in block.words:
                    reader.follow(block, shown)
        assert _there(cluster) == before
        usual = {image: COPIED, str(clone): "~"}
        return [(code, _replaced(printed, usual), seconds) for code, printed, seconds in reader.heard]


def _replaced(text: str, words: Mapping[str, str]) -> str:
    for found, said in words.items():
        text = text.replace(found, said)
    return text


@contextlib.contextmanager
def _other_registry(machine: Machine, folder: Path) -> Iterator[str]:
    """What an image that sleeps is called there."""
    with serving(machine, folder) as host:
        image = f"{host}/pause:3.10"
        machine.run(str(tool("crane")), "push", str(busybox(folder)), image)
        yield image


@contextlib.contextmanager
def serving(machine: Machine, folder: Path, *more: str, port: int = 0) -> Iterator[str]:
    """A registry on a machine's loopback; host and port."""
    folder.mkdir()
    flags = ("--host", "127.0.0.1", "--port", str(port), "--data-dir", str(folder / "data"), *more)
    log = folder / "log"
    with log.open("wb") as output:
        argv = machine.command(sys.executable, "-m", "trow", "serve", *flags)
        process = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=output, encoding="utf-8")
    try:
        yield listeners(process, log)[0].partition("://")[2]
    finally:
        process.terminate()
        process.wait()
        assert process.stdout
        process.stdout.close()


def _there(cluster: NodeCluster) -> set[str]:
    return set(cluster.kubectl("get", KINDS, "--output", "name").split())
