"""Whether a server takes connections, which certificate it shows, and whether that is trusted.

Nothing is sent but the handshake. Requests are sent by `trow.lib.http_client` alone.
"""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class NoHandshakeError(Exception):
    """The server does not speak TLS."""


async def connect(address: str, port: int) -> None:
    """Open a connection, and end it at once.

    Raises:
        OSError: it cannot be opened.
    """
    _, writer = await asyncio.open_connection(address, port)
    writer.transport.abort()


async def certificate_of(address: str, port: int, host: str) -> bytes:
    """The certificate that a server shows for the name ``host``, in DER, trusted or not.

    Raises:
        NoHandshakeError: it does not speak TLS.
        OSError: it cannot be connected to.
    """
    shown = await _shake(address, port, host, trusting_all())
    if shown is None:
        raise NoHandshakeError
    return shown


async def distrust(address: str, port: int, host: str, trust: ssl.SSLContext) -> str:
    """Why a server that speaks TLS is not trusted, as OpenSSL says it; "" if it is.

    Raises:
        OSError: it cannot be connected to.
    """
    try:
        await _shake(address, port, host, trust)
    except ssl.SSLCertVerificationError as error:
        return error.verify_message
    except NoHandshakeError:
        return "the handshake fails"
    return ""


def trust_of(ca: Path | str | None) -> ssl.SSLContext:
    """Whom to trust: the authorities of the system, and those in a file or text in PEM form.

    Raises:
        OSError: the file cannot be read, or holds no certificates.
    """
    context = ssl.create_default_context()
    if isinstance(ca, str):
        context.load_verify_locations(cadata=ca)
    elif ca is not None:
        context.load_verify_locations(cafile=ca)
    return context


def trusting_all() -> ssl.SSLContext:
    """A context that trusts every certificate: for requests without secrets whose answers grant nothing."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


async def _shake(address: str, port: int, host: str, context: ssl.SSLContext) -> bytes | None:
    try:
        _, writer = await asyncio.open_connection(address, port, ssl=context, server_hostname=host)
    except ssl.SSLCertVerificationError:
        raise
    except (ssl.SSLError, ConnectionResetError, asyncio.IncompleteReadError):
        raise NoHandshakeError from None
    try:
        secured: ssl.SSLObject = writer.get_extra_info("ssl_object")
        return secured.getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
