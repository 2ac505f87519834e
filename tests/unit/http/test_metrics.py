from __future__ import annotations

import asyncio
import re
import threading

import pytest

from support.clock import Clock
from trow.http.metrics import Metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """Every line of the exposition, by name and labels; a line outside the format fails here."""
    lines = [line for line in metrics.text().decode().splitlines() if not line.startswith("#")]
    matches = [re.fullmatch(r'([a-z_]+(?:\{(?:[a-z_]+="[^"]*",?)*\})?) ([-+0-9.eEInfNa]+)', line) for line in lines]
    assert all(matches)
    return {match[1]: float(match[2]) for match in matches if match}


def test_requests_are_counted_by_route_method_and_status() -> None:
    metrics = Metrics()
    metrics.request("/v2/", "GET", 200, 0.003, 10, 100)
    metrics.request("/v2/", "GET", 200, 0.003, 10, 100)
    metrics.request("/v2/", "GET", 401, 0.2, 0, 7)
    found = samples(metrics)
    assert found['trow_http_requests_total{method="GET",route="/v2/",status="200"}'] == 2
    assert found['trow_http_requests_total{method="GET",route="/v2/",status="401"}'] == 1
    assert found["trow_http_received_bytes_total"] == 20
    assert found["trow_http_sent_bytes_total"] == 207


@pytest.mark.parametrize(
    ("seconds", "first"),
    [(0.0, "0.0005"), (0.0005, "0.0005"), (0.00051, "0.001"), (0.3, "0.5"), (60.0, "60.0"), (61.0, "+Inf")],
)
def test_duration_is_in_its_bucket_and_all_above(seconds: float, first: str) -> None:
    metrics = Metrics()
    metrics.request("/v2/", "GET", 200, seconds, 0, 0)
    name = "trow_http_request_duration_seconds"
    labels = 'method="GET",route="/v2/"'
    found = samples(metrics)
    buckets = {
        match[1]: value
        for key, value in found.items()
        if (match := re.fullmatch(rf'{name}_bucket\{{le="([^"]+)",{re.escape(labels)}\}}', key))
    }
    filled = [bound for bound, value in buckets.items() if value]
    assert filled[0] == first
    assert filled == list(buckets)[list(buckets).index(first) :]
    assert buckets["+Inf"] == found[f"{name}_count{{{labels}}}"] == 1
    assert found[f"{name}_sum{{{labels}}}"] == seconds


def test_database_time() -> None:
    metrics = Metrics()
    metrics.database("commit", 0.25)
    metrics.database("commit", 0.5)
    found = samples(metrics)
    assert found['trow_database_seconds_sum{operation="commit"}'] == 0.75
    assert found['trow_database_seconds_count{operation="commit"}'] == 2


def test_names_that_somebody_else_gives_are_no_series_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trow.http.metrics.MOST_DECISION_SERIES", 2)
    metrics = Metrics()
    for policy in ("one", "other", "third", "one", "fourth"):
        metrics.decided(policy, "default", "enforce", "deny")
    found = {key: value for key, value in samples(metrics).items() if key.startswith("trow_admission_decisions_total")}
    assert sorted(found.values()) == [1, 2, 2]
    (others,) = (value for key, value in found.items() if "(others)" in key)
    assert others == 2


def test_gauges_are_read_when_asked() -> None:
    value = 1.0
    metrics = Metrics()
    metrics.add_gauge("trow_things", "Things", lambda: value)
    assert samples(metrics)["trow_things"] == 1
    value = 2.0
    assert samples(metrics)["trow_things"] == 2


def test_what_only_grows_is_a_counter_also_where_it_is_counted_elsewhere() -> None:
    lost = 3
    metrics = Metrics()
    metrics.add_counter("trow_things_lost_total", "Things lost", lambda: lost)
    assert samples(metrics)["trow_things_lost_total"] == 3
    assert b"# TYPE trow_things_lost_total counter" in metrics.text()


def test_what_is_stored_is_known_once_it_was_counted() -> None:
    metrics = Metrics()
    assert (samples(metrics)["trow_blobs"], samples(metrics)["trow_blob_bytes"]) == (0, 0)
    for blobs, size in ((1, 10), (3, 500)):
        metrics.note_stored(blobs, size)
        found = samples(metrics)
        assert (found["trow_blobs"], found["trow_blob_bytes"]) == (blobs, size)


def test_process_and_collector_are_described() -> None:
    text = Metrics().text().decode()
    for name in ("process_resident_memory_bytes", "process_open_fds", "python_gc_collections_total", "python_info"):
        assert re.search(rf"^{name}\b", text, re.MULTILINE)


def test_two_servers_count_for_themselves() -> None:
    one, other = Metrics(), Metrics()
    one.request("/v2/", "GET", 200, 0, 5, 0)
    assert samples(one)["trow_http_received_bytes_total"] == 5
    assert samples(other)["trow_http_received_bytes_total"] == 0


async def test_numbers_are_worded_once_a_second_and_beside_the_event_loop() -> None:
    clock = Clock()
    metrics = Metrics(clock)
    asked: list[int] = []

    def ask() -> float:
        asked.append(threading.get_ident())
        return 1.0

    metrics.add_gauge("trow_asked", "Where it was asked", ask)
    first = await metrics.recent()
    metrics.request("/v2/", "GET", 200, 0.003, 10, 100)
    clock.now += 0.9
    assert set(await asyncio.gather(metrics.recent(), metrics.recent())) == {first}
    clock.now += 0.2
    assert b"trow_http_received_bytes_total 10" in await metrics.recent()
    assert asked == [threading.get_ident()] * 2, "what is looked up belongs to the event loop"
