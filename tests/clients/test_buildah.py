from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clients.image import HELLO, TAG, hello, image

if TYPE_CHECKING:
    from clients.box import Box
    from clients.registry import Registry


class Buildah:
    """buildah with its whole state in the box."""

    def __init__(self, box: Box) -> None:
        self.box = box
        self.state = (f"--root={box.home / 'root'}", f"--runroot={box.home / 'runroot'}", "--storage-driver=vfs")

    def run(self, *arguments: object) -> str:
        return self.box.run("buildah", *self.state, *arguments).strip()

    def refused(self, *arguments: object) -> str:
        return self.box.refused("buildah", *self.state, *arguments)

    def commit(self, name: str, content: bytes) -> None:
        """An image of one file, built from nothing."""
        (self.box.home / "hello").write_bytes(content)
        container = self.run("from", "scratch")
        self.run("copy", container, "hello", f"/{HELLO}")
        self.run("config", "--entrypoint", '["/hello"]', container)
        self.run("commit", "--rm", container, name)

    def read(self, reference: str) -> bytes:
        """The file of an image in a registry, pulled afresh."""
        container = self.run("from", "--pull-always", "--tls-verify=false", reference)
        return (Path(self.run("mount", container)) / HELLO).read_bytes()


@pytest.fixture
def buildah(box: Box) -> Buildah:
    return Buildah(box)


@pytest.mark.parametrize("kind", ["oci", "v2s2"])
def test_what_was_built_is_pushed_and_pulled(kind: str, plain: Registry, buildah: Buildah, repository: str) -> None:
    buildah.commit("localhost/made:1", hello(repository))
    remote = f"docker://{plain.host}/{repository}:{TAG}"
    push = ("push", "--tls-verify=false", f"--format={kind}", f"--digestfile={buildah.box.home / 'digest'}")
    buildah.run(*push, "localhost/made:1", remote)
    stored = plain.complete(repository, TAG)
    assert (buildah.box.home / "digest").read_text(encoding="utf-8") == stored.digest
    assert stored.media_type == stored.document["mediaType"]
    buildah.run("rmi", "--all")
    assert buildah.read(remote) == hello(repository)


def test_a_file_builds_upon_an_image_of_the_registry(plain: Registry, buildah: Buildah, repository: str) -> None:
    base = image(repository)
    plain.push(f"{repository}/base", base, TAG)
    context = buildah.box.home / "context"
    context.mkdir()
    (context / "more").write_text("more\n", encoding="utf-8")
    (context / "Containerfile").write_text(
        f"FROM {plain.host}/{repository}/base:{TAG}\nCOPY more /more\n", encoding="utf-8"
    )
    buildah.run("bud", "--tls-verify=false", "--layers=false", "--tag=localhost/upon:1", context)
    buildah.run("push", "--tls-verify=false", "localhost/upon:1", f"docker://{plain.host}/{repository}/upon:{TAG}")
    stored = plain.complete(f"{repository}/upon", TAG)
    assert len(stored.document["layers"]) == 3
    assert buildah.read(f"docker://{plain.host}/{repository}/upon:{TAG}") == hello(repository)
