"""The conformance program of the OCI distribution specification finds nothing to fail and nothing to skip."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from conformance.summary import JUDGE
from support.conformance import FLOOR, SPARSE, judge
from support.server import Trow

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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
