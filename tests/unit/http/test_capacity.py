from __future__ import annotations

import pytest

from trow.config import Config
from trow.config.schema import Limits
from trow.config.values import Size
from trow.http import capacity
from trow.http.capacity import Capacity, capacity_of


def machine(monkeypatch: pytest.MonkeyPatch, files: int, memory: int | None) -> None:
    monkeypatch.setattr(capacity, "most_files", lambda: files)
    monkeypatch.setattr(capacity, "memory_limit", lambda: memory)


@pytest.mark.parametrize(
    ("files", "memory", "connections"),
    [
        (2**20, None, 10_000),
        (20_000, None, 10_000),
        (4_096, None, 1_382),
        (1_024, None, 256),
        (256, None, 42),
        (64, None, 16),
        (2**20, 256 * 2**20, 4_096),
        (2**20, 2**30, 10_000),
        (1_024, 64 * 2**20, 256),
    ],
)
def test_clients_are_as_many_as_files_and_memory_allow(
    monkeypatch: pytest.MonkeyPatch, files: int, memory: int | None, connections: int
) -> None:
    machine(monkeypatch, files, memory)
    room = capacity_of(Config())
    assert (room.connections, room.each) == (connections, connections // 2)
    files_for_all = room.accepted + room.requests + room.downloads + min(256, room.sessions)
    assert files_for_all < files - 46 or files < 256, "the database, logs and threads need files, too"


@pytest.mark.parametrize("most", [2, 10, 64, 10_000])
def test_some_connections_are_idle_whatever_is_asked(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    machine(monkeypatch, 20_000, None)
    room = capacity_of(Config(limits=Limits(max_connections=most)))
    assert room.requests <= most < room.accepted


def test_clients_are_as_many_as_the_settings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 1_024, None)
    assert capacity_of(Config(limits=Limits(max_connections=5_000))) == Capacity(5_000, 2_500, 64, 4_096, 32, 32)
    assert capacity_of(Config(limits=Limits(max_connections_per_source=20))) == Capacity(256, 20, 64, 224, 32, 32)
    assert capacity_of(Config(limits=Limits(max_connections=10, max_connections_per_source=20))) == Capacity(
        10, 10, 64, 8, 32, 32
    )


@pytest.mark.parametrize(
    ("given", "memory", "downloads"),
    [(None, None, 64), (None, 128 * 2**20, 64), (None, 2**30, 341), (Size(2**20), 2**30, 2), (Size(2**30), None, 1365)],
)
def test_downloads_are_as_many_as_their_memory_allows(
    monkeypatch: pytest.MonkeyPatch, given: Size | None, memory: int | None, downloads: int
) -> None:
    machine(monkeypatch, 20_000, memory)
    room = capacity_of(Config(limits=Limits(send_memory=given)))
    assert room.downloads == room.places.total == downloads
    assert 0 < room.places.each < downloads, "one source never has all places"


@pytest.mark.parametrize(("memory", "requests"), [(None, 4096), (2**30, 4096), (256 * 2**20, 1024), (32 * 2**20, 256)])
def test_requests_under_way_take_a_quarter_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, memory: int | None, requests: int
) -> None:
    machine(monkeypatch, 20_000, memory)
    room = capacity_of(Config())
    assert room.requests == room.work.total == requests
    assert room.work.each == requests // 2
