"""The chart with Helm 3 and Helm 4 against a live API server: everything is accepted, and nothing is left behind."""

from __future__ import annotations

import json
import re
import secrets
import shutil
from typing import TYPE_CHECKING, Any, Final

import pytest
import trustme
import yaml
from deploy.helm import schema
from deploy.helm.schema import CHART
from deploy.helm.sources import FILES

from support.cluster import Cluster, write_pair
from support.helm import HELMS, Helm
from support.nodes import storage_class
from support.pages import ROOT
from support.waiting import until
from tools.find import tool
from tools.versions import KUBERNETES
from trow import config

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

UPGRADE: Final = ROOT / "docs" / "how-to" / "upgrade.md"
# What one installation leaves, and why: the volume holds the images, and with the kinds go all policies.
KEPT: Final = {"PersistentVolumeClaim", "CustomResourceDefinition"}
VALUES: Final[Mapping[str, Mapping[str, Any]]] = {
    "nothing": {},
    "development": {
        "host": "localhost:30500",
        "service": {"type": "NodePort", "nodePort": 30500},
        "localRegistryHosting": {"enabled": True, "host": "localhost:30500"},
        "persistence": {"enabled": False},
    },
    "ingress": {
        "host": "registry.example.com",
        "ingress": {"enabled": True, "className": "nginx", "tlsSecret": "registry-tls"},
        "podDisruptionBudget": {"enabled": True},
    },
    "own-authority": {"host": "registry.example.com", "tls": {"source": "generated"}, "service": {"port": 443}},
    "existing": {
        "tls": {"source": "existingSecret", "secretName": "tls"},
        "admin": {"existingSecret": "root"},
        "persistence": {"existingClaim": "data"},
        "image": {"digest": f"sha256:{64 * 'a'}"},
        "networkPolicy": {"metricsFrom": [{"namespaceSelector": {}}]},
        "extraEnv": {"TROW_LOG_LEVEL": "debug", "NODE": {"valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}},
    },
    "nodes": {
        "host": "localhost:30500",
        "service": {"type": "NodePort", "nodePort": 30501},
        "nodes": {"enabled": True},
        "extraEnv": {"TROW_REGISTRY_PULL_CHECK": "other/check"},
    },
    "nodes-without-credentials": {
        "tls": {"source": "generated"},
        "nodes": {"enabled": True, "credentialProvider": {"enabled": False}, "restore": True, "hostPaths": []},
        "config": {"access": {"rules": [{"users": ["a"], "repositories": ["**"], "actions": ["pull"]}]}},
    },
    "registry-alone": {"admission": {"enabled": False}, "admin": {"enabled": False}, "rbac": {"create": False}},
}
# What needs kinds of others, and those of their definitions that can be had.
DEFINITIONS: Final = ("certificates.yaml", "httproutes.yaml", "servicemonitors.yaml", "prometheusrules.yaml")
FOREIGN: Final[Mapping[str, tuple[Mapping[str, Any], set[str]]]] = {
    "cert-manager": ({"tls": {"source": "certManager", "issuerRef": {"name": "letsencrypt"}}}, {"Certificate"}),
    "gateway": (
        {
            "host": "registry.example.com",
            "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}], "gcpBackendPolicy": True},
        },
        {"HTTPRoute", "GCPBackendPolicy"},
    ),
    "prometheus": (
        {"metrics": {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}},
        {"ServiceMonitor", "PrometheusRule"},
    ),
}


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane without Trow's kinds, and without what other tests create; claims find a class of volumes."""
    with Cluster.start(tmp_path_factory.mktemp("chart")) as cluster:
        cluster.apply(json.dumps(storage_class()))
        yield cluster


@pytest.fixture(params=HELMS)
def renderer(request: pytest.FixtureRequest, tmp_path: Path) -> Helm:
    """A Helm without a cluster."""
    return Helm(request.param, tmp_path)


@pytest.fixture(params=HELMS)
def helm(request: pytest.FixtureRequest, own: Cluster, tmp_path: Path) -> Iterator[Helm]:
    """A Helm in a namespace that lets nothing in but what is restricted."""
    name = f"registry-{secrets.token_hex(3)}"
    own.create_namespace(name)
    own.kubectl("label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    helm = Helm(request.param, tmp_path, name, own)
    yield helm
    helm.ask("uninstall", "trow", "--ignore-not-found")


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_everything_is_accepted_and_the_pod_is_restricted(values: Mapping[str, Any], helm: Helm) -> None:
    """The controller of StatefulSets makes the Pod, which the namespace would refuse if it could do more."""
    helm.install({**values, "crds": {"install": False}})
    until(lambda: helm.kubectl("get", "pod/trow-0", "--ignore-not-found", "--output=name"))


def test_install_upgrade_roll_back_and_uninstall(helm: Helm) -> None:
    said = helm.install({})
    assert f"kubectl rollout status statefulset/trow --namespace {helm.namespace}" in said
    password = helm.secret("trow-admin", "password")
    assert len(password) == 32
    helm.upgrade({"config": {"log": {"level": "debug"}}, "tls": {"source": "generated"}})
    certificate = helm.secret("trow-tls", "tls.crt")
    helm.upgrade({"config": {"log": {"level": "info"}}, "tls": {"source": "generated"}})
    assert helm.secret("trow-admin", "password") == password
    assert helm.secret("trow-tls", "tls.crt") == certificate
    helm.run("rollback", "trow", "1")
    assert helm.secret("trow-admin", "password") == password
    helm.run("uninstall", "trow")
    helm.kubectl("delete", "pods", "--all", "--force", "--grace-period=0")  # no kubelet says that they have ended
    until(lambda: {kind for kind, _name in helm.left()} <= KEPT)


def test_an_upgrade_brings_the_kinds_of_its_version(helm: Helm, tmp_path: Path) -> None:
    older = shutil.copytree(CHART, tmp_path / "older")
    kinds = (older / "files" / "crds.yaml").read_text("utf-8")
    (older / "files" / "crds.yaml").write_text(kinds.replace("name: Ready", "name: Old"), "utf-8")
    helm.run("install", "trow", str(older), "--take-ownership", values={})
    columns = ("get", "crd/imagepolicies.policy.trow.io", "--output=jsonpath={..additionalPrinterColumns[*].name}")
    assert "Old" in helm.kubectl(*columns)
    helm.upgrade({})
    assert "Ready" in helm.kubectl(*columns)


def test_an_upgrade_as_the_page_says_keeps_your_values_and_brings_those_that_are_new(
    helm: Helm, tmp_path: Path
) -> None:
    """The next chart has a value that this one does not know, and reads it, as charts do."""
    newer = shutil.copytree(CHART, tmp_path / "newer")
    values = (newer / "values.yaml").read_text("utf-8")
    (newer / "values.yaml").write_text(f"{values}\nlater: {{name: new}}\n", "utf-8")
    (newer / "values.schema.json").unlink()
    (newer / "templates" / "later.yaml").write_text(LATER, "utf-8")
    (flags,) = re.findall(
        r"^helm upgrade trow deploy/helm/trow --namespace trow (.+)$", UPGRADE.read_text("utf-8"), re.MULTILINE
    )
    helm.install({"config": {"log": {"level": "debug"}}, "crds": {"install": False}})
    helm.run("upgrade", "trow", str(newer), *flags.split())
    assert helm.kubectl("get", "configmap/new", "--output=jsonpath={.data.level}") == "debug"


LATER: Final = """\
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Values.later.name }}}
data: {level: {{ .Values.config.log.level }}}
"""


def test_a_second_installation_stands_beside_the_first(helm: Helm, tmp_path: Path) -> None:
    """What belongs to the whole cluster comes with the first."""
    helm.install({})
    helm.cluster.create_namespace(f"{helm.namespace}-2")
    second = Helm(helm.name, tmp_path, f"{helm.namespace}-2", helm.cluster)
    second.install({"crds": {"install": False}, "admission": {"exceptions": False}})
    second.run("uninstall", "trow")


def test_namespaces_that_are_left_alone_are_added_to_those_without_which_nothing_starts(renderer: Helm) -> None:
    values = {"config": {"admission": {"excluded_namespaces": ["kube-flannel"]}}}
    (settings,) = [each for each in renderer.rendered(values) if each["metadata"]["name"] == "trow-config"]
    admission = yaml.safe_load(settings["data"]["trow.yaml"])["admission"]
    assert admission["excluded_namespaces"] == ["kube-system", renderer.namespace, "kube-flannel"]


def test_another_trow_of_the_cluster_is_left_alone(helm: Helm) -> None:
    """Else each of the two could wait for the other, after both were down."""
    service = {"namespace": "default", "name": "kubernetes", "path": "/admission/validate"}
    webhook = {
        "name": "must-validate.trow.io",
        "clientConfig": {"service": service},
        "rules": [{"apiGroups": ["none.example.com"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["*"]}],
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
    }
    other = {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingWebhookConfiguration",
        "metadata": {"name": "other", "labels": {"app.kubernetes.io/managed-by": "trow"}},
        "webhooks": [webhook],
    }
    helm.cluster.apply(json.dumps(other))
    try:
        helm.install({"crds": {"install": False}})
        settings = helm.kubectl("get", "configmap/trow-config", r"--output=jsonpath={.data.trow\.yaml}")
    finally:
        helm.cluster.kubectl("delete", "validatingwebhookconfiguration/other")
    assert yaml.safe_load(settings)["admission"]["excluded_namespaces"] == ["kube-system", helm.namespace, "default"]


@pytest.mark.parametrize(("values", "kinds"), FOREIGN.values(), ids=FOREIGN)
def test_objects_of_other_programs_are_rendered(values: Mapping[str, Any], kinds: set[str], renderer: Helm) -> None:
    without = {each["kind"] for each in renderer.rendered({})}
    assert {each["kind"] for each in renderer.rendered(values)} - without == kinds


@pytest.fixture(scope="module")
def foreign(own: Cluster) -> None:
    """cert-manager, the Gateway API and the operator of Prometheus have brought their kinds."""
    for definition in DEFINITIONS:
        own.kubectl("apply", "--server-side", f"--filename={tool(definition)}")
        own.kubectl("wait", f"--filename={tool(definition)}", "--for=condition=Established")


@pytest.mark.usefixtures("foreign")
@pytest.mark.parametrize(("values", "kinds"), FOREIGN.values(), ids=FOREIGN)
def test_objects_of_other_programs_are_accepted(values: Mapping[str, Any], kinds: set[str], helm: Helm) -> None:
    """But for that of Google, whose definition is nowhere to be had."""
    if "httpRoute" in values:
        values = {**values, "httpRoute": {**values["httpRoute"], "gcpBackendPolicy": False}}
    helm.install({**values, "crds": {"install": False}})
    for kind in kinds - {"GCPBackendPolicy"}:
        assert helm.kubectl("get", kind.lower(), "--output=name")


@pytest.mark.parametrize(
    "values", [*VALUES.values(), *(values for values, _kinds in FOREIGN.values())], ids=[*VALUES, *FOREIGN]
)
def test_settings_are_those_of_trow(values: Mapping[str, Any], renderer: Helm, tmp_path: Path) -> None:
    """Trow reads what the chart writes, where its files are there."""
    maps = {each["metadata"]["name"]: each for each in renderer.rendered(values) if each["kind"] == "ConfigMap"}
    text = maps["trow-config"]["data"]["trow.yaml"]
    write_pair(trustme.CA().issue_cert("registry.example.com"), tmp_path / "tls.crt", tmp_path / "tls.key")
    (tmp_path / "password").write_text("correct-horse")
    (tmp_path / "password").chmod(0o600)
    text = text.replace("/etc/trow/admin", str(tmp_path)).replace("/etc/trow/tls", str(tmp_path))
    (tmp_path / "trow.yaml").write_text(text)
    config.resolve(tmp_path / "trow.yaml", {}, {})


@pytest.mark.parametrize(
    ("values", "key"),
    [
        ({"imgae": {}}, "imgae"),
        ({"service": {"type": "Nodeport"}}, "/service/type"),
        ({"config": {"limits": {"max_uplods": 1}}}, "max_uplods"),
        ({"tls": {"source": "certManager"}}, "tls.issuerRef.name"),
        ({"ingress": {"enabled": True}}, "host is needed"),
        ({"image": {"digest": "sha256:abc"}}, "/image/digest"),
    ],
)
def test_a_wrong_value_is_refused_by_its_key(values: Mapping[str, Any], key: str, renderer: Helm) -> None:
    done = renderer.ask("template", "trow", str(CHART), "--kube-version", KUBERNETES, values=values)
    assert done.returncode != 0
    assert key in done.stderr.replace("service.type", "/service/type").replace("image.digest", "/image/digest")


def test_what_the_chart_has_from_other_sources_is_up_to_date() -> None:
    assert schema.SCHEMA.read_text("utf-8") == schema.text(), "run: make reference"
    for source in FILES:
        assert (CHART / "files" / source.name).read_bytes() == source.read_bytes(), "run: make reference"
