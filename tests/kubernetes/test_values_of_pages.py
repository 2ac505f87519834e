"""Values of the chart that pages show: both Helms make objects of them, in the clusters that have such kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest
import yaml

from support.helm import Helm
from support.pages import PAGES, Block, blocks, name

if TYPE_CHECKING:
    from pathlib import Path

SHOWN: Final = [block for page in PAGES for block in blocks(page) if block.file.endswith("values.yaml")]


def test_pages_show_values() -> None:
    assert len(SHOWN) > 3


@pytest.mark.parametrize("helm", ["helm", "helm3"])
@pytest.mark.parametrize("block", SHOWN, ids=lambda block: f"{name(block.page)} {block.file}")
def test_values_in_a_page_are_taken_by_the_chart(helm: str, block: Block, tmp_path: Path) -> None:
    values = yaml.safe_load(block.code)
    kinds = {document["kind"] for document in Helm(helm, tmp_path).rendered(values)}
    assert "StatefulSet" in kinds
    for part, kind in (("ingress", "Ingress"), ("httpRoute", "HTTPRoute")):
        assert (kind in kinds) == bool(values.get(part, {}).get("enabled"))
