"""The policies of images, wired together."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.admission.image_extractor import ImageExtractor
from trow.admission.mutate import Mutation
from trow.admission.names import Names
from trow.admission.notifications import Notifiers
from trow.admission.policy_store import PolicyStore
from trow.admission.preflight import Preflight
from trow.admission.pull_policy import PullGuard
from trow.admission.validate import BoundedLookup, Validation
from trow.http.handlers.admission import AdmissionHandlers
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
    from trow.app.controller import Controller
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.registry.pull import Pull


@dataclass(frozen=True, slots=True)
class Admission:
    """What decides about images while a server runs."""

    book: PolicyStore
    handlers: AdmissionHandlers
    pulls: PullGuard | None
    controller: Controller | None

    async def check(self) -> None:
        """Whether reviews can be answered, as far as that is expected.

        Raises:
            Unavailable: the cluster's policies are not known yet.
        """
        if self.book.waiting:
            raise Unavailable("the cluster's policies of images have not been read yet; try again in a moment")


@contextlib.asynccontextmanager
async def admission_of(
    config: Config, pull: Pull, pins: Pins, ledger: ReviewRecorder, metrics: Metrics
) -> AsyncIterator[Admission]:
    """Build it all from the settings, and follow the cluster's policies where that is wanted.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    settings = config.admission
    book = PolicyStore(configured_policy(config), following=settings.policies)
    subjects = ImageExtractor(
        {Kind(each.group, each.kind): [*map(Path.parse, each.paths)] for each in settings.extra_kinds}
    )
    registries = [*map(registry_of, settings.registries)]
    images = LocalImageLookup(pull, registries)
    inquiry = BoundedLookup(images, settings.deadline)
    heralds = Notifiers()
    names = Names(inquiry, settings.pull_through)
    validation = Validation(book, subjects, inquiry, names, ledger, metrics, heralds)
    compiled = settings.policies and settings.compiled
    foresight = Preflight(book, validation, settings.spared_namespaces) if compiled else None
    mutation = Mutation(book, subjects, inquiry, pins, metrics, names, foresight, ledger)
    users, groups = settings.pull_users, settings.pull_groups
    guard = PullGuard(book, validation, images, registries=registries, users=users, groups=groups)
    enforced = bool(users or groups)
    controller = None
    async with contextlib.AsyncExitStack() as stack:
        if settings.policies:
            from trow.app.controller import controlled  # noqa: PLC0415 - see trow.app.kubernetes

            following = controlled(config, book, validation, names, subjects, heralds, metrics)
            controller = await stack.enter_async_context(following)
        yield Admission(book, AdmissionHandlers(validation, mutation), guard if enforced else None, controller)
