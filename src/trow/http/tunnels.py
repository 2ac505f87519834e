"""The listener for client certificates.

The HTTP server verifies client certificates but does not tell who showed which. So a listener of our own ends the TLS
connection, and passes its bytes on to the HTTP server over a loopback connection of this process. The port that this
connection comes from says to which client it belongs: no header carries an identity, so none can be forged.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from trow.http.peers import Peer
from trow.registry.ports import ClientCertificate

if TYPE_CHECKING:
    import socket
    from pathlib import Path

    from trow.http.server import TlsFiles

log = logging.getLogger(__name__)

_MOST_CONNECTIONS: Final = 1_000
_HANDSHAKE_SECONDS: Final = 10.0
_PIECE: Final = 256 * 1024
_MOST_ORGANIZATIONS: Final = 16
_LONGEST_NAME: Final = 256


class Tunnels:
    """Connections with verified client certificates, by the address they have at the HTTP server.

    Args:
        tls: certificate and key of this side.
        client_ca: the authorities that may have issued a client's certificate, PEM.
        crl: certificates that they have revoked, PEM; one list for each authority.
    """

    def __init__(self, tls: TlsFiles, client_ca: Path, crl: Path | None) -> None:
        self.peers: dict[str, Peer] = {}
        self._tls = tls
        self._context = _context(tls, client_ca, crl)
        self._server: asyncio.Server | None = None
        self._upstream = ("", 0)

    async def start(self, listening: socket.socket, upstream: tuple[str, int]) -> None:
        """Take connections on a bound socket; ``upstream`` is where the HTTP server listens on loopback."""
        self._upstream = upstream
        self._server = await asyncio.start_server(
            self._serve,
            sock=listening,
            ssl=self._context,
            ssl_handshake_timeout=_HANDSHAKE_SECONDS,
            limit=_PIECE,
        )

    def renew(self) -> None:
        """Take up a renewed certificate of our own, for connections to come."""
        self._context.load_cert_chain(self._tls.certificate, self._tls.key)

    async def stop(self) -> None:
        """Take no more connections. Those that are open end with the HTTP server behind them."""
        if self._server is not None:
            self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self.peers) < _MOST_CONNECTIONS:
                await self._pass_on(reader, writer)
        except (OSError, ValueError, ssl.SSLError) as error:
            log.info("a connection with a client certificate ended", extra={"reason": str(error)})
        finally:
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(writer.get_extra_info("peername")[0], "", "https", "", _certificate(writer))
        from_server, to_server = await asyncio.open_connection(*self._upstream, limit=_PIECE)
        host, port = to_server.get_extra_info("sockname")[:2]
        self.peers[f"{host}:{port}"] = peer
        try:
            ways = {asyncio.create_task(_pump(reader, to_server)), asyncio.create_task(_pump(from_server, writer))}
            _, pending = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in pending:
                way.cancel()
            await asyncio.wait(ways)
        finally:
            to_server.close()
            # The address may be somebody else's as soon as the connection is closed.
            del self.peers[f"{host}:{port}"]


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError, ssl.SSLError):
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()


def _context(tls: TlsFiles, client_ca: Path, crl: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(tls.certificate, tls.key)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(client_ca)
    if crl is not None:
        context.load_verify_locations(crl)
        context.verify_flags |= ssl.VERIFY_CRL_CHECK_LEAF
    context.set_alpn_protocols(["h2", "http/1.1"])
    return context


def _certificate(writer: asyncio.StreamWriter) -> ClientCertificate:
    certificate = x509.load_der_x509_certificate(writer.get_extra_info("ssl_object").getpeercert(binary_form=True))
    subject = certificate.subject
    organizations = [str(each.value) for each in subject.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)]
    return ClientCertificate(
        _name(certificate),
        tuple(organizations[:_MOST_ORGANIZATIONS]),
        certificate.fingerprint(hashes.SHA256()).hex(),
    )


def _name(certificate: x509.Certificate) -> str:
    """The first URI among the names, such as a SPIFFE id, else the common name."""
    with contextlib.suppress(x509.ExtensionNotFound):
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        for uri in names.get_values_for_type(x509.UniformResourceIdentifier):
            return uri[:_LONGEST_NAME]
    common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(common[0].value) if common else ""
    if not name or not name.isprintable() or len(name) > _LONGEST_NAME:
        raise ValueError("the client certificate has no usable name")
    return name
