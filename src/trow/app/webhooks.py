"""The API server's calls: the certificate that the webhooks show, and the configurations that make it call."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, TypeAlias

from trow.admission.ports import NotReady
from trow.app.kubernetes import client_of
from trow.lib.background import in_background
from trow.lib.file_watch import FileChanges
from trow.policy.vap.namespace_expressions import labels_as_names
from trow.policy.webhooks import WebhookClient, WebhookScope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from trow.app.admission import AdmissionPart
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.policy.rules import Policy
    from trow.tls.webhook_listener import WebhookListener

    # The authorities to be trusted, given those that are trusted now; None while there are none.
    Bundle: TypeAlias = Callable[[bytes], Awaitable[bytes | None]]


@contextlib.asynccontextmanager
async def called_by_api_servers(
    config: Config, listener: WebhookListener, admission: AdmissionPart, metrics: Metrics
) -> AsyncIterator[None]:
    """Have the listener show a good certificate, and API servers call it, until the end.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    async with contextlib.AsyncExitStack() as stack:
        enter = stack.enter_async_context
        if config.admission.tls is not None:
            files, authority = listener.files, config.admission.ca_file
            changes = await FileChanges.since_now([files.certificate, files.key])
            await listener.load()
            await enter(in_background(lambda: changes.follow(listener.load)))

            async def bundle(_: bytes) -> bytes:
                # It is renewed with the certificate.
                return await asyncio.to_thread(authority.read_bytes) if authority is not None else b""

            await enter(_configurations(config, admission, bundle, metrics))
        else:
            kept = await enter(_certificate_in_cluster(config, listener, metrics))
            await enter(_configurations(config, admission, kept, metrics))
        yield


@contextlib.asynccontextmanager
async def _certificate_in_cluster(config: Config, listener: WebhookListener, metrics: Metrics) -> AsyncIterator[Bundle]:
    from trow.controllers.webhook_certificates import CertificatePlan, WebhookCertificates  # noqa: PLC0415 - see trow.app.kubernetes
    from trow.kube.objects import Objects  # noqa: PLC0415
    from trow.tls.authority import Lifetimes  # noqa: PLC0415
    from trow.tls.certificate_copy import CertificateCopy  # noqa: PLC0415

    settings, service = config.admission, config.admission.service
    assert service is not None  # noqa: S101 - see trow.config.check
    life = settings.certificate_lifetime
    lifetimes = Lifetimes(settings.authority_lifetime, life, min(Lifetimes().grace, life / 10))
    names, written = settings.callable_names, settings.webhooks
    plan = CertificatePlan(service.namespace, settings.secret, names, written, lifetimes, settings.owner)
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


@contextlib.asynccontextmanager
async def _configurations(
    config: Config, admission: AdmissionPart, bundle: Bundle, metrics: Metrics
) -> AsyncIterator[None]:
    settings, controllers = config.admission, admission.controllers
    service, url = settings.service, settings.url or ""
    if settings.webhooks is None or not (service or url) or not config.judges_images:
        yield
        return
    from trow.controllers.webhooks import WebhookConfigurations  # noqa: PLC0415
    from trow.kube.objects import Objects  # noqa: PLC0415 - see trow.app.kubernetes

    async def webhook_client(present: bytes) -> WebhookClient | None:
        found = await bundle(present)
        if found is None or service is None:
            return None if found is None else WebhookClient(url, "default", bundle=found)
        return WebhookClient(url, service.namespace, service.name, service.port, found)

    enforced = controllers.compiled if controllers is not None else None

    def compiled(policy: Policy) -> bool:
        return enforced is not None and enforced.enforces(policy)

    def scope() -> WebhookScope | None:
        # At a start, before it is known what the API server enforces, an answer would be insisted on that nobody needs.
        if enforced is not None and not enforced.known:
            return None
        try:
            rules = admission.store.rules()
        except NotReady:
            return None
        policies = labels_as_names(rules.policies, controllers.policies.namespaces if controllers else {})
        extra = [(each.object_kind, each.resource) for each in settings.extra_kinds]
        excluded = settings.excluded_namespaces
        return WebhookScope(policies, compiled, rules.exceptions, settings.registry_names, excluded, extra)

    async with client_of(config.kubernetes, metrics.kubernetes) as client:
        webhooks = WebhookConfigurations(Objects(client), settings.webhooks, webhook_client, scope, settings.owner)
        if controllers is not None:
            controllers.policies.on_reconciled(webhooks.trigger)
        metrics.add_gauge(
            "trow_webhooks_kept",
            "1 while the API server asks this Trow about images, else 0",
            lambda: float(webhooks.in_step),
        )
        async with in_background(webhooks.run):
            yield
