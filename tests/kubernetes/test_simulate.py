"""`trow policy simulate` beside a live cluster."""

from __future__ import annotations

import base64
import json
import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tools.find import tool
from trow.cli import main
from trow.kube.kubeconfig import cluster_access_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.cluster import Cluster

V1BETA1: Final = "client.authentication.k8s.io/v1beta1"

DEPLOYMENT = """\
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: %s}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, image: nginx}]}
"""


def test_what_would_break_in_a_live_cluster(
    cluster: Cluster, namespace: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.apply(DEPLOYMENT % namespace)
    policy = tmp_path / "policy.yaml"
    policy.write_text("image_validation: {default: Allow, deny: [docker.io]}\n")
    assert main(["policy", "simulate", "-f", str(policy), "--kubeconfig", str(cluster.kubeconfig)]) == 1
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    (found,) = [line for line in lines if line[:2] == ["denied", namespace]]
    assert found[2:7] == ["Deployment", "web", "nginx", "image_validation", "deny"]


def with_plugin(cluster: Cluster, folder: Path, status: Mapping[str, str]) -> tuple[Path, Path]:
    """Kubeconfig files as clouds write them: one of the cluster, one of a user whose credentials a program prints."""
    answer = {"apiVersion": V1BETA1, "kind": "ExecCredential", "status": status}
    program = folder / "get-token"
    program.write_text(f"#!/bin/sh\necho \"$1\" > {folder}/asked\ncat <<'END'\n{json.dumps(answer)}\nEND\n")
    program.chmod(0o700)
    how = {"apiVersion": V1BETA1, "command": "./get-token", "args": ["dev"], "provideClusterInfo": True}
    ca = base64.b64encode(cluster.ca.read_bytes()).decode()
    parts: dict[str, dict[str, object]] = {
        "cluster": {"clusters": [{"name": "c", "cluster": {"server": cluster.url, "certificate-authority-data": ca}}]},
        "user": {
            "users": [{"name": "u", "user": {"exec": how}}],
            "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u"}}],
        },
    }
    for name, content in parts.items():
        (folder / name).write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **content}))
    return folder / "cluster", folder / "user"


@pytest.mark.parametrize("kind", ["token", "certificate"])
def test_a_cluster_whose_credentials_a_program_prints_and_that_kubectl_reads_alike(
    cluster: Cluster,
    namespace: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
) -> None:
    cluster.apply(DEPLOYMENT % namespace)
    if kind == "token":
        cluster.kubectl("create", "serviceaccount", "viewer", "--namespace", namespace)
        subject = f"{namespace}:viewer"
        cluster.kubectl("create", "clusterrolebinding", namespace, "--clusterrole=view", f"--serviceaccount={subject}")
        status = {"token": cluster.token(namespace, "viewer", "https://kubernetes.default.svc")}
    else:
        administrator = cluster_access_of([cluster.kubeconfig])
        assert isinstance(administrator.certificate, Path)
        assert isinstance(administrator.key, Path)
        status = {
            "clientCertificateData": administrator.certificate.read_text(),
            "clientKeyData": administrator.key.read_text(),
        }
    files = with_plugin(cluster, tmp_path, status)
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, files)))
    policy = tmp_path / "policy.yaml"
    policy.write_text("image_validation: {default: Allow, deny: [docker.io]}\n")
    assert main(["policy", "simulate", "-f", str(policy), "--context", "dev"]) == 1
    assert namespace in capsys.readouterr().out
    assert (tmp_path / "asked").read_text() == "dev\n"

    argv = [str(tool("kubectl")), "--context", "dev", "get", "deployments", "--namespace", namespace]
    assert "web" in subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def test_a_cluster_that_does_not_know_the_credentials_says_so(
    cluster: Cluster, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = with_plugin(cluster, tmp_path, {"token": "made-up"})
    monkeypatch.setenv("KUBECONFIG", os.pathsep.join(map(str, files)))
    policy = tmp_path / "policy.yaml"
    policy.write_text("image_validation: {default: Deny}\n")
    assert main(["policy", "simulate", "-f", str(policy), "--context", "dev"]) == 2
    assert "401" in capsys.readouterr().err
