from __future__ import annotations

from typing import Any

import pytest

from trow.lib.kube_objects import Owner, controller_of, generation, labels, metadata

OWNER = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "1", "controller": True}


def owned(*owners: object) -> dict[str, Any]:
    return {"ownerReferences": [*owners]}


def test_the_controller_is_the_owner_that_manages() -> None:
    other = OWNER | {"name": "other", "controller": False}
    assert controller_of(owned(other, OWNER)) == Owner("apps/v1", "ReplicaSet", "web", "1")


@pytest.mark.parametrize(
    "found",
    [
        {},
        owned(),
        {"ownerReferences": "web"},
        owned("web", None),
        owned(OWNER | {"controller": "true"}),
        owned(OWNER | {"uid": 7}),
        owned({"controller": True}),
        owned(*[{}] * 100, OWNER),
    ],
)
def test_what_is_not_a_controller_manages_nothing(found: dict[str, Any]) -> None:
    assert controller_of(found) is None


@pytest.mark.parametrize("item", [{}, {"metadata": None}, {"metadata": ["a"]}, {"metadata": {"labels": 1}}])
def test_what_is_missing_or_something_else_is_empty(item: dict[str, Any]) -> None:
    assert (dict(labels(item)), generation(item)) == ({}, None)


def test_members_of_metadata_are_read() -> None:
    item = {"metadata": {"name": "web", "generation": 3, "labels": {"a": "b", "c": 1}}}
    assert (metadata(item)["name"], generation(item), labels(item)) == ("web", 3, {"a": "b"})
