"""What operators look at: health, readiness, metrics and the access log."""

from __future__ import annotations

import json
import shutil
import time
from typing import TYPE_CHECKING, Any, Final

import pytest

import factories
from support.crowd import Crowd
from support.numbers import fresh
from support.registry import Client, Repository
from support.server import Trow
from support.wire import request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALICE = ("alice", "correct horse")


def test_health(client: Client) -> None:
    assert (client.get("/healthz").status, client.get("/healthz").json) == (200, {"status": "ok"})
    assert client.head("/healthz").status == 200


def test_a_person_who_opens_the_address_reads_what_this_is_and_where_to_go_on(client: Client) -> None:
    reply = client.get("/")
    assert (reply.status, reply.headers["content-type"]) == (200, "text/plain; charset=utf-8")
    text = reply.body.decode()
    assert text.startswith("This is Trow, a registry of container images.")
    assert all(word in text for word in ("docker push HOST/NAME:TAG", "docker login HOST", "/v2/", "trow --help"))


@pytest.mark.parametrize("path", ["/readyz", "/readiness"])
def test_readiness(client: Client, path: str) -> None:
    reply = client.get(path)
    assert reply.status == 200
    assert reply.json == {"status": "ok", "checks": {"storage": "ok", "database": "ok", "audit": "ok"}}


def test_not_ready_while_the_storage_is_away(tmp_path: Path) -> None:
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        shutil.rmtree(tmp_path / "data" / "uploads")
        reply = client.get("/readyz")
        assert reply.status == 503
        assert (reply.json["status"], reply.json["checks"]["database"]) == ("unavailable", "ok")
        assert "storage does not work" in reply.json["checks"]["storage"]
        assert str(tmp_path) not in reply.body.decode()
        assert client.get("/healthz").status == 200
        (tmp_path / "data" / "uploads").mkdir()
        assert client.get("/readyz").status == 200


# Metrics


def metrics(client: Client) -> dict[str, float]:
    reply = client.get("/metrics")
    assert reply.status == 200
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    text = fresh(lambda: client.get("/metrics").body)
    lines = [line.rpartition(" ") for line in text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in lines}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "trow_http_received_bytes_total",
        "trow_http_sent_bytes_total",
        'trow_database_seconds_count{operation="commit"}',
        "trow_uploads_open",
        "trow_storage_used_bytes",
        "trow_storage_free_bytes",
        "process_resident_memory_bytes",
        "process_cpu_seconds_total",
    ],
)
def test_metric_is_there(client: Client, repository: Repository, name: str) -> None:
    repository.push(factories.image(), "v1")
    assert metrics(client)[name] >= 0


@pytest.mark.slow
def test_counts_move(client: Client, repository: Repository) -> None:
    blob, image = factories.blob(200_000), factories.image()
    route = 'route="/v2/{repository}/manifests/{reference}"'
    watched = {
        f'trow_http_requests_total{{method="GET",{route},status="200"}}': 3,
        f'trow_http_requests_total{{method="GET",{route},status="404"}}': 1,
        f'trow_http_requests_total{{method="HEAD",{route},status="200"}}': 1,
        f'trow_http_requests_total{{method="PUT",{route},status="201"}}': 1,
        f'trow_http_request_duration_seconds_count{{method="GET",{route}}}': 4,
        f'trow_http_request_duration_seconds_bucket{{le="+Inf",method="GET",{route}}}': 4,
        'trow_http_requests_total{method="(none)",route="(none)",status="404"}': 1,
        "trow_uploads_open": 1,
    }
    before = metrics(client)
    repository.push_blob(blob)
    repository.push(image, "v1")
    repository.begin()
    for _ in range(3):
        client.get(repository.manifest("v1"))
    client.get(repository.manifest("v2"))
    client.head(repository.manifest("v1"))
    client.get(repository.blob(blob.digest))
    client.get("/v2/no/such/end/point")
    after = metrics(client)
    assert {name: after[name] - before.get(name, 0) for name in watched} == watched
    received = after["trow_http_received_bytes_total"] - before["trow_http_received_bytes_total"]
    sent = after["trow_http_sent_bytes_total"] - before["trow_http_sent_bytes_total"]
    assert received == blob.size + image.size + sum(each.size for each in image.blobs)
    assert sent >= blob.size + 3 * image.size
    commits = 'trow_database_seconds_count{operation="commit"}'
    assert after[commits] > before.get(commits, 0)


def test_numbers_are_worded_once_a_second_however_many_ask(client: Client) -> None:
    began = time.monotonic()
    texts = {client.get("/metrics").body for _ in range(50)}
    assert len(texts) <= 2 + (time.monotonic() - began)


# An address for them alone


PROBED: Final = {
    "listen": {"probes": "127.0.0.1:0"},
    "limits": {"max_connections": 16, "max_connections_per_source": 16, "requests_per_second": 1, "burst": 1},
}


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    with Trow.start(tmp_path_factory.mktemp("probed"), user=ALICE, config=PROBED) as trow:
        yield trow


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/readiness", "/metrics"])
def test_probes_are_answered_on_an_address_of_their_own(probed: Trow, path: str) -> None:
    with Client(probed.urls[1]) as kubelet:
        assert [kubelet.get(path).status for _ in range(3)] == [200] * 3, "and no limit of clients counts there"


@pytest.mark.parametrize("path", ["/", "/v2/", "/v2/_catalog", "/token", "/api/v1/audit", "/admission/validate"])
def test_nothing_else_is_served_there(probed: Trow, path: str) -> None:
    with Client(probed.urls[1]) as anybody:
        assert anybody.get(path).status == 404


def test_probes_are_answered_while_the_other_address_is_full(probed: Trow) -> None:
    with Crowd(probed.host) as crowd:
        crowd.grow(200, request("POST", "/token", [("content-length", "100")]))  # each has something to do
        with Client(probed.urls[1]) as kubelet:
            for path in ("/healthz", "/readyz", "/metrics"):
                assert kubelet.get(path).status == 200


# Logs


def log(tmp_path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (tmp_path / "stderr.log").read_text("utf-8").splitlines()]


@pytest.mark.slow
def test_access_log(tmp_path: Path) -> None:
    started = time.time()
    blob = factories.blob(100_000)
    with Trow.start(tmp_path, user=ALICE) as trow, Client(trow.url, ALICE) as alice, Client(trow.url) as nobody:
        nobody.get("/v2/a/tags/list?n=1")
        Repository(alice, "a").push_blob(blob)
        alice.get(Repository(alice, "a").blob(blob.digest), range="bytes=0-99")
        alice.head(Repository(alice, "a").blob(blob.digest))
    lines = [line for line in log(tmp_path) if line["event"] == "request"]
    members = {
        "time", "level", "event", "request", "client", "user", "method", "path", "status", "received", "sent",
        "seconds",
    }  # fmt: skip
    assert [set(line) - members for line in lines] == [{"reason"}, set(), set(), set()]
    assert all(members <= set(line) for line in lines)
    assert all(started <= line["time"] <= time.time() and 0 <= line["seconds"] < 60 for line in lines)
    path = f"/v2/a/blobs/{blob.digest}"
    assert [[line[name] for name in ("client", "user", "method", "path", "status", "received")] for line in lines] == [
        ["127.0.0.1", "", "GET", "/v2/a/tags/list", 401, 0],
        ["127.0.0.1", "alice", "POST", "/v2/a/blobs/uploads/", 201, blob.size],
        ["127.0.0.1", "alice", "GET", path, 206, 0],
        ["127.0.0.1", "alice", "HEAD", path, 200, 0],
    ]
    assert [line["sent"] for line in lines[1:]] == [0, 100, 0]
    assert ALICE[1] not in (tmp_path / "stderr.log").read_text("utf-8")


@pytest.mark.slow
def test_no_access_log(tmp_path: Path) -> None:
    with Trow.start(tmp_path, "--no-access-log") as trow, Client(trow.url) as client:
        client.get("/v2/")
    assert [line for line in log(tmp_path) if line["event"] == "request"] == []
    assert [line["level"] for line in log(tmp_path)] == ["info"]


@pytest.mark.slow
def test_quiet_log(tmp_path: Path) -> None:
    with Trow.start(tmp_path, "--no-access-log", "--log-level", "warning"):
        pass
    assert log(tmp_path) == []


# A stop and the next start


@pytest.mark.slow
def test_everything_is_there_after_a_restart(tmp_path: Path) -> None:
    image, blobs = factories.image(), [factories.blob(size) for size in (1000, 300_000)]
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        repository = Repository(client, "a")
        repository.push(image, "v1")
        locations = [repository.begin() for _ in blobs]
        for location, blob in zip(locations, blobs, strict=True):
            client.patch(location, blob.content[:-100])
    with Trow.start(tmp_path) as trow, Client(trow.url) as client:
        repository = Repository(client, "a")
        assert client.get(repository.manifest("v1")).body == image.raw
        for location, blob in zip(locations, blobs, strict=True):
            assert client.get(location).headers["range"] == f"0-{blob.size - 101}"
            place = f"{blob.size - 100}-{blob.size - 1}"
            reply = client.put(f"{location}?digest={blob.digest}", blob.content[-100:], content_range=place)
            assert reply.status == 201
            assert client.get(repository.blob(blob.digest)).body == blob.content
    assert [*(tmp_path / "data" / "uploads").iterdir()] == []
    assert not (tmp_path / "data" / "trow.running").exists()
