"""No test falls out of `make test`; `make test-fast` leaves out what it says and nothing else."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

import pytest

from support.fast import CASES
from support.makefile import recipe
from support.order import LONG, rank

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = ROOT / "tests"
SOME: Final = TESTS / "unit" / "policy" / "test_vap.py"
SELECTS: Final = {"--fast", "-m", "-k", "--deselect", "--ignore", "--ignore-glob", "--lf", "--sw"}
FAST: Final = {"tests/unit", "tests/contract", "tests/http", "tests/arch"}


def arguments(target: str) -> list[str]:
    """Of the pytest that a target of the Makefile starts."""
    [command] = [line for line in recipe(target) if "/pytest " in line]
    words = shlex.split(command)
    return words[words.index(".venv/bin/pytest") + 1 :]


def paths(given: list[str]) -> set[str]:
    return {each for each in given if each.split("/")[0] == "tests"}


def test_make_test_runs_every_test() -> None:
    given = arguments("test")
    assert paths(given) == {"tests"}
    assert not SELECTS & {each.split("=")[0] for each in given}


def test_a_run_ends_with_short_files() -> None:
    given = arguments("test")
    assert given[given.index("--dist") + 1] == "loadfile"
    assert "--no-loadscope-reorder" in given
    assert {folder for folder in LONG if not (TESTS / folder).is_dir()} == set()
    files = sorted(sorted(TESTS.rglob("test_*.py")), key=rank)
    assert (files[0].parent.name, files[-1].relative_to(TESTS).parts[0]) == ("cluster", "unit")


def test_a_fast_run_goes_through_the_folders_that_need_python_only() -> None:
    given = arguments("test-fast")
    assert paths(given) == FAST
    assert SELECTS & set(given) == {"--fast"}


@pytest.mark.slow
def test_a_fast_run_leaves_out_what_is_slow_and_most_of_many_cases() -> None:
    slow = set(re.findall(r"@pytest.mark.slow\n(?:@.*\n)*(?:async )?def (\w+)", SOME.read_text(encoding="utf-8")))
    whole, fast = cases_of(SOME), cases_of(SOME, "--fast")
    assert slow <= whole.keys()
    assert fast == Counter({name: min(count, CASES) for name, count in whole.items() if name not in slow})
    assert max(whole.values()) > CASES


def cases_of(path: Path, *options: str) -> Counter[str]:
    """How many cases each test of a file has."""
    command = [sys.executable, "-m", "pytest", "-q", "--collect-only", "-p", "no:cacheprovider", *options, str(path)]
    run = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return Counter(re.findall(r"::(test_\w+)", run.stdout))


def test_pytest_itself_selects_nothing() -> None:
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["pytest"]["ini_options"]
    assert not SELECTS & {each.split("=")[0] for each in options["addopts"]}
    assert options["testpaths"] == ["tests"]
    assert not {"python_files", "python_functions", "python_classes", "norecursedirs"} & options.keys()


def test_tests_are_where_pytest_looks() -> None:
    texts = {path: path.read_text(encoding="utf-8") for path in TESTS.rglob("*.py") if path != Path(__file__)}
    assert not [path for path, text in texts.items() if "collect_ignore" in text]
    elsewhere = [text for path, text in texts.items() if not path.name.startswith("test_")]
    assert not [text for text in elsewhere if re.search(r"^(async )?def test_", text, re.MULTILINE)]


def test_what_tests_share_is_in_support_and_not_in_a_conftest_or_a_test() -> None:
    shared = re.compile(r"^\s*(?:from|import) (?:[\w.]*\bconftest\b|[\w.]*\btest_\w+)", re.MULTILINE)
    assert [path for path in TESTS.rglob("*.py") if shared.search(path.read_text(encoding="utf-8"))] == []
