"""Where the API server is, and how Trow shows it who it is: as the Pod it runs in, or by a kubeconfig file."""

from __future__ import annotations

import base64
import binascii
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self, TypeAlias, TypeVar

import msgspec
import yaml
from msgspec import Struct

from trow.lib.urls import problem_with

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Where the kubelet puts the credentials of a Pod's ServiceAccount.
IN_POD: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_LONGEST_FILE: Final = 1 << 20

# A file, which may be renewed, or what would stand in it.
Pem: TypeAlias = Path | str | None


class AccessError(ValueError):
    """The way to the API server is not or wrongly described; the message names the file and the fix."""


@dataclass(frozen=True, slots=True)
class Access:
    """The way to one API server.

    Attributes:
        url: https, or http on loopback (``kubectl proxy``).
        ca: who signed the server's certificate; None leaves it to the authorities of the system.
        token: Trow's own bearer token, or the file that always has the current one; "" is none.
        certificate, key: a client certificate instead.
    """

    url: str
    ca: Pem = None
    token: Path | str = field(default="", repr=False)
    certificate: Pem = field(default=None, repr=False)
    key: Pem = field(default=None, repr=False)

    def __post_init__(self) -> None:
        """Refuse what could send a token in the clear or to nobody."""
        if problem := problem_with(self.url):
            raise AccessError(f"the API server's URL {self.url!r} {problem}; write it as https://HOST:PORT")

    @classmethod
    def in_pod(cls, environment: Mapping[str, str], folder: Path = IN_POD) -> Self:
        """The API server of the cluster that this process is a part of."""
        host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "443")
        token, ca = folder / "token", folder / "ca.crt"
        if not host or not token.exists():
            raise AccessError(
                f"this is no Pod with a ServiceAccount (KUBERNETES_SERVICE_HOST or {token} is missing); run Trow in the"
                " cluster with automountServiceAccountToken, or configure a kubeconfig file"
            )
        return cls(f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}", ca=ca, token=token)

    @classmethod
    def from_kubeconfig(cls, path: Path, context: str = "") -> Self:
        """What a kubeconfig file says of its current context, or of the one named."""
        config = _convert(path, "the file", _read_yaml(path), _Kubeconfig)
        wanted = context or config.current_context
        chosen = _convert(path, f"context {wanted!r}", _named(path, "context", config.contexts, wanted), _Context)
        cluster = _convert(
            path, f"cluster {chosen.cluster!r}", _named(path, "cluster", config.clusters, chosen.cluster), _Cluster
        )
        user = _convert(path, f"user {chosen.user!r}", _named(path, "user", config.users, chosen.user), _User)
        try:
            return cls(cluster.server, *_credentials(path, cluster, user))
        except AccessError as error:
            raise AccessError(f"{path}: cluster {chosen.cluster!r}: {error}") from None

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
        """Have the context trust the authority, once more when its file was renewed."""
        if isinstance(self.ca, Path):
            context.load_verify_locations(cafile=self.ca)
        elif self.ca is not None:
            context.load_verify_locations(cadata=self.ca)


# Only what is used of a kubeconfig file. Other contexts are not looked into: they may hold what is unknown here.
class _Named(Struct, frozen=True):
    name: str
    context: Any = None
    cluster: Any = None
    user: Any = None


class _Kubeconfig(Struct, frozen=True, rename="kebab"):
    contexts: tuple[_Named, ...]
    clusters: tuple[_Named, ...]
    users: tuple[_Named, ...]
    current_context: str = ""


class _Context(Struct, frozen=True, forbid_unknown_fields=True):
    cluster: str
    user: str
    namespace: str = ""
    extensions: Any = None


class _Cluster(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    extensions: Any = None


class _User(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    token: str = ""
    tokenfile: str = msgspec.field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    extensions: Any = None


_Part = TypeVar("_Part", bound=Struct)


def _read_yaml(path: Path) -> object:
    try:
        with path.open("rb") as file:
            raw = file.read(_LONGEST_FILE + 1)
        if len(raw) > _LONGEST_FILE:
            raise AccessError(f"{path} is larger than {_LONGEST_FILE} bytes; that is no kubeconfig file")
        return yaml.safe_load(raw)
    except OSError as error:
        raise AccessError(f"{path} cannot be read ({error.strerror}); name a kubeconfig file") from None
    except (yaml.YAMLError, UnicodeError, RecursionError):
        # What the parser quotes of the file may be a key.
        raise AccessError(f"{path} is not YAML; write it anew with kubectl config view --raw --minify") from None


def _convert(path: Path, part: str, raw: object, kind: type[_Part]) -> _Part:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise AccessError(
            f"{path}: {part}: {error}; usable are server, certificate-authority, token, tokenFile, client-certificate"
            " and client-key, and the -data forms: make a context with a ServiceAccount's token"
        ) from None


def _named(path: Path, kind: str, parts: Sequence[_Named], name: str) -> object:
    for part in parts:
        if part.name == name:
            return getattr(part, kind)
    raise AccessError(f"{path} has no {kind} named {name!r}; choose one with kubectl config use-context")


def _credentials(path: Path, cluster: _Cluster, user: _User) -> tuple[Pem, Path | str, Pem, Pem]:
    def pem(key: str, file: str, data: str) -> Pem:
        return _decoded(path, f"{key}-data", data) if data else path.parent / file if file else None

    return (
        pem("certificate-authority", cluster.certificate_authority, cluster.certificate_authority_data),
        path.parent / user.tokenfile if user.tokenfile else user.token,
        pem("client-certificate", user.client_certificate, user.client_certificate_data),
        pem("client-key", user.client_key, user.client_key_data),
    )


def _decoded(path: Path, key: str, data: str) -> str:
    try:
        return base64.b64decode(data, validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        raise AccessError(f"{path}: {key} is not PEM in base64; write it anew with kubectl config view --raw") from None


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
