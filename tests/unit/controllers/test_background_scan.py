"""Reports of what runs, where the API server does not do as it is asked."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.clock import Clock
from support.policies import CLUSTER_POLICY, document, policy, rule
from support.shelf import Shelf, refusal
from support.waiting import eventually
from trow.admission.image_extractor import ImageExtractor
from trow.admission.image_rewriter import ImageRewriter
from trow.admission.judge import BoundedLookup
from trow.admission.ports import NotReady
from trow.controllers.background_scan import BackgroundScan, WorkloadEvaluator
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.errors import Forbidden
from trow.kube.objects import Objects
from trow.oci.digest import Digest
from trow.oci.errors import Unavailable
from trow.policy.facts import ImageFacts
from trow.policy.resources import policy_of
from trow.policy.verdict import ImageRequest, Rules, Verdict, judge

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from support.apiserver import Answer, Asked
    from trow.policy.images import ImageReference

REPORTS: Final = "/apis/wgpolicyk8s.io/v1alpha2"
DIGEST: Final = Digest.of(b"app")
OURS, ALIEN = "registry.example.com/app:1", "docker.io/library/nginx:1.27"


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf.start() as running:
        yield running


class Bench:
    """Judges by one policy; a scan that looks when it is told to.

    Attributes:
        rules: by which is judged; None: they are not known.
    """

    def __init__(self, objects: Objects) -> None:
        self.clock = Clock()
        self.objects = objects
        self.rules: Rules | None = Rules((policy_of(document(CLUSTER_POLICY, policy(rules=[rule()]))),))
        self.rewriter = ImageRewriter(BoundedLookup(self, 5), {"docker.io": "registry.example.com/f/docker.io"})
        self.evaluator = WorkloadEvaluator(self.current, self, self.rewriter, ImageExtractor({}))
        self.scan = BackgroundScan(objects, self.evaluator, 3600, self.clock)

    def current(self) -> Rules:
        if self.rules is None:
            raise NotReady("not yet")
        return self.rules

    async def facts(self, _: ImageReference, needs: object) -> ImageFacts:
        return ImageFacts(True, DIGEST)

    async def judge(self, rules: Rules, request: ImageRequest) -> Verdict:
        return judge(rules, request, {}, self.clock.now)


@asynccontextmanager
async def bench(shelf: Shelf) -> AsyncIterator[Bench]:
    client = KubeClient(ClusterAccess(shelf.url))
    try:
        yield Bench(Objects(client, seconds=5))
    finally:
        await client.close()


def pod(shelf: Shelf, image: object = ALIEN, namespace: str = "team-a", name: str = "web") -> None:
    metadata = {"name": name, "namespace": namespace, "uid": f"u-{name}"}
    spec = {"containers": [{"name": "web", "image": image}]}
    item = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}
    shelf.put(f"/api/v1/namespaces/{namespace}/pods/{name}", item)


def path(namespace: str) -> str:
    return f"{REPORTS}/namespaces/{namespace}/policyreports/trow"


def reports(shelf: Shelf) -> dict[str, Any]:
    """By namespace."""
    return {item["metadata"]["namespace"]: item for each, item in shelf.objects.items() if each.startswith(REPORTS)}


def refusing(fragment: str, code: int, message: str) -> Callable[[Asked], Answer | None]:
    def refuse(asked: Asked) -> Answer | None:
        return refusal(code, message) if fragment in asked.path else None

    return refuse


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.name == "trow.controllers.background_scan"]


async def test_what_makes_pods_is_held_against_the_names_that_they_get(shelf: Shelf) -> None:
    """A Deployment is not changed, its Pods are; a Pod that runs is what it is."""
    mutate = {"pinDigests": True, "pullThrough": True}
    changing = policy_of(document(CLUSTER_POLICY, policy(rules=[rule()], require={"digest": True}, mutate=mutate)))
    pod(shelf)
    template = {"spec": {"containers": [{"name": "web", "image": ALIEN}]}}
    metadata = {"name": "web", "namespace": "team-b", "uid": "u-made"}
    item = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {"template": template}}
    shelf.put("/apis/apps/v1/namespaces/team-b/deployments/web", item)
    async with bench(shelf) as made:
        made.rules = Rules((changing,))
        await made.scan.scan()
    summaries = {
        namespace: (each["summary"]["pass"], each["summary"]["fail"]) for namespace, each in reports(shelf).items()
    }
    assert summaries == {"team-a": (0, 1), "team-b": (1, 0)}


async def test_what_has_not_changed_is_not_written_again(shelf: Shelf) -> None:
    pod(shelf)
    async with bench(shelf) as made:
        for _ in range(3):
            await made.scan.scan()
            made.clock.now += 600
        assert shelf.written() == [path("team-a")]
        pod(shelf, name="other")
        await made.scan.scan()
    assert shelf.written() == [path("team-a")] * 2
    seconds = [each["timestamp"]["seconds"] for each in reports(shelf)["team-a"]["results"]]
    assert seconds == [int(made.clock.now)] * 2
    assert made.scan.violations == 2


async def test_a_report_goes_with_its_subjects_and_others_reports_stay(shelf: Shelf) -> None:
    shelf.put(path("old"), {"metadata": {"name": "trow", "namespace": "old"}})
    others = f"{REPORTS}/namespaces/old/policyreports/kyverno"
    shelf.put(others, {"metadata": {"name": "kyverno", "namespace": "old"}})
    async with bench(shelf) as made:
        await made.scan.scan()
        await made.scan.scan()
    assert list(shelf.objects) == [others]
    assert shelf.written("DELETE") == [path("old")]


async def test_a_report_that_somebody_has_changed_is_put_right(shelf: Shelf) -> None:
    pod(shelf)
    async with bench(shelf) as made:
        await made.scan.scan()
        right = reports(shelf)["team-a"]
        shelf.put(path("team-a"), right | {"summary": {"fail": 0}, "results": []})
        await made.scan.scan()
    assert reports(shelf)["team-a"]["summary"] == right["summary"]
    assert reports(shelf)["team-a"]["results"] == right["results"]


async def test_a_report_is_no_larger_than_an_object_may_be(shelf: Shelf) -> None:
    long = "docker.io/" + "/".join(["x" * 20] * 11) + ":" + "t" * 100
    for number in range(600):
        pod(shelf, long, name=f"web-{number:03}")
    async with bench(shelf) as made:
        await made.scan.scan()
    report = reports(shelf)["team-a"]
    assert len(report["results"]) == 500
    assert report["summary"]["fail"] == made.scan.violations == 600


async def test_an_object_that_cannot_be_read_is_reported(shelf: Shelf) -> None:
    pod(shelf, image=7)
    pod(shelf, namespace="team-b")
    async with bench(shelf) as made:
        await made.scan.scan()
    (result,) = reports(shelf)["team-a"]["results"]
    assert (result["rule"], result["result"]) == ("invalid-image", "fail")
    assert "spec.containers[0].image is not a text" in result["message"]
    assert reports(shelf)["team-b"]["summary"]["fail"] == 1


@pytest.mark.parametrize(
    ("code", "message"), [(403, "it is being terminated"), (404, "namespace not found"), (422, "")]
)
async def test_one_namespace_keeps_no_other_from_its_report(
    shelf: Shelf, caplog: pytest.LogCaptureFixture, code: int, message: str
) -> None:
    for namespace in ("a-first", "b-second", "c-third"):
        pod(shelf, namespace=namespace)
    shelf.refuse = refusing("/a-first/policyreports", code, message)
    async with bench(shelf) as made:
        await made.scan.scan()
        await made.scan.scan()
    assert set(reports(shelf)) == {"b-second", "c-third"}
    assert len(told(caplog)) == 2
    assert all("1 PolicyReports could not be written, the first because: " in each for each in told(caplog))


async def test_reports_are_written_once_their_kind_is_known(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    pod(shelf)
    unknown = refusing("policyreports", 404, "the server could not find the requested resource")
    async with bench(shelf) as made:
        for turn in (1, 2):
            shelf.refuse = unknown
            for _ in range(3):
                await made.scan.scan()
            assert made.scan.violations == 1
            assert len(told(caplog)) == turn
            shelf.refuse = lambda asked: None
            await made.scan.scan()
    assert set(reports(shelf)) == {"team-a"}
    assert all("PolicyReports are not written: " in each for each in told(caplog))
    assert {each.levelname for each in caplog.records if each.name == "trow.controllers.background_scan"} == {
        "INFO"
    }  # nobody asked


async def test_a_look_that_fails_is_told(shelf: Shelf) -> None:
    async with bench(shelf) as made:
        shelf.refuse = refusing("/api/v1/pods", 403, "you may not")
        with pytest.raises(Forbidden):
            await made.scan.scan()
        shelf.refuse = refusing("/api/v1/pods", 500, "etcd is gone")
        with pytest.raises(Unavailable):
            await made.scan.scan()


async def test_it_goes_on_after_whatever_goes_wrong(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    pod(shelf)
    caplog.set_level(logging.WARNING)
    async with bench(shelf) as made:
        rules, made.rules = made.rules, None
        running = asyncio.create_task(made.scan.run())
        await asyncio.sleep(0)
        shelf.refuse = refusing("/api/v1/pods", 500, "etcd is gone")
        made.rules = rules
        made.scan.trigger()
        await eventually(lambda: told(caplog))
        shelf.refuse = lambda asked: None
        made.scan.trigger()
        await eventually(lambda: reports(shelf))
        running.cancel()
    assert ["what runs could not be checked against the policies" in each for each in told(caplog)] == [True]


async def test_the_policies_are_looked_up_anew_each_time(shelf: Shelf) -> None:
    pod(shelf)
    async with bench(shelf) as made:
        await made.scan.scan()
        made.rules = Rules((policy_of(document(CLUSTER_POLICY, policy(default="Allow"))),))
        await made.scan.scan()
        assert reports(shelf)["team-a"]["summary"] == {"pass": 1, "fail": 0, "warn": 0, "error": 0, "skip": 0}
        assert made.scan.violations == 0


async def test_changes_without_end_leave_most_of_the_time_to_others(shelf: Shelf) -> None:
    began: list[float] = []
    ended: list[float] = []

    class Slow(BackgroundScan):
        async def scan(self) -> None:
            began.append(time.monotonic())
            self.trigger()  # before it is done, somebody has changed a policy once more
            await asyncio.sleep(0.02)
            ended.append(time.monotonic())

    async with bench(shelf) as made:
        scan = Slow(made.objects, made.evaluator, 3600)
        running = asyncio.create_task(scan.run())
        try:
            await eventually(lambda: len(began) == 3)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
    assert all(next_ - end >= 8 * (end - begin) for begin, end, next_ in zip(began, ended, began[1:], strict=False))
