"""Manifests as `trow policy test` reads them are what kubectl would send, or they are refused."""

from __future__ import annotations

import json
import subprocess
from random import Random
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.odd_yaml import Odd
from tools.find import tool
from trow.policytools.documents import UnreadableFile, objects, read

if TYPE_CHECKING:
    from pathlib import Path

HEAD: Final = "apiVersion: example.com/v1\nkind: Odd\nmetadata: {name: x}\n"
JSON: Final = '{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}'
POD: Final = "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec:\n"


def sent(file: Path) -> list[Any] | None:
    """What kubectl makes of a file; None if it refuses it."""
    argv = [str(tool("kubectl")), "annotate", "--local", "-f", str(file), "read=yes", "--output", "json"]
    done = subprocess.run(argv, capture_output=True, check=False, text=True)
    if done.returncode:
        return None
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(done.stdout.rstrip()):
        item, at = decoder.raw_decode(done.stdout, at)
        at += 1
        found.append(item)
    return [_without_annotation(item) for item in found]


def _without_annotation(item: Any) -> Any:
    annotations = item["metadata"].pop("annotations")
    kept = {key: value for key, value in annotations.items() if key != "read"}
    item["metadata"] |= {"annotations": kept} if kept else {}
    return item


def ours(file: Path) -> list[object] | None:
    try:
        return [document.value for document in objects(read(str(file)))]
    except UnreadableFile:
        return None


def save(folder: Path, stream: str) -> Path:
    file = folder / "manifest.yaml"
    file.write_bytes(stream.encode())
    return file


STREAMS: Final = (
    f"{POD}  containers:\n  - image: a\n    <<: {{image: b}}\n",
    f"{POD}  containers:\n  - <<: {{image: b}}\n    image: a\n",
    f"{POD}  containers:\n  - <<: [{{image: b}}, {{image: a}}]\n",
    f"{POD}  containers:\n  - <<: {{image: b}}\n    <<: {{image: a}}\n",
    f"{POD}  containers:\n  - &c {{image: b}}\n  - {{<<: *c, name: y}}\n",
    f"{POD}  containers:\n  - {{image: a, image: b}}\n",
    f"{HEAD}---\n{POD}",
    f"{HEAD}--- # remark\n{POD}",
    f"{HEAD}--- {{a: b}}\n{POD}",
    f"{HEAD}---x\n{POD}",
    f"{HEAD}...\n{POD}",
    f"{HEAD}...\n---\n{POD}",
    f"---\n---\n# remark\n---\n{HEAD}",
    f"%YAML 1.1\n---\n{HEAD}",
    f"\ufeff{HEAD}",
    f"{HEAD}---\n\ufeff{POD}",
    f"{HEAD}\ufeff---\n{POD}",
    f"{HEAD}\ufeff{POD}",
    f"\ufeff---\n{HEAD}",
    f"{HEAD}---\n{POD}".replace("\n", "\r\n"),
    f"{HEAD}---\n{POD}".replace("\n", "\r"),
    f"{HEAD}text: |\n  ---\n  a\n",
    f"{HEAD}text: |+\n  a\n\n---\n{POD}",
    f"{HEAD}text: 'a\n---\nb'\n",
    f"{HEAD}text: >\n  a",
    f"{JSON}\n{JSON.replace('Pod', 'Odd')}",
    f"{JSON}\n---\n{POD}",
    "{apiVersion: v1, kind: Pod, metadata: {name: x}}\n",
    '{"apiVersion": "v1", "kind": "Pod", "kind": "Odd", "metadata": {"name": "x"}}',
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nitems: [{apiVersion: v1, kind: Pod, metadata: {name: y}}]\n",
    "apiVersion: v1\nkind: PodList\nitems: [{metadata: {name: y}}]\n",
    "apiVersion: v1\nkind: List\nitems: [{metadata: {name: y}}]\n",
    f"apiVersion: v1\nkind: List\nitems: [{{apiVersion: v1, kind: List, items: [{JSON}]}}]\n",
    "apiVersion: v1\nkind: PodList\nmetadata: {name: x}\nitems: null\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nitems: {}\n",
    "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nitems: null\n",
)


@pytest.mark.parametrize("stream", STREAMS)
def test_a_stream_is_read_as_kubectl_reads_it_or_refused(tmp_path: Path, stream: str) -> None:
    file = save(tmp_path, stream)
    found, wanted = ours(file), sent(file)
    # What kubectl refuses reaches no cluster, whatever is said of it here.
    assert found is None or wanted is None or found == wanted


def test_odd_documents_are_read_as_kubectl_reads_them(tmp_path: Path) -> None:
    random = Random(20_260_101)
    odd = [f"{HEAD}odd:\n{Odd(random).mapping('  ')}" for _ in range(4000)]
    readable = [each for each in odd if ours(save(tmp_path, each)) is not None]
    assert len(readable) > len(odd) / 10
    file = save(tmp_path, "---\n".join(readable))
    assert ours(file) == sent(file)
