"""Who is at the other end of a connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trow.access.ports import ClientCertificate


@dataclass(frozen=True, slots=True)
class Peer:
    """The other end of a request.

    Attributes:
        address: the client's address without port.
        forwarded: the chain of addresses as proxies told it, "" without one.
        scheme: what the client used, http or https.
        host: the name that the client used for us, with its port if there is one; "" where it is not a host.
        certificate: the verified client certificate.
        connection: address and port at the other end of the connection to our own listener, "" for other listeners.
    """

    address: str
    forwarded: str
    scheme: str
    host: str
    certificate: ClientCertificate | None = None
    connection: str = ""
