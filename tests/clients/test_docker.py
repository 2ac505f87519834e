"""docker trusts loopback without a certificate, so that nothing here is about whom it trusts."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from clients.image import TAG, hello, image, index
from factories import DOCKER_IMAGE

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.daemons import Docker
    from clients.registry import Registry
    from factories import Manifest


def test_what_was_pushed_is_what_is_pulled(plain: Registry, docker: Docker, repository: str) -> None:
    remote = f"{plain.host}/{repository}:{TAG}"
    docker.load(repository, remote)
    said = docker.run("push", remote)
    stored = plain.complete(repository, TAG)
    assert stored.media_type == DOCKER_IMAGE
    assert re.findall(rf"{TAG}: digest: (\S+) size: (\d+)", said) == [(stored.digest, str(len(stored.manifest)))]
    docker.run("rmi", remote)
    assert f"Digest: {stored.digest}" in docker.run("pull", remote)
    assert docker.read(remote) == hello(repository)


@pytest.mark.parametrize("make", [image, index])
def test_oci_content_is_pulled(
    make: Callable[[str], Manifest], plain: Registry, docker: Docker, repository: str
) -> None:
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
