from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.verdicts import IMAGES, PLACES, POLICIES, RULES, SHA256, allow, cluster_policy, deny, pattern, required
from trow.policy.images import ImageReference, parse
from trow.policy.pods import UsedBy
from trow.policy.rules import (
    CLUSTER,
    CONFIGURED,
    NAMESPACED,
    Effect,
    ImageRule,
    Mode,
    Mutations,
    Namespaces,
    Policy,
    RuleIndex,
    RunContext,
)

if TYPE_CHECKING:
    from trow.policy.patterns import ImagePattern
    from trow.policy.requirements import Requirement

# Modes


@pytest.mark.parametrize(
    ("mode", "controllers", "expected"),
    [
        (Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE),
        (Mode.ENFORCE, Mode.WARN, Mode.WARN),
        (Mode.ENFORCE, Mode.AUDIT, Mode.AUDIT),
        (Mode.ENFORCE, Mode.IGNORE, Mode.IGNORE),
        (Mode.WARN, Mode.ENFORCE, Mode.WARN),
        (Mode.WARN, Mode.WARN, Mode.WARN),
        (Mode.WARN, Mode.AUDIT, Mode.AUDIT),
        (Mode.WARN, Mode.IGNORE, Mode.IGNORE),
        (Mode.AUDIT, Mode.ENFORCE, Mode.AUDIT),
        (Mode.AUDIT, Mode.WARN, Mode.AUDIT),
        (Mode.AUDIT, Mode.AUDIT, Mode.AUDIT),
        (Mode.AUDIT, Mode.IGNORE, Mode.IGNORE),
        (Mode.IGNORE, Mode.ENFORCE, Mode.IGNORE),
        (Mode.IGNORE, Mode.WARN, Mode.IGNORE),
        (Mode.IGNORE, Mode.AUDIT, Mode.IGNORE),
        (Mode.IGNORE, Mode.IGNORE, Mode.IGNORE),
    ],
)
def test_the_milder_of_two_modes(mode: Mode, controllers: Mode, expected: Mode) -> None:
    assert mode.at_most(controllers) is expected


def test_every_pair_of_modes_has_a_milder_one() -> None:
    for one, two, three in product(Mode, repeat=3):
        assert one.at_most(one) is one
        assert one.at_most(two) is two.at_most(one)
        assert one.at_most(two).at_most(three) is one.at_most(two.at_most(three))


# Namespaces


@pytest.mark.parametrize(
    ("include", "exclude", "namespace", "expected"),
    [
        (("*",), (), "team-a", True),
        (("*",), ("kube-system",), "kube-system", False),
        (("*",), ("kube-system",), "kube-system2", True),
        (("*",), ("kube-*",), "kube-public", False),
        (("team-*",), (), "team-a", True),
        (("team-*",), (), "team-", True),
        (("team-*",), (), "my-team-a", False),
        (("team-a", "team-b"), (), "team-b", True),
        (("team-a",), (), "team-abc", False),
        (("*-ci",), (), "team-ci", True),
        (("team-*",), ("team-a",), "team-a", False),
        (("team-a",), ("*",), "team-a", False),
        ((), (), "team-a", False),
    ],
)
def test_which_namespaces_are_meant(
    include: tuple[str, ...],
    exclude: tuple[str, ...],
    namespace: str,
    expected: bool,  # noqa: FBT001
) -> None:
    assert Namespaces(include, exclude).cover(namespace) is expected


@pytest.mark.parametrize(
    ("kind", "namespace", "expected"),
    [
        (CLUSTER, "team-a", True),
        (CLUSTER, "kube-system", False),
        (CONFIGURED, "team-a", True),
        # where a namespaced policy is decides, whatever else it says
        (NAMESPACED, "team-a", True),
        (NAMESPACED, "team-b", False),
        (NAMESPACED, "team-abc", False),
        (NAMESPACED, "*", False),
        (NAMESPACED, "", False),
    ],
)
def test_where_a_policy_applies(kind: str, namespace: str, expected: bool) -> None:  # noqa: FBT001
    namespaces = Namespaces(("*",), ("kube-system",))
    policy = Policy(kind, "one", Effect.DENY, namespace="team-a", namespaces=namespaces)
    assert policy.applies(namespace) is expected


def test_a_namespaced_policy_is_never_about_another_namespace() -> None:
    policy = Policy(NAMESPACED, "one", Effect.DENY, namespace="*", namespaces=Namespaces(("*",)))
    assert not policy.applies("team-a")


@pytest.mark.parametrize(
    ("kind", "title"), [(CLUSTER, "ClusterImagePolicy/one"), (NAMESPACED, "ImagePolicy/one"), (CONFIGURED, "one")]
)
def test_what_a_policy_is_called(kind: str, title: str) -> None:
    assert Policy(kind, "one", Effect.DENY).title == title


# Rules

OURS = pattern("registry.example.com")
DRAFTS = pattern("registry.example.com", "team-a/drafts/**")


@pytest.mark.parametrize(
    ("rules", "default", "text", "effect", "name"),
    [
        ((), Effect.DENY, "nginx", Effect.DENY, None),
        ((), Effect.ALLOW, "nginx", Effect.ALLOW, None),
        ((allow("ours", OURS),), Effect.DENY, "registry.example.com/x", Effect.ALLOW, "ours"),
        ((allow("ours", OURS),), Effect.DENY, "nginx", Effect.DENY, None),
        ((deny("not", OURS),), Effect.ALLOW, "registry.example.com/x", Effect.DENY, "not"),
        ((deny("not", OURS),), Effect.ALLOW, "nginx", Effect.ALLOW, None),
        # deny wins over allow, in whatever order and however exact each of them is
        (
            (allow("ours", OURS), deny("not", DRAFTS)),
            Effect.DENY,
            "registry.example.com/team-a/drafts/x",
            Effect.DENY,
            "not",
        ),
        (
            (deny("not", DRAFTS), allow("ours", OURS)),
            Effect.DENY,
            "registry.example.com/team-a/drafts/x",
            Effect.DENY,
            "not",
        ),
        (
            (allow("one", DRAFTS), deny("not", OURS)),
            Effect.ALLOW,
            "registry.example.com/team-a/drafts/x",
            Effect.DENY,
            "not",
        ),
        ((allow("same", OURS), deny("not", OURS)), Effect.ALLOW, "registry.example.com/x", Effect.DENY, "not"),
        # the first one that says so is named
        (
            (allow("one", DRAFTS), allow("two", OURS)),
            Effect.DENY,
            "registry.example.com/team-a/drafts/x",
            Effect.ALLOW,
            "one",
        ),
        (
            (allow("two", OURS), allow("one", DRAFTS)),
            Effect.DENY,
            "registry.example.com/team-a/drafts/x",
            Effect.ALLOW,
            "two",
        ),
        ((deny("two", pattern("*")), deny("one", OURS)), Effect.DENY, "registry.example.com/x", Effect.DENY, "two"),
        ((allow("any", pattern("quay.io"), OURS),), Effect.DENY, "registry.example.com/x", Effect.ALLOW, "any"),
        # a tag that may lie permits nothing, and forbids all the same
        ((allow("v", pattern("q.io", tag="v*")),), Effect.DENY, f"q.io/x:v1@{SHA256}", Effect.DENY, None),
        ((deny("v", pattern("q.io", tag="v*")),), Effect.ALLOW, f"q.io/x:v1@{SHA256}", Effect.DENY, "v"),
    ],
)
def test_what_the_rules_of_a_policy_say(
    rules: tuple[ImageRule, ...], default: Effect, text: str, effect: Effect, name: str | None
) -> None:
    said, rule = cluster_policy(*rules, default=default).evaluate(parse(text))
    assert (said, rule.name if rule else None) == (effect, name)


def walk(rules: list[ImageRule], image: ImageReference, where: RunContext, *, ignore_tag: bool) -> ImageRule | None:
    """All rules in order: what an index has to find."""

    def covers(each: ImagePattern) -> bool:
        return each.covers(image, ignore_tag=ignore_tag, namespace=where.namespace)

    return next((rule for rule in rules if rule.applies_to(where) and any(map(covers, rule.patterns))), None)


@given(st.lists(RULES, max_size=8), IMAGES, PLACES, st.booleans())
def test_an_index_finds_what_walking_all_rules_finds(
    rules: list[ImageRule],
    image: ImageReference,
    where: RunContext,
    ignore_tag: bool,  # noqa: FBT001
) -> None:
    assert RuleIndex(rules).find(image, where, ignore_tag=ignore_tag) is walk(
        rules, image, where, ignore_tag=ignore_tag
    )


@given(POLICIES, IMAGES, PLACES)
def test_a_policy_says_what_its_rules_say_one_by_one(policy: Policy, image: ImageReference, where: RunContext) -> None:
    by_effect = {effect: [rule for rule in policy.rules if rule.effect is effect] for effect in Effect}
    denying = walk(by_effect[Effect.DENY], image, where, ignore_tag=False)
    allowing = walk(by_effect[Effect.ALLOW], image, where, ignore_tag=True)
    if denying:
        assert policy.evaluate(image, where) == (Effect.DENY, denying)
    elif allowing:
        assert policy.evaluate(image, where) == (Effect.ALLOW, allowing)
    else:
        assert policy.evaluate(image, where) == (policy.default, None)


@pytest.mark.parametrize(
    ("used_by", "allows", "denies"),
    [
        (UsedBy.INIT_CONTAINERS, True, True),
        (UsedBy.VOLUMES, True, True),
        (UsedBy.CONTAINERS, False, False),
        (UsedBy.EPHEMERAL_CONTAINERS, False, False),
        (None, False, True),
    ],
)
def test_a_rule_may_be_about_some_kinds_of_containers(used_by: UsedBy | None, allows: bool, denies: bool) -> None:  # noqa: FBT001
    """Where nobody knows what uses an image, one that allows is about none, and one that denies about all."""
    some = (UsedBy.INIT_CONTAINERS, UsedBy.VOLUMES)
    for rule, wanted in (
        (allow("a", pattern("q.io"), used_by=some), allows),
        (deny("a", pattern("q.io"), used_by=some), denies),
    ):
        other = Effect.DENY if rule.effect is Effect.ALLOW else Effect.ALLOW
        said = cluster_policy(rule, default=other).evaluate(parse("q.io/a"), RunContext("team-a", used_by))
        assert said == ((rule.effect, rule) if wanted else (other, None))


OWN: Final = cluster_policy(allow("own", pattern("q.io", "$namespace/**"), pattern("q.io", "pub/*/$namespace")))


@pytest.mark.parametrize(
    ("namespace", "text", "allowed"),
    [
        ("team-a", "q.io/team-a/app", True),
        ("team-a", "q.io/team-a/x/y", True),
        ("team-a", "q.io/pub/x/team-a", True),
        ("team-a", "q.io/team-ab/app", False),
        ("team-a", "q.io/team-a", False),
        ("team-a", "q.io/x/team-a/app", False),
        ("team-b", "q.io/team-a/app", False),
        ("", "q.io/team-a/app", False),
        ("*", "q.io/team-a/app", False),
        ("**", "q.io/team-a/app", False),
        ("team-*", "q.io/team-a/app", False),
        ("team-a/x", "q.io/team-a/x/y", False),
    ],
)
def test_a_rule_may_be_about_images_of_the_namespace(namespace: str, text: str, allowed: bool) -> None:  # noqa: FBT001
    """Where the namespace is not known it lets nothing in, and what is no name of one is no glob either."""
    assert OWN.evaluate(parse(text), RunContext(namespace))[0] is (Effect.ALLOW if allowed else Effect.DENY)
    assert OWN.evaluate(parse(text))[0] is Effect.DENY


@given(POLICIES, RULES, IMAGES)
def test_one_more_rule_that_denies_allows_nothing_more(policy: Policy, rule: ImageRule, image: ImageReference) -> None:
    more = replace(policy, rules=(replace(rule, effect=Effect.DENY), *policy.rules))
    if policy.evaluate(image)[0] is Effect.DENY:
        assert more.evaluate(image)[0] is Effect.DENY


def test_policies_are_compared_by_what_they_say() -> None:
    one, two = cluster_policy(allow("ours", OURS)), cluster_policy(allow("ours", OURS))
    one.evaluate(parse("nginx"))
    assert one == two
    assert hash(one) == hash(two)
    assert one != replace(two, mode=Mode.WARN)


# Requirements


@pytest.mark.parametrize(
    ("require", "expected"),
    [
        (required(), False),
        (required(digest=True, never_forbidden=True), False),
        (required(exists=True), True),
        (required(max_age=1.0), True),
        (required(max_age=0.0), True),
        (required(platforms=("linux/amd64",)), True),
    ],
)
def test_what_the_registry_has_to_be_asked_about(require: tuple[Requirement, ...], expected: bool) -> None:  # noqa: FBT001
    assert bool(cluster_policy(require=require).needs) is expected


def test_nothing_is_changed_unless_it_is_asked_for() -> None:
    assert Mutations() == Mutations(pin_digests=False, pull_through=False)
