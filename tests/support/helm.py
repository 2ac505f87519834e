"""Helm 3 and Helm 4 with the chart of Trow."""

from __future__ import annotations

import base64
import json
import subprocess
from typing import TYPE_CHECKING, Any, Final

import yaml
from deploy.helm.schema import CHART

from support.cluster import environment
from tools.find import tool
from tools.versions import KUBERNETES

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from support.cluster import Cluster

HELMS: Final = ("helm3", "helm")
SECONDS: Final = 60


class Helm:
    """A Helm, the namespace that it works in, and the cluster of that; none where it only renders.

    With a kubeconfig it is that of somebody who is not the cluster's administrator.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        namespace: str = "registry",
        cluster: Cluster | None = None,
        kubeconfig: Path | None = None,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._folder = folder
        self._cluster = cluster
        self._kubeconfig = kubeconfig or (cluster.kubeconfig if cluster else None)

    def run(self, *arguments: str, values: Mapping[str, Any] | None = None) -> str:
        done = self.ask(*arguments, values=values)
        assert done.returncode == 0, f"{self.name} {' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        return done.stdout

    def ask(self, *arguments: str, values: Mapping[str, Any] | None = None) -> subprocess.CompletedProcess[str]:
        argv = [str(tool(self.name)), *arguments, "--namespace", self.namespace]
        if values is not None:
            argv += ["--values", "-"]
        return subprocess.run(
            argv,
            input=json.dumps(values),
            env=self._environment(),
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )

    def begin(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one, which the caller ends."""
        argv = [str(tool(self.name)), *arguments, "--namespace", self.namespace]
        quiet = subprocess.DEVNULL
        return subprocess.Popen(argv, env=self._environment(), stdin=quiet, stdout=quiet, stderr=quiet)

    def _environment(self) -> dict[str, str]:
        known = {"KUBECONFIG": str(self._kubeconfig)} if self._kubeconfig else {}
        return environment(self._folder) | known

    def rendered(self, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        text = self.run("template", "trow", str(CHART), "--kube-version", KUBERNETES, values=values)
        return [document for document in yaml.safe_load_all(text) if document]

    def install(self, values: Mapping[str, Any]) -> str:
        # The kinds stay when a release goes, so that they may still be those of another test's.
        return self.run("install", "trow", str(CHART), "--take-ownership", values=values)

    def upgrade(self, values: Mapping[str, Any]) -> str:
        return self.run("upgrade", "trow", str(CHART), values=values)

    @property
    def cluster(self) -> Cluster:
        assert self._cluster is not None
        return self._cluster

    def kubectl(self, *arguments: str, check: bool = True) -> str:
        return self.cluster.kubectl(*arguments, "--namespace", self.namespace, check=check)

    def secret(self, name: str, key: str) -> str:
        found = json.loads(self.kubectl("get", "secret", name, "--output=json"))
        return base64.b64decode(found["data"][key]).decode()

    def left(self) -> set[tuple[str, str]]:
        """Objects of the chart in its namespace, and beside all namespaces."""
        found: set[tuple[str, str]] = set()
        for namespaced in ("true", "false"):
            kinds = self.cluster.kubectl("api-resources", "--verbs=list", "--output=name", f"--namespaced={namespaced}")
            asked = ("get", ",".join(kinds.split()), "--selector", "app.kubernetes.io/name=trow", "--output=json")
            items = json.loads(self.kubectl(*asked))["items"]
            found |= {(item["kind"], item["metadata"]["name"]) for item in items}
        return found
