from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from trow.policytools import documents
from trow.policytools.documents import STDIN, Location, UnreadableFile, objects, read

if TYPE_CHECKING:
    from pathlib import Path


def values(path: Path, content: bytes | str) -> list[tuple[int, object]]:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return [(document.location.document, document.value) for document in read(str(path))]


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("", []),
        ("# nothing\n---\n---\n", []),
        ("# Source: chart\n---\n# empty\n---\na: 1\n---\n\n---\nb: 2\n", [(2, {"a": 1}), (4, {"b": 2})]),
        ('{"a": 1}\n{"b": [2]}\n', [(1, {"a": 1}), (2, {"b": [2]})]),
        ("[1, 2]", [(1, [1, 2])]),
        ("{a: b}", [(1, {"a": "b"})]),
        ("{a: b}\n---\n{c: d}", [(1, {"a": "b"}), (2, {"c": "d"})]),
        ("\ufeffa: 1", [(1, {"a": 1})]),
        ("a: 1\n---\n\ufeffb: 2\n", [(1, {"a": 1}), (2, {"b": 2})]),
        ("a: 1\r\n---\r\nb: |\r\n  c\r\n", [(1, {"a": 1}), (2, {"b": "c\n"})]),
        ("at: 2026-01-31T08:00:00Z\nsign: =\n", [(1, {"at": "2026-01-31T08:00:00Z", "sign": "="})]),
        ("a: &x {b: 1}\nc: *x\nd: {<<: *x, e: 2}\n", [(1, {"a": {"b": 1}, "c": {"b": 1}, "d": {"b": 1, "e": 2}})]),
    ],
)
def test_documents(tmp_path: Path, content: str, found: list[tuple[int, object]]) -> None:
    assert values(tmp_path / "file", content) == found


BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 10)
)
CHAIN = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 300))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a: 1\nb: 2\na: 3\n", "document 1: line 3: key 'a' is written twice"),
        ("x: {a: 1, 'a': 2}", "document 1: line 1: key 'a' is written twice"),
        ('{"a": {"b": 1, "b": 2}}', "document 1: key 'b' is written twice"),
        ("a: 1\n---\nb: !!python/object:os.system x\n", "document 2: line 3: the tag !!python/object:os.system"),
        ("a: !!binary aGk=", "the tag !!binary has no meaning here"),
        ("a: !mine x", "the tag !mine has no meaning here"),
        ("&a [*a]", "a value contains itself"),
        ("? [a]\n: b", "line 1: a key is not a text"),
        (BOMB, "more than 1000000 values"),
        (CHAIN, "or 200 levels"),
        ("[" * 100_000, "is nested deeper than 200 levels"),
        ('{"a":' * 100_000, "is nested deeper than 200 levels"),
        ("{a: " * 300, "is nested deeper than 200 levels"),
        ("a: b\n c: d", "line 2: "),
        ("a: [", ": line "),
        ("a: \x1b[31m", "unacceptable character"),
        ('{"a": NaN}', "NaN is not JSON"),
        ('{"a": "\\ud800"}', "is not UTF-8 text"),
        (b"\xff\xfe", "is not UTF-8 text"),
        (b"a: \xc3", "is not UTF-8 text"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(UnreadableFile) as refused:
        values(tmp_path / "file.yaml", content)
    assert str(refused.value).startswith(str(tmp_path / "file.yaml"))
    assert message in str(refused.value)


def test_files_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UnreadableFile, match="No such file"):
        read(str(tmp_path / "missing"))
    with pytest.raises(UnreadableFile, match="Is a directory"):
        read(str(tmp_path))
    monkeypatch.setattr(documents, "LARGEST", 2**20)
    with pytest.raises(UnreadableFile, match="is larger than 1 MiB"):
        values(tmp_path / "file", "#" * (2**20 + 1))
    assert values(tmp_path / "file", "#" * 2**20) == []


def test_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a: 1")))
    assert [(str(document.location), document.value) for document in read(STDIN)] == [
        ("standard input, document 1", {"a": 1})
    ]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a: [")))
    with pytest.raises(UnreadableFile, match=r"^standard input, document 1: line \d: "):
        read(STDIN)


def test_lists_of_objects_are_taken_apart(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("""
kind: Service
---
apiVersion: v1
kind: List
items:
- kind: Pod
- kind: List
  items: [{kind: Job}]
- 7
---
apiVersion: apps/v1
kind: DeploymentList
items: [{metadata: {name: a}}]
---
kind: List
---
apiVersion: v1
kind: ConfigMap
items: [{apiVersion: v1, kind: Pod}, {metadata: {name: b}}]
---
kind: PodList
items: null
""")
    found = [(document.location.short.removeprefix(str(file)), document.value) for document in objects(read(str(file)))]
    assert found == [
        ("#1", {"kind": "Service"}),
        ("#2[0]", {"kind": "Pod"}),
        ("#2[1]", {"kind": "Job"}),
        ("#2[2]", 7),
        ("#3[0]", {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "a"}}),
        ("#4", {"kind": "List"}),
        ("#5[0]", {"apiVersion": "v1", "kind": "Pod"}),
        ("#5[1]", {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}}),
    ]


@pytest.mark.parametrize("items", ["{}", "null", "text"])
def test_items_that_are_no_list_are_refused(tmp_path: Path, items: str) -> None:
    file = tmp_path / "file"
    file.write_text(f"kind: Pod\nitems: {items}\n")
    with pytest.raises(UnreadableFile, match="document 1: items is not a list"):
        list(objects(read(str(file))))


def test_places_in_words() -> None:
    assert [str(Location("a.yaml")), str(Location("a.yaml", 2)), str(Location("-", 2, 0))] == [
        "a.yaml",
        "a.yaml, document 2",
        "standard input, document 2, items[0]",
    ]
