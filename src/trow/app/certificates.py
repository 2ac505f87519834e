"""The listener for webhooks alone, and its certificate: from files, or kept in the cluster."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from trow.app.background import beside
from trow.app.kubernetes import client_of
from trow.app.webhooks import called
from trow.http.capacity import capacity_of
from trow.http.server import watch
from trow.oci.errors import Unavailable
from trow.tls.files import TlsFiles
from trow.tls.terminator import Room, TlsTerminator

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from pathlib import Path

    from trow.app.admission import Admission
    from trow.app.webhooks import Bundle
    from trow.config import Config
    from trow.config.schema import Admission as Settings
    from trow.controllers.webhook_certificates import Plan
    from trow.http.dispatch import Dispatcher
    from trow.http.metrics import Metrics
    from trow.http.server import Address
    from trow.tls.authority import Leaf
    from trow.tls.inner_socket import InnerSocket

log = logging.getLogger(__name__)

# Everything that is served there; the rest of the registry is nothing to the API server.
WEBHOOK_PATHS: Final = frozenset(
    {
        "/admission/validate",
        "/admission/mutate",
        "/admission/reach",
        "/validate-image",
        "/healthz",
        "/readyz",
        "/readiness",
    }
)
# Certificate and key in one file, below the data directory.
_KEPT: Final = ("keys", "webhook.pem")


class WebhookFront:
    """Ends TLS for the webhooks: from the first certificate on, and with each other one from the next connection on.

    Args:
        files: certificate and key; they may come later.
        room: how many connections there may be.
    """

    def __init__(self, files: TlsFiles, room: Room) -> None:
        self.files = files
        self.tunnels = TlsTerminator(files, room=room)
        self._addresses: Sequence[Address] = ()
        self._upstream: InnerSocket | None = None
        self._listening = False

    def place(self, addresses: Sequence[Address], upstream: InnerSocket) -> None:
        """Say where to listen, and where the HTTP server is."""
        self._addresses, self._upstream = addresses, upstream

    def show(self) -> None:
        """Take up the files as they are now.

        Raises:
            OSError: they cannot be used; what was shown before is shown on.
        """
        self.tunnels.renew()
        if not self._listening and self._upstream is not None:
            for address in self._addresses:
                self.tunnels.start(address.reservation, self._upstream)
            self._listening = True

    async def check(self) -> None:
        """Whether the API server can call.

        Raises:
            Unavailable: there was no certificate yet.
        """
        if not self._listening:
            raise Unavailable("there is no certificate for the webhooks yet; see the log for why")


@dataclass(frozen=True, slots=True)
class Webhooks:
    """What the listener for webhooks needs."""

    dispatcher: Dispatcher
    front: WebhookFront
    admission: Admission


def webhook_front(config: Config) -> WebhookFront | None:
    """The listener as the settings say, which listens on nothing yet; None where none is wanted."""
    settings = config.admission
    if settings.bind is None:
        return None
    room = Room(capacity_of(config).tunnels)
    if settings.tls is not None:
        return WebhookFront(TlsFiles(settings.tls.certificate, settings.tls.key), room)
    kept = config.data_dir.joinpath(*_KEPT)
    return WebhookFront(TlsFiles(kept, kept), room)


@contextlib.asynccontextmanager
async def certified(config: Config, webhooks: Webhooks, metrics: Metrics) -> AsyncIterator[None]:
    """Have the listener show a good certificate, and the API server call it, until the end.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    async with contextlib.AsyncExitStack() as stack:
        if config.admission.tls is not None:
            await stack.enter_async_context(_from_files(webhooks.front))
            bundle = _read(config.admission.ca_file)
        else:
            bundle = await stack.enter_async_context(_kept(config, webhooks.front, metrics))
        await stack.enter_async_context(called(config, webhooks.admission, bundle, metrics))
        yield


@contextlib.asynccontextmanager
async def _from_files(front: WebhookFront) -> AsyncIterator[None]:
    front.show()

    async def show() -> None:
        front.show()

    async with beside(lambda: watch([front.files.certificate, front.files.key], show)):
        yield


def _read(file: Path | None) -> Bundle:
    """The authority of a certificate in files; renewed like that."""

    async def bundle(present: bytes) -> bytes:
        del present
        return await asyncio.to_thread(file.read_bytes) if file is not None else b""

    return bundle


@contextlib.asynccontextmanager
async def _kept(config: Config, front: WebhookFront, metrics: Metrics) -> AsyncIterator[Bundle]:
    from trow.controllers.webhook_certificates import WebhookCertificates  # noqa: PLC0415 - see trow.app.kubernetes
    from trow.kube.objects import Objects  # noqa: PLC0415

    plan = _plan(config.admission)
    copy = _Copy(front, plan.names)
    metrics.add_gauge(
        "trow_webhook_certificate_expiry_timestamp_seconds",
        "When the webhooks' certificate ends, in seconds since 1970; 0 while there is none",
        lambda: copy.expires,
    )
    async with contextlib.AsyncExitStack() as stack:
        client = await stack.enter_async_context(client_of(config.kubernetes, metrics.kubernetes))
        certificates = WebhookCertificates(Objects(client), plan, copy.take)
        await stack.enter_async_context(beside(certificates.run))

        async def bundle(present: bytes) -> bytes | None:
            # What callers trust is changed by the certificates alone, which know when it may be.
            return present or certificates.bundle or None

        yield bundle


def _plan(settings: Settings) -> Plan:
    from trow.controllers.webhook_certificates import Plan  # noqa: PLC0415
    from trow.tls.authority import Lifetimes  # noqa: PLC0415

    assert settings.service is not None  # noqa: S101 - see trow.config.check
    name, namespace = settings.service.name, settings.service.namespace
    in_cluster = (f"{name}.{namespace}.svc", f"{name}.{namespace}", f"{name}.{namespace}.svc.cluster.local")
    by_url = (urlsplit(settings.url).hostname or "",) if settings.url else ()
    life = settings.certificate_lifetime
    lifetimes = Lifetimes(settings.authority_lifetime, life, min(Lifetimes().slack, life / 10))
    return Plan(namespace, settings.secret, (*in_cluster, *by_url, *settings.names), settings.webhooks, lifetimes)


class _Copy:
    """The certificate of the cluster in a file, with which a start does not have to wait for the API server.

    Attributes:
        expires: when the certificate ends, 0 without one.
    """

    def __init__(self, front: WebhookFront, names: Sequence[str]) -> None:
        self.expires = 0.0
        self._front = front
        self._path = front.files.certificate
        self._shown = self._left_over(names)

    def take(self, leaf: Leaf) -> None:
        """Show this one from now on.

        Raises:
            OSError: it cannot be written.
        """
        if leaf.pem == self._shown:
            return
        _write(self._path, leaf.pem)
        self._front.show()
        self._shown, self.expires = leaf.pem, leaf.end

    def _left_over(self, names: Sequence[str]) -> bytes:
        """What the last run has left, and is shown now if it is still good; else b""."""
        from trow.tls.authority import Leaf  # noqa: PLC0415

        try:
            found = self._path.read_bytes()
            leaf = Leaf.read(found, found)
            if leaf.end <= time.time() or not leaf.covers(names):
                return b""
            self._front.show()
        except (OSError, ValueError):
            return b""
        self.expires = leaf.end
        return leaf.pem


def _write(path: Path, content: bytes) -> None:
    """Whoever reads sees the old file or the new one. It is a copy: after a crash it is as good not to have it."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(content)
    fresh.replace(path)
