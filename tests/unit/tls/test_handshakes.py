from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from trow.tls.handshakes import Handshakes

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE, BOB, CAROL = "192.0.2.1", "192.0.2.2", "192.0.2.3"


class Clients:
    """Connections, and what has become of them."""

    def __init__(self) -> None:
        self.handshakes = Handshakes(most=4, each=3)
        self._ends: list[tuple[socket.socket, socket.socket]] = []

    def come(self, *sources: str) -> None:
        for source in sources:
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            self._ends.append((ours, theirs))
            self.handshakes.begin(ours, source)

    def finish(self, number: int, source: str) -> bool:
        return self.handshakes.finish(self._ends[number][0], source)

    def open(self) -> list[int]:
        return [number for number, (_, theirs) in enumerate(self._ends) if not ended(theirs)]

    def close(self) -> None:
        for pair in self._ends:
            for end in pair:
                end.close()


def ended(end: socket.socket) -> bool:
    try:
        return end.recv(1) == b""
    except BlockingIOError:
        return False


@pytest.fixture
def clients() -> Iterator[Clients]:
    made = Clients()
    yield made
    made.close()


def test_oldest_of_a_source_that_has_its_share_ends(clients: Clients) -> None:
    clients.come(BOB, ALICE, ALICE, ALICE)
    assert clients.open() == [0, 1, 2, 3]
    clients.come(ALICE)
    assert clients.open() == [0, 2, 3, 4]


def test_oldest_of_the_source_that_has_most_ends_when_all_places_are_taken(clients: Clients) -> None:
    clients.come(BOB, ALICE, ALICE, ALICE, CAROL)
    assert clients.open() == [0, 2, 3, 4]


def test_what_has_come_about_is_ended_for_nobody(clients: Clients) -> None:
    clients.come(ALICE, ALICE, ALICE)
    assert clients.finish(0, ALICE)
    clients.come(ALICE, ALICE)
    assert clients.open() == [0, 2, 3, 4]
    assert len(clients.handshakes) == 3


def test_whoever_was_ended_is_told_apart_from_who_failed(clients: Clients) -> None:
    clients.come(ALICE, ALICE, ALICE, ALICE)
    assert not clients.finish(0, ALICE)
    assert clients.finish(1, ALICE)
    assert not clients.finish(1, ALICE), "once is enough"
    assert not clients.finish(1, CAROL)
