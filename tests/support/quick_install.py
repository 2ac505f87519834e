"""The script of the quick install, as people run it: in a shell of their choice, from a file or from a pipe."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from deploy.quick_install import MANAGER, SCRIPT

from support.cluster import environment
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.cluster import Cluster

SECONDS: Final = 120
POLL_SECONDS: Final = 0.3
# What the script calls, beside kubectl and what the shell itself has.
COMMANDS: Final = (
    "awk", "cat", "cksum", "cut", "date", "grep", "head", "id", "mktemp", "od", "paste", "rm", "sed", "sleep", "tail",
    "tar", "tr", "uname", "wc",
)  # fmt: skip
# What stays as it is in a cluster where nothing happens.
_RESTLESS: Final = {"events", "events.events.k8s.io", "leases.coordination.k8s.io", "endpoints", "componentstatuses"}


class QuickInstall:
    """Runs the script with a PATH that has nothing but what it needs, and what a test adds."""

    def __init__(self, folder: Path, kubeconfig: Path) -> None:
        self.programs = folder / "programs"
        self.programs.mkdir(parents=True)
        self.variables = {**environment(folder), "PATH": str(self.programs), "KUBECONFIG": str(kubeconfig)}
        for command in COMMANDS:
            found = shutil.which(command, path="/usr/bin:/bin")
            assert found is not None, command
            (self.programs / command).symlink_to(found)
        (self.programs / "kubectl").symlink_to(tool("kubectl"))

    def add(self, name: str, script: str = "") -> Path:
        """A program on the PATH that notes how it was called and what it read; the notes."""
        notes = self.programs.parent / f"{name}.notes"
        notes.touch()
        program = self.programs / name
        program.unlink(missing_ok=True)
        program.write_text(f'#!/bin/sh\necho "{name} $*" >>{notes}\n{script}\n', "utf-8")
        program.chmod(0o755)
        return notes

    def start(self, *arguments: str, shell: str = "dash", piped: bool = False) -> subprocess.Popen[str]:
        words = shell.split()
        argv = [str(tool(words[0])), *words[1:], *(("-s", "--") if piped else (str(SCRIPT),)), *arguments]
        with SCRIPT.open("rb") if piped else Path(os.devnull).open("rb") as standard_input:
            return subprocess.Popen(
                argv,
                stdin=standard_input,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                env=self.variables,
            )

    def ask(self, *arguments: str, shell: str = "dash", piped: bool = False) -> subprocess.CompletedProcess[str]:
        with self.start(*arguments, shell=shell, piped=piped) as process:
            out, err = process.communicate(timeout=SECONDS)
        return subprocess.CompletedProcess(arguments, process.returncode, out, err)

    def run(self, *arguments: str, shell: str = "dash", piped: bool = False) -> str:
        done = self.ask(*arguments, shell=shell, piped=piped)
        assert done.returncode == 0, f"{' '.join(arguments)}:\n{done.stdout}{done.stderr}"
        assert done.stderr == ""
        return done.stdout

    def refused(self, *arguments: str) -> str:
        """What it says when it does not do it; where a Pod cannot start, that takes some seconds."""
        done = self.ask(*arguments)
        assert done.returncode == 1, f"{' '.join(arguments)}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stderr


def add_node(cluster: Cluster, name: str, *, ready: bool = True, **facts: Any) -> None:
    """A Node as a kubelet describes itself: `provider`, `labels`, `annotations`, and what is in `nodeInfo`."""
    labels, annotations = facts.pop("labels", {}), facts.pop("annotations", {})
    node: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": labels, "annotations": annotations},
        "spec": {"providerID": facts.pop("provider", "")},
    }
    images = facts.pop("images", [])
    info = {
        "kubeletVersion": "v1.37.2", "osImage": "Debian GNU/Linux 12", "containerRuntimeVersion": "containerd://2.4.2",
        "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "", "kubeProxyVersion": "",
        "operatingSystem": "linux", "architecture": "amd64", **facts,
    }  # fmt: skip
    status = {
        "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        "nodeInfo": info,
        "images": images,
    }
    cluster.apply(json.dumps(node))
    patch = json.dumps({"status": status})
    cluster.kubectl("patch", "node", name, "--subresource=status", "--type=merge", "--patch", patch)


def set_pod(cluster: Cluster, status: Mapping[str, Any], namespace: str = "trow") -> None:
    """What a kubelet would say of Trow's Pod."""
    patch = json.dumps({"status": status})
    pod = ("patch", "pod", "trow-0", "--namespace", namespace, "--subresource=status", "--type=merge", "--patch", patch)
    cluster.kubectl(*pod, check=False)


def end_pull_checks(cluster: Cluster, namespace: str) -> None:
    """Every node could pull."""
    selector = "app.kubernetes.io/component=pull-check"
    for pod in cluster.kubectl(
        "get", "pods", "--namespace", namespace, "--selector", selector, "--output=name"
    ).split():
        patch = ("--subresource=status", "--type=merge", '--patch={"status":{"phase":"Succeeded"}}')
        cluster.kubectl("patch", pod, "--namespace", namespace, *patch, check=False)


def waiting(reason: str, message: str = "") -> dict[str, Any]:
    """A container that does not start."""
    state = {"waiting": {"reason": reason, "message": message}}
    container = {"name": "trow", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}
    return {"phase": "Pending", "containerStatuses": [container], "conditions": [{"type": "Ready", "status": "False"}]}


READY: Final[Mapping[str, Any]] = {
    "phase": "Running",
    "containerStatuses": [],
    "conditions": [{"type": "Ready", "status": "True"}],
}


@contextlib.contextmanager
def pods_are(cluster: Cluster, status: Mapping[str, Any], namespace: str = "trow") -> Iterator[None]:
    """Trow's Pod is like this, as soon as it is there, while the block lasts."""
    ended = threading.Event()

    def keep() -> None:
        while not ended.wait(POLL_SECONDS):
            set_pod(cluster, status, namespace)
            end_pull_checks(cluster, namespace)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        ended.set()
        keeper.join()


def everything(cluster: Cluster) -> dict[str, str]:
    """Each object of the cluster with its version."""
    kinds = set(cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()) - _RESTLESS
    listed = cluster.kubectl("get", ",".join(sorted(kinds)), "--all-namespaces", "--output=json")
    return {
        f"{item['kind']} {item['metadata'].get('namespace', '')}/{item['metadata']['name']}": version(item)
        for item in json.loads(listed)["items"]
    }


def version(item: Mapping[str, Any]) -> str:
    """Where there is a generation, controllers may still write the status."""
    metadata = item["metadata"]
    return f"{metadata['uid']} {metadata.get('generation') or metadata['resourceVersion']}"


def labelled(cluster: Cluster) -> list[str]:
    """What is the script's own in the cluster."""
    kinds = cluster.kubectl("api-resources", "--verbs=list", "--output=name").split()
    own = ("--selector", f"app.kubernetes.io/managed-by={MANAGER}", "--all-namespaces", "--output=name")
    return cluster.kubectl("get", ",".join(kinds), *own).split()


def without(cluster: Cluster, *arguments: str) -> None:
    """Delete, and wait until it is gone."""
    cluster.kubectl("delete", *arguments, "--ignore-not-found", "--timeout=60s")


def copy_of(kubeconfig: Path, folder: Path, **user: str) -> Path:
    """The same cluster, as another user."""
    document = json.loads(kubeconfig.read_text("utf-8"))
    if user:
        document["users"] = [{"name": document["users"][0]["name"], "user": user}]
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document), "utf-8")
    path.chmod(0o600)
    return path
