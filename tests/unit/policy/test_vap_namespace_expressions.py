"""Where policies apply, as far as names of namespaces tell."""

from __future__ import annotations

from dataclasses import replace

import pytest

from trow.policy.rules import CLUSTER, NAMESPACED, Effect, Mutations, Namespaces, Policy
from trow.policy.selectors import LabelRequirement, Operator, Selector
from trow.policy.vap.namespace_expressions import (
    ALWAYS,
    NEVER,
    MutatedNamespaces,
    all_of,
    any_of,
    labels_as_names,
    namespaces_of,
)

PINNING = Mutations(pin_digests=True)


def of_cluster(*include: str, exclude: tuple[str, ...] = (), mutate: Mutations = PINNING) -> Policy:
    return Policy(CLUSTER, "all", Effect.ALLOW, namespaces=Namespaces(include, exclude), mutate=mutate)


def of(namespace: str, mutate: Mutations = PINNING) -> Policy:
    return Policy(NAMESPACED, "mine", Effect.ALLOW, namespace=namespace, mutate=mutate)


ALL = of_cluster("*", mutate=Mutations())


@pytest.mark.parametrize(
    ("policy", "others", "expected"),
    [
        (ALL, [of_cluster("*")], ALWAYS),
        (ALL, [of_cluster("*", mutate=Mutations())], NEVER),
        (ALL, [of("a"), of("b")], namespaces_of([of("a"), of("b")])),
        (ALL, [of("a"), of("b", Mutations())], namespaces_of([of("a")])),
        (of_cluster("a", "c"), [of("a"), of("b")], namespaces_of([of("a")])),
        (of_cluster("team-*", exclude=("team-x",)), [of("team-x"), of("team-y")], namespaces_of([of("team-y")])),
        (of_cluster("a"), [of_cluster("b")], NEVER),
        (of_cluster("a-*"), [of_cluster("b-*")], namespaces_of([of_cluster("b-*")])),  # nobody has looked so closely
        (of("a"), [of("b")], NEVER),
        (of("a"), [of("a"), of("b"), of_cluster("a", "b")], namespaces_of([of("a"), of_cluster("a", "b")])),
        (of("a"), [of_cluster("*", exclude=("a",))], NEVER),
    ],
)
def test_where_other_policies_change_pods_that_one_is_about(
    policy: Policy, others: list[Policy], expected: str
) -> None:
    assert MutatedNamespaces(others).where(policy) == expected


def test_labels_are_told_by_the_names_that_are_known() -> None:
    prod = Selector((LabelRequirement("tier", Operator.IN, ("prod",)),))
    labelled = replace(ALL, namespaces=Namespaces(("*",), ("x",), prod))
    known = {"a": {"tier": "prod"}, "b": {"tier": "test"}, "c": {}, "x": {}}
    told = labels_as_names([ALL, labelled, of("b")], known)
    assert told == [ALL, replace(labelled, namespaces=Namespaces(("*",), ("x", "b", "c"), prod)), of("b")]
    assert [told[1].applies(name) for name in ("a", "b", "c", "new")] == [True, False, False, True]
    assert namespaces_of([told[1]]) == namespaces_of([of_cluster("*", exclude=("b", "c", "x"))])


def test_more_names_than_fit_are_all() -> None:
    many = [of(f"namespace-{number:06}") for number in range(3000)]
    assert namespaces_of(many[:100]) != ALWAYS
    assert namespaces_of(many) == ALWAYS


def test_parts_are_put_together() -> None:
    assert any_of() == any_of(NEVER) == all_of(ALWAYS, NEVER) == NEVER
    assert any_of("a", ALWAYS) == all_of(ALWAYS, ALWAYS) == ALWAYS
    assert any_of("a", NEVER, "b || c") == "(a) || (b || c)"
    assert all_of(ALWAYS, "a") == all_of("a", "a") == "a"
    assert all_of("a || b", "c") == "(a || b) && (c)"
