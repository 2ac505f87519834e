"""What the doctor finds out of a Trow that runs: readiness, space and the record."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Final

import pytest

from support.doctor import examined, fine, problem, serving, unchecked
from support.server import Trow
from support.waiting import until
from trow.doctor.server import Said, Space, judge_ready, judge_space

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.slow

UNITS: Final = {"MiB": 2**20, "GiB": 2**30}


@pytest.fixture(scope="module")
def trow(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    with Trow.start(tmp_path_factory.mktemp("trow"), user=("admin", "secret")) as running:
        yield running


def test_all_is_well(trow: Trow) -> None:
    found = examined("connection", "api", "clock", "ready", url=trow.url)
    for check in ("connection", "api", "clock"):
        fine(found, check)
    assert fine(found, "ready").what == "is ready"
    assert fine(found, "api").what == f"is a registry (401), tokens are at {trow.url}/token"
    # The first record is written a moment after the start.
    assert until(lambda: "the last record is of 20" in fine(examined("audit", url=trow.url), "audit").what)


def test_space_is_that_of_the_volume(trow: Trow) -> None:
    """Of which others take some meanwhile, and which may be nearly full where this runs."""
    disk = shutil.disk_usage(trow.folder)
    (found,) = examined("space", url=trow.url)
    told = re.match(r"has (?:only )?(\d+) (MiB|GiB) of (\d+) (MiB|GiB) left", found.what)
    assert told is not None, found
    assert int(told[1]) * UNITS[told[2]] == pytest.approx(disk.free, rel=0.2)


def test_a_public_url_that_leads_nowhere(tmp_path: Path) -> None:
    with Trow.start(tmp_path, "--public-url", "http://127.0.0.1:1", user=("admin", "secret")) as trow:
        found = problem(examined("api", url=trow.url), "api")
    assert "http://127.0.0.1:1/token for a token, which cannot be reached" in found.what


def test_nobody_tells() -> None:
    assert unchecked(examined("ready", url="http://127.0.0.1:1"), "ready")


def test_both_are_told() -> None:
    assert len([*judge_space(Space("volume", 100, 1, 100, 1))]) == 2


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"lost_total": 3}, "3 events since its start could not be put on record; the last record is of 1970-01-01"),
        ({"unsent": 7, "webhook_failures_total": 2}, "7 records wait for audit.webhook, which has failed 2 times"),
    ],
)
def test_what_is_not_on_record(metrics: dict[str, int], said: str) -> None:
    told = {"recorded_total": 9, "last_record_timestamp_seconds": 60, **metrics}
    body = "".join(f"trow_audit_{name} {float(value)}\n" for name, value in told.items())
    with serving(body=body.encode()) as address:
        assert problem(examined("audit", url=f"http://{address}"), "audit").what.startswith(said)


def test_no_record_is_kept(tmp_path: Path) -> None:
    with Trow.start(tmp_path, "--no-audit") as trow:
        assert "keeps no record" in unchecked(examined("audit", url=trow.url), "audit")


def test_a_data_directory_that_was_moved_away(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow:
        (tmp_path / "data").rename(tmp_path / "moved")
        found = until(lambda: [each for each in examined("ready", url=trow.url) if each.fix])
        (tmp_path / "moved").rename(tmp_path / "data")
    assert all(each.what.startswith("is not ready: ") for each in found)


def test_policies_that_cannot_be_followed() -> None:
    with serving(body=b"trow_policies_failing 1.0\n") as address:
        found = problem(examined("ready", url=f"http://{address}"), "ready")
    assert "those that it knew last are in force" in found.what


@pytest.mark.parametrize(
    ("metrics", "said"),
    [
        ({"trow_policies_failing": 1}, "cannot follow the cluster's policies"),
        ({"trow_webhooks_kept": 0}, "is not asked by the API server"),
        ({"trow_webhook_certificate_expiry_timestamp_seconds": 0}, "has no certificate for the webhooks"),
        ({"trow_webhook_certificate_expiry_timestamp_seconds": 99}, "its webhooks' certificate ended 1970-01-01"),
    ],
)
def test_what_metrics_tell(metrics: dict[str, float], said: str) -> None:
    [found] = judge_ready(Said("trow", {}, metrics), 100)
    assert found.what.startswith(said)
