"""Compiled policies are kept in the API server with no more work than has to be done."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

import pytest

from support.policies import CLUSTER_POLICY, POLICY, document, policy
from support.running import running
from support.shelf import Shelf, refusal
from support.waiting import PATIENCE_SECONDS, eventually
from trow.controllers import vap as compiled
from trow.controllers.policies import PolicyObject
from trow.controllers.vap import MOST_OF_A_NAMESPACE, VapController
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.objects import Objects
from trow.oci.errors import Unavailable
from trow.policy.resources import policy_of
from trow.policy.vap.export import compile_policy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from trow.controllers.status import Condition
    from trow.policy.rules import Policy
    from trow.policy.vap.export import Compiled

BASE: Final = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf.start() as served:
        yield served


@pytest.fixture
def compilations(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The titles of policies, each time that they are compiled."""
    titles: list[str] = []

    def counted(policy: Policy, **options: object) -> Compiled:
        titles.append(policy.title)
        return compile_policy(policy, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(compiled, "compile_policy", counted)
    return titles


@asynccontextmanager
async def kept(shelf: Shelf) -> AsyncIterator[VapController]:
    client = KubeClient(ClusterAccess(shelf.url))
    made = VapController(Objects(client, seconds=5), None, ())

    async with running(made.run(), client):
        yield made


def source(name: str, namespace: str = "", **fields: object) -> PolicyObject:
    item = document(POLICY if namespace else CLUSTER_POLICY, policy(**fields), name, namespace)
    return PolicyObject(item, f"/{namespace}/{name}", policy_of(item))


def policies(shelf: Shelf) -> list[str]:
    return [path for path in shelf.objects if path.startswith(f"{BASE}/validatingadmissionpolicies/")]


async def settled(shelf: Shelf, keeper: VapController, *sources: PolicyObject) -> dict[str, Condition]:
    """What is said of the policies when there is nothing left to write."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        while True:
            shelf.asked.clear()
            conditions = await keeper.reconcile(sources, [])
            if conditions and not shelf.asked:
                return conditions
            await asyncio.sleep(0.005)


async def test_what_did_not_change_is_not_compiled_again(shelf: Shelf, compilations: list[str]) -> None:
    same, other, new = source("same"), source("other"), source("other")
    async with kept(shelf) as keeper:
        await settled(shelf, keeper, same, other)
        await settled(shelf, keeper, same, new)
        assert compilations == ["ClusterImagePolicy/same", "ClusterImagePolicy/other", "ClusterImagePolicy/other"]


async def test_policies_are_compiled_beside_the_event_loop(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    threads: list[int] = []

    def noted(policy: Policy, **options: object) -> Compiled:
        threads.append(threading.get_ident())
        return compile_policy(policy, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(compiled, "compile_policy", noted)
    async with kept(shelf) as keeper:
        await settled(shelf, keeper, source("one"))
    assert threads
    assert threading.get_ident() not in threads


async def test_what_is_enforced_is_not_known_before_it_was_kept(shelf: Shelf) -> None:
    async with kept(shelf) as keeper:
        before = keeper.known
        await settled(shelf, keeper, one := source("one"))
        assert (before, keeper.known) == (False, True)
        assert keeper.enforces(one.policy)


async def test_where_it_cannot_be_found_out_nothing_counts_as_enforced(shelf: Shelf) -> None:
    shelf.refuse = lambda asked: refusal(403, "no")
    async with kept(shelf) as keeper:
        await eventually(lambda: keeper.known)
        assert not keeper.enforces(source("one").policy)


async def test_an_api_server_that_does_not_answer_for_a_moment_may_enforce_what_it_did_before(shelf: Shelf) -> None:
    """And nobody insists on answers of Trow that no policy needs."""
    shelf.refuse = lambda asked: refusal(503, "not now") if asked.method == "PATCH" else None
    async with kept(shelf) as keeper:
        with pytest.raises(Unavailable):
            await settled(shelf, keeper, one := source("one"))
        before = keeper.known
        shelf.refuse = lambda asked: None
        await settled(shelf, keeper, one)
        assert (before, keeper.known) == (False, True)
        assert keeper.enforces(one.policy)


async def test_in_the_end_what_cannot_be_found_out_counts_as_nothing(
    shelf: Shelf, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf.refuse = lambda asked: refusal(503, "not now")
    async with kept(shelf) as keeper:
        before = keeper.known
        monkeypatch.setattr(compiled, "_UNKNOWN_SECONDS", 0.0)
        assert (before, keeper.known) == (False, True)
        assert not keeper.enforces(source("one").policy)


async def test_what_is_changed_in_pods_of_others_is_compiled_into_policies_about_them(
    shelf: Shelf, compilations: list[str]
) -> None:
    """What makes these Pods is not judged by the names that it has."""
    everywhere, changing, apart = (
        source("all"),
        source("p", "team-a", mutate={"pinDigests": True}),
        source("p", "team-b"),
    )
    async with kept(shelf) as keeper:
        await settled(shelf, keeper, everywhere, apart)
        conditions = await settled(shelf, keeper, everywhere, changing, apart)
        told = "workload controllers, where their Pods get other image names"
        assert told in conditions[everywhere.path].message
        assert told in conditions[changing.path].message
        assert told not in conditions[apart.path].message
        (written,) = (shelf.objects[path] for path in policies(shelf) if "/trow-all-" in path)
        assert "!((request.?namespace.orValue('') in [\"team-a\"]))" in str(written["spec"]["matchConditions"]).replace(
            "\\", ""
        )
        await settled(shelf, keeper, everywhere, apart)
    assert compilations.count("ClusterImagePolicy/all") == 3
    assert len(compilations) == 5


async def test_a_namespace_has_a_share_of_the_api_server(shelf: Shelf) -> None:
    """Its tenants write policies, and the API server looks at each of them at each request of anybody."""
    many = [source(f"p{number:02}", "team-a") for number in range(MOST_OF_A_NAMESPACE + 2)]
    others = [source("p", "team-b"), source("everywhere")]
    async with kept(shelf) as keeper:
        conditions = await settled(shelf, keeper, *many, *others)
        assert len(policies(shelf)) == MOST_OF_A_NAMESPACE + len(others)
        left_out = [path for path, condition in conditions.items() if not condition.holds]
        assert left_out == [each.path for each in many[MOST_OF_A_NAMESPACE:]]
        assert conditions[left_out[0]].message == "left out: all of it: the API server gets the first 20 of a namespace"
        conditions = await settled(shelf, keeper, *many[2:], *others)
        assert all(condition.holds for condition in conditions.values())
        assert len(policies(shelf)) == MOST_OF_A_NAMESPACE + len(others)
