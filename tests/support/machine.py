"""A machine inside this one: Linux namespaces of its own, with a network, processes and files that others do not see.

With `Machine.start("node1", folder) as machine:`, `machine.run("ip", "address")` is what a program inside says. The
folders `/etc`, `/var` and `/opt` of a machine are below `folder` and stay when it goes down; `/run` is new each time.
Everything else is what this machine has. It has no network but what is plugged in with `ip`.

A machine cannot be left behind. Its first process ends when the test process does, however that ends, and the kernel
then ends all others in it. With them go its mounts and its network, since nothing outside holds them.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from support.cluster import Component
from tools.find import tool

if TYPE_CHECKING:
    import signal
    from collections.abc import Sequence
    from types import TracebackType

STOP_SECONDS: Final = 20
OWN_FOLDERS: Final = ("etc", "var", "opt")
# What programs look up in /etc: which iptables is meant, users, authorities, libraries.
LOOKED_UP: Final = (
    "alternatives", "group", "ld.so.cache", "ld.so.conf", "ld.so.conf.d", "nsswitch.conf", "passwd", "protocols",
    "services", "ssl",
)  # fmt: skip
# A shell is what it ends with: it takes in whatever loses its parent, and goes when its standard input is closed.
FIRST: Final = """
mount --make-rshared /
mount -t tmpfs tmpfs /run
mkdir /run/netns /run/lock
for each in etc var opt; do mount --bind "$1/$each" "/$each"; done
hostname "$2"
cat /proc/sys/kernel/random/uuid >/run/boot_id
mount --bind /run/boot_id /proc/sys/kernel/random/boot_id
ip link set lo up
echo up
cat >/dev/null
:
"""


class MachineError(Exception):
    """A machine cannot be started here; the message says why in one line."""


class Machine:
    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self._first: subprocess.Popen[str] | None = None
        for each in OWN_FOLDERS:
            (folder / each).mkdir(parents=True, exist_ok=True)
        for known in LOOKED_UP:
            found = Path("/etc") / known
            if found.is_dir():
                shutil.copytree(found, folder / "etc" / known, symlinks=True)
            elif found.exists():
                shutil.copy2(found, folder / "etc" / known)
        (folder / "etc" / "resolv.conf").write_text("nameserver 127.0.0.1\n", encoding="utf-8")  # where nobody answers
        (folder / "etc" / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {name}\n", encoding="utf-8")
        (folder / "var" / "run").symlink_to("/run")
        (folder / "var" / "log").mkdir()
        (folder / "var" / "lib").mkdir()

    @classmethod
    def start(cls, name: str, folder: Path) -> Self:
        machine = cls(name, folder)
        machine.boot()
        return machine

    def boot(self) -> None:
        """Bring it up, after `stop` with the files that it had.

        Raises:
            MachineError: this user, or this kernel, may make no namespaces.
        """
        assert self._first is None, f"{self.name} is up"
        spaces = ("--mount", "--net", "--pid", "--uts", "--ipc", "--mount-proc", "--propagation=private")
        argv = ["unshare", "--fork", "--kill-child", *spaces, "sh", "-euc", FIRST, "sh", str(self.folder), self.name]
        pipe = subprocess.PIPE
        self._first = subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, cwd="/")
        assert self._first.stdout is not None
        if self._first.stdout.readline() != "up\n":
            said = self._first.communicate()[1].strip().replace("\n", "; ")
            self._first = None
            raise MachineError(f"a machine needs namespaces of its own, and this user may make none: {said}")

    def stop(self) -> None:
        """Pull the plug: every process in it is killed, and its mounts and its network are gone."""
        if self._first is None:
            return
        assert self._first.stdin is not None
        self._first.stdin.close()
        try:
            self._first.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._first.kill()
            self._first.wait()
        for stream in (self._first.stdout, self._first.stderr):
            if stream is not None:
                stream.close()
        self._first = None

    @property
    def up(self) -> bool:
        return self._first is not None

    @property
    def pid(self) -> int:
        """Of its first process, as this machine counts."""
        assert self._first is not None, f"{self.name} is down"
        return child(self._first.pid)

    def command(self, *argv: str) -> list[str]:
        """The arguments that run a program inside."""
        spaces = ("--mount", "--net", "--pid", "--uts", "--ipc")
        return ["nsenter", f"--target={self.pid}", *spaces, "--", *argv]

    def run(self, *argv: str, check: bool = True) -> str:
        """What a program inside says on both outputs."""
        done = subprocess.run(
            self.command(*argv), stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False, cwd="/"
        )
        assert not check or done.returncode == 0, f"{self.name}: {' '.join(argv)}: {done.stderr or done.stdout}"
        return done.stdout + done.stderr

    def ip(self, *arguments: str) -> None:
        """Change its network; process ids among the arguments are those that this machine counts."""
        call("nsenter", f"--target={self.pid}", "--net", "--", str(tool("ip")), *arguments)

    def path(self, inside: str) -> Path:
        """Where a file is that it has under `/etc`, `/var` or `/opt`."""
        top = inside.split("/")[1]
        assert top in OWN_FOLDERS, f"{inside} is not a file of {self.name} alone"
        return self.folder / inside.lstrip("/")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.stop()


class Service(Component):
    """A program that runs in a machine."""

    def __init__(self, machine: Machine, name: str, *flags: str, folder: Path | None = None) -> None:
        super().__init__(name, folder or machine.folder, *flags)
        self._machine = machine

    def command(self) -> Sequence[str]:
        return self._machine.command(*super().command())

    def send(self, number: signal.Signals) -> None:
        """To the program itself; what entered the machine waits for it outside."""
        assert self._process is not None, f"{self.name} does not run"
        if self._process.poll() is None:
            os.kill(child(self._process.pid) or self._process.pid, number)

    def restart(self) -> None:
        self.stop()
        self.start()


def child(pid: int) -> int:
    """The one child of a process; 0 before it has one, and after."""
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text("utf-8").split()
    return int(found[0]) if found else 0


def call(*argv: str) -> None:
    """Run a program of this machine as root.

    Raises:
        MachineError: it failed, which is told with its own words.
    """
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", check=False)
    if done.returncode:
        raise MachineError(f"{' '.join(argv)}: {done.stderr.strip()}")
