"""The policies of images, as the settings say."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from trow.admission.image_extractor import ImageExtractor
from trow.admission.mutate import Mutation
from trow.admission.names import Names
from trow.admission.notifications import Notifiers
from trow.admission.policy_store import PolicyStore
from trow.admission.preflight import Preflight
from trow.admission.pull_policy import PullGuard
from trow.admission.validate import BoundedLookup, Validation
from trow.http.handlers.admission import AdmissionHandlers
from trow.lib.background import every, in_background
from trow.oci.errors import Unavailable
from trow.policy.images import registry_of
from trow.policy.paths import Path
from trow.policy.pods import Kind
from trow.policytools.configured import configured_policy
from trow.registry.image_lookup import LocalImageLookup

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.admission.ports import Pins
    from trow.admission.recording import ReviewRecorder
    from trow.app.controllers import Controllers
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.registry.pull import Pull


# An owner that made no Pod for so long gets the tag's digest of the day.
PIN_SECONDS: Final = 30 * 86400.0
# Some 60 MiB. Whoever reaches the webhooks can claim any number of owners, and the oldest of too many go.
MOST_PINS: Final = 200_000
_HOUSEKEEPING_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Admission:
    """What decides about images while a server runs.

    Attributes:
        pulls: None where no pull is decided by the policies.
        controllers: None where the cluster's policies are not followed.
    """

    store: PolicyStore
    handlers: AdmissionHandlers
    pulls: PullGuard | None
    controllers: Controllers | None

    async def check(self) -> None:
        """Whether reviews can be answered, as far as that is expected.

        Raises:
            Unavailable: the cluster's policies are not known yet.
        """
        if self.store.waiting:
            raise Unavailable("the cluster's policies of images have not been read yet; try again in a moment")


@dataclass(frozen=True, slots=True)
class Reviewing:
    """The parts of a review that controllers use too: they judge what runs as it would be judged."""

    store: PolicyStore
    validation: Validation
    names: Names
    extractor: ImageExtractor
    notifiers: Notifiers


@contextlib.asynccontextmanager
async def admission_of(
    config: Config, pull: Pull, pins: Pins, recorder: ReviewRecorder, metrics: Metrics
) -> AsyncIterator[Admission]:
    """Build it all, and follow the cluster's policies where that is wanted.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    settings = config.admission
    store = PolicyStore(configured_policy(config), following=settings.policies)
    extractor = ImageExtractor(
        {Kind(each.group, each.kind): [*map(Path.parse, each.paths)] for each in settings.extra_kinds}
    )
    registries = [*map(registry_of, settings.registries)]
    images = LocalImageLookup(pull, registries)
    lookup = BoundedLookup(images, settings.deadline)
    notifiers = Notifiers()
    names = Names(lookup, settings.pull_through)
    validation = Validation(store, extractor, lookup, names, recorder, metrics, notifiers)
    compiled = settings.policies and settings.compiled
    preflight = Preflight(store, validation, settings.excluded_namespaces) if compiled else None
    mutation = Mutation(store, extractor, lookup, pins, metrics, names, preflight, recorder)
    users, groups = settings.pull_users, settings.pull_groups
    pulls = None
    if users or groups:
        pulls = PullGuard(store, validation, images, registries=registries, users=users, groups=groups)

    async def drop_old_pins() -> None:
        await pins.drop_old_pins(time.time() - PIN_SECONDS, MOST_PINS)

    async with contextlib.AsyncExitStack() as stack:
        controllers = None
        if settings.policies:
            from trow.app.controllers import controllers_of  # noqa: PLC0415 - see trow.app.kubernetes

            reviewing = Reviewing(store, validation, names, extractor, notifiers)
            controllers = await stack.enter_async_context(controllers_of(config, reviewing, metrics))
        await stack.enter_async_context(in_background(every(_HOUSEKEEPING_SECONDS, drop_old_pins)))
        yield Admission(store, AdmissionHandlers(validation, mutation), pulls, controllers)
