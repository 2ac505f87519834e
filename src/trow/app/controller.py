"""What runs beside the server in a cluster: policies are followed, and the cluster is told what comes of them."""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from trow.app.background import beside
from trow.app.kubernetes import client_of
from trow.app.policies_in_force import adapted, configured_policy
from trow.kube.announcements import Announcer
from trow.kube.approval import Approval
from trow.kube.compiled import CompiledPolicies
from trow.kube.objects import Objects
from trow.kube.policies import PolicyFollower
from trow.kube.scan import Scan

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from trow.admission.book import Book
    from trow.admission.names import Names
    from trow.admission.notices import Heralds
    from trow.admission.subjects import Subjects
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

    follower: PolicyFollower
    compiled: CompiledPolicies | None


@contextlib.asynccontextmanager
async def controlled(
    config: Config,
    book: Book,
    validation: Validation,
    names: Names,
    subjects: Subjects,
    heralds: Heralds,
    metrics: Metrics,
) -> AsyncIterator[Controller]:
    """Follow the cluster's policies, report what runs against them, and write Events, until the end.

    Raises:
        AccessError: the cluster cannot be reached with these settings.
    """
    async with client_of(config.kubernetes, metrics.kubernetes) as client:
        objects = Objects(client)
        heralds.add(announcer := Announcer(objects, socket.gethostname()))
        scan = Scan(objects, book.rules, validation, names, subjects, config.admission.scan_interval)

        def take(policies: Sequence[Policy], exemptions: Sequence[Exemption]) -> None:
            book.replace(policies, exemptions, follower)
            scan.look()

        spared = config.admission.spared_namespaces
        compiled = CompiledPolicies(objects, configured_policy(config), spared, lambda: follower.namespaces)
        enforcements = (compiled,) if config.admission.compiled else ()
        approval = Approval(objects, lambda: follower.look())  # noqa: PLW0108 - made below
        follower = PolicyFollower(objects, take, enforcements, adapted(config), approval.doubt)
        compiled.on_change(follower.wake)
        _add_gauges(metrics, follower, approval, scan)

        work = [follower.run, announcer.run, approval.watch_policies, approval.watch_bindings]
        work += [scan.run] if config.admission.scan_interval else []
        work += [compiled.run] if config.admission.compiled else []
        async with beside(*work):
            yield Controller(follower, compiled if config.admission.compiled else None)


def _add_gauges(metrics: Metrics, follower: PolicyFollower, approval: Approval, scan: Scan) -> None:
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
