"""Listeners of our own that end TLS, for what the HTTP server's cannot do.

It verifies client certificates but does not tell who showed which, and takes up a renewed certificate by another
listener, which ends connections that a client may be about to use again. So a listener of our own ends the TLS
connection, and passes its bytes on to an HTTP server that serves these connections alone (`trow.tls.inner_socket`).
The name that this connection has says to which client it belongs: no header carries an identity, so none can be forged,
and no other listener knows the names.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import re
import ssl
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from trow.access.ports import ClientCertificate
from trow.lib import sockets
from trow.lib.repeated import Repeated
from trow.lib.source import source_of
from trow.lib.times import rfc3339
from trow.tls.handshakes import MOST_HANDSHAKES, Handshakes
from trow.tls.peer import Peer

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Coroutine, Sequence
    from pathlib import Path

    from trow.tls.files import TlsFiles
    from trow.tls.inner_socket import InnerSocket

log = logging.getLogger(__name__)

MOST_CONNECTIONS: Final = 1_000
_BACKLOG: Final = 1_024
_PAUSE_SECONDS: Final = 1.0
# An API server waits for some seconds. The watch ends idle ones in a fraction of that, on a machine under load too.
_ROOM_PATIENCE: Final = 3.0
_ROOM_SECONDS: Final = 0.02
_HANDSHAKE_SECONDS: Final = 10.0
_PIECE: Final = 256 * 1024
_MOST_ORGANIZATIONS: Final = 16
_LONGEST_NAME: Final = 256
_URI: Final = "://"
_PEM_CRL: Final = re.compile(rb"-----BEGIN X509 CRL-----[A-Za-z0-9+/=\s]*-----END X509 CRL-----")


@dataclass(frozen=True, slots=True)
class ConnectionLimit:
    """How many connections there may be. Each has three files: itself, and both ends of that to the HTTP server.

    Attributes:
        connections: how many there may be, half of them of one source.
    """

    connections: int = MOST_CONNECTIONS

    @property
    def per_source(self) -> int:
        """How many of one source."""
        return self.connections // 2

    @property
    def at_most(self) -> int:
        """How many for a moment, until those that are idle have ended."""
        return self.connections * 5 // 4

    @property
    def handshakes(self) -> int:
        """How many TLS handshakes may be under way; one source may have a quarter of them."""
        return min(MOST_HANDSHAKES, 2 * self.connections)


class TlsTerminator:
    """Connections by the name they have at the HTTP server, with client certificates where these are asked for.

    Args:
        tls: certificate and key of this side; they may come later, before `reload`.
        client_ca: the authorities that may have issued a client's certificate, PEM; None asks for no certificate.
        crl: certificates that they have revoked, PEM; one list for each authority.
        limit: how many connections there may be.

    Attributes:
        on_full: called when there is no room; ends what is idle.
    """

    def __init__(
        self,
        tls: TlsFiles,
        client_ca: Path | None = None,
        crl: Path | None = None,
        limit: ConnectionLimit | None = None,
    ) -> None:
        self.limit = limit or ConnectionLimit()
        self.on_full: Callable[[], None] = lambda: None
        self.peers: dict[str, Peer] = {}
        self._tls = tls
        self._client_ca = client_ca
        self._crl = crl
        self._context = _context(client_ca, crl)
        self._warned = False
        self._revocation = _Validity.of(crl)
        self._handshakes = Handshakes(self.limit.handshakes, max(1, self.limit.handshakes // 4))
        self._failures: Repeated[tuple[str, str]] = Repeated(self._log_failure)
        self._tasks: set[asyncio.Task[None]] = set()

    def start(self, listening: socket.socket, upstream: InnerSocket) -> None:
        """Take connections on a bound socket, once `reload` has loaded the files; ``upstream`` is the HTTP server."""
        listening.setblocking(False)
        listening.listen(_BACKLOG)
        self._run(self._accept(listening, upstream))

    async def reload(self) -> None:
        """Load the files as they are now, for new connections; those that are open stay.

        They are read beside the event loop: lists of revoked certificates may have some megabytes.

        Raises:
            OSError, ValueError: they cannot be used; what was loaded before stays.
        """
        await asyncio.to_thread(self._load)

    def _load(self) -> None:
        context, revocation = _context(self._client_ca, self._crl), _Validity.of(self._crl)
        # The password keeps OpenSSL from asking for one at the terminal.
        context.load_cert_chain(self._tls.certificate, self._tls.key, password="")
        self._context, self._revocation, self._warned = context, revocation, False

    @property
    def files(self) -> Sequence[Path]:
        """The files that `reload` loads."""
        return [path for path in (self._tls.certificate, self._tls.key, self._client_ca, self._crl) if path is not None]

    @property
    def revocation_ends(self) -> float:
        """When the first revocation list runs out, in seconds since 1970; 0 without one."""
        return self._revocation.ends

    def warn_before_expiry(self, now: float) -> None:
        """Warn once that a revocation list expires soon.

        After that nobody is let in: keeping a new list away must not keep a revoked certificate good.
        """
        if self._warned or not self._revocation.ending(now):
            return
        self._warned = True
        ends = rfc3339(self._revocation.ends)
        log.warning(
            "a list of revoked client certificates expires soon; then no client certificate is accepted",
            extra={"crl": str(self._crl), "ends": ends},
        )

    async def stop(self) -> None:
        """Take no more connections, and end those that are open."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._failures.settle()

    def _log_failure(self, failure: tuple[str, str] | None, count: int) -> None:
        client, reason = failure or ("(others)", "different ones")
        what = "a client has no valid certificate" if self._client_ca else "a TLS handshake failed"
        log.warning(what, extra={"client": client, "reason": reason, "count": count})

    def _run(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _accept(self, listening: socket.socket, upstream: InnerSocket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                accepted, address = await loop.sock_accept(listening)
            except OSError:  # out of files, or a client that is gone already
                log.exception("a connection could not be accepted")
                await asyncio.sleep(_PAUSE_SECONDS)
                continue
            await self._make_room()
            if self._full:
                accepted.close()
                continue
            self._handshakes.begin(accepted, source_of(str(address[0])))
            self._run(self._serve(accepted, address, upstream))

    @property
    def _full(self) -> bool:
        return len(self._tasks) - len(self._handshakes) > self.limit.at_most

    async def _make_room(self) -> None:
        """Wait until idle connections have ended. Meanwhile the next clients wait in the kernel."""
        end = time.monotonic() + _ROOM_PATIENCE
        while self._full and time.monotonic() < end:
            self.on_full()
            await asyncio.sleep(_ROOM_SECONDS)

    async def _serve(self, accepted: socket.socket, address: sockets.SocketAddress, upstream: InnerSocket) -> None:
        """One connection. Accepted by ourselves, because a server object tells nobody why a handshake has failed."""
        client = str(address[0])
        try:
            reader, writer = await self._secured(accepted)
        except (OSError, ValueError) as error:
            accepted.close()
            if self._handshakes.finish(accepted, source_of(client)):
                self._failures.note((source_of(client), str(error)))
            return
        finally:
            self._handshakes.finish(accepted, source_of(client))
        name = upstream.new_name()
        try:
            certificate = self._certificate_of(writer) if self._client_ca else None
            self.peers[name] = Peer(client, "", "https", "", certificate, sockets.written(address))
            from_server, to_server = await asyncio.open_unix_connection(sock=upstream.connect(name), limit=_PIECE)
            await _exchange(reader, writer, from_server, to_server)
        except (OSError, ValueError) as error:
            log.info("a TLS connection ended", extra={"client": client, "reason": str(error)})
        finally:
            self.peers.pop(name, None)
            writer.close()

    def _certificate_of(self, writer: asyncio.StreamWriter) -> ClientCertificate:
        """Whose certificate the client has presented, on this connection or on that whose session it resumes.

        OpenSSL looks at dates where a certificate is presented, not where a session is resumed, which may be two
        hours later.

        Raises:
            ValueError: it cannot be used, or not any more.
        """
        der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
        certificate, now = x509.load_der_x509_certificate(der), time.time()
        if certificate.not_valid_after_utc.timestamp() < now:
            raise ValueError("the client certificate has expired")
        if 0 < self._revocation.ends < now:
            raise ValueError("the list of revoked client certificates has expired")
        return client_certificate(certificate)

    async def _secured(self, accepted: socket.socket) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(_PIECE, loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
        transport, _ = await loop.connect_accepted_socket(
            lambda: protocol, accepted, ssl=self._context, ssl_handshake_timeout=_HANDSHAKE_SECONDS
        )
        return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def _exchange(
    from_client: asyncio.StreamReader,
    to_client: asyncio.StreamWriter,
    from_server: asyncio.StreamReader,
    to_server: asyncio.StreamWriter,
) -> None:
    async def send() -> None:
        try:
            await _pump(from_client, to_server)
            to_server.write_eof()  # a client that has sent everything may still wait for the answer
        except OSError:  # the client is gone, and the server would keep its end for as long as a connection may be idle
            to_server.transport.abort()

    sending = asyncio.create_task(send())
    try:
        with contextlib.suppress(OSError):
            await _pump(from_server, to_client)
    finally:
        sending.cancel()
        to_server.close()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while piece := await reader.read(_PIECE):
        writer.write(piece)
        await writer.drain()


@dataclass(frozen=True, slots=True)
class _Validity:
    """From when to when the lists in a file are valid, that one which ends first; seconds since 1970."""

    begins: float = 0.0
    ends: float = 0.0

    @classmethod
    def of(cls, crl: Path | None) -> _Validity:
        """Raises OSError or ValueError where the file holds no lists."""
        if crl is None:
            return cls()
        lists = [x509.load_pem_x509_crl(pem) for pem in _PEM_CRL.findall(crl.read_bytes())]
        if not lists:
            raise ValueError(f"{crl} holds no list of revoked certificates in PEM (listen.client_tls.crl)")
        spans = [
            (each.next_update_utc.timestamp(), each.last_update_utc.timestamp())
            for each in lists
            if each.next_update_utc
        ]
        ends, begins = min(spans, default=(0.0, 0.0))
        return cls(begins, ends)

    def ending(self, now: float) -> bool:
        """Whether a quarter of the time or less is left."""
        return bool(self.ends) and now > self.ends - (self.ends - self.begins) / 4


def _context(client_ca: Path | None, crl: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_RENEGOTIATION  # a handshake costs a server more than a client
    if client_ca is not None:
        context.verify_mode = ssl.CERT_REQUIRED
        _trust(context, client_ca, "the certificates of authorities")
    if crl is not None:
        _trust(context, crl, "lists of revoked certificates")
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _trust(context: ssl.SSLContext, path: Path, what: str) -> None:
    try:
        context.load_verify_locations(path)
    except ssl.SSLError as error:
        reason = error.reason or error
        raise ValueError(f"{path} cannot be used ({reason}); listen.client_tls needs {what} in PEM there") from None


def client_certificate(certificate: x509.Certificate) -> ClientCertificate:
    """Whose certificate this is.

    Raises:
        ValueError: its names cannot be used. None is ever cut: what is cut may be somebody else's.
    """
    subject = certificate.subject
    organizations = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    if len(organizations) > _MOST_ORGANIZATIONS:
        raise ValueError(f"the client certificate has more than {_MOST_ORGANIZATIONS} organizations")
    return ClientCertificate(
        _name(certificate),
        tuple(_usable(each, "an organization") for each in organizations),
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _name(certificate: x509.Certificate) -> str:
    """The first URI among the names, such as a SPIFFE id, else the common name. ``://`` tells one from the other."""
    with contextlib.suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
            if _URI not in uri:
                raise ValueError("the client certificate has a URI without '://', which could be a common name too")
            return _usable(uri, "a URI")
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = _usable(str(common[0].value) if common else "", "a common name")
    if _URI in name:
        raise ValueError("the client certificate has a common name that spells a URI; put that among its names")
    return name


def _usable(name: str, what: str) -> str:
    if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ValueError(
            f"the client certificate has {what} that is empty, not printable or over {_LONGEST_NAME} letters"
        )
    return name
