"""Installations that cannot succeed: one message with the fix, nothing half-done, and Pods start as before.

Where Helm's own words do not tell the fix, `docs/how-to/troubleshoot.md` has them in its table.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
from deploy.helm.schema import CHART

from support.cluster import Cluster
from support.helm import HELMS, Helm
from support.nodes import storage_class
from support.pages import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

PAGE: Final = ROOT / "docs" / "how-to" / "troubleshoot.md"
# The cluster has no class of volumes.
WITHOUT_VOLUME: Final[Mapping[str, Any]] = {"persistence": {"enabled": False}}
INSTALL: Final = ("install", "trow", str(CHART))
# Kinds are left by other tests, and whose they are is not what most tests are about.
TAKE: Final = (*INSTALL, "--take-ownership")
UPGRADE: Final = ("upgrade", "--install", "trow", str(CHART), "--take-ownership")


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """A control plane without a class of volumes."""
    with Cluster.start(tmp_path_factory.mktemp("mistakes")) as cluster:
        yield cluster


@pytest.fixture(params=HELMS)
def helm(request: pytest.FixtureRequest, bare: Cluster, tmp_path: Path) -> Iterator[Helm]:
    """A Helm in a namespace of its own."""
    name = f"registry-{secrets.token_hex(3)}"
    bare.create_namespace(name)
    helm = Helm(request.param, tmp_path, name, bare)
    yield helm
    helm.ask("uninstall", "trow", "--ignore-not-found")


def refused(helm: Helm, *arguments: str, values: Mapping[str, Any]) -> str:
    """What it says when it fails; afterwards a Pod is taken as before."""
    done = helm.ask(*arguments, values=values)
    assert done.returncode != 0, done.stdout
    return done.stderr


def can_start(helm: Helm) -> bool:
    """Whether the API server takes a Pod, in a namespace that is not that of the release. It asks all webhooks."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "any", "namespace": "default"},
        "spec": {"containers": [{"name": "main", "image": "images.test/any:1"}]},
    }
    create = ("create", "--filename=-", "--dry-run=server")
    return "pod/any created" in helm.cluster.kubectl(*create, input=json.dumps(pod), check=False)


def nothing_is_there(helm: Helm) -> bool:
    """No object, but for kinds that other tests have left, and no release either."""
    kinds = "serviceaccounts,secrets,configmaps,services,statefulsets,roles,rolebindings,networkpolicies"
    objects = helm.kubectl("get", kinds, "--selector=app.kubernetes.io/name=trow", "--output=name")
    roles = helm.kubectl("get", "clusterroles", "--selector=app.kubernetes.io/name=trow", "--output=name")
    releases = helm.kubectl("get", "secrets", "--selector=owner=helm", "--output=name")
    return not objects and not releases and helm.namespace not in roles


def told(words: str) -> str:
    """What helps by the page about troubles, for what somebody sees; code in it has no quotes."""
    row = re.search(rf"^\| `{re.escape(words)}` \|[^|]*\|([^|]*)\|$", PAGE.read_text("utf-8"), re.MULTILINE)
    assert row, f"{PAGE} has no row for {words}"
    return row[1].replace("`", "")


@contextmanager
def made(cluster: Cluster, *documents: Mapping[str, Any]) -> Iterator[None]:
    """Objects of somebody else."""
    text = json.dumps({"apiVersion": "v1", "kind": "List", "items": documents})
    cluster.apply(text)
    try:
        yield
    finally:
        cluster.kubectl("delete", "--filename=-", "--ignore-not-found", input=text)


# Volumes


def test_without_a_class_of_volumes_the_ways_out_are_told(helm: Helm) -> None:
    named = refused(helm, *TAKE, values={"persistence": {"storageClass": "fast"}})
    assert "persistence.storageClass: this cluster has no StorageClass fast" in named
    said = refused(helm, *TAKE, values={})
    assert "persistence.storageClass: this cluster has no default StorageClass" in said
    assert "install a provisioner of volumes" in said
    assert nothing_is_there(helm)
    assert can_start(helm)
    assert "persistence.enabled=false" in said
    helm.run(*TAKE, values=WITHOUT_VOLUME)


def test_a_class_that_is_not_the_default_has_to_be_chosen(helm: Helm) -> None:
    slow = {**storage_class(), "metadata": {"name": "slow"}}
    with made(helm.cluster, slow):
        said = refused(helm, *TAKE, values={})
        assert "set it to one of slow" in said
        assert nothing_is_there(helm)
        helm.run(*TAKE, values={"persistence": {"storageClass": "slow"}})


def test_a_volume_that_somebody_made_needs_no_class(helm: Helm) -> None:
    volume = {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": helm.namespace},
        "spec": {
            "capacity": {"storage": "20Gi"},
            "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/var/lib/volumes/trow"},
        },
    }
    with made(helm.cluster, volume):
        helm.run(*TAKE, values={})
        # No controller of volumes is here that would let it go.
        free = ("--patch", '{"metadata": {"finalizers": null}}')
        helm.cluster.kubectl("patch", f"persistentvolume/{helm.namespace}", *free)


# Rights


@contextmanager
def somebody(helm: Helm, folder: Path, *more: str) -> Iterator[Helm]:
    """With the rights of `admin` in the namespace, and some in the whole cluster."""
    name = f"dev-{secrets.token_hex(3)}"
    cluster, pair = helm.cluster, (folder / f"{name}.crt", folder / f"{name}.key")
    cluster.credentials.issue_user(name, "developers", *pair)
    kubeconfig = folder / name
    kubeconfig.write_text(cluster.credentials.kubeconfig(cluster.url, *pair), "utf-8")
    helm.kubectl("create", "rolebinding", name, "--clusterrole=admin", f"--user={name}")
    if more:
        cluster.kubectl("create", "clusterrole", name, *more)
        cluster.kubectl("create", "clusterrolebinding", name, f"--clusterrole={name}", f"--user={name}")
    try:
        yield Helm(helm.name, folder, helm.namespace, cluster, kubeconfig)
    finally:
        cluster.kubectl("delete", f"clusterrolebinding/{name}", f"clusterrole/{name}", "--ignore-not-found")


def test_who_may_not_install_is_told_and_installs_what_is_of_the_namespace(helm: Helm, tmp_path: Path) -> None:
    with somebody(helm, tmp_path) as developer:
        said = refused(developer, *INSTALL, values=WITHOUT_VOLUME)
        assert "is forbidden: User" in said
        assert nothing_is_there(helm)
        assert can_start(helm)
        flags = re.findall(r"--set (\S+)", told("is forbidden: User"))
        assert len(flags) == 3
        developer.run(*INSTALL, *[f"--set={each}" for each in flags], values=WITHOUT_VOLUME)


def test_an_administrator_finishes_what_somebody_could_not(helm: Helm, tmp_path: Path) -> None:
    """Who sees everything gets as far as to the first object that is not of the namespace."""
    seeing = ("--verb=get,list", "--resource=*.*")
    values = {**WITHOUT_VOLUME, "crds": {"install": False}}
    with somebody(helm, tmp_path, *seeing) as developer:
        said = refused(developer, *TAKE, values=values)
        assert "is forbidden: User" in said
    assert can_start(helm)
    assert "helm upgrade --install" in told("is forbidden: User")
    helm.run(*UPGRADE, values=values)


# What is left of an installation before


def test_an_installation_that_was_broken_off_is_taken_away_and_made_again(helm: Helm) -> None:
    began = helm.begin(*TAKE, "--wait", "--set=persistence.enabled=false")
    helm.kubectl("wait", "statefulset/trow", "--for=create", "--timeout=30s")
    began.kill()
    began.wait()
    assert can_start(helm)
    again = refused(helm, *TAKE, values=WITHOUT_VOLUME)
    assert "a name that is still" in again
    stuck = "another operation (install/upgrade/rollback) is in progress"
    assert stuck in refused(helm, *UPGRADE, values=WITHOUT_VOLUME)
    for words in ("a name that is still", stuck):
        assert "helm uninstall trow --namespace trow" in told(words)
    helm.run("uninstall", "trow")
    helm.run(*TAKE, values=WITHOUT_VOLUME)


def test_objects_of_a_release_that_helm_has_forgotten_are_taken_over(helm: Helm) -> None:
    helm.run(*TAKE, values=WITHOUT_VOLUME)
    password = helm.secret("trow-admin", "password")
    helm.kubectl("delete", "secrets", "--selector=owner=helm")
    helm.run(*TAKE, values=WITHOUT_VOLUME)
    assert helm.secret("trow-admin", "password") == password


def test_kinds_that_an_installation_elsewhere_has_left_are_taken_over(helm: Helm, tmp_path: Path) -> None:
    helm.run(*TAKE, values=WITHOUT_VOLUME)
    helm.run("uninstall", "trow")
    helm.cluster.create_namespace(f"{helm.namespace}-2")
    second = Helm(helm.name, tmp_path, f"{helm.namespace}-2", helm.cluster)
    said = refused(second, *INSTALL, values=WITHOUT_VOLUME)
    assert 'CustomResourceDefinition "clusterimagepolicies.policy.trow.io"' in said
    assert f'current value is "{helm.namespace}"' in said
    assert nothing_is_there(second)
    assert can_start(second)
    assert "--take-ownership" in told("invalid ownership metadata")
    second.run(*TAKE, values=WITHOUT_VOLUME)
    second.run("uninstall", "trow")


def test_webhooks_of_an_installation_that_is_gone_are_named_with_the_command_that_deletes_them(helm: Helm) -> None:
    """Until somebody does, no Pod starts, and Trow's own neither."""
    webhook = {
        "name": "validate.trow.io",
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "clientConfig": {"service": {"namespace": "default", "name": "gone"}},
        "rules": [{"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}],
    }
    older = [
        {
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": {"name": f"trow-{helm.namespace}"},
            "webhooks": [webhook],
        }
        for kind in ("ValidatingWebhookConfiguration", "MutatingWebhookConfiguration")
    ]
    with made(helm.cluster, *older):
        said = refused(helm, *TAKE, values=WITHOUT_VOLUME)
        assert "call the Service default/gone, which is not there" in said
        assert nothing_is_there(helm)
        command = re.search(r"delete them first: kubectl (.*)", said)
        assert command
        helm.cluster.kubectl(*shlex.split(command[1]))
        assert can_start(helm)
        helm.run(*TAKE, values=WITHOUT_VOLUME)


# What others have


def service(name: str, namespace: str, port: int) -> Mapping[str, Any]:
    ports = [{"port": 80, "nodePort": port}]
    metadata = {"name": name, "namespace": namespace}
    return {"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {"type": "NodePort", "ports": ports}}


def test_a_port_that_a_service_has_is_told_with_its_name(helm: Helm) -> None:
    wanted = {**WITHOUT_VOLUME, "service": {"type": "NodePort", "nodePort": 30777}}
    with made(helm.cluster, service("other", "default", 30777)):
        said = refused(helm, *TAKE, values=wanted)
        assert "service.nodePort: 30777 belongs to the Service other in the namespace default" in said
        assert nothing_is_there(helm)
        assert can_start(helm)
    helm.run(*TAKE, values=wanted)
    helm.run(*UPGRADE, values=wanted)  # its own port is not somebody else's


def test_a_port_outside_of_the_range_is_put_right_by_an_upgrade(helm: Helm) -> None:
    values = {**WITHOUT_VOLUME, "service": {"type": "NodePort", "nodePort": 80}}
    said = refused(helm, *TAKE, values=values)
    assert "The range of valid ports is 30000-32767" in said
    assert can_start(helm)
    assert "helm upgrade --install" in told("provided port is not in the valid range")
    helm.run(*UPGRADE, values=WITHOUT_VOLUME)


def test_a_name_that_somebody_else_has_is_told_before_anything_is_made(helm: Helm) -> None:
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {"name": f"{helm.namespace}-trow-admission"},
        "rules": [],
    }
    with made(helm.cluster, role):
        said = refused(helm, *INSTALL, "--set=crds.install=false", values=WITHOUT_VOLUME)
        assert f'ClusterRole "{helm.namespace}-trow-admission"' in said
        assert "invalid ownership metadata" in said
        assert not helm.kubectl("get", "statefulsets,services,secrets", "--output=name")
        assert can_start(helm)
        assert "fullnameOverride" in told("invalid ownership metadata")
        other = {**WITHOUT_VOLUME, "fullnameOverride": "mine"}
        helm.run(*INSTALL, "--set=crds.install=false", "--set=admission.exceptions=false", values=other)


def test_a_program_that_the_cluster_does_not_have_is_told(helm: Helm) -> None:
    route = {"host": "registry.example.com", "httpRoute": {"enabled": True, "parentRefs": [{"name": "public"}]}}
    said = refused(helm, *TAKE, values={**WITHOUT_VOLUME, **route})
    assert "ensure CRDs are installed first" in said
    assert 'no matches for kind "HTTPRoute"' in said
    assert nothing_is_there(helm)
    assert can_start(helm)


# What is not there, or too old


def test_what_the_pod_waits_for_is_told_with_the_command_that_makes_it(helm: Helm, tmp_path: Path) -> None:
    values = {
        "admin": {"existingSecret": "root"},
        "persistence": {"existingClaim": "disk"},
        "tls": {"source": "existingSecret", "secretName": "certificate"},
        "nodes": {"enabled": True},
    }
    helm.cluster.kubectl("label", "namespace", helm.namespace, "pod-security.kubernetes.io/enforce=baseline")
    said = helm.run(*TAKE, values=values)
    assert "PersistentVolumeClaim disk, which is not there" in said
    assert "Pod Security baseline" in said
    (tmp_path / "password").write_text("correct-horse", "utf-8")
    helm.cluster.credentials.issue_user("registry", "trow", tmp_path / "tls.crt", tmp_path / "tls.key")
    for command in re.findall(r"^  kubectl ((?:create secret|label).*)$", said, re.MULTILINE):
        here = re.sub(r"=(password|tls\.crt|tls\.key)(?= |$)", rf"={tmp_path}/\1", command)
        helm.cluster.kubectl(*shlex.split(here))
    again = helm.run(*UPGRADE, values={**values, "persistence": {"enabled": False}})
    assert "NOT YET" not in again


def test_nothing_is_said_to_be_missing_where_there_is_no_cluster_to_look_into(helm: Helm) -> None:
    values = {"crds": {"install": False}, "admission": {"exceptions": False}, "admin": {"existingSecret": "root"}}
    said = helm.run(*INSTALL, "--dry-run=client", values=values)
    assert "kubectl rollout status" in said
    assert "NOT YET" not in said


def test_a_cluster_that_does_not_answer_is_told_by_its_address(helm: Helm, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(helm.cluster.credentials.kubeconfig("https://127.0.0.1:1"), "utf-8")
    said = refused(Helm(helm.name, tmp_path, helm.namespace, None, kubeconfig), *INSTALL, values={})
    assert "cluster unreachable" in said
    assert "127.0.0.1:1" in said


def test_a_kubernetes_that_is_too_old_is_refused(helm: Helm) -> None:
    said = refused(helm, "template", "trow", str(CHART), "--kube-version=1.31.0", values={})
    assert "chart requires kubeVersion: >=1.32.0-0 which is incompatible with Kubernetes" in said
