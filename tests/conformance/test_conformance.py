"""The conformance program of the OCI distribution specification finds nothing to fail and nothing to skip."""

from __future__ import annotations

import os
import subprocess
import xml.etree.ElementTree as ET
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from conformance.summary import JUDGE
from support.server import Trow
from tools.find import tool

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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


def over_http(tmp_path: Path) -> tuple[Trow, dict[str, str]]:
    return Trow.start(tmp_path, config=SPARSE), {"OCI_TLS": "disabled"}


def over_tls(tmp_path: Path) -> tuple[Trow, dict[str, str]]:
    trow = Trow.start(tmp_path, tls=True, config=SPARSE)
    return trow, {"OCI_TLS": "enabled", "SSL_CERT_FILE": str(trow.ca)}


def logging_in(tmp_path: Path, challenge: str) -> tuple[Trow, dict[str, str]]:
    """Without the cache of credentials every request is challenged first."""
    login = {"OCI_USERNAME": "alice", "OCI_PASSWORD": "correct horse"}
    user = (login["OCI_USERNAME"], login["OCI_PASSWORD"])
    trow = Trow.start(tmp_path, "--challenge", challenge, user=user, config=SPARSE)
    return trow, login | {"OCI_TLS": "disabled", "OCI_CACHE_AUTH": "false"}


def with_basic(tmp_path: Path) -> tuple[Trow, dict[str, str]]:
    return logging_in(tmp_path, "basic")


def with_bearer(tmp_path: Path) -> tuple[Trow, dict[str, str]]:
    return logging_in(tmp_path, "bearer")


@pytest.mark.parametrize("served", [over_http, over_tls, with_basic, with_bearer])
def test_nothing_fails_and_nothing_is_skipped(
    served: Callable[[Path], tuple[Trow, dict[str, str]]],
    tmp_path: Path,
    record_property: Callable[[str, object], None],
) -> None:
    trow, settings = served(tmp_path)
    with trow:
        verdict = judge(trow, tmp_path, settings)
    record_property(JUDGE, f"OCI conformance {served.__name__.replace('_', ' ')}: {verdict}")
    assert not verdict.other_than_passed, "\n".join(verdict.other_than_passed[:20])
    assert (verdict.failed, verdict.errors, verdict.skipped, verdict.disabled) == (0, 0, 0, 0)
    assert {name: group for name, group in verdict.groups.items() if group != "Pass"} == {}
    assert verdict.passed > FLOOR


def test_nothing_fails_and_nothing_is_skipped_with_the_settings_as_they_are(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    """All but images without some of their blobs."""
    with Trow.start(tmp_path) as trow:
        verdict = judge(trow, tmp_path, {"OCI_TLS": "disabled", "OCI_DATA_SPARSE": "false"})
    record_property(JUDGE, f"OCI conformance with the settings as they are: {verdict}")
    assert (verdict.failed, verdict.errors, verdict.skipped) == (0, 0, 0)
    assert {name: group for name, group in verdict.groups.items() if group != "Pass"} == {
        "Sparse Manifests": "Disabled"
    }
    assert verdict.passed > FLOOR
