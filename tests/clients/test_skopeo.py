from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clients.image import TAG, image, index, write_layout
from factories import DOCKER_IMAGE, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clients.box import Box
    from clients.registry import Registry


def layout_content(folder: Path) -> dict[str, bytes]:
    return {f"sha256:{file.name}": file.read_bytes() for file in (folder / "blobs" / "sha256").iterdir()}


@pytest.mark.parametrize("make", [image, index])
def test_what_was_pushed_is_what_is_pulled(
    make: Callable[[str], Manifest], plain: Registry, box: Box, repository: str
) -> None:
    made = make(repository)
    layout = write_layout(made, box.home / "in")
    remote = f"docker://{plain.host}/{repository}:{TAG}"
    box.run("skopeo", "copy", "--all", "--dest-tls-verify=false", f"oci:{layout}:{TAG}", remote)
    assert plain.complete(repository, TAG).manifest == made.raw
    box.run("skopeo", "copy", "--all", "--src-tls-verify=false", remote, f"oci:{box.home / 'out'}:{TAG}")
    assert layout_content(box.home / "out") == made.content


def test_a_docker_schema_2_image_keeps_its_bytes(plain: Registry, box: Box, repository: str) -> None:
    layout = write_layout(image(repository), box.home / "in")
    remote = f"docker://{plain.host}/{repository}:{TAG}"
    box.run("skopeo", "copy", "--format=v2s2", "--dest-tls-verify=false", f"oci:{layout}:{TAG}", remote)
    stored = plain.complete(repository, TAG)
    assert stored.media_type == DOCKER_IMAGE
    box.run("skopeo", "copy", "--src-tls-verify=false", remote, f"dir:{box.home / 'out'}")
    assert (box.home / "out" / "manifest.json").read_bytes() == stored.manifest


def test_inspect_list_and_delete(plain: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    for tag in ("a", "b"):
        plain.push(repository, made, tag)
    remote = f"docker://{plain.host}/{repository}"
    assert box.run("skopeo", "inspect", "--raw", "--tls-verify=false", f"{remote}:a").encode() == made.raw
    assert made.digest in box.run("skopeo", "inspect", "--tls-verify=false", f"{remote}:a")
    assert box.run("skopeo", "list-tags", "--tls-verify=false", remote).count('"a"') == 1
    box.run("skopeo", "delete", "--tls-verify=false", f"{remote}:a")
    assert not plain.has(repository, "a")
    assert not plain.has(repository, made.digest)
    assert not plain.has(repository, "b")


def test_sync_copies_a_whole_repository(plain: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    plain.push(repository, made, "a")
    plain.push(repository, made, "b")
    loose = ("--src-tls-verify=false", "--dest-tls-verify=false")
    source, target = f"{plain.host}/{repository}", f"{plain.host}/mirror"
    box.run("skopeo", "sync", "--src=docker", "--dest=docker", *loose, source, target)
    copied = f"mirror/{repository.rpartition('/')[2]}"
    assert plain.tags(copied) == ["a", "b"]
    assert plain.complete(copied, "a").manifest == made.raw


def test_tls_is_trusted_with_the_authority_only(secure: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    layout = write_layout(made, box.home / "in")
    remote = f"docker://{secure.host}/{repository}:{TAG}"
    said = box.refused("skopeo", "copy", f"oci:{layout}:{TAG}", remote)
    assert "certificate signed by unknown authority" in said
    trust = secure.trow.ca.parent
    box.run("skopeo", "copy", f"--dest-cert-dir={trust}", f"oci:{layout}:{TAG}", remote)
    assert secure.complete(repository, TAG).manifest == made.raw
    box.run("skopeo", "copy", f"--src-cert-dir={trust}", remote, f"oci:{box.home / 'out'}:{TAG}")
    assert layout_content(box.home / "out") == made.content
