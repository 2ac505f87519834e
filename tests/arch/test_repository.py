"""The repository stands alone, and the files around the code call what the Makefile calls."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from support.makefile import recipe

ROOT: Final = Path(__file__).parents[2]
# What git knows, and what it would take.
_LISTED: Final = subprocess.run(
    ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
    cwd=ROOT, check=True, capture_output=True, text=True,
).stdout  # fmt: skip
_ARCHIVES: Final = {".xz"}
# All that people read.
FILES: Final = [
    path
    for listed in sorted(set(_LISTED.split("\0")))
    if (path := ROOT / listed).is_file() and path.suffix not in _ARCHIVES
]
# A path that leads upwards and ends in the name of a file.
UPWARDS: Final = re.compile(r"(?<![\w/])(?:\.\./)+[\w./-]*\w\.(?:md|py|sql|toml|yaml|yml)\b")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def document(path: str) -> Any:
    return yaml.safe_load((ROOT / path).read_text("utf-8"))


def commands(target: str) -> list[str]:
    """What a target of the Makefile runs, beside making the environment."""
    return [line for line in recipe(target) if line.startswith(".venv/bin/") and "/pip " not in line]


def test_files_are_found() -> None:
    assert {"Makefile", ".ci/run", ".editorconfig", "src/trow/py.typed", "docs/README.md"} <= set(map(name, FILES))


@pytest.mark.slow
def test_every_file_is_as_the_editors_are_told() -> None:
    for file in FILES:
        text = file.read_bytes().decode("utf-8")
        assert "\r" not in text, file
        assert not text or text.endswith("\n"), file
        assert not re.search(r"[ \t]+$", text, re.MULTILINE), file


def test_nothing_refers_to_a_file_outside_of_the_repository() -> None:
    for file in FILES:
        for found in UPWARDS.findall(file.read_bytes().decode("utf-8")):
            places = [(folder / found).resolve() for folder in (file.parent, ROOT / "docs" / "reference")]
            assert any(place.is_relative_to(ROOT) and place.exists() for place in places), f"{file}: {found}"


def test_hooks_are_the_commands_of_make_lint() -> None:
    [local] = document(".pre-commit-config.yaml")["repos"]
    assert [hook["entry"] for hook in local["hooks"]] == commands("lint")


def test_the_workflow_runs_what_has_to_pass_for_each_push() -> None:
    workflow = document(".github/workflows/ci.yml")
    assert "push" in workflow[True]  # YAML 1.1 reads the word `on` so
    assert workflow["permissions"] == {"contents": "read"}
    [job] = workflow["jobs"].values()
    assert job["steps"][-1] == {"run": ".ci/run"}


def test_actions_are_pinned_by_their_digests() -> None:
    text = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
    uses = re.findall(r"uses: (.*)", text)
    assert uses
    assert [each for each in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", each)] == []


def test_updates_are_looked_for_in_files_that_are_there() -> None:
    settings = json.loads((ROOT / ".github" / "renovate.json").read_text("utf-8"))
    patterns = settings["pip_requirements"]["managerFilePatterns"]
    assert [file.name for file in FILES for each in patterns if re.search(each.strip("/"), name(file))] == [
        "requirements.lock"
    ]
    for rule in settings["packageRules"]:
        assert set(rule["matchManagers"]) <= set(settings["enabledManagers"])
