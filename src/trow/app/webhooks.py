"""The API server's side of the webhooks: their configurations, written when it reaches this Trow."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeAlias

from trow.admission.ports import NotReady
from trow.app.background import beside
from trow.app.kubernetes import client_of
from trow.policy.images import registry_of
from trow.policy.kinds import WELL_KNOWN
from trow.policy.pods import Kind
from trow.policy.vap.regions import by_names
from trow.policy.webhooks import Asking, Call, Resource

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

    from trow.app.admission import Admission
    from trow.config import Config
    from trow.config.schema import Admission as Settings
    from trow.http.metrics import Metrics
    from trow.policy.rules import Policy

    # The authorities to be trusted, given those that are trusted now; None while there are none.
    Bundle: TypeAlias = Callable[[bytes], Awaitable[bytes | None]]


@contextlib.asynccontextmanager
async def called(config: Config, admission: Admission, bundle: Bundle, metrics: Metrics) -> AsyncIterator[None]:
    """Have the API server call this Trow, where the settings say how, until the end.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
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
        kept = WebhookConfigurations(Objects(client), settings.webhooks, call, lambda: _asking(settings, admission))
        if admission.controller is not None:
            admission.controller.follower.on_kept(kept.wake)
        metrics.add_gauge(
            "trow_webhooks_kept", "1 while the API server asks this Trow about images, else 0", lambda: float(kept.kept)
        )
        async with beside(kept.run):
            yield


def _call(settings: Settings, bundle: bytes) -> Call:
    service, url = settings.service, settings.url or ""
    if service is None:
        return Call(url, "default", bundle=bundle)
    return Call(url, service.namespace, service.name, service.port, bundle)


def _asking(settings: Settings, admission: Admission) -> Asking | None:
    try:
        rules = admission.book.rules()
    except NotReady:
        return None
    controller = admission.controller
    enforced = controller.compiled if controller is not None else None
    # At a start, before that is known, an answer would be insisted on that nobody needs.
    if enforced is not None and not enforced.known:
        return None

    def compiled(policy: Policy) -> bool:
        return enforced is not None and enforced.enforces(policy)

    registries = [*map(registry_of, settings.registries)]
    spared, extra = settings.spared_namespaces, [*_extra(settings)]
    policies = by_names(rules.policies, controller.follower.namespaces if controller else {})
    return Asking(policies, compiled, rules.exemptions, registries, spared, extra)


def _extra(settings: Settings) -> Iterator[Resource]:
    for each in settings.extra_kinds:
        kind = Kind(each.group, each.kind)
        if not kind.known and kind not in WELL_KNOWN:
            yield Resource(each.group, each.resource or "*")
