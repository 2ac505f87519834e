"""The wiring of image policies."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.admission.image_extractor import ImageExtractor
from trow.admission.image_rewriter import ImageRewriter
from trow.admission.judge import BoundedLookup, Judge
from trow.admission.mutate import Mutation
from trow.admission.notifications import Notifiers
from trow.admission.policy_store import PolicyStore
from trow.admission.preflight import Preflight
from trow.admission.pull_policy import PULL_SECONDS, Pullers, PullPolicy
from trow.admission.shared_pulls import SharedPulls
from trow.admission.validate import Validation
from trow.admission.verdict_recorder import VerdictRecorder
from trow.http.handlers.admission import AdmissionHandlers
from trow.lib.background import every, in_background
from trow.oci.errors import Unavailable
from trow.policytools.configured import configured_policy
from trow.registry.image_lookup import LocalImageLookup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.app.controllers import Controllers
    from trow.app.registry import RegistryPart
    from trow.app.stores import Stores
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.registry.events import AuditLog


# An owner that made no Pod for so long gets the tag's digest of the day.
PIN_SECONDS: Final = 30 * 86400.0
# Some 60 MiB. Whoever reaches the webhooks can claim any number of owners, and the oldest of too many go.
MOST_PINS: Final = 200_000
_HOUSEKEEPING_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class AdmissionPart:
    """What decides about images while a server runs.

    Attributes:
        pulls: None where no pull is decided by the policies.
        controllers: None where the cluster's policies are not followed.
    """

    store: PolicyStore
    handlers: AdmissionHandlers
    pulls: PullPolicy | None
    controllers: Controllers | None

    async def check(self) -> None:
        """Whether reviews can be answered, as far as that is expected.

        Raises:
            Unavailable: the cluster's policies are not known yet.
        """
        if self.store.waiting:
            raise Unavailable("the cluster's image policies have not been read yet; try again in a moment")


@dataclass(frozen=True, slots=True)
class Reviewing:
    """The parts of a review that controllers use too: they judge what runs as it would be judged."""

    store: PolicyStore
    judge: Judge
    rewriter: ImageRewriter
    extractor: ImageExtractor
    notifiers: Notifiers


@contextlib.asynccontextmanager
async def admission_of(
    config: Config, registry: RegistryPart, stores: Stores, audit: AuditLog, metrics: Metrics
) -> AsyncIterator[AdmissionPart]:
    """Build it all, and follow the cluster's policies where that is wanted.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    settings = config.admission
    store = PolicyStore(configured_policy(config), following=settings.policies)
    extractor = ImageExtractor(settings.kind_paths)
    images = LocalImageLookup(registry.pull, registry.metadata, settings.registry_names)
    lookup = BoundedLookup(images, settings.deadline)
    notifiers = Notifiers()
    rewriter, judge = ImageRewriter(lookup, settings.pull_through), Judge(lookup)
    recorder = VerdictRecorder(audit, metrics, notifiers, registry.transfers.aggregator, within=settings.deadline)
    validation = Validation(store, extractor, rewriter, judge, recorder, metrics)
    compiled = settings.policies and settings.compiled
    preflight = Preflight(store, recorder, settings.excluded_namespaces) if compiled else None
    mutation = Mutation(
        store, extractor, rewriter, stores.pins, recorder, metrics, preflight, deadline=settings.deadline
    )
    pulls, shared = None, SharedPulls(stores.shared, PULL_SECONDS) if stores.shared is not None else None
    if settings.pull_users or settings.pull_groups:
        pullers = Pullers(frozenset(settings.pull_users), frozenset(settings.pull_groups))
        pulls = PullPolicy(store, judge, recorder, images, pullers, settings.registry_names, shared=shared)

    async def drop_old() -> None:
        await stores.pins.drop_old_pins(time.time() - PIN_SECONDS, MOST_PINS)
        if shared is not None:
            await shared.drop_old()

    async with contextlib.AsyncExitStack() as stack:
        controllers = None
        if settings.policies:
            from trow.app.controllers import controllers_of  # noqa: PLC0415 - see trow.app.kubernetes

            reviewing = Reviewing(store, judge, rewriter, extractor, notifiers)
            controllers = await stack.enter_async_context(controllers_of(config, reviewing, metrics))
        await stack.enter_async_context(in_background(every(_HOUSEKEEPING_SECONDS, drop_old)))
        yield AdmissionPart(store, AdmissionHandlers(validation, mutation), pulls, controllers)
