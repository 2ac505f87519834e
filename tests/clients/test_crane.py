from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

from clients.image import HELLO, TAG, hello, image, index, tar, write_layout

if TYPE_CHECKING:
    from clients.box import Box
    from clients.registry import Registry


def test_an_appended_layer_becomes_an_image(plain: Registry, box: Box, repository: str) -> None:
    layer = box.home / "layer.tar"
    layer.write_bytes(tar({HELLO: hello(repository)}))
    remote = f"{plain.host}/{repository}:{TAG}"
    said = box.run("crane", "append", f"--new_layer={layer}", f"--new_tag={remote}", "--insecure").strip()
    stored = plain.complete(repository, TAG)
    assert said == f"{plain.host}/{repository}@{stored.digest}"
    assert box.run("crane", "digest", remote).strip() == stored.digest
    assert box.run("crane", "manifest", remote).encode() == stored.manifest
    box.run("crane", "validate", f"--remote={remote}")
    box.run("crane", "export", remote, box.home / "root.tar")
    with tarfile.open(box.home / "root.tar") as root:
        member = root.extractfile(HELLO)
        assert member is not None
        assert member.read() == hello(repository)


def test_push_pull_and_list(plain: Registry, box: Box, repository: str) -> None:
    made = index(repository)
    layout = write_layout(made, box.home / "in")
    remote = f"{plain.host}/{repository}"
    box.run("crane", "push", "--index", layout, f"{remote}:{TAG}")
    box.run("crane", "tag", f"{remote}:{TAG}", "latest")
    # crane wraps a layout's index.json as it stands
    stored = plain.complete(repository, "latest")
    assert [child["digest"] for child in stored.document["manifests"]] == [made.digest]
    assert plain.complete(repository, made.digest).manifest == made.raw
    assert box.run("crane", "ls", remote).split() == [TAG, "latest"]
    assert repository in box.run("crane", "catalog", plain.host).split()
    box.run("crane", "validate", f"--remote={remote}@{made.digest}")
    box.run("crane", "pull", "--format=oci", f"{remote}@{made.digest}", box.home / "out")
    for name, content in made.content.items():
        assert (box.home / "out" / "blobs" / "sha256" / name.removeprefix("sha256:")).read_bytes() == content


def test_a_copy_between_repositories_mounts_the_blobs(plain: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    plain.push(f"{repository}/from", made, TAG)
    said = box.said("crane", "copy", f"{plain.host}/{repository}/from:{TAG}", f"{plain.host}/{repository}/to:{TAG}")
    assert said.count("mounted blob") == len(made.blobs)
    assert plain.complete(f"{repository}/to", TAG).manifest == made.raw


def test_delete(plain: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    plain.push(repository, made, TAG)
    box.run("crane", "delete", f"{plain.host}/{repository}@{made.digest}")
    assert not plain.has(repository, made.digest)
    assert not plain.has(repository, TAG)
    assert "MANIFEST_UNKNOWN" in box.refused("crane", "manifest", f"{plain.host}/{repository}:{TAG}")


def test_tls_is_trusted_with_the_authority_only(secure: Registry, box: Box, repository: str) -> None:
    made = image(repository)
    layout = write_layout(made, box.home / "in")
    remote = f"{secure.host}/{repository}:{TAG}"
    trust = {"SSL_CERT_FILE": secure.trow.ca}
    assert "certificate signed by unknown authority" in box.refused("crane", "push", layout, remote)
    assert not secure.has(repository, TAG)
    box.run("crane", "push", layout, remote, env=trust)
    assert secure.complete(repository, TAG).manifest == made.raw
    box.run("crane", "validate", f"--remote={remote}", env=trust)
