"""What runs beside the server in a cluster: policies are followed, and the cluster is told what comes of them."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.app.background import beside
from trow.app.kubernetes import client_of
from trow.controllers.approval import Approval
from trow.controllers.background_scan import BackgroundScan
from trow.controllers.events import EventRecorder
from trow.controllers.policies import PolicyController
from trow.controllers.vap import VapController
from trow.kube.objects import Objects
from trow.policytools.configured import adapted, configured_policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trow.admission.image_extractor import ImageExtractor
    from trow.admission.names import Names
    from trow.admission.notifications import Notifiers
    from trow.admission.policy_store import PolicyStore
    from trow.admission.validate import Validation
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.policy.decide import Exemption
    from trow.policy.rules import Policy


@dataclass(frozen=True, slots=True)
class Controller:
    """What others need to know of it.

    Attributes:
        compiled: None where nothing is compiled.
    """

    follower: PolicyController
    compiled: VapController | None


@contextlib.asynccontextmanager
async def controlled(
    config: Config,
    book: PolicyStore,
    validation: Validation,
    names: Names,
    subjects: ImageExtractor,
    heralds: Notifiers,
    metrics: Metrics,
) -> AsyncIterator[Controller]:
    """Follow the cluster's policies, report what runs against them, and write Events, until the end.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    async with client_of(config.kubernetes, metrics.kubernetes) as client:
        objects = Objects(client)
        heralds.add(announcer := EventRecorder(objects, socket.gethostname()))
        scan = BackgroundScan(objects, book.rules, validation, names, subjects, config.admission.scan_interval)

        def take(policies: Sequence[Policy], exemptions: Sequence[Exemption]) -> None:
            book.replace(policies, exemptions, follower)
            scan.look()

        spared = config.admission.spared_namespaces
        compiled = VapController(objects, configured_policy(config), spared, lambda: follower.namespaces)
        enforcements = (compiled,) if config.admission.compiled else ()
        approval = Approval(objects, lambda: follower.look())  # noqa: PLW0108 - made below
        follower = PolicyController(objects, take, enforcements, adapted(config), approval.doubt)
        compiled.on_change(follower.wake)
        _add_gauges(metrics, follower, approval, scan)

        work = [follower.run, announcer.run, approval.watch_policies, approval.watch_bindings]
        work += [scan.run] if config.admission.scan_interval else []
        work += [compiled.run] if config.admission.compiled else []
        async with beside(*work):
            yield Controller(follower, compiled if config.admission.compiled else None)


def _add_gauges(metrics: Metrics, follower: PolicyController, approval: Approval, scan: BackgroundScan) -> None:
    metrics.add_gauge(
        "trow_exceptions_unguarded",
        "1 while no exception counts, because nothing makes sure that two people are behind it, else 0",
        lambda: float(bool(approval.missing)),
    )
    metrics.add_gauge(
        "trow_policies_failing",
        "1 while the cluster's policies cannot be followed, else 0",
        lambda: float(bool(follower.failing)),
    )
    metrics.add_gauge(
        "trow_policy_violations", "Images that run against a policy, as of the last look", lambda: scan.violations
    )
