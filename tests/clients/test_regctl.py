from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import pytest

from clients.breaking import BreakingWay
from clients.image import LARGE, TAG, image, index, write_layout

if TYPE_CHECKING:
    from clients.box import Box
    from clients.registry import Registry


@pytest.fixture
def regctl(plain: Registry, box: Box) -> Box:
    box.run("regctl", "registry", "set", plain.host, "--tls=disabled")
    return box


def test_an_index_is_copied_from_a_layout_and_on(plain: Registry, regctl: Box, repository: str) -> None:
    made = index(repository)
    layout = write_layout(made, regctl.home / "in")
    first, second = f"{plain.host}/{repository}/first:{TAG}", f"{plain.host}/{repository}/second:{TAG}"
    regctl.run("regctl", "image", "copy", f"ocidir://{layout}:{TAG}", first)
    assert plain.complete(f"{repository}/first", TAG).manifest == made.raw
    regctl.run("regctl", "image", "copy", first, second)
    assert plain.complete(f"{repository}/second", TAG).manifest == made.raw
    assert regctl.run("regctl", "image", "digest", second).strip() == made.digest
    regctl.run("regctl", "image", "copy", second, f"ocidir://{regctl.home / 'out'}:{TAG}")
    for name, content in made.content.items():
        assert (regctl.home / "out" / "blobs" / "sha256" / name.removeprefix("sha256:")).read_bytes() == content


def test_an_index_is_made_of_images_in_the_registry(plain: Registry, regctl: Box, repository: str) -> None:
    parts = [image(f"{repository} {architecture}", architecture) for architecture in ("amd64", "arm64")]
    for part in parts:
        plain.push(repository, part, part.digest)
    remote = f"{plain.host}/{repository}"
    refs = [f"--ref={remote}@{part.digest}" for part in parts]
    regctl.run("regctl", "index", "create", f"{remote}:{TAG}", *refs)
    stored = plain.complete(repository, TAG)
    assert {child["digest"] for child in stored.document["manifests"]} == {part.digest for part in parts}
    raw = regctl.run("regctl", "manifest", "get", "--format=raw-body", f"{remote}:{TAG}")
    assert raw.encode() == stored.manifest


def test_a_deleted_tag_leaves_the_manifest(plain: Registry, regctl: Box, repository: str) -> None:
    made = image(repository)
    for tag in ("kept", "removed"):
        plain.push(repository, made, tag)
    remote = f"{plain.host}/{repository}"
    assert regctl.run("regctl", "tag", "ls", remote).split() == ["kept", "removed"]
    regctl.run("regctl", "tag", "delete", f"{remote}:removed")
    assert regctl.run("regctl", "tag", "ls", remote).split() == ["kept"]
    assert plain.complete(repository, made.digest).manifest == made.raw


def test_artifacts_are_found_by_their_subject(plain: Registry, regctl: Box, repository: str) -> None:
    made = image(repository)
    plain.push(repository, made, TAG)
    remote = f"{plain.host}/{repository}:{TAG}"
    kind = "application/vnd.example.sbom"
    put = ("artifact", "put", f"--artifact-type={kind}", f"--subject={remote}", "--file-media-type=text/plain")
    regctl.run("regctl", *put, stdin=b"a list of parts\n")
    listed = json.loads(regctl.run("regctl", "artifact", "list", "--format={{jsonPretty .}}", remote))
    assert [entry["artifactType"] for entry in listed["descriptors"]] == [kind]
    assert plain.tags(repository) == [TAG]
    assert regctl.run("regctl", "artifact", "get", f"--subject={remote}", "--filter-artifact-type", kind) == (
        "a list of parts\n"
    )


def test_a_large_layer_is_pushed_in_chunks(plain: Registry, regctl: Box, repository: str) -> None:
    made = image(repository)
    layout = write_layout(made, regctl.home / "in")
    size = 1 << 18
    regctl.run("regctl", "registry", "set", plain.host, f"--blob-chunk={size}", f"--blob-max={size}")
    copy = ("image", "copy", f"ocidir://{layout}:{TAG}", f"{plain.host}/{repository}:{TAG}")
    said = regctl.said("regctl", "--verbosity=trace", *copy)
    chunks = sum(math.ceil(blob.size / size) for blob in made.blobs if blob.size > size)
    assert said.count("req-method=PATCH") == said.count("Content-Range:[") == chunks
    assert plain.complete(repository, TAG).manifest == made.raw


def test_an_image_in_sha512_is_stored_and_read_back(plain: Registry, regctl: Box, repository: str) -> None:
    layout = write_layout(image(repository), regctl.home / "in")
    made = f"ocidir://{layout}:sha512"
    regctl.run("regctl", "image", "mod", f"ocidir://{layout}:{TAG}", "--digest-algo=sha512", f"--create={made}")
    remote = f"{plain.host}/{repository}:{TAG}"
    regctl.run("regctl", "image", "copy", made, remote)
    name = regctl.run("regctl", "image", "digest", made).strip()
    assert name.startswith("sha512:")
    manifest = json.loads(
        regctl.run("regctl", "manifest", "get", "--format=raw-body", f"{plain.host}/{repository}@{name}")
    )
    assert all(layer["digest"].startswith("sha512:") for layer in manifest["layers"])
    regctl.run("regctl", "image", "copy", f"{plain.host}/{repository}@{name}", f"ocidir://{regctl.home / 'out'}:{TAG}")
    for stored in (layout / "blobs" / "sha512").iterdir():
        assert (regctl.home / "out" / "blobs" / "sha512" / stored.name).read_bytes() == stored.read_bytes()


@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_push_whose_connections_break_is_finished(plain: Registry, box: Box, repository: str, times: int) -> None:
    """It repeats the request, and then goes on in chunks, all in one upload session."""
    made = image(repository)
    layout = write_layout(made, box.home / "in")
    with BreakingWay(plain.host, b"PUT ", LARGE // 3, times).open() as way:
        box.run("regctl", "registry", "set", way.host, "--tls=disabled", "--skip-check")
        box.run("regctl", "image", "copy", f"ocidir://{layout}:{TAG}", f"{way.host}/{repository}:{TAG}")
        assert way.broken == times
    assert plain.complete(repository, TAG).manifest == made.raw
