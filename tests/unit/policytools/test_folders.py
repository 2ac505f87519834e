from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trow.policytools.documents import UnreadableFile
from trow.policytools.folders import files_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


def names(folder: Path, found: Iterable[str]) -> list[str]:
    return [each.removeprefix(f"{folder}/") for each in found]


def fill(folder: Path, **files: str) -> None:
    for name, content in files.items():
        path = folder / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".yaml").write_text(content)


def test_a_file_and_standard_input_are_themselves(tmp_path: Path) -> None:
    assert list(files_of("-")) == ["-"]
    assert list(files_of(str(tmp_path / "missing"))) == [str(tmp_path / "missing")]


def test_a_kustomization_that_only_lists_is_followed(tmp_path: Path) -> None:
    fill(tmp_path, kustomization="resources: [b.yaml, base]\n", a="", b="", base__c="", base__d="")
    fill(tmp_path / "base", kustomization="kind: Kustomization\nresources: [c.yaml]\n")
    assert names(tmp_path, files_of(str(tmp_path))) == ["b.yaml", "base/c.yaml"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (
            "resources: [a.yaml]\nimages: [{name: a, newTag: '1'}]\n",
            "images: changes the resources, which is not done here; run `kustomize",
        ),
        (
            "resources: [https://example.com/a.yaml]\n",
            "'https://example.com/a.yaml' is not a file here; run `kustomize",
        ),
        ("resources: [missing.yaml]\n", "'missing.yaml' is not a file here"),
        ("resources: [below]\n", "'below' has no kustomization"),
        ("resources: [.]\n", "'.' has no kustomization, or contains this one"),
        ("resources: a.yaml\n", "resources is not a list of files"),
        ("kind: Kustomization\n", "resources is not a list of files"),
        ("- a\n", "is not a kustomization"),
        ("", "is not a kustomization"),
    ],
)
def test_a_kustomization_that_does_more_is_refused(tmp_path: Path, content: str, message: str) -> None:
    fill(tmp_path, kustomization=content, a="", below__b="")
    with pytest.raises(UnreadableFile) as refused:
        list(files_of(str(tmp_path)))
    assert message in str(refused.value)
