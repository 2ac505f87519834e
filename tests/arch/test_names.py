"""Public names of the product."""

from __future__ import annotations

import ast
from collections import Counter
from typing import Final

from support.pages import ROOT

PRODUCT: Final = ROOT / "src" / "trow"


def test_a_public_class_means_one_thing() -> None:
    named: Counter[str] = Counter()
    for path in PRODUCT.rglob("*.py"):
        module = ast.parse(path.read_text("utf-8"))
        named.update(node.name for node in module.body if isinstance(node, ast.ClassDef) and node.name[0] != "_")
    assert {name for name, times in named.items() if times > 1} == set()
