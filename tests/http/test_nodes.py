"""`trow nodes` and `GET /api/v1/nodes` say the same of a cluster: which node can pull, and if not, why."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.client import WireClient
from support.server import Trow
from support.shelf import Shelf

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STARTED: Final = "2030-01-01T10:00:00Z"
MESSAGE: Final = "failed to pull: no such host"


@pytest.fixture
def kubeconfig(tmp_path: Path) -> Iterator[Path]:
    """A cluster in which node1 can pull, node2 cannot, and node3 has no agent."""
    with Shelf.start() as shelf:
        for name in ("node1", "node2", "node3"):
            info = {"containerRuntimeVersion": "containerd://2.4.2"}
            status = {"nodeInfo": info, "conditions": [{"type": "Ready", "status": "True"}]}
            shelf.put(f"/api/v1/nodes/{name}", {"metadata": {"name": name}, "status": status})
        states = {
            "node1": {"running": {"startedAt": STARTED}},
            "node2": {"waiting": {"reason": "ErrImagePull", "message": MESSAGE}},
        }
        for name, state in states.items():
            shelf.put(f"/api/v1/namespaces/trow/pods/{name}", agent(name, state))
        file = tmp_path / "kubeconfig"
        cluster = {"name": "c", "cluster": {"server": shelf.url}}
        user = {"name": "u", "user": {"token": "abc"}}
        context = {"name": "x", "context": {"cluster": "c", "user": "u"}}
        document = {"clusters": [cluster], "users": [user], "contexts": [context], "current-context": "x"}
        file.write_text(json.dumps({"apiVersion": "v1", "kind": "Config", **document}), "utf-8")
        yield file


def agent(node: str, state: dict[str, Any]) -> dict[str, Any]:
    labels = {"app.kubernetes.io/component": "node-agent"}
    return {
        "metadata": {"name": node, "namespace": "trow", "labels": labels},
        "spec": {"nodeName": node, "volumes": [{"name": "host", "hostPath": {"path": "/"}}]},
        "status": {"containerStatuses": [{"name": "pull-check", "state": state}]},
    }


def nodes(kubeconfig: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trow", "nodes", f"--kubeconfig={kubeconfig}", "--namespace=trow", *flags]
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_the_command_shows_a_table_and_the_reasons(kubeconfig: Path) -> None:
    done = nodes(kubeconfig)
    assert done.returncode == 1, done.stderr
    lines = [line.split() for line in done.stdout.splitlines()[:4]]
    assert lines[1] == ["node1", "containerd", "2.4.2", "yes", STARTED]
    assert [line[3] for line in lines[1:]] == ["yes", "no", "unknown"]
    assert f"node2: {MESSAGE}\n  fix: set nodes.endpoint" in done.stdout
    assert "node3: no node agent runs there" in done.stdout


@pytest.mark.slow
def test_command_and_api_say_the_same(kubeconfig: Path, tmp_path: Path) -> None:
    done = nodes(kubeconfig, "--output=json")
    settings = {"kubernetes": {"kubeconfig": str(kubeconfig), "node_agents": "trow"}}
    with Trow.start(tmp_path / "trow", config=settings) as trow, WireClient(trow.host) as client:
        answer = client.ask("GET", "/api/v1/nodes")
    assert answer.status == 200
    assert json.loads(answer.body) == json.loads(done.stdout)
