"""Where an API server is, and with which credentials Trow asks it: those of its Pod, or of a kubeconfig file."""

from __future__ import annotations

import ssl
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

from trow.lib.urls import problem_with

if TYPE_CHECKING:
    from collections.abc import Mapping

# Where the kubelet puts the credentials of a Pod's ServiceAccount.
IN_POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")

# A file, which may be renewed, or its content.
Pem: TypeAlias = Path | str | None
# A file that always has the current token, the token itself, or a function that returns it and may take long.
TokenSource: TypeAlias = Path | str | Callable[[], str]


class AccessError(ValueError):
    """This configuration does not lead to an API server; the message names the file and the fix."""


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """The way to one API server.

    Attributes:
        url: https, or http on loopback (``kubectl proxy``).
        ca: who signed the server's certificate; None leaves it to the authorities of the system.
        token: Trow's own bearer token; "" is none.
        certificate, key: a client certificate instead.
        server_name: the name in the server's certificate, where it is not that of the URL.
    """

    url: str
    ca: Pem = None
    token: TokenSource = field(default="", repr=False)
    certificate: Pem = field(default=None, repr=False)
    key: Pem = field(default=None, repr=False)
    server_name: str = ""

    def __post_init__(self) -> None:
        """Refuse a URL that would send the token unencrypted, or that is not one."""
        if problem := problem_with(self.url):
            raise AccessError(f"the API server's URL {self.url!r} {problem}; write it as https://HOST:PORT")

    @classmethod
    def in_pod(cls, environment: Mapping[str, str], folder: Path = IN_POD) -> Self:
        """The API server of the cluster that this process is a part of."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
        token, ca = folder / "token", folder / "ca.crt"
        if not host or not token.exists():
            raise AccessError(
                f"this is not a Pod with a ServiceAccount (KUBERNETES_SERVICE_HOST or {token} is missing); run Trow in"
                " the cluster with automountServiceAccountToken, or configure a kubeconfig file"
            )
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", ca=ca, token=token)

    def tls(self) -> ssl.SSLContext | None:
        """How connections are secured; None where the URL says http.

        Raises:
            AccessError: a certificate or key cannot be read or used.
        """
        if self.url.startswith("http:"):
            return None
        try:
            context = ssl.create_default_context() if self.ca is None else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            self.trust(context)
        except (OSError, ValueError) as error:
            raise AccessError(f"{_shown(self.ca)} does not hold certificates in PEM form ({_why(error)})") from None
        try:
            _present(context, self.certificate, self.key)
        except (OSError, ValueError) as error:
            shown = f"{_shown(self.certificate)} and {_shown(self.key)}"
            raise AccessError(f"{shown} are not a certificate in PEM form and its key ({_why(error)})") from None
        return context

    def trust(self, context: ssl.SSLContext) -> None:
        """Add the authority to the trusted ones; call it again when its file was renewed."""
        if isinstance(self.ca, Path):
            context.load_verify_locations(cafile=self.ca)
        elif self.ca is not None:
            context.load_verify_locations(cadata=self.ca)


def _present(context: ssl.SSLContext, certificate: Pem, key: Pem) -> None:
    if certificate is None and key is None:
        return
    # OpenSSL reads these from files alone. The folder is this user's only, and gone at once.
    with tempfile.TemporaryDirectory(prefix="trow-") as folder:
        context.load_cert_chain(_as_file(certificate, Path(folder) / "crt"), _as_file(key, Path(folder) / "key"))


def _as_file(pem: Pem, path: Path) -> Path:
    if isinstance(pem, Path):
        return pem
    path.write_text(pem or "", encoding="ascii")
    return path


def _shown(pem: Pem) -> str:
    return str(pem) if isinstance(pem, Path) else "the embedded data"


def _why(error: Exception) -> str:
    return (isinstance(error, OSError) and error.strerror) or type(error).__name__
