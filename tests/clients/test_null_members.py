"""Images and indexes as clients in Go write them: ``null`` where a list is empty, or the member left out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import pytest

from clients.image import TAG
from factories import OCI_CONFIG, OCI_IMAGE, OCI_INDEX, Blob, Manifest

if TYPE_CHECKING:
    from collections.abc import Callable

    from clients.box import Box
    from clients.registry import Registry

    Copy = Callable[[Box, Registry, str, str], None]


def encode(document: object) -> bytes:
    """JSON with the members that are null."""
    return json.dumps(document).encode()


CONFIG: Final = Blob(
    encode({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": []}}), OCI_CONFIG
)
# What `FROM scratch` and a LABEL become, and what filters that keep nothing leave.
LAYERS: Final[list[dict[str, Any]]] = [{"layers": None}, {}, {"layers": None, "annotations": None, "subject": None}]


def bare(members: dict[str, Any]) -> Manifest:
    config = {"config": CONFIG.descriptor}
    return Manifest(encode({"schemaVersion": 2, "mediaType": OCI_IMAGE} | config | members), OCI_IMAGE, (CONFIG,))


def by_crane(box: Box, plain: Registry, source: str, target: str) -> None:
    del plain
    box.run("crane", "copy", source, target)


def by_oras(box: Box, plain: Registry, source: str, target: str) -> None:
    del plain
    box.run("oras", "copy", "--from-plain-http", "--to-plain-http", source, target)


def by_regctl(box: Box, plain: Registry, source: str, target: str) -> None:
    box.run("regctl", "registry", "set", "--tls=disabled", plain.host)
    box.run("regctl", "image", "copy", source, target)


def by_skopeo(box: Box, plain: Registry, source: str, target: str) -> None:
    del plain
    flags = "--preserve-digests", "--src-tls-verify=false", "--dest-tls-verify=false"
    box.run("skopeo", "copy", *flags, f"docker://{source}", f"docker://{target}")


def test_crane_filters_an_index_to_nothing(plain: Registry, box: Box, repository: str) -> None:
    child = bare({"layers": []})
    listed = child.descriptor | {"platform": {"architecture": "amd64", "os": "linux"}}
    index = encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [listed]})
    plain.push(repository, Manifest(index, OCI_INDEX, children=(child,)), TAG)
    source, target = f"{plain.host}/{repository}:{TAG}", f"{plain.host}/{repository}:empty"
    box.run("crane", "index", "filter", source, "--platform=linux/s390x", f"--tag={target}")
    assert not plain.manifest(repository, "empty").document["manifests"]


@pytest.mark.parametrize("members", LAYERS)
@pytest.mark.parametrize("copy", [by_crane, by_oras, by_regctl, by_skopeo])
def test_an_image_without_layers_is_copied(
    copy: Copy, plain: Registry, box: Box, repository: str, members: dict[str, Any]
) -> None:
    made = bare(members)
    plain.push(f"{repository}/from", made, TAG)
    copy(box, plain, f"{plain.host}/{repository}/from:{TAG}", f"{plain.host}/{repository}/to:{TAG}")
    assert plain.manifest(f"{repository}/to", TAG).manifest == made.raw
