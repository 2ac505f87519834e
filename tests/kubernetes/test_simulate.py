"""`trow policy simulate` beside a live cluster."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.cli import main

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from support.cluster import Cluster

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
