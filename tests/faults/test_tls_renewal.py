"""A renewed certificate is taken up without a restart, and nobody is cut off."""

from __future__ import annotations

import contextlib
import hashlib
import random
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import trustme

from factories import digest_of
from faults.process import becomes
from support.client import WireClient
from support.server import Trow
from support.wire import ConnectionEnded, Wire, request

if TYPE_CHECKING:
    from pathlib import Path

MIB: Final = 2**20
REPOSITORY: Final = "renewed/certificates"
LOADERS: Final = 4


class Authority:
    """Signs one certificate after the other."""

    def __init__(self, trow: Trow) -> None:
        assert trow.tls is not None
        self._tls = trow.tls
        self._ca = trustme.CA()
        self.context = ssl.create_default_context(cafile=str(trow.ca))
        self._ca.configure_trust(self.context)

    def replace(self, *, key: bool = True) -> bytes:
        """Put a new certificate, and its key, where the server looks; returns the certificate in DER."""
        issued = self._ca.issue_cert("127.0.0.1")
        pem = b"".join(each.bytes() for each in issued.cert_chain_pems)
        if key:
            overwrite(self._tls.key, issued.private_key_pem.bytes())
        overwrite(self._tls.certificate, pem)
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


def overwrite(path: Path, content: bytes) -> None:
    """As a careful tool does it: readers see the old file or the new one."""
    fresh = path.with_suffix(".new")
    fresh.write_bytes(content)
    fresh.replace(path)


def certificate(trow: Trow, context: ssl.SSLContext) -> bytes | None:
    """The certificate that a new connection gets."""
    with Wire(trow.host, context) as wire:
        assert isinstance(wire.socket, ssl.SSLSocket)
        assert wire.ask("GET", "/v2/").status == 200
        return wire.socket.getpeercert(binary_form=True)


def wait_until_served(trow: Trow, context: ssl.SSLContext, renewed: bytes) -> None:
    def served() -> bool:
        with contextlib.suppress(OSError, ConnectionEnded):
            return certificate(trow, context) == renewed
        return False

    assert becomes(served)


def test_a_renewed_certificate_is_served_and_requests_in_flight_finish(tmp_path: Path) -> None:
    content = random.Random(1).randbytes(50 * MIB)
    with Trow.start(tmp_path, tls=True) as trow:
        authority = Authority(trow)
        with WireClient(trow.host, authority.context) as client:
            assert client.push_whole(REPOSITORY, content).status == 201
        with Wire(trow.host, authority.context, receive_buffer=64 * 1024) as download:
            download.send(request("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(content)}"))
            assert download.incoming.head()[0] == 200
            hasher = hashlib.sha256(download.incoming.read(MIB))
            first = certificate(trow, authority.context)
            renewed = authority.replace()
            assert renewed != first
            wait_until_served(trow, authority.context, renewed)
            hasher.update(download.incoming.read(len(content) - MIB))
        assert f"sha256:{hasher.hexdigest()}" == digest_of(content)


def test_a_long_download_delays_no_renewal(tmp_path: Path) -> None:
    """However long it takes: the listener that it came by ends after it, and the next ones take over meanwhile."""
    content = random.Random(2).randbytes(50 * MIB)
    with Trow.start(tmp_path, tls=True, config={"limits": {"header_timeout": "1s"}}) as trow:
        authority = Authority(trow)
        with WireClient(trow.host, authority.context) as client:
            assert client.push_whole(REPOSITORY, content).status == 201
        with Wire(trow.host, authority.context, receive_buffer=64 * 1024) as download:
            download.send(request("GET", f"/v2/{REPOSITORY}/blobs/{digest_of(content)}"))
            assert download.incoming.head()[0] == 200
            for _ in range(3):
                piece = download.incoming.read(MIB)
                assert piece == content[: len(piece)]
                content = content[len(piece) :]
                wait_until_served(trow, authority.context, authority.replace())
            assert download.incoming.read(len(content)) == content


def test_who_has_connected_before_a_renewal_has_as_long_as_anybody_to_ask(tmp_path: Path) -> None:
    """A machine under load may take seconds for it: nobody who keeps to the time for headers is turned away."""
    with Trow.start(tmp_path, tls=True, config={"limits": {"header_timeout": "60s"}}) as trow:
        authority = Authority(trow)
        with Wire(trow.host, authority.context) as slow:
            slow.send(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n")
            wait_until_served(trow, authority.context, authority.replace())
            wait_until_served(trow, authority.context, authority.replace())  # some seconds later
            slow.send(b"\r\n")
            assert slow.answer().status == 200


def test_a_renewal_under_load_turns_nobody_away(tmp_path: Path) -> None:
    """Some thousand connections: none is lost with the listener that is going away, for both have one queue."""
    with Trow.start(tmp_path, tls=True) as trow, ThreadPoolExecutor(LOADERS) as pool:
        authority = Authority(trow)
        done = threading.Event()
        loaders = [pool.submit(load, trow, authority.context, done) for _ in range(LOADERS)]
        try:
            for _ in range(2):
                wait_until_served(trow, authority.context, authority.replace())
        finally:
            done.set()
        assert sum(loader.result() for loader in loaders) > 100


def load(trow: Trow, context: ssl.SSLContext, done: threading.Event) -> int:
    """Connect again and again; how often that was answered, which it has to be each time."""
    answered = 0
    while not done.is_set():
        certificate(trow, context)
        answered += 1
    return answered


def test_files_that_do_not_fit_together_are_not_taken(tmp_path: Path) -> None:
    with Trow.start(tmp_path, tls=True) as trow:
        authority = Authority(trow)
        first = certificate(trow, authority.context)
        authority.replace(key=False)
        assert becomes(lambda: b"the old one stays" in trow.stderr.read_bytes())
        assert certificate(trow, authority.context) == first
        wait_until_served(trow, authority.context, authority.replace())
