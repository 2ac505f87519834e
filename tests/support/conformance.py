"""The conformance program of the OCI distribution specification, and what it finds."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import yaml

from tools.find import tool

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Trow

# The specification to come with everything that is optional in it; sparse content is off unless asked for.
STRICTEST: Final = {"OCI_VERSION": "dev", "OCI_DATA_SPARSE": "true"}
# Images without some of their blobs are refused unless the operator says otherwise (docs/decisions/0019).
SPARSE: Final = {"registry": {"sparse_images": True}}
FLOOR: Final = 950  # a program that tested nothing found nothing wrong


@dataclass(frozen=True)
class Verdict:
    """What the program wrote down; its exit code is 0 also where all was skipped."""

    passed: int
    failed: int
    errors: int
    skipped: int
    disabled: int
    other_than_passed: tuple[str, ...]
    groups: dict[str, str]

    @classmethod
    def read(cls, results: Path) -> Verdict:
        suite = ET.parse(results / "junit.xml").getroot()
        tests, failed, errors, skipped, disabled = (
            int(suite.get(name, "0")) for name in ("tests", "failures", "errors", "skipped", "disabled")
        )
        groups = yaml.safe_load((results / "results.yaml").read_text(encoding="utf-8"))
        return cls(
            passed=tests - failed - errors - skipped - disabled,
            failed=failed,
            errors=errors,
            skipped=skipped,
            disabled=disabled,
            other_than_passed=tuple(
                f"{case.get('status')}: {case.get('name')}: {case.findtext('system-out', '').strip()}"
                for case in suite.iter("testcase")
                if case.get("status") != "passed"
            ),
            groups=groups["apis"] | groups["data"],
        )

    def __str__(self) -> str:
        return (
            f"{self.passed} Pass, {self.failed} Fail, {self.errors} Error, "
            f"{self.skipped} Skip, {self.disabled} Disabled"
        )


def judge(trow: Trow, tmp_path: Path, settings: dict[str, str]) -> Verdict:
    """Run the program against the server and read its results."""
    results = tmp_path / "results"
    environment = {"PATH": os.environ["PATH"], "OCI_REGISTRY": trow.host, "OCI_RESULTS_DIR": str(results)}
    done = subprocess.run(
        [tool("conformance")],
        env=environment | STRICTEST | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
    )
    assert (results / "junit.xml").exists(), f"no results: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return Verdict.read(results)
