"""Trow publishes the image by which nodes show that they can pull, where a setting asks for it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Final

import pytest

from factories import OCI_IMAGE, digest_of, image_of
from support.client import WireClient
from support.server import Trow
from support.waiting import until
from trow.oci.pull_check import pull_check_image

if TYPE_CHECKING:
    from pathlib import Path

REPOSITORY: Final = "trow/pull-check"
CONFIG: Final = {"registry": {"pull_check": REPOSITORY}}
OURS: Final = f"/api/v1/audit?repository={REPOSITORY}&action=push&user=system:trow"


@pytest.mark.slow
def test_it_is_there_from_the_start_and_recorded_once(tmp_path: Path) -> None:
    image = pull_check_image()
    for _ in range(2):
        with Trow.start(tmp_path, config=CONFIG) as trow, WireClient(trow.host) as client:
            assert client.get_manifest(REPOSITORY, "1").body == image.index
            for listed in json.loads(image.index)["manifests"]:
                manifest = json.loads(client.get_manifest(REPOSITORY, listed["digest"]).body)
                for blob in (manifest["config"], *manifest["layers"]):
                    assert client.get_blob(REPOSITORY, blob["digest"]).body in image.blobs
            (record,) = until(partial(pushes, client))
            assert record["digest"] == image.digest


def pushes(client: WireClient) -> list[dict[str, str]]:
    found: list[dict[str, str]] = json.loads(client.ask("GET", OURS).body)["records"]
    return found


@pytest.mark.slow
def test_a_tag_that_somebody_moved_is_put_back_at_the_next_start(tmp_path: Path) -> None:
    with Trow.start(tmp_path, config=CONFIG) as trow, WireClient(trow.host) as client:
        client.push_whole(REPOSITORY, b"{}")
        other = image_of(b"{}")
        assert client.put_manifest(REPOSITORY, "1", other).status == 201
    with Trow.start(tmp_path, config=CONFIG) as trow, WireClient(trow.host) as client:
        assert client.get_manifest(REPOSITORY, "1").body == pull_check_image().index
        assert client.get_manifest(REPOSITORY, digest_of(other)).headers["content-type"] == [OCI_IMAGE]


@pytest.mark.slow
def test_without_the_setting_there_is_none(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow, WireClient(trow.host) as client:
        assert client.get_manifest(REPOSITORY, "1").status == 404
