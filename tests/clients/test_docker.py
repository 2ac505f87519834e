"""docker trusts loopback without a certificate, so that nothing here is about whom it trusts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from clients.box import Box, Daemon, DaemonError
from clients.image import DOCKER_MANIFEST, HELLO, TAG, hello, image, index, tar
from clients.registry import ALICE
from conformance.summary import JUDGE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from clients.image import Image
    from clients.registry import Registry

pytestmark = pytest.mark.xdist_group("docker")


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


@pytest.fixture(scope="module")
def socket_or_log(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path | DaemonError]:
    """The socket of a dockerd that lives in a folder of its own and leaves the machine's network alone."""
    home = tmp_path_factory.mktemp("docker")
    settings = {
        "bridge": "none",
        "data-root": f"{home}/root",
        "exec-root": f"{home}/exec",
        "hosts": [f"unix://{home}/d.sock"],
        "ip6tables": False,
        "iptables": False,
        "pidfile": f"{home}/pid",
    }
    (home / "daemon.json").write_text(json.dumps(settings), encoding="utf-8")
    try:
        with Daemon(Box(home), "API listen on", "dockerd", f"--config-file={home / 'daemon.json'}"):
            yield home / "d.sock"
    except DaemonError as error:
        yield error


@pytest.fixture
def docker(box: Box, socket_or_log: Path | DaemonError, record_property: Callable[[str, object], None]) -> Docker:
    """The one client that may be missing: a machine may not let dockerd start, and then the log says why."""
    if isinstance(socket_or_log, DaemonError):
        record_property(JUDGE, f"docker: NOT TESTED, {socket_or_log}")
        pytest.skip(str(socket_or_log))
    return Docker(box, socket_or_log)


def test_what_was_pushed_is_what_is_pulled(plain: Registry, docker: Docker, repository: str) -> None:
    remote = f"{plain.host}/{repository}:{TAG}"
    docker.load(repository, remote)
    said = docker.run("push", remote)
    stored = plain.complete(repository, TAG)
    assert stored.media_type == DOCKER_MANIFEST
    assert re.findall(rf"{TAG}: digest: (\S+) size: (\d+)", said) == [(stored.digest, str(len(stored.manifest)))]
    docker.run("rmi", remote)
    assert f"Digest: {stored.digest}" in docker.run("pull", remote)
    assert docker.read(remote) == hello(repository)


@pytest.mark.parametrize("make", [image, index])
def test_oci_content_is_pulled(make: Callable[[str], Image], plain: Registry, docker: Docker, repository: str) -> None:
    made = make(repository)
    plain.push(repository, made, TAG)
    remote = f"{plain.host}/{repository}:{TAG}"
    assert f"Digest: {made.digest}" in docker.run("pull", "--platform=linux/amd64", remote)
    by_digest = f"{plain.host}/{repository}@{made.digest}"
    docker.run("pull", "--platform=linux/amd64", by_digest)
    assert json.loads(docker.run("image", "inspect", "--format={{json .RepoDigests}}", remote)) == [by_digest]


def test_a_file_builds_upon_an_image_of_the_registry(plain: Registry, docker: Docker, repository: str) -> None:
    plain.push(f"{repository}/base", image(repository), TAG)
    context = docker.box.home / "context"
    context.mkdir()
    (context / "more").write_text("more\n", encoding="utf-8")
    dockerfile = f"FROM {plain.host}/{repository}/base:{TAG}\nCOPY more /more\n"
    (context / "Dockerfile").write_text(dockerfile, encoding="utf-8")
    remote = f"{plain.host}/{repository}/upon:{TAG}"
    docker.run("build", f"--tag={remote}", context)
    docker.run("push", remote)
    assert len(plain.complete(f"{repository}/upon", TAG).document["layers"]) == 3
    assert docker.read(remote) == hello(repository)


def test_login_opens_what_a_wrong_password_does_not(private: Registry, docker: Docker, repository: str) -> None:
    remote = f"{private.host}/{repository}:{TAG}"
    docker.load(repository, remote)
    login = ("login", f"--username={ALICE.name}", "--password-stdin", private.host)
    assert "no basic auth credentials" in docker.refused("push", remote)
    assert "401 Unauthorized" in docker.refused(*login, stdin=b"wrong")
    docker.run(*login, stdin=ALICE.password.encode())
    docker.run("push", remote)
    private.complete(repository, TAG)
