"""The private parts of the HTTP server that Trow replaces are as they were when that was written."""

from __future__ import annotations

import hashlib
import inspect
import socket
from typing import TYPE_CHECKING, Final

import pytest
from granian.net import SocketHolder  # type: ignore[attr-defined]
from granian.server.common import AbstractServer
from granian.server.embed import Server

if TYPE_CHECKING:
    from collections.abc import Callable

# What is called, in this order: the first makes the socket to listen on, the last hands it to the threads that accept.
# An earlier server's socket is passed on through them, so that a renewed certificate turns nobody away.
LOOKED_AT: Final = {
    AbstractServer._init_shared_socket: "a3c733cffa4ec9af",  # noqa: SLF001 - replaced in trow.http.server
    Server.startup: "48f5cc0889f45b68",
    Server._spawn_worker: "7e4a8f5219138564",  # noqa: SLF001
    Server._stop_workers: "7141f5e64e774985",  # noqa: SLF001
}
ADVICE: Final = """\
granian has changed what `_Server` of trow/http/server.py relies on. See that `_init_shared_socket` is still called
before the threads start, that these accept from `_shd` where `_ssp` is None, and that they serve on after
`stop_accepting`. Run tests/faults/test_tls_renewal.py ten times, then take the new digest over."""


@pytest.mark.parametrize("part", LOOKED_AT, ids=lambda part: part.__qualname__)
def test_private_parts_of_the_http_server_are_as_they_were(part: Callable[..., object]) -> None:
    assert hashlib.sha256(inspect.getsource(part).encode()).hexdigest()[:16] == LOOKED_AT[part], ADVICE


def test_the_http_server_takes_a_socket_that_listens_already() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        holder = SocketHolder(listening.fileno(), False, 128)  # type: ignore[call-arg]
        assert (holder.get_fd(), holder.is_uds()) == (listening.fileno(), False), ADVICE
