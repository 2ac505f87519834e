"""Every check of the doctor is tried: with the problem that it looks for really made, and where all is well."""

from __future__ import annotations

import re
from typing import Final

import pytest

from support.pages import ROOT, prose
from trow.controllers.pull_errors import CAUSES, cause_of
from trow.doctor.checks import CHECKS
from trow.doctor.place import Setup
from trow.doctor.webhooks import judge_probe

TESTS: Final = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_doctor_*.py")) + (
    ROOT / "tests" / "kubernetes" / "test_doctor.py"
).read_text("utf-8")
NAMES: Final = [check.name for check in CHECKS]


@pytest.mark.parametrize("helper", ["problem", "fine"])
def test_no_check_is_without_a_test(helper: str) -> None:
    tried = set(re.findall(rf'\b{helper}\(.*?, "([\w-]+)"\)', TESTS))
    assert set(NAMES) - tried == set()


def test_names_are_told_apart() -> None:
    assert len(set(NAMES)) == len(NAMES)


def test_every_check_is_in_the_guide() -> None:
    page = prose(ROOT / "docs" / "how-to" / "troubleshoot.md")
    rows = dict(re.findall(r"^\| `([\w-]+)` \| (.*?) \|$", page.partition("## What it checks")[2], re.MULTILINE))
    assert rows == {check.name: check.about for check in CHECKS}


def rows_below(title: str) -> list[str]:
    page = prose(ROOT / "docs" / "how-to" / "troubleshoot.md")
    return re.findall(r"^\| `(.*?)` \|", page.partition(f"## {title}\n")[2].partition("\n## ")[0], re.MULTILINE)


def test_every_message_of_the_guide_is_known_and_every_cause_is_in_the_guide() -> None:
    assert [cause_of(message) for message in rows_below("A Pod does not get its image")] == [*CAUSES]


def test_every_answer_of_the_api_server_in_the_guide_is_known() -> None:
    setup = Setup(webhooks="trow", service="trow/trow-webhooks")
    for message in rows_below("No Pod can be created"):
        [found] = judge_probe(f'failed calling webhook "reach.trow.io": {message}', setup)
        assert not found.what.startswith("cannot be called")
