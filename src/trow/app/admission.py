"""The policies of images, wired together."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.admission.book import Book
from trow.admission.foresight import Foresight
from trow.admission.mutate import Mutation
from trow.admission.names import Names
from trow.admission.notices import Heralds
from trow.admission.pulls import PullGuard
from trow.admission.subjects import Subjects
from trow.admission.validate import Inquiry, Validation
from trow.app.policies_in_force import configured_policy
from trow.http.admission import AdmissionHandlers
from trow.oci.errors import Unavailable
from trow.policy.images import registry_of
from trow.policy.paths import Path
from trow.policy.pods import Kind
from trow.registry.known import LocalImages

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from trow.admission.ports import Pins
    from trow.admission.recording import Ledger
    from trow.app.controller import Controller
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.registry.pull import Pull


@dataclass(frozen=True, slots=True)
class Admission:
    """What decides about images while a server runs."""

    book: Book
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
    config: Config, pull: Pull, pins: Pins, ledger: Ledger, metrics: Metrics
) -> AsyncIterator[Admission]:
    """Build it all from the settings, and follow the cluster's policies where that is wanted.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    settings = config.admission
    book = Book(configured_policy(config), following=settings.policies)
    subjects = Subjects({Kind(each.group, each.kind): [*map(Path.parse, each.paths)] for each in settings.extra_kinds})
    registries = [*map(registry_of, settings.registries)]
    images = LocalImages(pull, registries)
    inquiry = Inquiry(images, settings.deadline)
    heralds = Heralds()
    names = Names(inquiry, settings.pull_through)
    validation = Validation(book, subjects, inquiry, names, ledger, metrics, heralds)
    compiled = settings.policies and settings.compiled
    foresight = Foresight(book, validation, settings.spared_namespaces) if compiled else None
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
