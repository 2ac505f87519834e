"""The quick install in a cluster with nodes: Trow runs from its own image, what is pushed runs, and nothing is left."""

from __future__ import annotations

import contextlib
import re
import socket
import subprocess
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import pytest
from deploy.image.__main__ import cache
from deploy.image.agent import NAME, build_agent

from support import own
from support.administrator import Administrator
from support.nodes import NodeCluster, architecture, busybox
from support.pages import ROOT, blocks
from support.quick_install import QuickInstall, everything
from support.waiting import until
from tools.find import tool
from trow import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PAGE: Final = ROOT / "docs" / "how-to" / "quick-install.md"
AGENT: Final = f"images.test/{NAME}:{__version__}"
HOST: Final = "registry.example.com"
KUBELET_FLAGS: Final = re.compile(r"start it with (\S+) (\S+) \(kubeadm")
PASSWORD: Final = (
    "get", "secret", "trow-admin", "--namespace=trow", "--output=go-template={{.data.password | base64decode}}",
)  # fmt: skip


@pytest.fixture
def port() -> int:
    """A port of the nodes that this machine does not use either."""
    for number in range(30500, 32000):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", number))
            return number
    raise AssertionError("no port is free")


@pytest.fixture
def quick(node_cluster: NodeCluster, own_image: Path, tmp_path: Path) -> Iterator[QuickInstall]:
    node_cluster.import_image(own_image, own.REFERENCE)
    installer = QuickInstall(tmp_path / "quick", node_cluster.kubeconfig)
    yield installer
    installer.ask("--uninstall")


@contextlib.contextmanager
def forwarded(node_cluster: NodeCluster, port: int) -> Iterator[str]:
    """As the page and the script say to do it."""
    argv = [str(tool("kubectl")), "--kubeconfig", str(node_cluster.kubeconfig), "port-forward"]
    with subprocess.Popen(
        [*argv, "--namespace", "trow", "service/trow", f"{port}:80"], stdout=subprocess.DEVNULL
    ) as way:
        try:
            until(lambda: reachable(port), 30)
            yield f"localhost:{port}"
        finally:
            way.terminate()


def reachable(port: int) -> bool:
    with socket.socket() as tried:
        return tried.connect_ex(("127.0.0.1", port)) == 0


def push(node_cluster: NodeCluster, name: str, folder: Path) -> None:
    crane, password = str(tool("crane")), node_cluster.kubectl(*PASSWORD)
    settings = {"HOME": str(folder), "DOCKER_CONFIG": str(folder)}
    login = [crane, "auth", "login", name.partition("/")[0], "--username", "admin", "--password-stdin"]
    subprocess.run(login, input=password, text=True, env=settings, check=True, capture_output=True)
    layout = busybox(folder / "busybox")
    subprocess.run([crane, "push", str(layout), name, "--insecure"], env=settings, check=True, capture_output=True)


def kept(node_cluster: NodeCluster) -> set[str]:
    """What is in the cluster, beside what nodes and volumes leave of themselves."""
    return {each for each in everything(node_cluster) if not each.startswith(("PersistentVolume ", "CSINode", "Node"))}


def test_what_is_pushed_runs_survives_and_goes(
    node_cluster: NodeCluster, quick: QuickInstall, port: int, tmp_path: Path
) -> None:
    before = kept(node_cluster)
    node_cluster.add_volume()
    flags = ("--image", own.REFERENCE, "--node-port", str(port))
    said = quick.run(*flags)
    assert "in the volume trow-data of the class standard" in said
    for node in node_cluster.nodes:
        assert f"  {node.name} can pull" in said
    team = node_cluster.new_namespace()
    with forwarded(node_cluster, port) as host:
        push(node_cluster, f"{host}/team/app:1", tmp_path)
    node_cluster.run_pod(team, "app", f"localhost:{port}/team/app:1")
    node_cluster.wait_ready(team, "pod/app")

    # An image outlives the Pod of Trow, and an uninstallation that keeps it.
    assert "stay" in quick.run("--uninstall", "--keep-data")
    quick.run(*flags)
    node_cluster.run_pod(team, "again", f"localhost:{port}/team/app:1")
    node_cluster.wait_ready(team, "pod/again")

    assert "Nothing is left." in quick.run("--uninstall")
    node_cluster.kubectl("delete", "namespace", team)
    assert kept(node_cluster) == before


def test_the_page_can_be_followed(node_cluster: NodeCluster, quick: QuickInstall, port: int, tmp_path: Path) -> None:
    """With an image that the nodes have, crane for docker, and a port that is free here."""
    commands = [
        line
        for block in blocks(PAGE)
        if block.language == "sh"
        for line in re.sub(r"(\\|\|)\n\s*", r"\1 ", block.code).replace("\\ ", "").splitlines()
    ]
    installs = [
        line.removeprefix("sh deploy/quick-install/install.sh ").split() for line in commands if "install.sh" in line
    ]
    assert [flags[-1] for flags in installs] == [
        "--dry-run", "dist/image", "registry.example.com/trow:1.0.0.dev0", "--dry-run", "--uninstall",
    ]  # fmt: skip
    image = {
        "--image-archive": "--image",
        "dist/image": own.REFERENCE,
        "registry.example.com/trow:1.0.0.dev0": own.REFERENCE,
    }
    here = ("--node-port", str(port), "--ephemeral")
    said = [quick.run(*[image.get(word, word) for word in flags], *here) for flags in installs[:3]]
    forward = f"kubectl port-forward --namespace trow service/trow {port}:80"
    others = [line.replace("30500", str(port)) for line in commands if "install.sh" not in line]
    assert others[0] == forward
    for line in others[1:]:
        assert re.sub(r"\s+", " ", line).partition(" |")[0] in re.sub(r"\s+", " ", said[-1])
    with forwarded(node_cluster, port) as host:
        push(node_cluster, f"{host}/team/app:1", tmp_path)
    run = others[-1].split()
    assert run[:4] == ["kubectl", "run", "app", "--image"]
    node_cluster.kubectl(*run[1:], "--image-pull-policy=Always")
    node_cluster.wait_ready("default", "pod/app")
    node_cluster.kubectl("delete", "pod", "app", "--now")
    assert "These would be deleted" in quick.run(*installs[3])
    assert "Nothing is left." in quick.run(*installs[4])


def test_an_agent_leads_nodes_to_a_name_that_only_it_knows(
    node_cluster: NodeCluster, quick: QuickInstall, port: int, tmp_path: Path
) -> None:
    build_agent(tmp_path / "agent", [architecture()], cache(), own.CREATED, lambda _text: None)
    node_cluster.import_image(tmp_path / "agent", AGENT)
    before = kept(node_cluster)
    hosts = [node.path("/etc/containerd/certs.d/registry.example.com/hosts.toml") for node in node_cluster.nodes]
    image = ("--image", own.REFERENCE, "--node-port", str(port), "--ephemeral")
    said = quick.run(*image, "--node-agent", AGENT, "--host", "registry.example.com")
    for node, written in zip(node_cluster.nodes, hosts, strict=True):
        assert f"  {node.name} can pull" in said
        assert f"http://{node.address}:{port}" in written.read_text("utf-8")
    assert "Nothing is left." in quick.run("--uninstall")
    assert not any(written.exists() for written in hosts)
    assert kept(node_cluster) == before


def test_private_images_of_a_name_that_only_the_agent_knows_are_pulled_by_who_may(
    own_image: Path, port: int, tmp_path: Path
) -> None:
    """With all that has to do with pulls at once; what the agent asks for is done by whoever runs the kubelet."""
    build_agent(tmp_path / "agent", [architecture()], cache(), own.CREATED, lambda _text: None)
    with NodeCluster.start(tmp_path / "cluster") as cluster:
        cluster.import_image(own_image, own.REFERENCE)
        cluster.import_image(tmp_path / "agent", AGENT)
        quick = QuickInstall(tmp_path / "quick", cluster.kubeconfig)
        image = ("--image", own.REFERENCE, "--node-port", str(port), "--ephemeral")
        flags = (*image, "--private", "--node-agent", AGENT, "--host", HOST)
        said = quick.run(*flags)
        assert "  node1 can pull" in said
        asked = KUBELET_FLAGS.search(said)
        assert asked is not None, said
        for team in ("team-a", "team-b"):
            cluster.create_namespace(team)
        who = ("--clusterrole=trow-image-puller", "--serviceaccount=team-a:default")
        cluster.kubectl("create", "rolebinding", "pull", "--namespace=team-a", *who)
        with Administrator(f"{cluster.address}:{port}", cluster.kubectl(*PASSWORD)) as administrator:
            administrator.push("team-a/app")
            anonymous = administrator.ask("GET", "/v2/team-a/app/manifests/v1")
            assert anonymous.status == HTTPStatus.UNAUTHORIZED
        cluster.node.kubelet_flags = [asked[1], asked[2]]
        cluster.node.restart_kubelet()

        cluster.run_pod("team-a", "app", f"{HOST}/team-a/app:v1", pull="Always")
        cluster.wait_ready("team-a", "pod/app")
        cluster.run_pod("team-b", "app", f"{HOST}/team-a/app:v1", pull="Always")
        cluster.wait_for_reason("team-b", "app", "denied")

        # The agent looks every half minute; a repeated installation tells what it has found last.
        until(lambda: "credentials: ready:" in quick.run(*flags), 60)
        assert "Nothing is left." in quick.run("--uninstall")
        assert not cluster.node.path(f"/etc/containerd/certs.d/{HOST}/hosts.toml").exists()


def test_nodes_that_cannot_pull_are_told_with_the_kubelets_words(
    node_cluster: NodeCluster, quick: QuickInstall, port: int
) -> None:
    said = quick.refused(
        "--image", own.REFERENCE, "--node-port", str(port), "--host", "registry.invalid", "--ephemeral"
    )
    assert "Trow runs, but not every node can pull from it." in said
    assert "node1: " in said
    assert "lookup registry.invalid" in said
    assert "The nodes do not know the name registry.invalid." in said
    assert "Until here this was made" in said


def test_an_address_of_a_node_is_a_name_that_needs_insecure_registries(
    node_cluster: NodeCluster, quick: QuickInstall, port: int
) -> None:
    host = f"{node_cluster.address}:{port}"
    said = quick.refused("--image", own.REFERENCE, "--node-port", str(port), "--host", host, "--ephemeral")
    assert f"The nodes speak HTTPS to {host}" in said
