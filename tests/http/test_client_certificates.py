"""A client certificate says who somebody is, to the listener that asked for it and to no other."""

from __future__ import annotations

import socket
import ssl
import struct
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from clients.authority import Authority, Certificate
from support.crowd import Crowd
from support.server import Trow
from support.sockets import inodes, listening_paths, listening_ports, tcp_sockets
from support.waiting import until
from support.wire import Incoming, Wire, request
from trow.tls.handshakes import MOST_HANDSHAKES_OF_ONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.wire import Answer

# linux/in.h, since Linux 6.3: the range of ports that the kernel chooses from, for this socket.
IP_LOCAL_PORT_RANGE: Final = 51
ADMIN: Final = {"users": ["certificate:admin"], "actions": ["pull", "push", "delete", "list"]}


@dataclass(frozen=True)
class Guarded:
    """A registry with an ordinary listener and one that demands certificates, and the certificate of its admin."""

    trow: Trow
    admin: Certificate
    authority: Authority

    @property
    def ordinary(self) -> str:
        return self.trow.host

    def connected(self) -> Wire:
        """A connection of the admin."""
        context = ssl.create_default_context(cafile=self.trow.ca)
        context.load_cert_chain(self.admin.file, self.admin.key)
        return Wire(self.trow.urls[1].partition("://")[2], context)

    def from_port(self, port: int, host: str) -> Answer:
        """The answer to a request without credentials that comes from a port of the asker's choice."""
        name, _, target = host.rpartition(":")
        context = ssl.create_default_context(cafile=self.trow.ca)
        with socket.socket() as plain:
            plain.settimeout(30)
            plain.setsockopt(socket.IPPROTO_IP, IP_LOCAL_PORT_RANGE, struct.pack("I", port | port << 16))
            plain.connect((name, int(target)))
            assert plain.getsockname()[1] == port
            with context.wrap_socket(plain, server_hostname=name) as secured:
                secured.sendall(request("GET", "/v2/_catalog"))
                return Incoming(lambda: secured.recv(65536)).answer("GET")


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    authority = Authority(folder / "authority")
    demanded = {"bind": "127.0.0.1:0", "client_ca": str(authority.file)}
    config = {"listen": {"client_tls": demanded}, "access": {"rules": [ADMIN]}}
    with Trow.start(folder, tls=True, user=("alice", "correct horse"), config=config) as trow:
        yield Guarded(trow, authority.issue("admin"), authority)


def test_a_request_at_the_ordinary_listener_is_anonymous_wherever_it_comes_from(guarded: Guarded) -> None:
    """The server has no connection whose address, used as the source of another, would make anybody somebody."""
    with guarded.connected() as wire:
        assert wire.ask("GET", "/v2/_catalog").status == 200
        listening = listening_ports(guarded.trow.process.pid)
        addresses = {wire.socket.getsockname()[1], *(each.port for each in tcp_sockets(guarded.trow.process.pid))}
        for port in addresses - listening:
            assert guarded.from_port(port, guarded.ordinary).status == 401
        assert wire.ask("GET", "/v2/_catalog").status == 200, "its connection was there all the time"


@pytest.mark.slow
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3], ids=lambda each: each.name)
def test_a_certificate_that_has_run_out_resumes_no_session(guarded: Guarded, version: ssl.TLSVersion) -> None:
    """A session lives for two hours, and its certificate is shown once."""
    brief = guarded.authority.issue("admin", valid=timedelta(seconds=3))
    context = ssl.create_default_context(cafile=guarded.trow.ca)
    context.load_cert_chain(brief.file, brief.key)
    context.maximum_version = version
    with secured(guarded, context) as first:
        assert answered(first)
        session = first.session

    def refused() -> bool:
        with secured(guarded, context, session) as resumed:
            assert resumed.session_reused
            return not answered(resumed)

    assert not refused()
    until(refused)


def secured(guarded: Guarded, context: ssl.SSLContext, session: ssl.SSLSession | None = None) -> ssl.SSLSocket:
    host, _, port = guarded.trow.urls[1].partition("://")[2].rpartition(":")
    return context.wrap_socket(socket.create_connection((host, int(port)), 30), server_hostname=host, session=session)


def answered(client: ssl.SSLSocket) -> bool:
    try:
        client.sendall(request("GET", "/v2/_catalog"))
        return client.recv(1024).startswith(b"HTTP/1.1 200")
    except OSError:
        return False


def test_the_server_behind_the_listener_cannot_be_reached_over_the_network(guarded: Guarded) -> None:
    shown = {int(url.rpartition(":")[2]) for url in guarded.trow.urls}
    assert listening_ports(guarded.trow.process.pid) == shown


def test_the_socket_behind_the_listener_is_in_a_folder_that_no_other_user_may_enter(guarded: Guarded) -> None:
    (path,) = listening_paths(guarded.trow.process.pid)
    assert path.parent.stat().st_mode & 0o077 == 0


def test_whoever_reaches_the_server_behind_the_listener_is_refused(guarded: Guarded, tmp_path: Path) -> None:
    """Another program of the same user, with a name of its own or none, with credentials or without."""
    (path,) = listening_paths(guarded.trow.process.pid)
    with guarded.connected() as wire:
        assert wire.ask("GET", "/v2/_catalog").status == 200
        for name in ("", str(tmp_path / "name")):
            for headers in ([], [("Authorization", "Basic YWxpY2U6Y29ycmVjdCBob3JzZQ==")]):
                with socket.socket(socket.AF_UNIX) as stranger:
                    stranger.settimeout(30)
                    stranger.bind(name)
                    stranger.connect(str(path))
                    stranger.sendall(request("GET", "/v2/_catalog", headers))
                    answer = Incoming(lambda stranger=stranger: stranger.recv(65536)).answer("GET")  # type: ignore[misc]
                Path(name).unlink(missing_ok=True) if name else None
                assert (answer.status, answer.codes) == (403, ["DENIED"])


@pytest.mark.slow
@pytest.mark.parametrize("source", ["127.0.0.1", "127.0.0.2"], ids=["the same source", "another one"])
def test_a_good_certificate_gets_in_whoever_connects_and_says_nothing(guarded: Guarded, source: str) -> None:
    with Crowd(guarded.trow.urls[1].partition("://")[2], source=source) as crowd:
        for _ in range(48):
            crowd.grow(22)
            with guarded.connected() as wire:
                assert wire.ask("GET", "/v2/_catalog").status == 200
        assert len(crowd.members) > 1_010


@pytest.mark.slow
def test_those_who_have_shown_a_certificate_stay(guarded: Guarded) -> None:
    with guarded.connected() as wire, Crowd(guarded.trow.urls[1].partition("://")[2]) as crowd:
        assert wire.ask("GET", "/v2/_catalog").status == 200
        crowd.grow(1_300, b"\x16\x03\x01")
        until(lambda: crowd.ended() >= 1_300 - MOST_HANDSHAKES_OF_ONE)
        assert wire.ask("GET", "/v2/_catalog").status == 200


def test_a_client_that_breaks_off_leaves_nothing(guarded: Guarded) -> None:
    """The server behind would keep its end for as long as a connection may be idle, and its place with it."""
    before = len(inodes(guarded.trow.process.pid))
    for _ in range(20):
        with guarded.connected() as wire:
            assert wire.ask("GET", "/v2/_catalog").status == 200
            wire.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    until(lambda: len(inodes(guarded.trow.process.pid)) <= before)
