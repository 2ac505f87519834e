from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from clients.image import HELLO, TAG, hello, image, index, write_layout

if TYPE_CHECKING:
    from clients.box import Box
    from clients.registry import Registry
    from factories import Manifest

# The settings that run everywhere: no cgroup of the machine's, no network of its own, no kernel file system.
SETTINGS = """\
[containers]
netns = "host"
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
"""


class Podman:
    """podman with its whole state in the box."""

    def __init__(self, box: Box) -> None:
        (box.home / "containers.conf").write_text(SETTINGS, encoding="utf-8")
        self.box = box
        self.state = ("--root=root", "--runroot=runroot", "--tmpdir=tmp")  # relative: podman refuses long paths
        self.env = {"CONTAINERS_CONF": box.home / "containers.conf"}

    def run(self, *arguments: object) -> str:
        return self.box.run("podman", *self.state, "--storage-driver=vfs", *arguments, env=self.env).strip()

    def refused(self, *arguments: object) -> str:
        return self.box.refused("podman", *self.state, "--storage-driver=vfs", *arguments, env=self.env)


@pytest.fixture
def podman(box: Box) -> Podman:
    return Podman(box)


def load(podman: Podman, made: Manifest, name: str) -> None:
    """Put the image into podman's store under the name."""
    layout = write_layout(made, podman.box.home / "in")
    podman.run("tag", podman.run("pull", "--quiet", f"oci:{layout}:{TAG}"), name)


def test_what_was_pushed_is_what_is_pulled(plain: Registry, podman: Podman, repository: str) -> None:
    remote = f"{plain.host}/{repository}:{TAG}"
    load(podman, image(repository), remote)
    podman.run("push", "--tls-verify=false", "--digestfile=digest", remote)
    stored = plain.complete(repository, TAG)
    assert (podman.box.home / "digest").read_text(encoding="utf-8") == stored.digest
    podman.run("rmi", "--all", "--force")
    podman.run("pull", "--tls-verify=false", remote)
    assert podman.run("image", "inspect", "--format={{.Digest}}", remote) == stored.digest
    container = podman.run("create", remote)
    podman.run("cp", f"{container}:/{HELLO}", "out")
    assert (podman.box.home / "out").read_bytes() == hello(repository)


def test_an_image_by_digest_is_pulled(plain: Registry, podman: Podman, repository: str) -> None:
    made = image(repository)
    plain.push(repository, made, made.digest)
    remote = f"{plain.host}/{repository}@{made.digest}"
    podman.run("pull", "--tls-verify=false", remote)
    assert podman.run("image", "inspect", "--format={{.Digest}}", remote) == made.digest
    assert "manifest unknown" in podman.refused("pull", "--tls-verify=false", f"{plain.host}/{repository}:absent")


def test_the_platform_is_chosen_from_an_index(plain: Registry, podman: Podman, repository: str) -> None:
    made = index(repository)
    plain.push(repository, made, TAG)
    remote = f"{plain.host}/{repository}:{TAG}"
    podman.run("pull", "--tls-verify=false", "--arch=arm64", remote)
    assert podman.run("image", "inspect", "--format={{.Architecture}}", remote) == "arm64"


def test_a_manifest_list_is_made_and_pushed(plain: Registry, podman: Podman, repository: str) -> None:
    made = index(repository)
    plain.push(f"{repository}/from", made, TAG)
    podman.run("manifest", "create", "both")
    source = f"docker://{plain.host}/{repository}/from:{TAG}"
    podman.run("manifest", "add", "--all", "--tls-verify=false", "both", source)
    target = f"docker://{plain.host}/{repository}/to:{TAG}"
    podman.run("manifest", "push", "--all", "--tls-verify=false", "both", target)
    listed = plain.complete(f"{repository}/to", TAG).document["manifests"]
    assert {child["digest"] for child in listed} == {child.digest for child in made.children}


def test_the_registry_is_searched(plain: Registry, podman: Podman, repository: str) -> None:
    plain.push(repository, image(repository), TAG)
    remote = f"{plain.host}/{repository}"
    search = ("search", "--tls-verify=false", "--format=json", "--limit=100")
    assert remote in {found["Name"] for found in json.loads(podman.run(*search, f"{plain.host}/"))}
    assert json.loads(podman.run(*search, "--list-tags", remote)) == [{"Name": remote, "Tags": [TAG]}]


def test_tls_is_trusted_with_the_authority_only(secure: Registry, podman: Podman, repository: str) -> None:
    remote = f"{secure.host}/{repository}:{TAG}"
    load(podman, image(repository), remote)
    assert "certificate signed by unknown authority" in podman.refused("push", remote)
    podman.run("push", f"--cert-dir={secure.trow.ca.parent}", remote)
    secure.complete(repository, TAG)
