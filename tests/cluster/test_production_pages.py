"""The page about production is followed in a cluster that has what it asks for, and then that about volumes."""

from __future__ import annotations

import contextlib
import json
import socket
import subprocess
from typing import TYPE_CHECKING, Any, Final

import trow
from support.nodes import NodeCluster, storage_class, volume
from support.pages import ROOT
from support.reader import Reader, steps
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import pytest

PRODUCTION: Final = ROOT / "docs" / "how-to" / "run-in-production.md"
VOLUMES: Final = ROOT / "docs" / "how-to" / "persist-images.md"
IMAGE: Final = f"registry.example.net/trow:{trow.__version__}"
CLASS: Final = "fast"


def test_production_is_set_up_as_the_page_says_and_its_volume_is_made_larger(
    tmp_path: Path, own_image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an Ingress controller: the registry is reached through the API server, so that it cannot send clients to
    the token service by its name. The image is smaller.
    """
    clone = tmp_path / "clone"
    clone.mkdir()
    (clone / "deploy").symlink_to(ROOT / "deploy")
    monkeypatch.chdir(clone)
    host = f"localhost:{free_port()}"
    replaced = {
        " registry.example.com --": f" {host} --",
        "registry.example.com/try": f"{host}/try",
        "--values production-values.yaml": "--values production-values.yaml --set config.auth.challenge=basic",
        "2G": "2M",
    }
    with NodeCluster.start(tmp_path / "cluster") as cluster:
        cluster.import_image(own_image, IMAGE)
        prepare(cluster)
        environment = {"KUBECONFIG": str(cluster.kubeconfig)}
        with Reader(clone, "crane", "helm", "kubectl", replaced=replaced, environment=environment) as reader:
            for block, shown in steps(PRODUCTION):
                if "crane append" in block.code:
                    with forwarded(cluster, host):
                        reader.follow(block, shown)
                else:
                    reader.follow(block, shown)
            reader.serve("trow serve")  # the page about volumes has commands for a Trow on a machine, too
            for block, shown in steps(VOLUMES):
                reader.follow(block, shown)
        cluster.wait_ready("trow", "statefulset/trow")
        assert asked(cluster, "persistentvolumeclaim/data-trow-0", "{.spec.resources.requests.storage}") == "400Gi"
        template = "{.spec.volumeClaimTemplates[0].spec.resources.requests.storage}"
        assert asked(cluster, "statefulset/trow", template) == "400Gi"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def prepare(cluster: NodeCluster) -> None:
    """The class of volumes that the page names, with one volume, and the kinds of the Prometheus operator."""
    place = "/var/lib/volumes/production"
    cluster.node.path(place).mkdir(parents=True)
    storage, disk = dict(storage_class()), dict(volume("production", "200Gi", place, cluster.node.name))
    storage |= {"metadata": {"name": CLASS}, "allowVolumeExpansion": True}
    spec: Any = disk["spec"]
    disk["spec"] = {**spec, "storageClassName": CLASS}
    kinds = [kind("ServiceMonitor"), kind("PrometheusRule")]
    cluster.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": [storage, disk, *kinds]}))
    for each in kinds:
        name = f"customresourcedefinition/{each['metadata']['name']}"
        cluster.kubectl("wait", name, "--for=condition=Established", "--timeout=60s")


def kind(name: str) -> dict[str, Any]:
    plural, group = f"{name.lower()}s", "monitoring.coreos.com"
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{group}"},
        "spec": {
            "group": group,
            "names": {"kind": name, "plural": plural},
            "scope": "Namespaced",
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


@contextlib.contextmanager
def forwarded(cluster: NodeCluster, host: str) -> Iterator[None]:
    argv = [str(tool("kubectl")), "--kubeconfig", str(cluster.kubeconfig), "port-forward", "--namespace=trow"]
    port = host.partition(":")[2]
    with subprocess.Popen([*argv, "service/trow", f"{port}:80"], stdout=subprocess.DEVNULL) as way:
        try:
            yield
        finally:
            way.terminate()


def asked(cluster: NodeCluster, name: str, path: str) -> str:
    return cluster.kubectl("get", name, "--namespace=trow", f"--output=jsonpath={path}")
