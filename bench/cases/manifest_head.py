"""Manifest HEAD by tag: what one costs the server."""

from __future__ import annotations

import select
import socket
from contextlib import ExitStack
from functools import partial
from typing import TYPE_CHECKING

from bench.contenders import REPOSITORY, TAG, folder, push_small_image, trow_and_distribution
from bench.content import MANIFEST
from bench.measure import Case, Goal, Result, Setting, interleaved
from bench.processes import cpu_seconds
from bench.wire import HEAD_END, request_head

if TYPE_CHECKING:
    from bench.servers import Server

METHOD = """\
User and system time of all processes of the server, from `/proc`, over 40 000 HEAD requests by tag; a client on raw
sockets keeps one request under way on each of 32 kept-alive connections, without pipelining."""
CONNECTIONS = 32
OK = b"HTTP/1.1 200"


def run(setting: Setting) -> list[Result]:
    with folder(setting, "manifest-head") as home, trow_and_distribution(home) as pair:
        for server in pair:
            push_small_image(server)
        measures = {server.name: partial(cpu_a_request, server, setting.sizes.heads) for server in pair}
        trow, peer = interleaved(setting, "µs", measures)
    return [
        Result(
            "manifest HEAD by tag, server CPU a request",
            "µs",
            trow,
            peer,
            must=Goal("≤", 0.35),
            hope=Goal("≤", 0.2),
        )
    ]


def cpu_a_request(server: Server, count: int, _: int) -> float:
    before = cpu_seconds(server.pid)
    send_heads(server.address, count)
    return (cpu_seconds(server.pid) - before) / count * 1e6


def send_heads(address: tuple[str, int], count: int) -> None:
    """A request goes out on a connection as soon as its last one is answered, until `count` are."""
    request = request_head("HEAD", f"/v2/{REPOSITORY}/manifests/{TAG}", {"accept": MANIFEST}, None)
    with ExitStack() as stack:
        poll = stack.enter_context(select.epoll())
        sockets = [stack.enter_context(socket.create_connection(address)) for _ in range(CONNECTIONS)]
        by_number = {each.fileno(): each for each in sockets}
        for number, each in by_number.items():
            poll.register(number, select.EPOLLIN)
            each.sendall(request)
        sent, answered = len(sockets), 0
        while answered < count:
            for number, _ in poll.poll():
                _check(by_number[number].recv(65536))
                answered += 1
                if sent < count:
                    by_number[number].sendall(request)
                    sent += 1


def _check(answer: bytes) -> None:
    if not (answer.startswith(OK) and answer.endswith(HEAD_END)):
        raise RuntimeError(f"not the answer to one HEAD: {answer!r}")


CASE = Case("manifest-head", METHOD, run)
