"""Evaluates at intervals what runs already, and writes a PolicyReport for each namespace.

https://github.com/kubernetes-sigs/wg-policy-prototypes (`wgpolicyk8s.io/v1alpha2`)
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from trow.admission.ports import NotReady
from trow.kube.errors import KubeRefused, NotFound
from trow.kube.owner import OwnerRole
from trow.lib.failures import FailureLog
from trow.lib.kube_objects import controller_of, listing, mapping, metadata, text
from trow.oci.errors import Unavailable
from trow.policy.pods import ImageUse, Kind, UnreadableObject
from trow.policy.rules import Mode
from trow.policy.verdict import ImageRequest, unreadable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from trow.admission.image_extractor import ImageExtractor
    from trow.admission.image_rewriter import ImageRewriter
    from trow.kube.objects import Manifest, Objects
    from trow.policy.verdict import Finding, Rules, Verdict

log = logging.getLogger(__name__)

_GROUP: Final = "/apis/wgpolicyk8s.io/v1alpha2"
_NAME: Final = "trow"
# After a scan there is a pause of this many times its duration, however often policies change.
_REST_FACTOR: Final = 9.0
# Of one namespace; an object of the API has about a megabyte.
_MOST_RESULTS: Final = 500
_LONGEST_MESSAGE: Final = 1_000
# Everything that runs or makes something run; what another one of these manages is in its manager's template too, but
# for Pods, which may have become different.
COLLECTIONS: Final[Mapping[str, Kind]] = {
    "/api/v1/pods": Kind("", "Pod"),
    "/api/v1/replicationcontrollers": Kind("", "ReplicationController"),
    "/apis/apps/v1/deployments": Kind("apps", "Deployment"),
    "/apis/apps/v1/statefulsets": Kind("apps", "StatefulSet"),
    "/apis/apps/v1/daemonsets": Kind("apps", "DaemonSet"),
    "/apis/apps/v1/replicasets": Kind("apps", "ReplicaSet"),
    "/apis/batch/v1/cronjobs": Kind("batch", "CronJob"),
    "/apis/batch/v1/jobs": Kind("batch", "Job"),
}


class ImageJudge(Protocol):
    """Gives verdicts; `trow.admission.judge.Judge` does."""

    async def judge(self, rules: Rules, request: ImageRequest) -> Verdict: ...


@dataclass(frozen=True, slots=True)
class WorkloadEvaluator:
    """Evaluates what runs as a review would.

    Attributes:
        rules: gives all policies and exceptions.
        rewriter: tells the names that Pods get for images.
        extractor: finds images in objects.
    """

    rules: Callable[[], Rules]
    judge: ImageJudge
    rewriter: ImageRewriter
    extractor: ImageExtractor

    async def verdict(self, rules: Rules, kind: Kind, namespace: str, item: Manifest) -> Verdict:
        """What the policies say of an object."""
        try:
            uses = self.extractor.uses(kind, item)
        except UnreadableObject as error:
            whole = ImageRequest(namespace, (ImageUse("", f"{kind}", ""),))
            return unreadable(rules, whole, f"cannot be read: {error}")
        request = ImageRequest(namespace, uses)
        if not kind.is_pod:  # it is judged as the Pods that it makes
            request = await self.rewriter.rewritten(rules, request)
        return await self.judge.judge(rules, request)


@dataclass(frozen=True, slots=True)
class _Evaluated:
    """An object and what the policies say of it."""

    resource: Manifest
    verdict: Verdict


class BackgroundScan:
    """Checks everything that runs. `run` goes on until it is cancelled.

    Args:
        objects: the API.
        evaluator: gives the verdicts.
        interval: seconds between two scans, unless `trigger` is called.
        clock: seconds of Unix time.
        owner: the ClusterRole with which reports go, "" for none.

    Attributes:
        violations: images that run against a policy, as of the last scan.
    """

    def __init__(
        self,
        objects: Objects,
        evaluator: WorkloadEvaluator,
        interval: float,
        clock: Callable[[], float] = time.time,
        owner: str = "",
    ) -> None:
        self._objects = objects
        self._owner = OwnerRole(objects, owner)
        self._evaluator = evaluator
        self._interval = interval
        self._clock = clock
        self._triggered = asyncio.Event()
        self._unwanted = False
        self._failures = FailureLog(
            log,
            "what runs could not be checked against the policies",
            "what runs is checked against the policies again",
        )
        self.violations = 0

    def trigger(self) -> None:
        """Scan soon: the policies have changed."""
        self._triggered.set()

    async def run(self) -> None:
        """Scan at intervals, until cancelled."""
        while True:
            self._triggered.clear()
            began = time.monotonic()
            try:
                await self.scan()
                self._failures.succeed()
            except NotReady:
                log.debug("the policies are not known yet")  # `trigger` is called when they are
            except (KubeRefused, Unavailable) as error:
                self._failures.fail(error)
            except Exception as error:  # noqa: BLE001 - whatever it is, there is a next scan
                self._failures.fail(error, cause=error)
            await asyncio.sleep(min(self._interval, (time.monotonic() - began) * _REST_FACTOR))
            try:
                async with asyncio.timeout(self._interval):
                    await self._triggered.wait()
            except TimeoutError:
                continue

    async def scan(self) -> None:
        """Scan everything once, and write the reports.

        Raises:
            KubeRefused, Unavailable: it could not be finished.
        """
        rules = self._evaluator.rules()
        found: dict[str, list[_Evaluated]] = defaultdict(list)
        async for kind, item in self._workloads():
            about = metadata(item)
            namespace = text(about.get("namespace"))
            names = {key: about[key] for key in ("namespace", "name", "uid") if key in about}
            resource = {"apiVersion": item.get("apiVersion"), "kind": kind.name, **names}
            verdict = await self._evaluator.verdict(rules, kind, namespace, item)
            found[namespace].append(_Evaluated(resource, verdict))
            await asyncio.sleep(0)  # reviews come first
        self.violations = sum(len(_failed(each.verdict)) for all_ in found.values() for each in all_)
        try:
            reports = (await self._objects.list_all(f"{_GROUP}/policyreports")).objects
        except NotFound as error:
            if not self._unwanted:
                # Most clusters have none of this kind, and nobody has asked for them.
                log.info("PolicyReports are not written: %s", error)
            self._unwanted = True
            return
        self._unwanted = False
        present = {namespace: item for (namespace, name), item in reports.items() if name == _NAME}
        refusals: list[KubeRefused] = []
        for namespace in (*found, *(set(present) - set(found))):
            try:
                await self._write_report(namespace, found.get(namespace, ()), present.get(namespace))
            except KubeRefused as error:
                refusals.append(error)  # in a namespace that ends nothing can be written, and that may last
        if refusals:
            log.warning("%s PolicyReports could not be written, the first because: %s", len(refusals), refusals[0])

    async def _write_report(self, namespace: str, found: Sequence[_Evaluated], present: Manifest | None) -> None:
        path = f"{_GROUP}/namespaces/{namespace}/policyreports/{_NAME}"
        if any(each.verdict.findings for each in found):
            report = self._report_of(namespace, found)
            if present is None or _said(report) != _said(present):
                await self._objects.apply(path, await self._owner.owned(report))
        elif present is not None:  # nothing is there any more, or no policy is about it
            await self._objects.delete(path)

    async def _workloads(self) -> AsyncIterator[tuple[Kind, Manifest]]:
        for path, kind in COLLECTIONS.items():
            for item in (await self._objects.list_all(path)).objects.values():
                # A Pod that has ended is only kept for people to see.
                ended = mapping(item.get("status")).get("phase") in ("Succeeded", "Failed")
                if not ended if kind.is_pod else controller_of(metadata(item)) is None:
                    yield kind, item

    def _report_of(self, namespace: str, objects: Sequence[_Evaluated]) -> Manifest:
        results = [
            _result(finding, each.resource, int(self._clock())) for each in objects for finding in _failed(each.verdict)
        ]
        findings = [finding for each in objects for finding in each.verdict.findings]
        passed = sum(finding.allowed for finding in findings)
        warned = sum(not finding.allowed and finding.mode is not Mode.ENFORCE for finding in findings)
        return {
            "apiVersion": "wgpolicyk8s.io/v1alpha2",
            "kind": "PolicyReport",
            "metadata": {"name": _NAME, "namespace": namespace, "labels": {"app.kubernetes.io/managed-by": "trow"}},
            "summary": {"pass": passed, "fail": len(findings) - passed - warned, "warn": warned, "error": 0, "skip": 0},
            "results": results[:_MOST_RESULTS],
        }


def _failed(verdict: Verdict) -> Sequence[Finding]:
    return [finding for finding in verdict.findings if not finding.allowed]


def _said(report: Manifest) -> tuple[object, object]:
    """The content of a report without its times."""
    return report.get("summary"), [{**mapping(each), "timestamp": None} for each in listing(report.get("results"))]


def _result(finding: Finding, resource: Manifest, at: int) -> Manifest:
    return {
        "source": "trow",
        "policy": finding.policy,
        "rule": finding.rule,
        "result": "fail" if finding.mode is Mode.ENFORCE else "warn",
        "severity": "high" if finding.mode is Mode.ENFORCE else "medium",
        "scored": True,
        "message": str(finding)[:_LONGEST_MESSAGE],
        "resources": [resource],
        "timestamp": {"seconds": at, "nanos": 0},
    }
