"""What runs beside the server in a cluster: it follows policies, and tells the cluster what comes of them."""

from __future__ import annotations

import contextlib
import platform
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.app.kubernetes import client_of
from trow.controllers.approval import Approval
from trow.controllers.background_scan import BackgroundScan, WorkloadEvaluator
from trow.controllers.events import EventRecorder
from trow.controllers.policies import PolicyController, PolicyReader
from trow.controllers.vap import VapController
from trow.kube.objects import Objects
from trow.lib.background import in_background
from trow.policytools.configured import adapted, configured_policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trow.app.admission import Reviewing
    from trow.config import Config
    from trow.http.metrics import Metrics
    from trow.policy.rules import Policy
    from trow.policy.verdict import PolicyException


@dataclass(frozen=True, slots=True)
class Controllers:
    """What others need to know of them.

    Attributes:
        compiled: None where nothing is compiled.
    """

    policies: PolicyController
    compiled: VapController | None


@contextlib.asynccontextmanager
async def controllers_of(config: Config, reviewing: Reviewing, metrics: Metrics) -> AsyncIterator[Controllers]:
    """Follow the cluster's policies, report what runs against them, and write Events, until the end.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    settings, store = config.admission, reviewing.store
    async with client_of(config.kubernetes, metrics.kubernetes) as client:
        objects = Objects(client)
        events = EventRecorder(objects, platform.node())
        reviewing.notifiers.add(events)
        evaluator = WorkloadEvaluator(store.rules, reviewing.judge, reviewing.rewriter, reviewing.extractor)
        scan = BackgroundScan(objects, evaluator, settings.scan_interval, owner=settings.owner)

        def apply(found: Sequence[Policy], exceptions: Sequence[PolicyException]) -> None:
            store.replace(found, exceptions, policies)
            scan.trigger()

        compiled = VapController(
            objects,
            configured_policy(config),
            settings.excluded_namespaces,
            lambda: policies.namespaces,
            owner=settings.owner,
        )
        approval = Approval(objects, lambda: policies.reload())  # noqa: PLW0108 - made below
        enforcements = (compiled,) if settings.compiled else ()
        reader = PolicyReader(adapted(config), approval.doubt)
        policies = PolicyController(objects, reader, apply, enforcements)
        compiled.on_change(policies.trigger)
        _add_gauges(metrics, policies, approval, scan)

        loops = [policies.run, events.run, approval.run]
        loops += [scan.run] if settings.scan_interval else []
        loops += [compiled.run] if settings.compiled else []
        async with in_background(*loops):
            yield Controllers(policies, compiled if settings.compiled else None)


def _add_gauges(metrics: Metrics, policies: PolicyController, approval: Approval, scan: BackgroundScan) -> None:
    metrics.add_gauge(
        "trow_exceptions_unguarded",
        "1 while no exception counts, because nothing makes sure that two people are behind it, else 0",
        lambda: float(bool(approval.missing)),
    )
    metrics.add_gauge(
        "trow_policies_failing",
        "1 while the cluster's policies cannot be followed, else 0",
        lambda: float(bool(policies.failing)),
    )
    metrics.add_gauge(
        "trow_policy_violations", "Images that run against a policy, as of the last look", lambda: scan.violations
    )
