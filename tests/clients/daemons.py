"""dockerd and containerd, each with everything it has in a folder of its own, and what talks to them."""

from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING, Final

from clients.box import Box, Daemon
from clients.image import HELLO, archive, hello, tar, write_layout

if TYPE_CHECKING:
    from pathlib import Path

    from factories import Manifest

CONTAINERD: Final = """\
version = 2
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{home}/c.sock"
"""


def start_dockerd(home: Path) -> Daemon:
    """It leaves the machine's network alone."""
    settings = {
        "bridge": "none",
        "data-root": f"{home}/root",
        "exec-root": f"{home}/exec",
        "hosts": [f"unix://{docker_socket(home)}"],
        "ip6tables": False,
        "iptables": False,
        "pidfile": f"{home}/pid",
    }
    (home / "daemon.json").write_text(json.dumps(settings), encoding="utf-8")
    return Daemon(Box(home), "API listen on", "dockerd", f"--config-file={home / 'daemon.json'}")


def docker_socket(home: Path) -> Path:
    return home / "d.sock"


def start_containerd(home: Path) -> Daemon:
    (home / "config.toml").write_text(CONTAINERD.format(home=home), encoding="utf-8")
    return Daemon(Box(home), "containerd successfully booted", "containerd", f"--config={home / 'config.toml'}")


class Docker:
    """The docker client with its settings in the box, talking to a dockerd of these tests."""

    def __init__(self, box: Box, socket: Path) -> None:
        self.box = box
        self.env = {"DOCKER_HOST": f"unix://{socket}", "DOCKER_BUILDKIT": "0"}

    def run(self, *arguments: object, stdin: bytes = b"") -> str:
        return self.box.run("docker", *arguments, stdin=stdin, env=self.env).strip()

    def refused(self, *arguments: object, stdin: bytes = b"") -> str:
        return self.box.refused("docker", *arguments, stdin=stdin, env=self.env)

    def load(self, seed: str, name: str) -> None:
        """An image of one file."""
        (self.box.home / "root.tar").write_bytes(tar({HELLO: hello(seed)}))
        self.run("import", "--change", 'CMD ["/hello"]', "root.tar", name)

    def read(self, name: str) -> bytes:
        """The file of an image."""
        container = self.run("create", name)
        self.run("cp", f"{container}:/{HELLO}", self.box.home / "out")
        self.run("rm", container)
        return (self.box.home / "out").read_bytes()


class Containerd:
    """A containerd of its own, spoken to by ctr."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.hosts = box.home / "certs.d"

    def run(self, *arguments: object) -> str:
        return self.box.run("ctr", f"--address={self.box.home / 'c.sock'}", *arguments)

    def refused(self, *arguments: object) -> str:
        return self.box.refused("ctr", f"--address={self.box.home / 'c.sock'}", *arguments)

    def pull(self, reference: str, *options: str) -> None:
        hosts = f"--hosts-dir={self.hosts}"
        self.run("images", "pull", "--all-platforms", "--snapshotter=native", hosts, *options, reference)

    def load(self, made: Manifest, name: str) -> None:
        """Put the image into containerd's store as `name:TAG`, for every platform."""
        layout = self.box.home / "in" / name.replace(":", "-")
        if not layout.exists():
            write_layout(made, layout)
        packed = self.box.home / "in.tar"
        packed.write_bytes(archive(layout))
        self.run("images", "import", "--no-unpack", "--all-platforms", f"--base-name={name}", packed)

    def content(self, reference: str) -> dict[str, bytes]:
        """What containerd holds of an image, by digest."""
        self.run("images", "export", "--all-platforms", self.box.home / "out.tar", reference)
        with tarfile.open(self.box.home / "out.tar") as packed:
            blobs = [member for member in packed if member.isfile() and member.name.startswith("blobs/sha256/")]
            return {f"sha256:{member.name[13:]}": read(packed, member) for member in blobs}

    def forget(self) -> None:
        """Empty the store: what is pulled after this comes over the wire."""
        self.run("images", "rm", "--sync", *self.run("images", "ls", "--quiet").split())
        assert self.run("content", "ls", "--quiet") == ""

    def know(self, host: str, server: str, **settings: object) -> None:
        """Write the hosts.toml of a registry host."""
        (self.hosts / host).mkdir(parents=True, exist_ok=True)
        lines = [f'server = "{server}"', f'[host."{server}"]']
        lines += [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
        (self.hosts / host / "hosts.toml").write_text("\n".join(lines), encoding="utf-8")


def read(packed: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    file = packed.extractfile(member)
    assert file is not None
    return file.read()
