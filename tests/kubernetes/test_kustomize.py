"""Kustomize renders the objects that the chart renders, and its settings are those of Trow."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from support.cluster import environment
from support.helm import Helm
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KUSTOMIZE: Final = Path(__file__).parents[2] / "deploy" / "kustomize"
HASH: Final = re.compile(r"(trow-config)-[a-z0-9]{10}$")
# The values of the chart that come to the same.
OVERLAYS: Final[dict[str, Mapping[str, Any]]] = {
    "base": {},
    "overlays/dev": {
        "host": "localhost:30500",
        "service": {"type": "NodePort", "nodePort": 30500},
        "localRegistryHosting": {"enabled": True, "host": "localhost:30500"},
        "persistence": {"enabled": False},
    },
    "overlays/ingress": {
        "host": "registry.example.com",
        "ingress": {
            "enabled": True,
            "className": "nginx",
            "tlsSecret": "registry-tls",
            "annotations": {"cert-manager.io/cluster-issuer": "letsencrypt"},
        },
    },
    "overlays/gateway": {
        "host": "registry.example.com",
        "httpRoute": {"enabled": True, "parentRefs": [{"name": "public", "namespace": "gateways"}]},
    },
}
OVERLAYS["overlays/dev-nodes"] = {**OVERLAYS["overlays/dev"], "nodes": {"enabled": True}}
SECRET: Final = {"admin": {"existingSecret": "trow-admin"}}


def kustomized(overlay: str, home: Path) -> list[dict[str, Any]]:
    argv = [str(tool("kubectl")), "kustomize", str(KUSTOMIZE / overlay)]
    done = subprocess.run(argv, env=environment(home), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def plain(documents: Iterable[dict[str, Any]]) -> dict[tuple[str, str], Any]:
    """The objects by kind and name, without what each tool adds: labels of its own, hashes of settings, tests."""
    found = {}
    for document in documents:
        if document["kind"] in ("Namespace", "Pod"):
            continue
        metadata = document["metadata"]
        metadata["name"] = HASH.sub(r"\1", metadata["name"])
        metadata.pop("labels", None)
        annotations = metadata.pop("annotations", {})
        annotations.pop("helm.sh/resource-policy", None)
        if document["kind"] == "StatefulSet":
            template = document["spec"]["template"]
            template["metadata"]["annotations"].pop("checksum/config", None)
            for volume in template["spec"]["volumes"]:
                if "configMap" in volume:
                    volume["configMap"]["name"] = HASH.sub(r"\1", volume["configMap"]["name"])
        if document["kind"] == "ConfigMap":
            document["data"] = {name: yaml.safe_load(text) for name, text in document["data"].items()}
        found[document["kind"], metadata["name"]] = (document, annotations)
    return found


@pytest.mark.parametrize(("overlay", "values"), OVERLAYS.items(), ids=OVERLAYS)
def test_objects_are_those_of_the_chart(overlay: str, values: Mapping[str, Any], tmp_path: Path) -> None:
    chart = plain(Helm("helm", tmp_path, "trow").rendered({**values, **SECRET}))
    kustomize = plain(kustomized(overlay, tmp_path))
    assert kustomize.keys() == chart.keys()
    for key, found in kustomize.items():
        assert found == chart[key], key


def test_other_settings_are_a_new_pod(tmp_path: Path) -> None:
    """The name of the settings has their hash in it."""
    names = {
        volume["configMap"]["name"]
        for overlay in OVERLAYS
        for document in kustomized(overlay, tmp_path)
        if document["kind"] == "StatefulSet"
        for volume in document["spec"]["template"]["spec"]["volumes"]
        if "configMap" in volume
    }
    # The Ingress and the Gateway give clients the same address, and nodes change variables only.
    assert len(names) == len(OVERLAYS) - 2
