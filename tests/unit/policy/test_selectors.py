"""Namespaces by labels, as Kubernetes selects them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trow.policy.rules import Namespaces
from trow.policy.selectors import NAME_LABEL, LabelRequirement, Operator, Selector

if TYPE_CHECKING:
    from collections.abc import Mapping

PROD = LabelRequirement("tier", Operator.IN, ("prod", "live"))
NOT_PROD = LabelRequirement("tier", Operator.NOT_IN, ("prod",))
TIERED = LabelRequirement("tier", Operator.EXISTS)
UNTIERED = LabelRequirement("tier", Operator.DOES_NOT_EXIST)
NAMED = LabelRequirement(NAME_LABEL, Operator.IN, ("team-a",))
OTHERS = LabelRequirement(NAME_LABEL, Operator.NOT_IN, ("team-a",))


@pytest.mark.parametrize(
    ("requirement", "labels", "met"),
    [
        (PROD, {"tier": "prod"}, True),
        (PROD, {"tier": "test"}, False),
        (PROD, {}, False),
        (NOT_PROD, {"tier": "test"}, True),
        (NOT_PROD, {"tier": "prod"}, False),
        # As in Kubernetes: what has no such label is not among its values.
        (NOT_PROD, {}, True),
        (TIERED, {"tier": ""}, True),
        (TIERED, {}, False),
        (UNTIERED, {}, True),
        (UNTIERED, {"tier": ""}, False),
    ],
)
def test_labels_are_compared_as_in_kubernetes(
    requirement: LabelRequirement, labels: Mapping[str, str], met: object
) -> None:
    assert requirement.met(labels) is met


@pytest.mark.parametrize(
    ("requirements", "name", "labels", "matches"),
    [
        ([], "team-a", None, True),
        ([PROD], "team-a", {"tier": "prod"}, True),
        ([PROD, NAMED], "team-a", {"tier": "prod"}, True),
        ([PROD, NAMED], "team-b", {"tier": "prod"}, False),
        # The name is known, whatever is said of labels.
        ([NAMED], "team-a", {NAME_LABEL: "team-b"}, True),
        ([NAMED], "team-a", None, True),
        ([OTHERS], "team-a", None, False),
        # Nobody knows.
        ([PROD], "team-a", None, None),
        ([PROD, NAMED], "team-a", None, None),
        ([PROD, NAMED], "team-b", None, False),
        # It is not known which namespace it is: what is about every namespace counts, whatever it excludes.
        ([PROD], "", None, False),
        ([NAMED], "", None, False),
        ([NOT_PROD, OTHERS, UNTIERED], "", None, True),
    ],
)
def test_every_label_has_to_match(
    requirements: list[LabelRequirement], name: str, labels: Mapping[str, str] | None, matches: object
) -> None:
    assert Selector(tuple(requirements)).matches(name, labels) is matches
    assert Namespaces(selector=Selector(tuple(requirements))).cover(name, labels) is matches


def test_names_come_first() -> None:
    namespaces = Namespaces(("team-*",), ("team-x",), Selector((PROD,)))
    assert namespaces.cover("team-a", {"tier": "prod"})
    assert namespaces.cover("team-x", None) is False
    assert namespaces.cover("other", {"tier": "prod"}) is False
