"""Numbers for Prometheus.

The one thread that serves counts in plain numbers. At a scrape, the client library writes the text in another thread,
from copies of the tables
(https://prometheus.github.io/client_python/collector/custom/).
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

from prometheus_client import CollectorRegistry, GCCollector, PlatformCollector, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from prometheus_client.core import Metric

CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
# A user who may write policies in a namespace can give them new names without end.
MOST_DECISION_SERIES: Final = 10_000
_FRESH_SECONDS: Final = 1.0
OTHERS: Final = "(others)"


class _Histogram:
    """Counts of durations by bucket, and their sum."""

    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * (len(_SECONDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts, as the format wants them."""
        running, result = 0, []
        for bound, count in zip([*map(str, _SECONDS), "+Inf"], self.counts, strict=True):
            running += count
            result.append((bound, float(running)))
        return result


class _ExternalNumber(NamedTuple):
    """A number that is kept elsewhere, and read at a scrape."""

    family: type[GaugeMetricFamily | CounterMetricFamily]
    description: str
    value: Callable[[], float]


class Metrics(Collector):
    """All numbers of one server."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._values: dict[str, float] = {}
        self._rendering: asyncio.Task[bytes] | None = None
        self._rendered_at = 0.0
        self._stored = (0, 0)
        self._external: dict[str, _ExternalNumber] = {}
        self.add_gauge("trow_blobs", "Blobs stored, as of the last minute", lambda: self._stored[0])
        self.add_gauge("trow_blob_bytes", "Bytes of all blobs stored, as of the last minute", lambda: self._stored[1])
        self._requests: dict[tuple[str | int, ...], int] = {}
        self._durations: dict[tuple[str, ...], _Histogram] = {}
        self._database: dict[tuple[str, ...], _Histogram] = {}
        self._kubernetes: dict[tuple[str, ...], _Histogram] = {}
        self._bucket: dict[tuple[str, ...], _Histogram] = {}
        self._reviews: dict[tuple[str, ...], _Histogram] = {}
        self._decisions: dict[tuple[str | int, ...], int] = {}
        self._wrong_sizes = 0
        self._ended: Mapping[str, int] = {}
        self._received = 0
        self._sent = 0
        self.answered = 0
        self._registry = CollectorRegistry()
        self._registry.register(self)
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._registry)

    def request(self, route: str, method: str, status: int, seconds: float, received: int, sent: int) -> None:
        """Count an answered request; ``seconds`` until the answer began."""
        self.answered += 1
        key = (route, method, status)
        self._requests[key] = self._requests.get(key, 0) + 1
        histogram = self._durations.get(key[:2])
        if histogram is None:
            histogram = self._durations[key[:2]] = _Histogram()
        histogram.add(seconds)
        self._received += received
        self._sent += sent

    def database(self, operation: str, seconds: float) -> None:
        """Count time spent in the database."""
        self._database.setdefault((operation,), _Histogram()).add(seconds)

    def kubernetes(self, operation: str, seconds: float) -> None:
        """Count a question to the API server."""
        self._kubernetes.setdefault((operation,), _Histogram()).add(seconds)

    def bucket(self, operation: str, seconds: float, failed: bool) -> None:  # noqa: FBT001 - a word of the call
        """Count a call to the bucket of blobs, its repetitions included."""
        self._bucket.setdefault((operation, "failed" if failed else "done"), _Histogram()).add(seconds)

    def reviewed(self, kind: str, seconds: float) -> None:
        """Count a review of the API server."""
        self._reviews.setdefault((kind,), _Histogram()).add(seconds)

    def decided(self, policy: str, rule: str, mode: str, verdict: str) -> None:
        """Count what one policy said of one image."""
        key = (policy, rule, mode, verdict)
        if key not in self._decisions and len(self._decisions) >= MOST_DECISION_SERIES:
            key = (OTHERS, OTHERS, mode, verdict)
        self._decisions[key] = self._decisions.get(key, 0) + 1

    def wrong_sizes(self) -> None:
        """Count a manifest that is stored although it gives content a wrong size, or none."""
        self._wrong_sizes += 1

    def note_stored(self, blobs: int, size: int) -> None:
        """Note how much the registry holds."""
        self._stored = (blobs, size)

    def add_gauge(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a number that is read at a scrape."""
        self._external[name] = _ExternalNumber(GaugeMetricFamily, description, value)

    def add_counter(self, name: str, description: str, value: Callable[[], float]) -> None:
        """Add a number that only grows, and is read at a scrape; its name ends with ``_total``."""
        self._external[name] = _ExternalNumber(CounterMetricFamily, description, value)

    def count_ended(self, by_reason: Mapping[str, int]) -> None:
        """Add the connections that were ended; the counts grow where they are."""
        self._ended = by_reason

    def text(self) -> bytes:
        """The exposition format."""
        self._read_external()
        return generate_latest(self._registry)

    async def recent(self) -> bytes:
        """The same, made in a thread and once a second at most: requests in between get the same text."""
        now = self._clock()
        if self._rendering is None or (self._rendering.done() and now - self._rendered_at >= _FRESH_SECONDS):
            self._rendered_at = now
            self._read_external()
            self._rendering = asyncio.create_task(asyncio.to_thread(generate_latest, self._registry))
        return await asyncio.shield(self._rendering)

    def _read_external(self) -> None:
        """Read the numbers on the event loop, where they change."""
        self._values = {name: number.value() for name, number in self._external.items()}

    def collect(self) -> Iterable[Metric]:
        """The metrics, for the client library."""
        yield _counts("trow_http_requests", "Answered requests", ("route", "method", "status"), self._requests)
        yield _histograms(
            "trow_http_request_duration_seconds",
            "Seconds until the answer began",
            ("route", "method"),
            self._durations,
        )
        received = CounterMetricFamily("trow_http_received_bytes", "Bytes of request bodies", value=self._received)
        sent = CounterMetricFamily("trow_http_sent_bytes", "Bytes of response bodies", value=self._sent)
        sizes = CounterMetricFamily(
            "trow_wrong_size_manifests", "Manifests stored with wrong sizes of content", value=self._wrong_sizes
        )
        yield from (received, sent, sizes)
        yield _histograms("trow_database_seconds", "Seconds spent in the database", ("operation",), self._database)
        yield _histograms(
            "trow_kubernetes_seconds", "Seconds until the API server answered", ("operation",), self._kubernetes
        )
        yield _histograms(
            "trow_bucket_seconds", "Seconds that calls to the bucket took", ("operation", "result"), self._bucket
        )
        yield _histograms(
            "trow_admission_duration_seconds", "Seconds until a review was answered", ("kind",), self._reviews
        )
        labels = ("policy", "rule", "mode", "verdict")
        yield _counts("trow_admission_decisions", "What policies said of images", labels, self._decisions)
        ended: dict[tuple[str | int, ...], int] = {(reason,): count for reason, count in list(self._ended.items())}
        yield _counts("trow_connections_ended", "Connections that were ended", ("reason",), ended)
        for name, value in self._values.items():
            number = self._external[name]
            yield number.family(name, number.description, value=value)


def _counts(
    name: str, description: str, labels: tuple[str, ...], values: Mapping[tuple[str | int, ...], int]
) -> Metric:
    family = CounterMetricFamily(name, description, labels=labels)
    for key, count in list(values.items()):
        family.add_metric([str(label) for label in key], count)
    return family


def _histograms(
    name: str, description: str, labels: tuple[str, ...], values: Mapping[tuple[str, ...], _Histogram]
) -> Metric:
    family = HistogramMetricFamily(name, description, labels=labels)
    for key, histogram in list(values.items()):
        family.add_metric(key, histogram.buckets(), histogram.total)
    return family
