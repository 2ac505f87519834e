"""What `trow serve` says to the person who started it."""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING

import trow
from trow.config import Bind

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.config import Auth, Config

_OTHERS = {"none": "do nothing", "pull": "pull", "all": "pull, push and delete"}


def banner(config: Config, addresses: Sequence[str]) -> str:
    """A few lines about what is served.

    Args:
        config: what was asked for.
        addresses: each HOST:PORT that listens, with the port that the kernel chose.
    """
    binds = [Bind.parse(address) for address in addresses]
    scheme = "https" if config.listen.tls else "http"
    facts = [
        *[("listening", f"{scheme}://{bind}") for bind in binds],
        ("data", str(config.data_dir.absolute())),
        ("TLS", f"certificate {config.listen.tls.certificate}" if config.listen.tls else "off"),
        *[("access", text) for text in _access(config.auth)],
        ("limits", ", ".join(_limits(config))),
        ("push", f"docker push {_reachable(binds[0])}/NAME:TAG"),
    ]
    return "\n".join(
        [f"Trow {trow.__version__}", *[f"  {name:12}{text}" for name, text in facts], *_warnings(config, binds)]
    )


def _access(auth: Auth) -> Iterator[str]:
    if auth.user is not None:
        yield f"user {auth.user} may do everything"
    yield f"without credentials: {_OTHERS[auth.anonymous_access]}"


def _limits(config: Config) -> Iterator[str]:
    yield f"manifests up to {config.registry.max_manifest_size.text}"
    yield f"blobs up to {config.registry.max_blob_size.text}"
    if rate := config.limits.requests_per_second:
        yield f"{rate} requests a second for each client"


def _warnings(config: Config, binds: Sequence[Bind]) -> Iterator[str]:
    if config.auth.anonymous_access == "all" and not all(map(_is_loopback, binds)):
        yield "WARNING: everybody who reaches this address may push and delete; set --user and --password-file."
    if config.auth.user is not None and config.listen.tls is None and not all(map(_is_loopback, binds)):
        yield "WARNING: passwords cross the network unencrypted; set --tls, or put a proxy with TLS in front."


def _is_loopback(bind: Bind) -> bool:
    try:
        return ipaddress.ip_address(bind.host).is_loopback
    except ValueError:
        return bind.host == "localhost"


def _reachable(bind: Bind) -> str:
    """An address to connect to: the wildcard addresses are only for listening."""
    return f"localhost:{bind.port}" if bind.host in ("0.0.0.0", "::") else bind  # noqa: S104 (compared, not bound)
