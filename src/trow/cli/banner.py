"""What `trow serve` says to the person who started it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trow
from trow.config import Bind
from trow.http.capacity import capacity_of
from trow.lib.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.config import Config

_UNASKED = "no API server can ask: there is no address for webhooks (admission.bind)"
_OTHERS = {"none": "do nothing", "pull": "pull", "all": "pull, push and delete"}


def banner(
    config: Config,
    addresses: Sequence[str],
    webhooks: Sequence[str] = (),
    probes: Sequence[str] = (),
    certified: Sequence[str] = (),
) -> str:
    """A few lines about what is served.

    Args:
        config: what was asked for.
        addresses: each HOST:PORT that listens, with the port that the kernel chose.
        webhooks: the same of those that serve webhooks alone.
        probes: the same of those that serve probes and metrics alone.
        certified: the same of those that let nobody in without a client certificate.
    """
    binds = [Bind.parse(address) for address in addresses]
    scheme = "https" if config.listen.tls else "http"
    facts = [
        *[("listening", f"{scheme}://{bind}") for bind in binds],
        *[("listening", f"https://{Bind.parse(each)} with a client certificate") for each in certified],
        *[("listening", f"https://{Bind.parse(address)} for webhooks") for address in webhooks],
        *[("listening", f"http://{Bind.parse(address)} for probes") for address in probes],
        ("data", str(config.data_dir.absolute())),
        ("TLS", f"certificate {config.listen.tls.certificate}" if config.listen.tls else "off"),
        *[("access", text) for text in _access(config)],
        *[("images", text) for text in _images(config)],
        ("limits", ", ".join(_limits(config))),
        ("push", f"docker push {_reachable(binds[0])}/NAME:TAG"),
    ]
    return "\n".join(
        [f"Trow {trow.__version__}", *[f"  {name:12}{text}" for name, text in facts], *_warnings(config, binds)]
    )


def _access(config: Config) -> Iterator[str]:
    auth, kubernetes = config.auth, config.kubernetes
    if not config.authenticated:
        yield "open to all: nobody has to log in"
        return
    if auth.user is not None:
        yield f"user {auth.user} may do everything"
    if auth.users_file is not None:
        yield f"users of {auth.users_file}"
    yield from (f"tokens of {issuer.issuer}" for issuer in auth.oidc)
    if kubernetes.audiences:
        yield f"ServiceAccount tokens for {', '.join(kubernetes.audiences)}"
    if kubernetes.authorization:
        yield "the cluster's RBAC decides what access.rules do not allow"
    yield f"without credentials: {_OTHERS[config.anonymous_access]}"


def _images(config: Config) -> Iterator[str]:
    """Which images may run; nothing where no cluster is expected to ask."""
    given, admission = config.image_validation, config.admission
    if given.default is not None:
        entries = f"{len(given.allow)} allowed, {len(given.deny)} denied, else {given.default}"
        yield entries if given.mode == "enforce" else f"{entries} (mode {given.mode})"
    if admission.policies:
        yield "by the policies of the cluster"
    if config.judges_images and admission.bind is None:
        yield "the API server can ask this registry" if admission.on_registry_addresses else _UNASKED
    if who := (*admission.pull_groups, *admission.pull_users):
        yield f"pulls of {', '.join(who)} are decided too"


def _limits(config: Config) -> Iterator[str]:
    yield f"manifests up to {config.registry.max_manifest_size.text}"
    yield f"blobs up to {config.registry.max_blob_size.text}"
    if rate := config.limits.requests_per_second:
        yield f"{rate} requests a second for each client"
    room = capacity_of(config)
    yield f"{room.connections} clients connected at a time, {room.each} of one address"


def _warnings(config: Config, binds: Sequence[Bind]) -> Iterator[str]:
    if all(is_loopback(bind.host) for bind in binds):
        return
    if config.judges_images and config.admission.on_registry_addresses:
        yield "WARNING: everybody who reaches this address may send reviews (admission.on_registry_addresses)."
    if config.open_to_all:
        yield "WARNING: everybody who reaches this address may push and delete; set --user and --password-file."
    if config.authenticated and config.listen.tls is None:
        yield "WARNING: passwords cross the network unencrypted; set --tls, or put a proxy with TLS in front."


def _reachable(bind: Bind) -> str:
    """An address to connect to: the wildcard addresses are only for listening."""
    return f"localhost:{bind.port}" if bind.host in ("0.0.0.0", "::") else bind  # noqa: S104 (compared, not bound)
