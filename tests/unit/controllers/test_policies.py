"""The cluster's policies, followed while things go wrong that a real API server would not do on demand."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.clock import Clock
from support.policies import CLUSTER_POLICY, EXCEPTION, POLICY, document, exception, policy, rule
from support.running import running
from support.shelf import Shelf, refusal
from support.waiting import PATIENCE_SECONDS, eventually
from trow.controllers import policies
from trow.controllers.policies import PolicyController, PolicyReader
from trow.controllers.status import Condition
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.errors import Forbidden
from trow.kube.objects import Objects
from trow.oci.errors import Unavailable
from trow.policy.images import parse
from trow.policy.resources import policy_of
from trow.policy.rules import Effect, Mode

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from support.apiserver import Answer, Asked
    from trow.controllers.policies import Enforcement, PolicyObject
    from trow.policy.rules import Policy
    from trow.policy.verdict import PolicyException

BASE: Final = "/apis/policy.trow.io/v1alpha1"
RESOURCES: Final = {CLUSTER_POLICY: "clusterimagepolicies", POLICY: "imagepolicies", EXCEPTION: "policyexceptions"}
OURS: Final = parse("registry.example.com/app:1")
CREATED: Final = "2023-11-14T22:13:20Z"  # when the clock begins


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf.start() as served:
        yield served


class Follower(PolicyController):
    """Remembers what it has passed on.

    Attributes:
        taken: what was in force after each change.
    """

    def __init__(self, objects: Objects, clock: Clock, enforcements: Sequence[Enforcement]) -> None:
        self.taken: list[tuple[Sequence[Policy], Sequence[PolicyException]]] = []
        reader = PolicyReader(lambda each: each, lambda created: "")
        super().__init__(objects, reader, self.take, enforcements, clock)

    def take(self, policies: Sequence[Policy], exceptions: Sequence[PolicyException]) -> None:
        self.taken.append((policies, exceptions))

    @property
    def policies(self) -> Sequence[Policy]:
        return self.taken[-1][0] if self.taken else ()

    @property
    def exceptions(self) -> Sequence[PolicyException]:
        return self.taken[-1][1] if self.taken else ()


@asynccontextmanager
async def follower(shelf: Shelf, clock: Clock | None = None, *enforcements: Enforcement) -> AsyncIterator[Follower]:
    client = KubeClient(ClusterAccess(shelf.url))
    made = Follower(Objects(client, seconds=5), clock or Clock(), enforcements)
    async with running(made.run(), client):
        yield made


def path(kind: str, name: str = "tried") -> str:
    middle = "/namespaces/team-a" if kind == POLICY else ""
    return f"{BASE}{middle}/{RESOURCES[kind]}/{name}"


def put(shelf: Shelf, kind: str, spec: object, name: str = "tried") -> None:
    item = document(kind, spec, name, "team-a")
    item["metadata"]["creationTimestamp"] = CREATED
    shelf.put(path(kind, name), item)


def status(shelf: Shelf, kind: str, name: str = "tried") -> dict[str, Any]:
    found: dict[str, Any] = shelf.objects[path(kind, name)].get("status", {})
    return found


def condition(shelf: Shelf, kind: str, name: str = "tried", type: str = "Ready") -> dict[str, Any]:  # noqa: A002
    """What is said of the object as it is now; nothing as long as that is missing."""
    generation = shelf.objects[path(kind, name)]["metadata"]["generation"]
    for each in status(shelf, kind, name).get("conditions", []):
        if each["type"] == type and each["observedGeneration"] == generation:
            return dict(each)
    return {}


def reason(shelf: Shelf, kind: str, name: str = "tried") -> str:
    return str(condition(shelf, kind, name, "Active" if kind == EXCEPTION else "Ready").get("reason", ""))


def told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.message for each in caplog.records if each.name == "trow.controllers.policies"]


# ---- what is in force


@pytest.mark.slow
async def test_nothing_is_in_force_before_all_is_known(shelf: Shelf) -> None:
    put(shelf, CLUSTER_POLICY, policy())
    shelf.refuse = lambda asked: refusal(403, "no") if asked.path.endswith(RESOURCES[EXCEPTION]) else None
    async with follower(shelf) as following:
        await eventually(lambda: following.failing)
        assert following.taken == []
        shelf.refuse = lambda asked: None
        await eventually(lambda: following.taken)
        assert [each.title for each in following.policies] == ["ClusterImagePolicy/tried"]


async def test_what_is_told_in_return_is_no_change(shelf: Shelf) -> None:
    put(shelf, CLUSTER_POLICY, policy())
    put(shelf, POLICY, policy(mode="warn"))
    put(shelf, EXCEPTION, exception())
    async with follower(shelf) as following:
        await eventually(lambda: reason(shelf, CLUSTER_POLICY) and reason(shelf, POLICY) and reason(shelf, EXCEPTION))
        put(shelf, POLICY, policy(mode="audit"))
        await eventually(lambda: following.policies[1].mode is Mode.AUDIT)
        await eventually(lambda: reason(shelf, POLICY))
        put(shelf, CLUSTER_POLICY, policy(default="Allow"))
        await eventually(lambda: following.policies[0].default is Effect.ALLOW)
    assert len(following.taken) == 3


async def test_what_did_not_change_is_not_read_again(shelf: Shelf) -> None:
    put(shelf, CLUSTER_POLICY, policy(), "same")
    put(shelf, CLUSTER_POLICY, policy(), "other")
    async with follower(shelf) as following:
        await eventually(lambda: following.sources and all("status" in each.item for each in following.sources))
        other, same = (source.policy for source in following.sources)
        put(shelf, CLUSTER_POLICY, policy(mode="warn"), "other")
        await eventually(lambda: following.sources[0].policy.mode is Mode.WARN)
        assert following.sources[0].policy is not other
        assert following.sources[1].policy is same


async def test_policies_and_exceptions_are_read_beside_the_event_loop(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of a thousand rules takes some tenths of a second, and whoever may edit a namespace may write many."""
    threads: dict[str, int] = {}
    for name in ("policy_of", "exception_of"):
        monkeypatch.setattr(policies, name, noted(name, getattr(policies, name), threads))
    put(shelf, POLICY, policy())
    put(shelf, EXCEPTION, exception())
    async with follower(shelf) as following:
        await eventually(lambda: following.taken)
    assert len(threads) == 2
    assert threading.get_ident() not in threads.values()


def noted(name: str, read: Callable[..., Any], threads: dict[str, int]) -> Callable[..., Any]:
    """The same, of which is known in which thread it was called first."""

    def call(*given: object) -> object:
        threads.setdefault(name, threading.get_ident())
        return read(*given)

    return call


async def test_a_policy_that_cannot_be_read_counts_as_it_was_until_it_is_deleted(shelf: Shelf) -> None:
    put(shelf, POLICY, policy(rules=[rule()]))
    async with follower(shelf) as following:
        await eventually(lambda: following.taken)
        (good,) = following.policies
        put(shelf, POLICY, policy(default="Allow", rulez=[]))
        await eventually(lambda: reason(shelf, POLICY) == "Invalid")
        assert list(following.policies) == [good]
        shelf.drop(path(POLICY))
        await eventually(lambda: not following.policies)
        put(shelf, POLICY, policy(default="Allow", rulez=[]))
        await eventually(lambda: following.policies)
        (closed,) = following.policies
        assert closed.evaluate(OURS)[0] is Effect.DENY
        assert (closed.namespace, closed.mode) == ("team-a", Mode.ENFORCE)


async def test_an_exception_that_cannot_be_read_excepts_nothing_and_says_so(shelf: Shelf) -> None:
    put(shelf, EXCEPTION, exception(approver="bob", duration="forever"))
    put(shelf, EXCEPTION, exception(approver="bob"), "good")
    async with follower(shelf) as following:
        await eventually(lambda: reason(shelf, EXCEPTION) == "Invalid" and reason(shelf, EXCEPTION, "good") == "Active")
        assert [each.name for each in following.exceptions] == ["good"]
    found = condition(shelf, EXCEPTION, type="Active")
    assert (found["status"], "expiresAt" in status(shelf, EXCEPTION)) == ("False", False)
    assert "'forever' is not between 1s and 24h" in found["message"]


# ---- what is told in return


async def test_an_exception_is_told_to_be_over_when_it_is(shelf: Shelf) -> None:
    clock = Clock()
    clock.now += 3600 - 0.2  # a moment before its end, by the other clock too
    put(shelf, EXCEPTION, exception(approver="bob", duration="1h"))
    async with follower(shelf, clock) as following:
        await eventually(lambda: reason(shelf, EXCEPTION) == "Active")
        assert following.exceptions[0].active(clock.now)
        began = asyncio.get_running_loop().time()
        clock.now += 0.2
        await eventually(lambda: reason(shelf, EXCEPTION) == "Expired")
        assert asyncio.get_running_loop().time() - began < 5  # without a look every ten seconds
    assert status(shelf, EXCEPTION)["expiresAt"] == "2023-11-14T23:13:20Z"


def refusing(code: int) -> Callable[[Asked], Answer | None]:
    """Nothing may be said of the first policy."""
    return lambda asked: refusal(code, "no") if asked.path == f"{path(CLUSTER_POLICY, 'a-first')}/status" else None


async def test_what_cannot_be_told_of_one_is_told_of_others(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    for name in ("a-first", "b-second"):
        put(shelf, CLUSTER_POLICY, policy(), name)
    put(shelf, EXCEPTION, exception())
    shelf.refuse = refusing(422)
    async with follower(shelf) as following:
        await eventually(lambda: reason(shelf, CLUSTER_POLICY, "b-second") and reason(shelf, EXCEPTION))
        assert len(following.policies) == 2
    assert status(shelf, CLUSTER_POLICY, "a-first") == {}
    assert any("the status of a policy could not be written" in each for each in told(caplog))


async def test_what_could_not_be_told_is_told_later(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    put(shelf, CLUSTER_POLICY, policy(), "a-first")
    shelf.refuse = refusing(500)
    async with follower(shelf) as following:
        await eventually(lambda: told(caplog))
        assert following.policies  # are in force all the same
        shelf.refuse = lambda asked: None
        following.trigger()
        await eventually(lambda: reason(shelf, CLUSTER_POLICY, "a-first") == "InForce")


async def test_what_is_gone_meanwhile_is_no_trouble(shelf: Shelf, caplog: pytest.LogCaptureFixture) -> None:
    put(shelf, CLUSTER_POLICY, policy(), "a-first")
    put(shelf, CLUSTER_POLICY, policy(), "b-second")
    shelf.refuse = refusing(404)
    async with follower(shelf):
        await eventually(lambda: reason(shelf, CLUSTER_POLICY, "b-second"))
    assert told(caplog) == []


# ---- what enforces them besides


class Enforcer:
    """Says of each policy that it is kept, or fails.

    Attributes:
        failing: what is raised instead.
        exceptions: the names of those that were active each time.
    """

    def __init__(self, failing: Exception | None = None) -> None:
        self.failing = failing
        self.exceptions: list[list[str]] = []

    async def reconcile(
        self, sources: Sequence[PolicyObject], exceptions: Sequence[PolicyException]
    ) -> dict[str, Condition]:
        self.exceptions.append([each.name for each in exceptions])
        if self.failing is not None:
            raise self.failing
        return {each.path: Condition("Compiled", holds=True, reason="InStep", message="kept") for each in sources[:1]}


async def test_what_else_enforces_policies_is_told_and_heard(shelf: Shelf) -> None:
    clock, enforcer = Clock(), Enforcer()
    put(shelf, CLUSTER_POLICY, policy(), "a-first")
    put(shelf, CLUSTER_POLICY, policy(), "b-second")
    put(shelf, EXCEPTION, exception(approver="bob"))
    put(shelf, EXCEPTION, exception(), "waiting")
    async with follower(shelf, clock, enforcer) as following:
        await eventually(lambda: reason(shelf, CLUSTER_POLICY, "b-second"))
        assert condition(shelf, CLUSTER_POLICY, "a-first", "Compiled")["reason"] == "InStep"
        assert condition(shelf, CLUSTER_POLICY, "b-second", "Compiled") == {}
        assert enforcer.exceptions[-1] == ["tried"]
        clock.now += 4 * 3600
        following.trigger()
        await eventually(lambda: enforcer.exceptions[-1] == [])


async def test_what_else_enforces_policies_is_told_nothing_until_they_are_read(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No policies would be told, and what was enforced would be taken away."""
    begun, go_on = threading.Event(), threading.Event()

    def slow(item: Any, *given: Any) -> Policy:
        begun.set()
        assert go_on.wait(PATIENCE_SECONDS)
        return policy_of(item, *given)

    monkeypatch.setattr(policies, "policy_of", slow)
    put(shelf, CLUSTER_POLICY, policy())
    enforcer = Enforcer()
    async with follower(shelf, None, enforcer) as following:
        try:
            await eventually(begun.is_set)
            following.trigger()
            for _ in range(10):  # turns of the event loop
                await asyncio.sleep(0)
            assert enforcer.exceptions == []
        finally:
            go_on.set()
        await eventually(lambda: enforcer.exceptions)


@pytest.mark.parametrize("trouble", [Forbidden(403, "Forbidden", "no"), Unavailable("no"), RuntimeError("no")])
async def test_its_troubles_are_no_reason_to_say_nothing_of_the_policies(
    shelf: Shelf, caplog: pytest.LogCaptureFixture, trouble: Exception
) -> None:
    enforcer = Enforcer(trouble)
    put(shelf, CLUSTER_POLICY, policy())
    async with follower(shelf, None, enforcer) as following:
        await eventually(lambda: reason(shelf, CLUSTER_POLICY) == "InForce")
        assert told(caplog)
        enforcer.failing = None
        following.trigger()
        await eventually(lambda: condition(shelf, CLUSTER_POLICY, type="Compiled"))


# ---- namespaces


async def test_the_labels_of_namespaces_are_known_as_long_as_they_are_there(shelf: Shelf) -> None:
    shelf.put("/api/v1/namespaces/team-a", {"metadata": {"name": "team-a", "labels": {"tier": "prod"}}})
    shelf.put("/api/v1/namespaces/team-b", {"metadata": {"name": "team-b"}})
    async with follower(shelf) as following:
        await eventually(lambda: following.of("team-b") is not None)
        assert following.of("team-a") == {"tier": "prod"}
        assert following.of("team-b") == {}
        assert following.of("team-c") is None
        shelf.put("/api/v1/namespaces/team-c", {"metadata": {"name": "team-c", "labels": {"tier": "test"}}})
        await eventually(lambda: following.of("team-c") == {"tier": "test"})
