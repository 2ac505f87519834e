"""A Trow with a listener for webhooks, and where its certificate comes from: files as cert-manager writes them."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

import trustme

from support.admission import Answer, body, pod
from support.waiting import until
from support.wire import Wire

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Trow

OURS: Final = "registry.example.com/team/web:1"
ALIEN: Final = "docker.io/library/nginx:1.27"
# Only ours may run.
VALIDATION: Final = {"default": "Deny", "allow": ["registry.example.com"]}
JSON: Final = [("Content-Type", "application/json")]


class CertManager:
    """Writes certificates as a volume of a Secret shows them: both files change at once, by one link.

    Attributes:
        bundle: of the authority, PEM.
        context: of a client that trusts it.
    """

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self._ca = trustme.CA()
        self._number = 0
        self.bundle = self._ca.cert_pem.bytes()
        self.ca = folder / "ca.crt"
        self.ca.write_bytes(self.bundle)
        self.context = ssl.create_default_context(cadata=self.bundle.decode())
        self.issue()
        for name in ("tls.crt", "tls.key"):
            (folder / name).symlink_to(f"..data/{name}")

    def issue(self, *, key: bytes = b"") -> bytes:
        """The next certificate, in DER; with `key` in place of its own."""
        issued = self._ca.issue_cert("127.0.0.1", "trow.trow.svc")
        self._number += 1
        folder = self._folder / f"..{self._number}"
        folder.mkdir()
        (folder / "tls.crt").write_bytes(b"".join(each.bytes() for each in issued.cert_chain_pems))
        (folder / "tls.key").write_bytes(key or issued.private_key_pem.bytes())
        fresh = self._folder / "..fresh"
        fresh.symlink_to(folder.name)
        fresh.rename(self._folder / "..data")
        return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())

    @property
    def settings(self) -> dict[str, str]:
        return {"certificate": str(self._folder / "tls.crt"), "key": str(self._folder / "tls.key")}


class Guard:
    """The listener for webhooks of a Trow, which is the last one in its banner."""

    def __init__(self, trow: Trow, context: ssl.SSLContext) -> None:
        self.trow = trow
        self.context = context
        self.url = trow.urls[-1]
        self.host = self.url.partition("://")[2]

    def wire(self) -> Wire:
        return Wire(self.host, self.context)

    def certificate(self) -> bytes | None:
        """What a new connection is shown, in DER."""
        with self.wire() as wire:
            return shown(wire)

    def wait_until_shown(self, certificate: bytes) -> None:
        """Until new connections are shown this one, in DER."""
        until(lambda: self.certificate() == certificate)

    def logged(self, text: str) -> int:
        """How often something is in the log."""
        return self.trow.stderr.read_bytes().count(text.encode())


def shown(wire: Wire) -> bytes | None:
    assert isinstance(wire.socket, ssl.SSLSocket)
    return wire.socket.getpeercert(binary_form=True)


def ask(wire: Wire, image: str, path: str = "/admission/validate") -> bool:
    """Whether a Pod with this image is allowed."""
    answer = wire.ask("POST", path, JSON, body(pod(image)))
    assert answer.status == 200, answer
    return Answer.of(answer.body).allowed
