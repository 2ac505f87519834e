from __future__ import annotations

import json
import tarfile
from typing import TYPE_CHECKING

import pytest

from clients.box import Box, Daemon
from clients.image import TAG, Image, archive, image, index
from clients.registry import ALICE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from clients.registry import Registry

pytestmark = pytest.mark.xdist_group("containerd")

DAEMON = """\
version = 2
root = "{home}/root"
state = "{home}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{home}/c.sock"
"""


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

    def load(self, made: Image, name: str) -> None:
        """Put the image into containerd's store as `name:TAG`, for every platform."""
        layout = made.write(self.box.home / "in" / name.replace(":", "-"))
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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("containerd")


@pytest.fixture(scope="module")
def containerd(home: Path) -> Iterator[Containerd]:
    (home / "config.toml").write_text(DAEMON.format(home=home), encoding="utf-8")
    with Daemon(Box(home), "containerd successfully booted", "containerd", f"--config={home / 'config.toml'}"):
        yield Containerd(Box(home))


def test_what_was_pushed_is_what_is_pulled(plain: Registry, containerd: Containerd, repository: str) -> None:
    made = image(repository)
    name = f"{plain.host}/{repository}"
    containerd.load(made, name)
    containerd.run("images", "push", "--plain-http", f"{name}:{TAG}")
    assert plain.complete(repository, TAG).manifest == made.manifest
    containerd.forget()
    containerd.pull(f"{name}:{TAG}", "--plain-http")
    assert made.content.items() <= containerd.content(f"{name}:{TAG}").items()


def test_an_index_is_pulled_whole(plain: Registry, containerd: Containerd, repository: str) -> None:
    made = index(repository)
    plain.push(repository, made, TAG)
    reference = f"{plain.host}/{repository}:{TAG}"
    containerd.pull(reference, "--plain-http")
    assert made.content.items() <= containerd.content(reference).items()


def test_a_mirror_serves_names_of_another_host(plain: Registry, containerd: Containerd, repository: str) -> None:
    """What a node does: the image is named after its origin, hosts.toml sends the request here with `ns=`."""
    made = image(repository)
    plain.push(repository, made, TAG)
    containerd.know("origin.example", plain.trow.url, capabilities=["pull", "resolve"])
    containerd.pull(f"origin.example/{repository}:{TAG}")
    assert made.content.items() <= containerd.content(f"origin.example/{repository}:{TAG}").items()


def test_tls_is_trusted_with_the_authority_only(secure: Registry, containerd: Containerd, repository: str) -> None:
    made = image(repository)
    name = f"{secure.host}/{repository}"
    containerd.load(made, name)
    push = ("images", "push", f"--hosts-dir={containerd.hosts}", f"{name}:{TAG}")
    abilities = ["pull", "resolve", "push"]
    containerd.know(secure.host, secure.trow.url, capabilities=abilities)
    assert "certificate signed by unknown authority" in containerd.refused(*push)
    containerd.know(secure.host, secure.trow.url, capabilities=abilities, ca=str(secure.trow.ca))
    containerd.run(*push)
    assert secure.complete(repository, TAG).manifest == made.manifest
    other = image(f"{repository} pulled")
    secure.push(repository, other, "pulled")
    containerd.pull(f"{name}:pulled")
    assert other.content.items() <= containerd.content(f"{name}:pulled").items()


def test_credentials_open_what_a_wrong_password_does_not(
    private: Registry, containerd: Containerd, repository: str
) -> None:
    made = image(repository)
    private.push(repository, made, TAG)
    reference = f"{private.host}/{repository}:{TAG}"
    containerd.know(private.host, private.trow.url, capabilities=["pull", "resolve"], ca=str(private.trow.ca))
    pull = ("images", "pull", f"--hosts-dir={containerd.hosts}", "--snapshotter=native", reference)
    assert "401 Unauthorized" in containerd.refused(*pull)
    assert "401 Unauthorized" in containerd.refused(*pull, f"--user={ALICE.name}:wrong")
    containerd.pull(reference, f"--user={ALICE.name}:{ALICE.password}")
    assert made.content.items() <= containerd.content(reference).items()
