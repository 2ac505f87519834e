from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from clients.box import Box
    from clients.registry import Registry

CHART = "apiVersion: v2\nname: garden\nversion: 0.1.0\ndescription: a chart of one ConfigMap\n"
TEMPLATE = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: garden}\ndata: {tree: apple}\n"


@pytest.fixture
def chart(box: Box) -> Path:
    """A packaged chart."""
    (box.home / "garden" / "templates").mkdir(parents=True)
    (box.home / "garden" / "Chart.yaml").write_text(CHART, encoding="utf-8")
    (box.home / "garden" / "templates" / "map.yaml").write_text(TEMPLATE, encoding="utf-8")
    box.run("helm", "package", "garden")
    return box.home / "garden-0.1.0.tgz"


def test_a_chart_is_pushed_and_pulled(plain: Registry, box: Box, repository: str, chart: Path) -> None:
    remote = f"oci://{plain.host}/{repository}"
    said = box.said("helm", "push", "--plain-http", chart, remote)
    stored = plain.complete(f"{repository}/garden", "0.1.0")
    assert stored.digest in re.findall(r"sha256:[0-9a-f]{64}", said)
    (box.home / "out").mkdir()
    pull = ("pull", "--plain-http", "--version=0.1.0", f"--destination={box.home / 'out'}", f"{remote}/garden")
    box.run("helm", *pull)
    assert (box.home / "out" / chart.name).read_bytes() == chart.read_bytes()
    shown = box.run("helm", "template", "--plain-http", "--version=0.1.0", "mine", f"{remote}/garden")
    assert "tree: apple" in shown


def test_tls_is_trusted_with_the_authority_only(secure: Registry, box: Box, repository: str, chart: Path) -> None:
    remote = f"oci://{secure.host}/{repository}"
    assert "certificate" in box.refused("helm", "push", chart, remote)
    box.run("helm", "push", f"--ca-file={secure.trow.ca}", chart, remote)
    secure.complete(f"{repository}/garden", "0.1.0")
