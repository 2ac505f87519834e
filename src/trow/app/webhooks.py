"""The API server's calls: the certificate that the webhooks show, and the configurations that make it call."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import urlsplit

from trow.admission.ports import NotReady
from trow.app.kubernetes import client_of
from trow.lib.background import in_background
from trow.lib.file_watch import on_change
from trow.policy.images import registry_of
from trow.policy.kinds import WELL_KNOWN
from trow.policy.pods import Kind
from trow.policy.vap.regions import by_names
from trow.policy.webhooks import Asking, Call, Resource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
    from pathlib import Path

    from trow.app.admission import Admission
    from trow.config import Config
    from trow.config.schema import Admission as Settings
    from trow.controllers.webhook_certificates import CertificatePlan
    from trow.http.metrics import Metrics
    from trow.policy.rules import Policy
    from trow.tls.webhook_listener import WebhookListener

    # The authorities to be trusted, given those that are trusted now; None while there are none.
    Bundle: TypeAlias = Callable[[bytes], Awaitable[bytes | None]]


@contextlib.asynccontextmanager
async def called_by_api_servers(
    config: Config, listener: WebhookListener, admission: Admission, metrics: Metrics
) -> AsyncIterator[None]:
    """Have the listener show a good certificate, and API servers call it, until the end.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    async with contextlib.AsyncExitStack() as stack:
        if config.admission.tls is not None:
            await stack.enter_async_context(_certificate_from_files(listener))
            bundle = _authority_from(config.admission.ca_file)
        else:
            bundle = await stack.enter_async_context(_certificate_in_cluster(config, listener, metrics))
        await stack.enter_async_context(_configurations(config, admission, bundle, metrics))
        yield


# ---- the certificate


@contextlib.asynccontextmanager
async def _certificate_from_files(listener: WebhookListener) -> AsyncIterator[None]:
    await listener.load()
    async with in_background(lambda: on_change([listener.files.certificate, listener.files.key], listener.load)):
        yield


def _authority_from(file: Path | None) -> Bundle:
    """The authority of a certificate in files; it is renewed like that."""

    async def bundle(present: bytes) -> bytes:
        del present
        return await asyncio.to_thread(file.read_bytes) if file is not None else b""

    return bundle


@contextlib.asynccontextmanager
async def _certificate_in_cluster(config: Config, listener: WebhookListener, metrics: Metrics) -> AsyncIterator[Bundle]:
    from trow.controllers.webhook_certificates import WebhookCertificates  # noqa: PLC0415 - see trow.app.kubernetes
    from trow.kube.objects import Objects  # noqa: PLC0415
    from trow.tls.certificate_copy import CertificateCopy  # noqa: PLC0415

    plan = _plan(config.admission)
    copy = CertificateCopy(listener.files.certificate, plan.names, listener.load)
    await copy.restore()
    metrics.add_gauge(
        "trow_webhook_certificate_expiry_timestamp_seconds",
        "When the webhooks' certificate ends, in seconds since 1970; 0 while there is none",
        lambda: copy.expires,
    )
    async with client_of(config.kubernetes, metrics.kubernetes) as client:
        certificates = WebhookCertificates(Objects(client), plan, copy.install)

        async def bundle(present: bytes) -> bytes | None:
            # The certificates alone change what callers trust: they know when that is safe.
            return present or certificates.bundle or None

        async with in_background(certificates.run):
            yield bundle


def _plan(settings: Settings) -> CertificatePlan:
    from trow.controllers.webhook_certificates import CertificatePlan  # noqa: PLC0415
    from trow.tls.authority import Lifetimes  # noqa: PLC0415

    assert settings.service is not None  # noqa: S101 - see trow.config.check
    name, namespace = settings.service.name, settings.service.namespace
    in_cluster = (f"{name}.{namespace}.svc", f"{name}.{namespace}", f"{name}.{namespace}.svc.cluster.local")
    by_url = (urlsplit(settings.url).hostname or "",) if settings.url else ()
    life = settings.certificate_lifetime
    lifetimes = Lifetimes(settings.authority_lifetime, life, min(Lifetimes().grace, life / 10))
    return CertificatePlan(
        namespace, settings.secret, (*in_cluster, *by_url, *settings.certificate_names), settings.webhooks, lifetimes
    )


# ---- the configurations


@contextlib.asynccontextmanager
async def _configurations(
    config: Config, admission: Admission, bundle: Bundle, metrics: Metrics
) -> AsyncIterator[None]:
    settings = config.admission
    if settings.webhooks is None or not (settings.service or settings.url) or not config.judges_images:
        yield
        return
    from trow.controllers.webhooks import WebhookConfigurations  # noqa: PLC0415
    from trow.kube.objects import Objects  # noqa: PLC0415 - see trow.app.kubernetes

    async def call(present: bytes) -> Call | None:
        found = await bundle(present)
        return None if found is None else _call(settings, found)

    async with client_of(config.kubernetes, metrics.kubernetes) as client:
        webhooks = WebhookConfigurations(Objects(client), settings.webhooks, call, lambda: _asking(settings, admission))
        if admission.controllers is not None:
            admission.controllers.policies.on_reconciled(webhooks.trigger)
        metrics.add_gauge(
            "trow_webhooks_kept",
            "1 while the API server asks this Trow about images, else 0",
            lambda: float(webhooks.in_step),
        )
        async with in_background(webhooks.run):
            yield


def _call(settings: Settings, bundle: bytes) -> Call:
    service, url = settings.service, settings.url or ""
    if service is None:
        return Call(url, "default", bundle=bundle)
    return Call(url, service.namespace, service.name, service.port, bundle)


def _asking(settings: Settings, admission: Admission) -> Asking | None:
    try:
        rules = admission.store.rules()
    except NotReady:
        return None
    controllers = admission.controllers
    enforced = controllers.compiled if controllers is not None else None
    # At a start, before that is known, an answer would be insisted on that nobody needs.
    if enforced is not None and not enforced.known:
        return None

    def compiled(policy: Policy) -> bool:
        return enforced is not None and enforced.enforces(policy)

    registries = [*map(registry_of, settings.registries)]
    policies = by_names(rules.policies, controllers.policies.namespaces if controllers else {})
    return Asking(policies, compiled, rules.exceptions, registries, settings.excluded_namespaces, [*_extra(settings)])


def _extra(settings: Settings) -> Iterator[Resource]:
    for each in settings.extra_kinds:
        kind = Kind(each.group, each.kind)
        if not kind.known and kind not in WELL_KNOWN:
            yield Resource(each.group, each.resource or "*")
