"""A node of which only the files are there: a root for the agent, with processes as `/proc` shows them."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Sequence

SCRIPTS: Final = Path(__file__).parents[2] / "deploy" / "nodes"
SHELLS: Final = ("dash", "bash", "busybox")
HOST: Final = "registry.example.com:5000"
CERTS: Final = "/etc/containerd/certs.d"
IMAGES: Final = '[plugins."io.containerd.cri.v1.images".registry]'
ONE: Final = f'version = 3\n{IMAGES}\nconfig_path = "{CERTS}"\n'
HOSTS: Final = f"{CERTS}/{HOST}/hosts.toml"
_SECONDS: Final = 60


def shell(name: str) -> list[str]:
    """A shell that reads POSIX sh."""
    path = str(tool(name))
    return {"bash": [path, "--posix"], "busybox": [path, "sh"]}.get(name, [path])


class Node:
    """A root that the agent takes for that of a node, and settings for it."""

    def __init__(self, folder: Path, name: str = "dash") -> None:
        self.root = folder / "root"
        self.settings = folder / "settings"
        self.report = folder / "report"
        self._scratch = folder / "scratch"
        self._shell = shell(name)
        self._pids = 100
        for made in (self.root / "proc", self.root / "usr/bin", self.settings, self._scratch):
            made.mkdir(parents=True)
        self._booted = int(time.time()) - 10_000
        self.write("/proc/stat", f"cpu 1 2 3\nbtime {self._booted}\n")
        self.set(hosts=f"{HOST}\n", endpoint="http://$(NODE_IP):30500", credentialProvider="false")

    # What is on the node

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def write(self, path: str, text: str) -> Path:
        file = self.at(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, "utf-8")
        return file

    def read(self, path: str) -> str:
        return self.at(path).read_text("utf-8")

    def files(self) -> dict[str, str]:
        """All files but those of processes and programs, with their content."""
        found = (path for path in self.root.rglob("*") if path.is_file())
        names = ((str(path.relative_to(self.root)), path) for path in found)
        return {name: path.read_text() for name, path in names if not name.startswith(("proc/", "usr/"))}

    def runs(self, *argv: str, name: str = "", since: float | None = None, uid: int = 0, pids: str = "") -> int:
        """A process, which began at a time; before everything else is written, if none is given.

        Args:
            argv: its arguments.
            name: "" is that of its program.
            since: seconds since 1970.
            uid: whose it is.
            pids: what it is in PID namespaces below that of the node, such as "1" for a Pod's.
        """
        self._pids += 1
        began = self._booted + 1000 if since is None else since
        ticks = int((began - self._booted) * 100)
        called = name or Path(argv[0]).name
        self.write(f"/proc/{self._pids}/comm", f"{called[:15]}\n")
        self.write(
            f"/proc/{self._pids}/status",
            f"Name:\t{called[:15]}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\nNSpid:\t{self._pids}{pids and chr(9)}{pids}\n",
        )
        self.write(f"/proc/{self._pids}/cmdline", "".join(f"{argument}\0" for argument in argv))
        self.write(f"/proc/{self._pids}/stat", f"{self._pids} ({called}) S {'0 ' * 18}{ticks} 0 0\n")
        return self._pids

    def has_containerd(self, configuration: str, program: str = "containerd2") -> None:
        """The real one, which tells its effective configuration when the agent asks it."""
        place(tool(program), self.at("/usr/bin/containerd"))
        self.write("/etc/containerd/config.toml", configuration)
        self.runs("/usr/bin/containerd", "--config", "/etc/containerd/config.toml")

    def has_kubelet(self, *flags: str, since: float | None = None, version: str = "v1.37.2") -> None:
        self.has_program("kubelet", f'echo "Kubernetes {version}"')
        self.runs("/usr/bin/kubelet", *flags, since=since)

    def has_program(self, name: str, script: str) -> None:
        """A program of the node, in a shell that works after chroot."""
        if not self.at("/usr/bin/busybox").exists():
            place(tool("busybox"), self.at("/usr/bin/busybox"))
        self.write(f"/usr/bin/{name}", f"#!/usr/bin/busybox sh\n{script}\n").chmod(0o755)

    # The agent

    def set(self, **settings: str) -> None:
        for name, text in settings.items():
            (self.settings / name.replace("_", ".")).write_text(text, "utf-8")

    def agent(self, mode: str, namespace: str = "") -> str:
        """What the agent reports; the namespace is its own."""
        environment = self.environment | {"POD_NAMESPACE": namespace}
        done = subprocess.run(self.argv(mode), env=environment, capture_output=True, text=True, timeout=_SECONDS)  # noqa: PLW1510
        assert done.returncode == 0, done.stderr
        assert done.stderr == ""
        assert self.report.read_text() == done.stdout
        return done.stdout

    def argv(self, mode: str) -> list[str]:
        return [*self._shell, str(SCRIPTS / "trow-node-agent"), mode]

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": os.environ["PATH"],
            "NODE_NAME": "node1",
            "NODE_IP": "10.1.2.3",
            "TMPDIR": str(self._scratch),
            "TROW_HOST": str(self.root),
            "TROW_LIB": str(SCRIPTS / "lib"),
            "TROW_PROVIDER": str(SCRIPTS / "trow-credential-provider"),
            "TROW_REPORT": str(self.report),
            "TROW_SECONDS": "0.2",
            "TROW_KUBELET_SECONDS": "3",
            "TROW_STEADY_SECONDS": "1",
            "TROW_SETTINGS": str(self.settings),
        }


def place(program: Path, target: Path) -> None:
    """Put a program where the agent finds it after chroot; one that is linked needs its libraries there, too."""
    shutil.copy(program, target)
    done = subprocess.run(["ldd", str(program)], capture_output=True, text=True, check=False)
    for word in done.stdout.split():
        if word.startswith("/"):
            library = target.parents[2] / word.lstrip("/")
            library.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, library)


def states(report: str) -> dict[str, str]:
    """The state of each area in a report."""
    lines = (line.split(": ", 2) for line in report.splitlines())
    return {area: state for area, state, _ in lines}


def providers(names: Sequence[str]) -> str:
    """A configuration of credential providers as a cloud writes it."""
    entries = "".join(
        f"  - name: {name}\n    matchImages: ['*.{name}.example']\n    defaultCacheDuration: 12h\n"
        f"    apiVersion: credentialprovider.kubelet.k8s.io/v1\n"
        for name in names
    )
    head = "apiVersion: kubelet.config.k8s.io/v1\nkind: CredentialProviderConfig\n"
    return f"{head}providers:\n{entries}"
