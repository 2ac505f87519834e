"""What is said of an object in its status."""

from __future__ import annotations

from typing import Any, Final

import pytest

from trow.controllers.status import LONGEST_CONDITION_MESSAGE, Condition, status_update
from trow.lib.times import rfc3339

NOW: Final = 1_700_000_000.9
WRITTEN: Final = "2023-11-14T22:13:20Z"
READY: Final = Condition("Ready", holds=True, reason="InForce", message="it is")


def item(status: object = None, **metadata: Any) -> dict[str, Any]:
    """A policy of which there is a second version."""
    given: dict[str, Any] = {"apiVersion": "policy.trow.io/v1alpha1", "kind": "ImagePolicy", "spec": {"a": 1}}
    given["metadata"] = {"name": "mine", "namespace": "team-a", "generation": 2, "uid": "u-1", **metadata}
    return given if status is None else given | {"status": status}


def condition(**changes: Any) -> dict[str, Any]:
    """What becomes of `READY`."""
    return {
        "type": "Ready",
        "status": "True",
        "reason": "InForce",
        "message": "it is",
        "lastTransitionTime": WRITTEN,
        "observedGeneration": 2,
        **changes,
    }


def test_a_status_is_written_with_what_names_the_object_and_nothing_else() -> None:
    assert status_update(item(), [READY], NOW, observedGeneration=2) == {
        "apiVersion": "policy.trow.io/v1alpha1",
        "kind": "ImagePolicy",
        "metadata": {"name": "mine", "namespace": "team-a"},
        "status": {"conditions": [condition()], "observedGeneration": 2},
    }


def test_an_object_without_namespace_is_named_without() -> None:
    given = item()
    del given["metadata"]["namespace"]
    wanted = status_update(given, [READY], NOW)
    assert wanted is not None
    assert wanted["metadata"] == {"name": "mine"}


def test_what_is_there_already_is_not_written_again() -> None:
    present = {"conditions": [condition(lastTransitionTime="2020-01-01T00:00:00Z")], "expiresAt": WRITTEN, "else": 1}
    assert status_update(item(present), [READY], NOW, expiresAt=WRITTEN) is None
    assert status_update(item(present), [READY], NOW, expiresAt="2023-11-14T22:13:21Z") is not None


@pytest.mark.parametrize(
    ("before", "since"),
    [
        ({}, "2020-01-01T00:00:00Z"),
        ({"reason": "Other", "message": "other", "observedGeneration": 1}, "2020-01-01T00:00:00Z"),
        ({"status": "False"}, WRITTEN),
        ({"status": "Unknown"}, WRITTEN),
        ({"type": "Compiled"}, WRITTEN),
        ({"lastTransitionTime": ""}, WRITTEN),
    ],
)
def test_the_time_of_a_condition_is_that_of_its_last_change(before: dict[str, Any], since: str) -> None:
    present = {"conditions": [condition(lastTransitionTime="2020-01-01T00:00:00Z") | before], "observedGeneration": 1}
    wanted = status_update(item(present), [READY], NOW, observedGeneration=2)
    assert wanted is not None
    assert wanted["status"] == {"conditions": [condition(lastTransitionTime=since)], "observedGeneration": 2}


def test_conditions_that_are_no_more_go() -> None:
    present = {"conditions": [condition(), condition(type="Compiled")]}
    wanted = status_update(item(present), [READY], NOW)
    assert wanted is not None
    assert wanted["status"] == {"conditions": [condition()]}


@pytest.mark.parametrize("status", ["x", [], {"conditions": {}}, {"conditions": ["x", None, {"type": 1}]}])
def test_what_others_have_written_there_is_no_trouble(status: object) -> None:
    wanted = status_update(item(status), [READY], NOW)
    assert wanted is not None
    assert wanted["status"] == {"conditions": [condition()]}


def test_a_long_message_is_cut() -> None:
    long = Condition("Ready", holds=False, reason="Invalid", message="x" * 100_000)
    wanted: Any = status_update(item(), [long], NOW)
    (found,) = wanted["status"]["conditions"]
    assert (found["status"], len(found["message"])) == ("False", LONGEST_CONDITION_MESSAGE)


def test_times_are_written_without_fractions() -> None:
    assert rfc3339(NOW) == WRITTEN
