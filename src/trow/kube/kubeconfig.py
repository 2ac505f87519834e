"""Kubeconfig files: several merged into one, and the cluster and user of a context, as kubectl takes them.

https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/ and
https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/. What Trow does not do is refused, never passed over.
"""

from __future__ import annotations

import base64
import binascii
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import msgspec
import yaml
from msgspec import Struct

from trow.kube.access import AccessError, ClusterAccess
from trow.kube.exec_plugin import ExecCluster, ExecConfig, ExecPlugin

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from trow.kube.access import Pem, TokenSource

PLUGIN_SECONDS: Final = 60.0
LONGEST_KUBECONFIG: Final = 1 << 20
_USABLE: Final = (
    "usable are server, certificate-authority, tls-server-name, token, tokenFile, client-certificate, client-key and"
    " exec, and the -data forms: make a context with a ServiceAccount's token"
)
# The extension of a cluster that client-go hands to plugins.
_EXEC_EXTENSION: Final = "client.authentication.k8s.io/exec"


def kubeconfig_files(environment: Mapping[str, str], home: Path) -> list[Path]:
    """The files that kubectl reads where no --kubeconfig is given: those of KUBECONFIG, else ~/.kube/config.

    Files of KUBECONFIG that do not exist are passed over, unless none does.
    """
    named = [Path(name) for name in environment.get("KUBECONFIG", "").split(os.pathsep) if name]
    return [path for path in named if path.exists()] or named[:1] or [home / ".kube" / "config"]


def access_of_command(
    kubeconfig: Path | None, context: str, environment: Mapping[str, str] = os.environ, home: Path | None = None
) -> ClusterAccess:
    """The way to the cluster that a command is about; credential plugins may run.

    Args:
        kubeconfig: the file; None takes those that kubectl would.
        context: its name there; "" is the current one.
        environment: of the user.
        home: the user's folder; None takes that of this process's user.

    Raises:
        AccessError: see `cluster_access_of`.
    """
    files = [kubeconfig] if kubeconfig is not None else kubeconfig_files(environment, home or Path.home())
    return cluster_access_of(files, context, run_plugins=True)


def cluster_access_of(files: Sequence[Path], context: str = "", *, run_plugins: bool = False) -> ClusterAccess:
    """The way to the API server of the current context, or of the one named.

    Args:
        files: the first one that has a context, cluster, user or current context of a name counts.
        context: its name; "" is the current one.
        run_plugins: whether credential plugins may run; else a user who needs one is refused.

    Raises:
        AccessError: something is missing, wrong or not usable, or a plugin failed.
    """
    read = [(path, _convert(path, "the file", _read_yaml(path), _Kubeconfig)) for path in files]
    wanted = context or next((config.current_context for _, config in read if config.current_context), "")
    chosen = _find(read, "context", wanted, _Context).part
    cluster, user = _find(read, "cluster", chosen.cluster, _Cluster), _find(read, "user", chosen.user, _User)
    settings = cluster.part
    if settings.insecure_skip_tls_verify:
        raise cluster.refusal(
            "insecure-skip-tls-verify lets anybody answer for the cluster; write its CA to certificate-authority-data"
        )
    if settings.proxy_url:
        raise cluster.refusal(
            "proxy-url is not supported; run kubectl proxy, and use a context with server: http://127.0.0.1:8001"
        )
    ca = cluster.pem("certificate-authority", settings.certificate_authority, settings.certificate_authority_data)
    token, certificate, key = _credentials(user, cluster, ca, run_plugins=run_plugins)
    try:
        return ClusterAccess(settings.server, ca, token, certificate, key, settings.tls_server_name)
    except AccessError as error:
        raise cluster.refusal(str(error)) from None


# Contexts, clusters and users that are not chosen are not looked into: they may hold what is unknown here.
class _Entry(Struct, frozen=True):
    name: str
    context: Any = None
    cluster: Any = None
    user: Any = None


class _Kubeconfig(Struct, frozen=True, rename="kebab"):
    contexts: tuple[_Entry, ...] | None = None
    clusters: tuple[_Entry, ...] | None = None
    users: tuple[_Entry, ...] | None = None
    current_context: str | None = None


class _Context(Struct, frozen=True, forbid_unknown_fields=True):
    cluster: str
    user: str
    namespace: str = ""
    extensions: Any = None


class _Extension(Struct, frozen=True):
    name: str
    extension: Any = None


class _Cluster(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    server: str
    certificate_authority: str = ""
    certificate_authority_data: str = ""
    tls_server_name: str = ""
    insecure_skip_tls_verify: bool = False
    proxy_url: str = ""
    disable_compression: bool = False
    extensions: tuple[_Extension, ...] | None = None


class _User(Struct, frozen=True, rename="kebab", forbid_unknown_fields=True):
    token: str = ""
    token_file: str = msgspec.field(default="", name="tokenFile")
    client_certificate: str = ""
    client_certificate_data: str = ""
    client_key: str = ""
    client_key_data: str = ""
    exec: ExecConfig | None = None
    extensions: Any = None


_Part = TypeVar("_Part", bound=Struct)


class _Found(Struct, Generic[_Part]):
    """A part of a file."""

    path: Path
    title: str
    part: _Part

    def refusal(self, why: str) -> AccessError:
        return AccessError(f"{self.path}: {self.title}: {why}")

    def pem(self, key: str, file: str, data: str) -> Pem:
        """The content of the -data form, else the file, which is beside this one unless its path is absolute."""
        if not data:
            return self.path.parent / file if file else None
        try:
            return base64.b64decode(data, validate=True).decode("ascii")
        except (binascii.Error, ValueError):
            raise self.refusal(
                f"{key}-data is not PEM in base64; write the file again with kubectl config view --raw"
            ) from None


def _read_yaml(path: Path) -> object:
    try:
        with path.open("rb") as file:
            raw = file.read(LONGEST_KUBECONFIG + 1)
        if len(raw) > LONGEST_KUBECONFIG:
            raise AccessError(f"{path} is larger than {LONGEST_KUBECONFIG} bytes; name a kubeconfig file")
        return yaml.safe_load(raw)
    except OSError as error:
        raise AccessError(f"{path} cannot be read ({error.strerror}); name a kubeconfig file") from None
    except (yaml.YAMLError, UnicodeError, RecursionError):
        # What the parser quotes of the file may be a key.
        raise AccessError(f"{path} is not YAML; write it again with kubectl config view --raw --minify") from None


def _convert(path: Path, part: str, raw: object, kind: type[_Part]) -> _Part:
    try:
        return msgspec.convert(raw, kind)
    except msgspec.ValidationError as error:
        raise AccessError(f"{path}: {part}: {error}; {_USABLE}") from None


def _find(read: Sequence[tuple[Path, _Kubeconfig]], kind: str, name: str, shape: type[_Part]) -> _Found[_Part]:
    title = f"{kind} {name!r}"
    for path, config in read:
        for entry in getattr(config, f"{kind}s") or ():
            if entry.name == name:
                return _Found(path, title, _convert(path, title, getattr(entry, kind), shape))
    names = ", ".join(str(path) for path, _ in read)
    raise AccessError(f"{names} has no {kind} named {name!r}; choose a context with kubectl config use-context")


def _credentials(
    user: _Found[_User], cluster: _Found[_Cluster], ca: Pem, *, run_plugins: bool
) -> tuple[TokenSource, Pem, Pem]:
    part = user.part
    certificate = user.pem("client-certificate", part.client_certificate, part.client_certificate_data)
    key = user.pem("client-key", part.client_key, part.client_key_data)
    token: TokenSource = user.path.parent / part.token_file if part.token_file else part.token
    if part.exec is None or token or certificate:
        return token, certificate, key
    if not run_plugins:
        raise user.refusal(
            f"`exec` runs the program {part.exec.command!r} for credentials, and a server runs no programs; make a"
            " context with a ServiceAccount's token"
        )
    try:
        told = None
        if part.exec.provide_cluster_info:
            content = ca.read_text("ascii") if isinstance(ca, Path) else ca or ""
            extensions = {each.name: each.extension for each in reversed(cluster.part.extensions or ())}
            told = ExecCluster(
                cluster.part.server,
                cluster.part.tls_server_name,
                base64.b64encode(content.encode()).decode(),
                extensions.get(_EXEC_EXTENSION),
            )
        plugin = ExecPlugin(part.exec, user.path.parent, told, seconds=PLUGIN_SECONDS)
        found = plugin.credentials()
    except (OSError, ValueError) as error:
        raise user.refusal(str(error)) from None
    return plugin.token if found.token else "", found.client_certificate_data or None, found.client_key_data or None
