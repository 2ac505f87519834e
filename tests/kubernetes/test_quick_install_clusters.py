"""Which kind of cluster it is, by the Nodes that an API server gives, and how an image gets onto them.

The programs of kind, k3d and the others are not here: what is tested is how they are called.
"""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.cluster import Cluster
from support.quick_install import READY, QuickInstall, add_node, pods_are
from trow import __version__

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

IMAGE: Final = ("--image", "registry.example.net/trow:1")
K3S: Final = {"kubeletVersion": "v1.37.2+k3s1", "containerRuntimeVersion": "containerd://2.4.2-k3s1"}
KUBEADM: Final = {"kubeadm.alpha.kubernetes.io/cri-socket": "unix:///run/containerd/containerd.sock"}
IMPORT: Final = "images import --all-platforms --digests -"
# The nodes of each kind of cluster, what it is called, and how an archive gets onto its nodes; "" where it cannot.
KINDS: Final[Mapping[str, tuple[dict[str, Any], str, str]]] = {
    "kind": (
        {"name": "a", "provider": "kind://docker/dev/a", "annotations": KUBEADM},
        'kind, "dev"',
        "kind load image-archive {} --name dev",
    ),
    "docker-desktop": (
        {"name": "docker-desktop", "osImage": "Docker Desktop", "annotations": KUBEADM},
        "Docker Desktop",
        "docker load --input {}",
    ),
    "docker-desktop-kind": (
        {"name": "desktop-control-plane", "provider": "kind://docker/desktop/desktop-control-plane"},
        "Docker Desktop (kind)",
        f"docker exec --interactive desktop-control-plane ctr --namespace k8s.io {IMPORT}",
    ),
    "minikube": (
        {"name": "dev", "labels": {"minikube.k8s.io/name": "dev"}, "annotations": KUBEADM},
        'minikube, "dev"',
        "minikube image load {} --profile dev",
    ),
    "microk8s": (
        {"name": "a", "labels": {"microk8s.io/cluster": "true"}},
        "MicroK8s",
        "microk8s images import",
    ),
    "k3d": (
        {"name": "k3d-my-dev-server-0", "provider": "k3s://k3d-my-dev-server-0", "osImage": "K3s v1.37.2+k3s1", **K3S},
        'k3d, "my-dev"',
        "k3d image import {} --cluster my-dev",
    ),
    "k3s": ({"name": "a", "provider": "k3s://a", **K3S}, "k3s", "k3s ctr images import {}"),
    "rancher-desktop": (
        {"name": "lima-rancher-desktop", **K3S},
        "Rancher Desktop",
        "nerdctl --namespace k8s.io load --input {}",
    ),
    "rancher-desktop-docker": (
        {"name": "lima-rancher-desktop", **K3S, "containerRuntimeVersion": "docker://29.0.1"},
        "Rancher Desktop",
        "docker load --input {}",
    ),
    "kubeadm": ({"name": "a", "annotations": KUBEADM}, "kubeadm", ""),
    "rke2": ({"name": "a", "kubeletVersion": "v1.37.2+rke2r1"}, "RKE2", ""),
    "k0s": ({"name": "a", "kubeletVersion": "v1.37.2+k0s"}, "k0s", ""),
    "talos": ({"name": "a", "osImage": "Talos (v1.14.0)"}, "Talos", ""),
    "eks": ({"name": "a", "provider": "aws:///eu-central-1a/i-0123"}, "Amazon EKS", ""),
    "gke": ({"name": "a", "provider": "gce://project/zone/a"}, "Google Kubernetes Engine", ""),
    "aks": ({"name": "a", "provider": "azure:///subscriptions/1"}, "Azure Kubernetes Service", ""),
    "other": ({"name": "a"}, "a cluster of another kind", ""),
}


@pytest.fixture(scope="module")
def control(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster.start(tmp_path_factory.mktemp("control")) as running:
        yield running  # an installation goes on from the one that another test began


@pytest.fixture
def quick(control: Cluster, tmp_path: Path) -> Iterator[QuickInstall]:
    yield QuickInstall(tmp_path / "quick", control.kubeconfig)
    control.kubectl("delete", "nodes", "--all")


@pytest.mark.parametrize(("node", "called", "loads"), KINDS.values(), ids=KINDS)
def test_a_cluster_is_known_by_its_nodes(
    control: Cluster, quick: QuickInstall, tmp_path: Path, node: dict[str, Any], called: str, loads: str
) -> None:
    """The context has the same name in all of them."""
    add_node(control, **node)
    archive = tmp_path / "trow.tar"
    archive.write_bytes(b"an archive")
    notes = {
        name: quick.add(name, "cat >>$0.read")
        for name in ("kind", "k3d", "minikube", "docker", "nerdctl", "k3s", "microk8s")
    }
    if not loads:
        assert f"# Cluster: {called}, 1 of 1 nodes ready" in quick.run("--dry-run", *IMAGE)
        assert f"onto the nodes of this cluster ({called})" in quick.refused(
            "--dry-run", "--image-archive", str(archive)
        )
        return
    shown = quick.run("--dry-run", "--image-archive", str(archive))
    assert f"# Cluster: {called}, 1 of 1 nodes ready" in shown
    assert "imagePullPolicy: 'Never'" in shown
    assert not any(note.read_text("utf-8") for note in notes.values())
    quick.refused("--image-archive", str(archive), "--timeout", "1")
    assert "".join(note.read_text("utf-8") for note in notes.values()) == f"{loads.format(archive)}\n"
    if loads.endswith((" -", " import")):
        assert (quick.programs / f"{loads.partition(' ')[0]}.read").read_bytes() == b"an archive"


def test_other_nodes_do_not_hide_what_one_of_them_tells(control: Cluster, quick: QuickInstall) -> None:
    add_node(control, "a", ready=False)
    add_node(control, "b", provider="kind://podman/my/b")
    add_node(control, "c", provider="kind://podman/my/c")
    assert '# Cluster: kind, "my", 2 of 3 nodes ready' in quick.run("--dry-run", *IMAGE)


def test_a_folder_with_an_image_is_packed_and_several_are_loaded(
    control: Cluster, quick: QuickInstall, tmp_path: Path
) -> None:
    add_node(control, "a", provider="kind://podman/dev/a")
    layout = tmp_path / "layout"
    (layout / "blobs").mkdir(parents=True)
    for name in ("oci-layout", "index.json"):
        (layout / name).write_text("{}", "utf-8")
    copies = tmp_path / "copies.tar"
    notes = quick.add("kind", f'cp "$3" {copies}; echo "$KIND_EXPERIMENTAL_PROVIDER" >>$0.provider')
    (quick.programs / "cp").symlink_to("/bin/cp")
    quick.refused("--image-archive", __file__, "--image-archive", str(layout), "--timeout", "1")
    assert len(notes.read_text("utf-8").splitlines()) == 2
    assert (quick.programs / "kind.provider").read_text("utf-8") == "podman\npodman\n"
    with tarfile.open(copies) as packed:
        assert sorted(packed.getnames()) == ["blobs", "index.json", "oci-layout"]


def test_a_tool_that_fails_is_told_with_its_words(control: Cluster, quick: QuickInstall) -> None:
    add_node(control, "a", provider="kind://docker/dev/a")
    quick.add("kind", "echo no space left on device >&2; exit 1")
    said = quick.refused("--image-archive", __file__)
    assert "the image could not be put onto the nodes: no space left on device" in said
    assert f"By hand: kind load image-archive {__file__} --name dev" in said
    assert "Until here" not in said


def test_an_image_that_the_nodes_have_needs_no_flag(control: Cluster, quick: QuickInstall) -> None:
    add_node(control, "a", images=[{"names": [f"docker.io/library/trow:{__version__}"], "sizeBytes": 1}])
    shown = quick.run("--dry-run")
    assert f"image: 'trow:{__version__}'" in shown
    assert "imagePullPolicy: 'Never'" in shown


@pytest.mark.parametrize(
    ("node", "tool", "way"),
    [
        ({"provider": "kind://docker/dev/a"}, "kind", "kubectl port-forward --namespace trow service/trow 30500:80"),
        (K3S, "k3s", "To push from here:"),
        (K3S, "none", "kubectl port-forward"),
    ],
)
def test_the_way_to_push_fits_the_cluster(
    control: Cluster, quick: QuickInstall, node: dict[str, Any], tool: str, way: str
) -> None:
    add_node(control, "a", **node)
    quick.add(tool)
    with pods_are(control, READY):
        assert way in quick.run(*IMAGE)
