"""Exceptions count only while the API server makes sure that two people are behind them."""

from __future__ import annotations

import copy
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Final

import pytest
import yaml

from support.policies import EXCEPTIONS
from support.running import running
from support.shelf import Shelf
from support.waiting import eventually
from trow.controllers.approval import FINGERPRINT, GUARD_POLICY, Approval, fingerprint
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient
from trow.kube.objects import Objects

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


BASE: Final = "/apis/admissionregistration.k8s.io/v1"
POLICY: Final = f"{BASE}/validatingadmissionpolicies/{GUARD_POLICY}"
BINDING: Final = f"{BASE}/validatingadmissionpolicybindings/{GUARD_POLICY}"
CREATED: Final = 1_700_000_000.0
SHIPPED: Final = [*yaml.safe_load_all(EXCEPTIONS.read_text("utf-8"))][:2]


@pytest.fixture
def shelf() -> Iterator[Shelf]:
    with Shelf.start() as started:
        for path, item in zip((POLICY, BINDING), SHIPPED, strict=True):
            given = copy.deepcopy(item)
            given["metadata"]["creationTimestamp"] = "2023-11-14T22:13:20Z"
            started.put(path, given)
        yield started


@asynccontextmanager
async def approval(shelf: Shelf) -> AsyncIterator[Approval]:
    client = KubeClient(ClusterAccess(shelf.url))
    made = Approval(Objects(client, seconds=5), lambda: None)
    assert made.doubt(CREATED)  # nothing is known yet
    async with running(made.run(), client):
        yield made


def test_the_fingerprint_is_that_of_what_is_shipped() -> None:
    assert fingerprint(SHIPPED[0]) == FINGERPRINT


async def test_as_shipped_exceptions_count_that_are_not_older(shelf: Shelf) -> None:
    async with approval(shelf) as found:
        await eventually(lambda: not found.missing)
        assert found.doubt(CREATED + 1) == ""
        assert "it is older than the policy" in found.doubt(CREATED)
        shelf.drop(BINDING)
        await eventually(lambda: f"no ValidatingAdmissionPolicyBinding puts {GUARD_POLICY} in force" in found.missing)


@pytest.mark.parametrize("path", [POLICY, BINDING])
async def test_without_policy_or_binding_none_counts(shelf: Shelf, path: str) -> None:
    shelf.drop(path)
    async with approval(shelf) as found:
        await eventually(lambda: "apply deploy/kubernetes/exceptions.yaml" in found.doubt(CREATED))


def without_a_validation(policy: Any, binding: Any) -> None:
    policy["spec"]["validations"].pop()


def ignoring_failures(policy: Any, binding: Any) -> None:
    policy["spec"]["failurePolicy"] = "Ignore"


def on_condition(policy: Any, binding: Any) -> None:
    policy["spec"]["matchConditions"] = [{"name": "never", "expression": "false"}]


def only_created(policy: Any, binding: Any) -> None:
    policy["spec"]["matchConstraints"]["resourceRules"][0]["operations"] = ["CREATE"]


def warning_only(policy: Any, binding: Any) -> None:
    binding["spec"]["validationActions"] = ["Warn"]


def in_one_place(policy: Any, binding: Any) -> None:
    binding["spec"]["matchResources"] = {"objectSelector": {"matchLabels": {"a": "b"}}}


def of_another_policy(policy: Any, binding: Any) -> None:
    binding["spec"]["policyName"] = "another"


@pytest.mark.parametrize(
    "spoil",
    [
        without_a_validation,
        ignoring_failures,
        on_condition,
        only_created,
        warning_only,
        in_one_place,
        of_another_policy,
    ],
)
async def test_what_was_weakened_makes_sure_of_nothing(shelf: Shelf, spoil: Callable[[Any, Any], None]) -> None:
    policy, binding = copy.deepcopy(shelf.objects[POLICY]), copy.deepcopy(shelf.objects[BINDING])
    spoil(policy, binding)
    shelf.put(POLICY, policy)
    shelf.put(BINDING, binding)
    async with approval(shelf) as found:
        await eventually(lambda: "apply deploy/kubernetes/exceptions.yaml" in found.missing)


async def test_what_an_api_server_adds_changes_nothing(shelf: Shelf) -> None:
    policy = copy.deepcopy(shelf.objects[POLICY])
    constraints = policy["spec"]["matchConstraints"]
    constraints |= {"matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}}
    constraints["resourceRules"][0]["scope"] = "*"
    shelf.put(POLICY, policy)
    async with approval(shelf) as found:
        await eventually(lambda: not found.missing)
