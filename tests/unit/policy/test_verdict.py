from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.verdicts import (
    EXCEPTIONS,
    HOUR,
    NAMESPACES,
    NOW,
    OTHER,
    OURS,
    POLICIES,
    SHA256,
    TEXTS,
    allow,
    cluster_policy,
    deny,
    pattern,
    pod,
    policy_exception,
    required,
    standing,
)
from trow.oci.digest import Digest
from trow.policy.configured import policy_of
from trow.policy.facts import ImageConfig, ImageFacts, Need
from trow.policy.images import parse
from trow.policy.pods import Stage
from trow.policy.requirements import AlwaysPulled, Exists, ForbidPullPolicyNever, MaxAge, Platforms, WithDigest
from trow.policy.rules import NAMESPACED, Effect, Mode, Namespaces, Policy, StandingException
from trow.policy.verdict import (
    DEFAULT,
    INVALID,
    LONGEST_EXCEPTION,
    ImageRequest,
    PolicyException,
    Rules,
    Verdict,
    judge,
    needed_facts,
    unreadable,
)

if TYPE_CHECKING:
    from trow.policy.requirements import Requirement
    from trow.policy.verdict import Finding

NGINX: Final = "docker.io/library/nginx:1.27"
OURS_ONLY: Final = cluster_policy(allow("ours", OURS))
OPEN: Final = cluster_policy(name="open", default=Effect.ALLOW)
HERE: Final = ImageFacts(exists=True, digest=Digest(SHA256), config=ImageConfig(NOW, ("linux/amd64",)))
SILENT: Final = ImageFacts(exists=True, config=ImageConfig())


def made(created: float) -> ImageFacts:
    return replace(HERE, config=ImageConfig(created))


def built_for(*platforms: str) -> ImageFacts:
    return replace(HERE, config=ImageConfig(NOW, platforms))


def verdict(
    request: ImageRequest, *policies: Policy, exceptions: tuple[PolicyException, ...] = (), now: float = NOW
) -> Verdict:
    return judge(Rules(policies, exceptions), request, {}, now)


def only(found: Verdict) -> Finding:
    (finding,) = found.findings
    return finding


# All policies have to be content


def test_without_a_policy_nothing_is_against_it() -> None:
    assert verdict(pod(NGINX)).findings == ()
    assert verdict(pod(NGINX)).allowed


def test_an_object_without_images_is_allowed() -> None:
    assert verdict(pod(), OURS_ONLY).allowed


def test_what_a_rule_allows_is_allowed() -> None:
    finding = only(verdict(pod("registry.example.com/x"), OURS_ONLY))
    assert (finding.policy, finding.rule, finding.allowed) == ("ClusterImagePolicy/only-ours", "ours", True)
    assert finding.image == parse("registry.example.com/x")


def test_what_no_rule_allows_is_denied_by_default() -> None:
    found = verdict(pod(NGINX), OURS_ONLY)
    assert not found.allowed
    assert only(found).rule == DEFAULT
    assert only(found).reason == "is not allowed by any rule"
    assert only(found).remedy == "use one of registry.example.com/**"


def test_a_policy_without_rules_denies_all_by_default() -> None:
    found = verdict(pod(NGINX), cluster_policy())
    assert not found.allowed
    assert only(found).remedy == "this policy allows nothing yet: it needs a rule with the action Allow"


def test_no_more_than_three_of_the_allowed_images_are_shown() -> None:
    rules = [allow(name, pattern(f"{name}.io")) for name in ("a", "b", "c", "d", "e")]
    finding = only(verdict(pod(NGINX), cluster_policy(*rules, deny("f", pattern("f.io")))))
    assert finding.remedy == "use one of a.io/**, b.io/**, c.io/** or 2 more"
    finding = only(verdict(pod(NGINX), cluster_policy(*rules[:3])))
    assert finding.remedy == "use one of a.io/**, b.io/**, c.io/**"


def test_what_a_rule_denies_is_denied_by_its_name() -> None:
    found = verdict(pod(NGINX), cluster_policy(deny("no-hub", pattern("docker.io")), default=Effect.ALLOW))
    assert not found.allowed
    assert (only(found).rule, only(found).reason) == ("no-hub", "is denied")
    assert only(found).remedy == "use an image that this rule does not match"


def test_deny_wins_over_an_allow_that_is_longer() -> None:
    rules = (allow("nginx", pattern("docker.io", "library/nginx", "1.27")), deny("no-hub", pattern("docker.io")))
    assert not verdict(pod(NGINX), cluster_policy(*rules)).allowed
    assert not verdict(pod(NGINX), policy_of(Effect.ALLOW, ["docker.io/library/nginx:1.27"], ["docker.io"])).allowed


def test_one_denied_image_is_enough() -> None:
    found = verdict(pod("registry.example.com/x", NGINX, "registry.example.com/y"), OURS_ONLY)
    assert not found.allowed
    assert [finding.allowed for finding in found.findings] == [True, False, True]


def test_one_policy_that_is_against_it_is_enough() -> None:
    assert not verdict(pod(NGINX), OPEN, OURS_ONLY).allowed
    assert not verdict(pod(NGINX), OURS_ONLY, OPEN).allowed
    assert verdict(pod("registry.example.com/x"), OPEN, OURS_ONLY).allowed


def test_a_policy_of_another_namespace_says_nothing() -> None:
    elsewhere = Policy(NAMESPACED, "strict", Effect.DENY, namespace="team-b")
    assert verdict(pod(NGINX), elsewhere).findings == ()
    assert not verdict(pod(NGINX, namespace="team-b"), elsewhere).allowed
    left_out = replace(OURS_ONLY, namespaces=Namespaces(exclude=("team-a",)))
    assert verdict(pod(NGINX), left_out).findings == ()


@pytest.mark.parametrize("text", ["", "docker.io./nginx", "nginx ", f"sha256:{'a' * 64}", "NGINX"])
def test_what_cannot_be_read_is_denied_by_every_policy(text: str) -> None:
    finding = only(verdict(pod(text), OPEN))
    assert (finding.rule, finding.allowed, finding.image) == (INVALID, False, None)
    assert finding.reason.startswith("cannot be read: ")


def test_what_cannot_be_told_is_denied_by_every_policy_that_applies() -> None:
    elsewhere = Policy(NAMESPACED, "strict", Effect.DENY, namespace="team-b")
    found = unreadable(Rules((OPEN, OURS_ONLY, elsewhere)), pod(""), "spec.containers is not a list")
    assert not found.allowed
    assert [finding.policy for finding in found.findings] == ["ClusterImagePolicy/open", "ClusterImagePolicy/only-ours"]
    assert {finding.reason for finding in found.findings} == {"spec.containers is not a list"}
    assert {finding.rule for finding in found.findings} == {INVALID}


def test_what_cannot_be_told_is_denied_though_nothing_was_found_in_it() -> None:
    found = unreadable(Rules((OPEN,)), pod(), "spec is not an object")
    assert not found.allowed
    assert str(only(found)) == "the object: '' spec is not an object (ClusterImagePolicy/open, invalid-image)"


@given(POLICIES, st.lists(POLICIES, max_size=3), st.lists(TEXTS, max_size=2), NAMESPACES)
def test_one_more_policy_never_allows_more(
    more: Policy, policies: list[Policy], texts: list[str], namespace: str
) -> None:
    """The policies of a namespace can only tighten those of the cluster."""
    request = pod(*texts, namespace=namespace)
    before, after = verdict(request, *policies), verdict(request, *policies, more)
    assert before.allowed or not after.allowed
    for mode in Mode:
        assert set(before.denials(mode)) <= set(after.denials(mode))


@given(st.lists(POLICIES, max_size=3), st.lists(TEXTS, max_size=2))
def test_the_order_of_policies_means_nothing(policies: list[Policy], texts: list[str]) -> None:
    one, other = verdict(pod(*texts), *policies), verdict(pod(*texts), *reversed(policies))
    assert one.allowed == other.allowed
    assert set(one.findings) == set(other.findings)


# Modes


@pytest.mark.parametrize(
    ("mode", "controllers", "of_a_pod", "of_a_job", "of_a_controller"),
    [
        (Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE),
        (Mode.ENFORCE, Mode.WARN, Mode.ENFORCE, Mode.ENFORCE, Mode.WARN),
        (Mode.ENFORCE, Mode.IGNORE, Mode.ENFORCE, Mode.IGNORE, Mode.IGNORE),
        (Mode.WARN, Mode.ENFORCE, Mode.WARN, Mode.WARN, Mode.WARN),
        (Mode.WARN, Mode.WARN, Mode.WARN, Mode.WARN, Mode.WARN),
        (Mode.WARN, Mode.IGNORE, Mode.WARN, Mode.IGNORE, Mode.IGNORE),
        (Mode.AUDIT, Mode.ENFORCE, Mode.AUDIT, Mode.AUDIT, Mode.AUDIT),
        (Mode.AUDIT, Mode.WARN, Mode.AUDIT, Mode.AUDIT, Mode.AUDIT),
        (Mode.AUDIT, Mode.IGNORE, Mode.AUDIT, Mode.IGNORE, Mode.IGNORE),
    ],
)
def test_what_comes_of_a_denial(
    mode: Mode, controllers: Mode, of_a_pod: Mode, of_a_job: Mode, of_a_controller: Mode
) -> None:
    policy = replace(OURS_ONLY, mode=mode, controllers=controllers)
    for stage, expected in ((Stage.POD, of_a_pod), (Stage.JOB, of_a_job), (Stage.CONTROLLER, of_a_controller)):
        for found in (
            verdict(pod(NGINX, stage=stage), policy),
            verdict(pod("NGINX", stage=stage), policy),
            unreadable(Rules((policy,)), pod("", stage=stage), "is no object"),
        ):
            assert only(found).mode is expected
            assert found.allowed is (expected is not Mode.ENFORCE)
            assert found.denials(expected) == found.findings
            assert all(found.denials(other) == () for other in Mode if other is not expected)


def test_a_policy_that_warns_takes_nothing_from_one_that_is_enforced() -> None:
    warning = replace(OURS_ONLY, mode=Mode.WARN)
    found = verdict(pod(NGINX), warning, cluster_policy(name="strict"))
    assert not found.allowed
    assert [finding.policy for finding in found.denials(Mode.WARN)] == ["ClusterImagePolicy/only-ours"]
    assert [finding.policy for finding in found.denials(Mode.ENFORCE)] == ["ClusterImagePolicy/strict"]


def test_what_is_allowed_is_in_no_list_of_denials() -> None:
    found = verdict(pod("registry.example.com/x"), OURS_ONLY)
    assert all(found.denials(mode) == () for mode in Mode)


# Requirements


@pytest.mark.parametrize(
    ("require", "facts", "rule", "reason"),
    [
        # zero of what is asked for is not enough: what is unknown, absent or says nothing is denied (CVE-2022-35930)
        (required(exists=True), None, Exists.name, "is not known"),
        (required(max_age=HOUR), None, Exists.name, "is not known"),
        (required(platforms=("linux/amd64",)), None, Exists.name, "is not known"),
        (required(exists=True), ImageFacts(exists=False), Exists.name, "is not in this registry"),
        (required(max_age=HOUR), ImageFacts(exists=False), Exists.name, "is not in this registry"),
        (required(platforms=("linux/amd64",)), ImageFacts(exists=False), Exists.name, "is not in this registry"),
        (required(max_age=HOUR), SILENT, MaxAge.name, "does not say when it was made"),
        (
            required(platforms=("linux/amd64",)),
            SILENT,
            Platforms.name,
            "is not for any of the allowed platforms",
        ),
        # facts of an absent image are worth nothing
        (required(exists=True), replace(HERE, exists=False), Exists.name, "is not in this registry"),
        # at the very second
        (required(max_age=HOUR), made(NOW - HOUR - 0.001), MaxAge.name, "is too old"),
        (required(max_age=HOUR), made(NOW + HOUR + 0.001), MaxAge.name, "dated in the future"),
        (required(max_age=HOUR), made(float("nan")), MaxAge.name, "is too old"),
        (required(max_age=HOUR), made(float("-inf")), MaxAge.name, "is too old"),
        (required(max_age=HOUR), made(float("inf")), MaxAge.name, "dated in the future"),
        (required(max_age=HOUR), made(0.0), MaxAge.name, "is too old"),
        # platforms
        (required(platforms=("linux/arm64",)), HERE, Platforms.name, "(linux/arm64)"),
        (
            required(platforms=("linux/arm64", "windows/amd64")),
            HERE,
            Platforms.name,
            "linux/arm64, windows/amd64",
        ),
        (
            required(platforms=("linux/arm/v7",)),
            built_for("linux/arm"),
            Platforms.name,
            "arm/v7",
        ),
        (required(platforms=("linux/arm",)), built_for("linux/arm64"), Platforms.name, "arm"),
        (required(platforms=("linux/arm",)), built_for("xlinux/arm"), Platforms.name, "arm"),
        # one of several that is not fulfilled
        (required(digest=True, exists=True), HERE, WithDigest.name, "has no digest"),
        (required(exists=True, max_age=1.0), made(NOW - 2), MaxAge.name, "is too old"),
    ],
)
def test_requirements_that_are_not_fulfilled(
    require: tuple[Requirement, ...], facts: ImageFacts | None, rule: str, reason: str
) -> None:
    policy = cluster_policy(allow("hub", pattern("docker.io")), require=require)
    found = judge(Rules((policy,)), pod(NGINX), {parse(NGINX): facts} if facts else {}, NOW)
    assert not found.allowed
    assert only(found).rule == rule
    assert reason in only(found).reason
    assert only(found).remedy


@pytest.mark.parametrize(
    ("require", "facts"),
    [
        (required(exists=True), ImageFacts(exists=True)),
        (required(max_age=HOUR), made(NOW - HOUR)),
        (required(max_age=0.0), HERE),
        (required(max_age=HOUR), made(NOW + HOUR)),  # clocks differ
        (required(platforms=("linux/amd64",)), HERE),
        (required(platforms=("linux/arm64", "linux/amd64")), HERE),
        (required(platforms=("linux/amd64",)), built_for("unknown/unknown", "linux/amd64")),
        (required(platforms=("linux/arm",)), built_for("linux/arm/v7")),
        (required(platforms=("linux/arm/v7",)), built_for("linux/arm/v7")),
        (required(exists=True, max_age=HOUR, platforms=("linux/amd64",)), HERE),
        (required(), ImageFacts(exists=False)),
    ],
)
def test_requirements_that_are_fulfilled(require: tuple[Requirement, ...], facts: ImageFacts) -> None:
    policy = cluster_policy(allow("hub", pattern("docker.io")), require=require)
    found = judge(Rules((policy,)), pod(NGINX), {parse(NGINX): facts}, NOW)
    assert found.allowed
    assert only(found).rule == "hub"


def test_requirements_are_asked_of_what_the_default_allows() -> None:
    policy = cluster_policy(default=Effect.ALLOW, require=required(digest=True))
    assert only(verdict(pod(NGINX), policy)).rule == WithDigest.name
    assert verdict(pod(f"nginx@{SHA256}"), policy).allowed


def test_requirements_do_not_speak_of_what_is_denied_anyhow() -> None:
    policy = cluster_policy(require=required(digest=True, exists=True))
    assert only(verdict(pod(NGINX), policy)).rule == DEFAULT


@pytest.mark.parametrize(
    ("text", "allowed"),
    [("nginx", False), ("nginx:1", False), (f"nginx@{SHA256}", True), (f"nginx:1@{SHA256}", True)],
)
def test_an_image_that_has_to_have_a_digest(text: str, allowed: bool) -> None:  # noqa: FBT001
    found = verdict(pod(text), cluster_policy(default=Effect.ALLOW, require=required(digest=True)))
    assert found.allowed is allowed
    if not allowed:
        assert only(found).remedy == f"write {parse(text)}@sha256:..."


@pytest.mark.parametrize(
    ("pull_policy", "allowed"), [("Always", True), ("", True), ("IfNotPresent", False), ("Never", False)]
)
def test_an_image_may_have_to_be_pulled_always(pull_policy: str, allowed: object) -> None:
    policy = cluster_policy(default=Effect.ALLOW, require=required(always_pulled=True))
    (found,) = judge(Rules((policy,)), pod("nginx:1", pull_policy=pull_policy), {}, NOW).findings
    assert found.allowed is allowed
    if not allowed:
        assert (found.rule, found.remedy) == (AlwaysPulled.name, "write imagePullPolicy: Always")


@pytest.mark.parametrize(
    ("pull_policy", "allowed"), [("", True), ("Always", True), ("IfNotPresent", True), ("Never", False)]
)
def test_an_image_that_may_not_be_left_unpulled(pull_policy: str, allowed: bool) -> None:  # noqa: FBT001
    policy = cluster_policy(default=Effect.ALLOW, require=required(never_forbidden=True))
    found = verdict(pod(NGINX, pull_policy=pull_policy), policy)
    assert found.allowed is allowed
    if not allowed:
        assert only(found).rule == ForbidPullPolicyNever.name
        assert only(found).remedy == "use an imagePullPolicy other than Never"


def test_facts_of_one_image_say_nothing_of_another() -> None:
    policy = cluster_policy(default=Effect.ALLOW, require=required(exists=True))
    found = judge(Rules((policy,)), pod("nginx:1", "nginx:2"), {parse("nginx:1"): HERE}, NOW)
    assert [finding.allowed for finding in found.findings] == [True, False]


# What is looked up

CONTENT: Final = required(exists=True)


@pytest.mark.parametrize(
    ("policies", "expected"),
    [
        ((), []),
        ((OPEN,), []),
        ((cluster_policy(allow("hub", pattern("docker.io"))),), []),
        ((cluster_policy(require=required(digest=True), default=Effect.ALLOW),), []),
        ((cluster_policy(require=CONTENT),), []),
        ((cluster_policy(require=CONTENT, default=Effect.ALLOW),), ["nginx:1", "quay.io/x"]),
        ((cluster_policy(allow("hub", pattern("docker.io")), require=CONTENT),), ["nginx:1"]),
        ((cluster_policy(deny("hub", pattern("docker.io")), require=CONTENT, default=Effect.ALLOW),), ["quay.io/x"]),
        ((cluster_policy(require=CONTENT), OPEN), []),
        ((Policy(NAMESPACED, "x", Effect.ALLOW, namespace="team-b", require=CONTENT),), []),
        ((Policy(NAMESPACED, "x", Effect.ALLOW, namespace="team-a", require=CONTENT),), ["nginx:1", "quay.io/x"]),
    ],
)
def test_which_images_are_looked_up(policies: tuple[Policy, ...], expected: list[str]) -> None:
    assert set(needed_facts(Rules(policies), pod("nginx:1", "quay.io/x", "NGINX"))) == set(map(parse, expected))


@pytest.mark.parametrize(
    ("text", "policies", "needs"),
    [
        ("nginx:1", (cluster_policy(require=CONTENT, default=Effect.ALLOW),), {Need.EXISTENCE}),
        (
            "nginx:1",
            (cluster_policy(require=required(max_age=HOUR), default=Effect.ALLOW),),
            {Need.EXISTENCE, Need.CONFIG},
        ),
        ("nginx:1", (cluster_policy(deny("no", pattern("*", digest=SHA256)), default=Effect.ALLOW),), {Need.DIGEST}),
        (
            "nginx:1",
            (
                cluster_policy(require=CONTENT, default=Effect.ALLOW),
                cluster_policy(require=required(platforms=("linux/amd64",)), default=Effect.ALLOW),
            ),
            {Need.EXISTENCE, Need.CONFIG},
        ),
        (f"nginx:1@{SHA256}", (cluster_policy(allow("one", pattern("*", tag="1"))),), {Need.TAG}),
        (f"nginx:1@{SHA256}", (cluster_policy(require=CONTENT, default=Effect.ALLOW),), {Need.EXISTENCE, Need.TAG}),
    ],
)
def test_what_is_looked_up(text: str, policies: tuple[Policy, ...], needs: set[Need]) -> None:
    assert needed_facts(Rules(policies), pod(text)) == {parse(text): needs}


# What is not known


@pytest.mark.parametrize(
    ("text", "policy", "unknown"),
    [
        (NGINX, cluster_policy(require=CONTENT, default=Effect.ALLOW), Need.EXISTENCE),
        (NGINX, cluster_policy(deny("no", pattern("*", digest=SHA256)), default=Effect.ALLOW), Need.DIGEST),
        (f"nginx:1@{SHA256}", cluster_policy(allow("one", pattern("*", tag="1"))), Need.TAG),
    ],
)
def test_a_verdict_that_depends_on_absent_facts_is_unknown_and_no_permission(
    text: str, policy: Policy, unknown: Need
) -> None:
    found = verdict(pod(text), policy)
    assert not found.allowed
    assert only(found).unknown is unknown
    assert found.denials(Mode.ENFORCE) == found.findings


@pytest.mark.parametrize(
    ("text", "policy"),
    [
        (NGINX, cluster_policy(require=CONTENT)),
        (NGINX, cluster_policy(require=required(digest=True, exists=True), default=Effect.ALLOW)),
        (
            f"nginx:1@{SHA256}",
            cluster_policy(allow("one", pattern("*", tag="1")), require=required(always_pulled=True)),
        ),
        (
            NGINX,
            cluster_policy(
                deny("no", pattern("*", digest=SHA256)), default=Effect.ALLOW, require=required(digest=True)
            ),
        ),
    ],
)
def test_what_no_fact_could_change_is_denied(text: str, policy: Policy) -> None:
    found = only(verdict(pod(text, pull_policy="Never"), policy))
    assert (found.allowed, found.unknown) == (False, None)


def test_facts_that_were_not_looked_up_are_not_known() -> None:
    policy = cluster_policy(default=Effect.ALLOW, require=required(max_age=HOUR))
    found = only(judge(Rules((policy,)), pod(NGINX), {parse(NGINX): ImageFacts(exists=True)}, NOW))
    assert (found.allowed, found.unknown) == (False, Need.EXISTENCE)


FACTS: Final = st.builds(
    ImageFacts,
    exists=st.booleans(),
    digest=st.sampled_from([None, Digest(SHA256), Digest(OTHER)]),
    tag_verified=st.booleans(),
    config=st.builds(
        ImageConfig, st.sampled_from([None, NOW, NOW - 2 * HOUR]), st.sampled_from([(), ("linux/amd64",)])
    ),
)


@given(POLICIES, st.lists(EXCEPTIONS, max_size=2), TEXTS, FACTS)
def test_what_is_certain_without_facts_stays_so_whatever_they_are(
    policy: Policy, exceptions: list[PolicyException], text: str, facts: ImageFacts
) -> None:
    rules, request = Rules((policy,), tuple(exceptions)), pod(text)
    for blind, knowing in zip(
        judge(rules, request, {}, NOW).findings,
        judge(rules, request, {parse(text): facts}, NOW).findings,
        strict=True,
    ):
        assert blind.unknown is not None or blind.allowed is knowing.allowed


@given(st.lists(POLICIES, max_size=3), st.lists(TEXTS, max_size=3))
def test_nothing_else_has_to_be_looked_up(policies: list[Policy], texts: list[str]) -> None:
    rules, request = Rules(tuple(policies)), pod(*texts)
    wanted, everything = needed_facts(rules, request), map(parse, texts)
    facts = dict.fromkeys(everything, HERE)
    asked, knowing = (judge(rules, request, known, NOW) for known in (dict.fromkeys(wanted, HERE), facts))
    # Of two rules that deny, another one may be named.
    assert [each.allowed for each in asked.findings] == [each.allowed for each in knowing.findings]


# Exceptions

HUB: Final = pattern("docker.io")


def test_an_exception_turns_a_denial_round_and_says_so() -> None:
    found = verdict(pod(NGINX), OURS_ONLY, exceptions=(policy_exception(HUB),))
    assert found.allowed
    assert found.exempt == found.findings
    finding = only(found)
    assert (finding.rule, finding.exception) == (DEFAULT, "incident")
    assert finding.reason == "is not allowed by any rule, but incident exempts it: the registry is down"


def test_an_exception_says_nothing_of_what_is_allowed_anyhow() -> None:
    found = verdict(pod("registry.example.com/x"), OURS_ONLY, exceptions=(policy_exception(pattern("*")),))
    assert found.exempt == ()
    assert only(found).exception == ""


@pytest.mark.parametrize(
    "policy",
    [
        cluster_policy(deny("no-hub", HUB), default=Effect.ALLOW),
        cluster_policy(default=Effect.ALLOW, require=required(digest=True, exists=True)),
        replace(OURS_ONLY, mode=Mode.WARN),
    ],
)
def test_an_exception_is_from_all_that_a_policy_says(policy: Policy) -> None:
    assert only(verdict(pod(NGINX), policy, exceptions=(policy_exception(HUB),))).allowed


@pytest.mark.parametrize(
    "tried",
    [
        # who
        policy_exception(HUB, approver=""),
        policy_exception(HUB, approver="alice"),
        policy_exception(HUB, requester="", approver=""),
        # when
        policy_exception(HUB, begins=NOW - HOUR),
        policy_exception(HUB, begins=NOW + 0.001),
        policy_exception(HUB, begins=NOW + 1e6),
        policy_exception(HUB, duration=0.0),
        policy_exception(HUB, duration=-HOUR),
        policy_exception(HUB, begins=NOW - 24 * HOUR, duration=25 * HOUR),
        policy_exception(HUB, begins=NOW - 24 * HOUR, duration=float("inf")),
        policy_exception(HUB, begins=float("nan")),
        policy_exception(HUB, duration=float("nan")),
        # what: a pattern has to cover the image as if it allowed it
        policy_exception(),
        policy_exception(pattern("quay.io")),
        policy_exception(pattern("docker.io", "nginx", "1.28")),
        policy_exception(pattern("docker.io", "nginx", digest=SHA256)),
        # where
        policy_exception(HUB, namespaces=frozenset()),
        policy_exception(HUB, namespaces=frozenset({"team-b"})),
        policy_exception(HUB, namespaces=frozenset({"*", "team-*", "team-"})),
        policy_exception(HUB, namespaces=frozenset({"team-abc"})),
        # from which policy
        policy_exception(HUB, policies=frozenset()),
        policy_exception(HUB, policies=frozenset({"ClusterImagePolicy/other"})),
        policy_exception(HUB, policies=frozenset({"ImagePolicy/only-ours"})),
        policy_exception(
            HUB, policies=frozenset({"only-ours", "*", "ClusterImagePolicy/*", "clusterimagepolicy/only-ours"})
        ),
    ],
)
def test_exceptions_that_do_not_count(tried: PolicyException) -> None:
    found = verdict(pod(NGINX), OURS_ONLY, exceptions=(tried,))
    assert not found.allowed
    assert found.exempt == ()


def test_a_tag_that_may_lie_is_not_excepted() -> None:
    excepted = (policy_exception(pattern("docker.io", "nginx", "1.27")),)
    assert verdict(pod("nginx:1.27"), OURS_ONLY, exceptions=excepted).allowed
    assert not verdict(pod(f"nginx:1.27@{SHA256}"), OURS_ONLY, exceptions=excepted).allowed


def test_what_cannot_be_read_is_not_excepted() -> None:
    assert not verdict(pod("docker.io./nginx"), OURS_ONLY, exceptions=(policy_exception(pattern("*")),)).allowed


@pytest.mark.parametrize(
    ("duration", "now", "active"),
    [
        (HOUR, NOW - 0.001, False),
        (HOUR, NOW, True),
        (HOUR, NOW + HOUR - 0.001, True),
        (HOUR, NOW + HOUR, False),
        (HOUR, NOW + HOUR + 1, False),
        (25 * HOUR, NOW + 24 * HOUR - 0.001, True),
        (25 * HOUR, NOW + 24 * HOUR, False),
        (1e9, NOW + LONGEST_EXCEPTION, False),
    ],
)
def test_when_an_exception_is_in_force(duration: float, now: float, active: bool) -> None:  # noqa: FBT001
    excepted = policy_exception(HUB, duration=duration)
    assert excepted.active(now) is active
    assert verdict(pod(NGINX), OURS_ONLY, exceptions=(excepted,), now=now).allowed is active


def test_when_an_exception_ends() -> None:
    assert policy_exception(HUB, duration=HOUR).ends == NOW + HOUR
    assert policy_exception(HUB, duration=25 * HOUR).ends == NOW + LONGEST_EXCEPTION == NOW + 24 * HOUR


@pytest.mark.parametrize(
    "pair",
    [
        # the first is in force and narrow, the second is wide and lacks something (GHSA-gg4x-fgg2-h9w9)
        (policy_exception(pattern("quay.io")), policy_exception(HUB, approver="")),
        (policy_exception(pattern("quay.io")), policy_exception(HUB, approver="alice")),
        (policy_exception(pattern("quay.io")), policy_exception(HUB, begins=NOW - 2 * HOUR)),
        # each has a part of what it takes
        (policy_exception(pattern("quay.io")), policy_exception(HUB, namespaces=frozenset({"team-b"}))),
        (policy_exception(pattern("quay.io")), policy_exception(HUB, policies=frozenset({"ClusterImagePolicy/other"}))),
        (
            policy_exception(HUB, namespaces=frozenset({"team-b"})),
            policy_exception(HUB, policies=frozenset({"ClusterImagePolicy/other"})),
        ),
        (policy_exception(pattern("docker.io", "acme/**")), policy_exception(pattern("*", "library/nginx", "1.26"))),
    ],
)
def test_two_exceptions_do_not_join(pair: tuple[PolicyException, PolicyException]) -> None:
    for excepted in (pair, pair[::-1]):
        assert not verdict(pod(NGINX), OURS_ONLY, exceptions=excepted).allowed


def test_two_exceptions_do_not_follow_one_another() -> None:
    """The second begins when the first ends, and each counts from its own beginning."""
    pair = (policy_exception(HUB), policy_exception(HUB, begins=NOW + HOUR, approver=""))
    assert not verdict(pod(NGINX), OURS_ONLY, exceptions=pair, now=NOW + HOUR).allowed


@given(
    st.lists(POLICIES, min_size=1, max_size=3),
    st.lists(EXCEPTIONS, max_size=3),
    st.lists(TEXTS, max_size=2),
    NAMESPACES,
)
def test_a_denial_is_turned_round_by_one_exception_alone_or_not_at_all(
    policies: list[Policy], exceptions: list[PolicyException], texts: list[str], namespace: str
) -> None:
    request = pod(*texts, namespace=namespace)
    together = verdict(request, *policies, exceptions=tuple(exceptions))
    apart = [verdict(request, *policies, exceptions=(each,)).findings for each in exceptions]
    without = verdict(request, *policies).findings
    for place, finding in enumerate(together.findings):
        assert finding.allowed == (without[place].allowed or any(each[place].allowed for each in apart))


@given(st.lists(POLICIES, max_size=3), st.lists(EXCEPTIONS, max_size=3), st.lists(TEXTS, max_size=2))
def test_only_what_is_in_force_counts(
    policies: list[Policy], exceptions: list[PolicyException], texts: list[str]
) -> None:
    active = tuple(each for each in exceptions if each.active(NOW))
    everything = verdict(pod(*texts), *policies, exceptions=tuple(exceptions))
    assert everything == verdict(pod(*texts), *policies, exceptions=active)
    assert all(finding.exception in {each.name for each in active} for finding in everything.exempt)


def test_the_exception_that_is_named_is_the_first_that_covers_it() -> None:
    excepted = (
        policy_exception(pattern("quay.io"), name="no"),
        policy_exception(HUB, name="one"),
        policy_exception(HUB, name="two"),
    )
    assert only(verdict(pod(NGINX), OURS_ONLY, exceptions=excepted)).exception == "one"


def test_an_exception_from_the_configured_policy_names_it_alone() -> None:
    configured = policy_of(Effect.DENY, ["quay.io"], [])
    assert verdict(
        pod(NGINX), configured, exceptions=(policy_exception(HUB, policies=frozenset({"image_validation"})),)
    ).allowed
    assert not verdict(pod(NGINX), configured, exceptions=(policy_exception(HUB),)).allowed


def test_an_exception_from_a_namespaced_policy_counts_in_the_namespaces_it_names() -> None:
    strict = tuple(Policy(NAMESPACED, "strict", Effect.DENY, namespace=name) for name in ("team-a", "team-b"))
    excepted = (policy_exception(HUB, policies=frozenset({"ImagePolicy/strict"})),)
    assert verdict(pod(NGINX, namespace="team-a"), *strict, exceptions=excepted).allowed
    assert not verdict(pod(NGINX, namespace="team-b"), *strict, exceptions=excepted).allowed


# What is said


@pytest.mark.parametrize(
    ("text", "policy", "said"),
    [
        (
            "nginx",
            OURS_ONLY,
            "docker.io/library/nginx:latest is not allowed by any rule (ClusterImagePolicy/only-ours, default); {}",
        ),
        (
            "",
            OPEN,
            "'' cannot be read: no image is named; write one, such as {} (ClusterImagePolicy/open, invalid-image)",
        ),
        ("nginx:1", OPEN, "docker.io/library/nginx:1 is allowed (ClusterImagePolicy/open, default)"),
    ],
)
def test_how_a_finding_is_worded(text: str, policy: Policy, said: str) -> None:
    finding = only(verdict(pod(text), policy))
    remedy = finding.remedy or "registry.example.com/team/app:1.0"
    assert str(finding) == f"container c0: {said.format(remedy)}"


# Exceptions of a policy itself


VENDOR: Final = pattern("docker.io", "nginx")
RECALL: Final = deny("recalled", pattern("*", digest=SHA256))


def excepting(*exceptions: StandingException, require: tuple[Requirement, ...] = ()) -> Policy:
    evil = deny("evil", pattern("docker.io", "library/**", "evil*"))
    return cluster_policy(allow("ours", OURS), evil, RECALL, require=require, exceptions=exceptions)


@pytest.mark.parametrize(
    ("text", "rule"), [("nginx:1.27", DEFAULT), ("nginx:evil", "evil"), ("nginx:1.27", WithDigest.name)]
)
def test_a_policy_may_leave_images_alone_in_some_namespaces(text: str, rule: str) -> None:
    """Its default, its rules by name and its requirements."""
    require = required(digest=rule == WithDigest.name)
    rules = (allow("hub", HUB),) if rule == WithDigest.name else ()
    policy = excepting(standing(VENDOR), require=require)
    policy = replace(policy, rules=(*policy.rules, *rules))
    another = {parse(text): replace(HERE, digest=Digest(OTHER))}
    found = only(judge(Rules((policy,)), pod(text), another, NOW))
    assert (found.allowed, found.rule, found.reason) == (
        True,
        "exceptions.vendor",
        "is exempt: the vendor has a registry of its own",
    )
    elsewhere = only(verdict(pod(text, namespace="team-b"), policy))
    assert (elsewhere.allowed, elsewhere.rule) == (False, rule)
    assert not verdict(pod("httpd:1.27"), policy).allowed


def test_the_use_of_an_exception_of_a_policy_is_nothing_to_tell_of() -> None:
    """It is what the policy says; one that somebody asked for breaks it."""
    assert verdict(pod(NGINX), excepting(standing(VENDOR))).exempt == ()


def test_an_exception_of_a_policy_spares_no_digest_that_is_denied() -> None:
    policy = excepting(standing(VENDOR))
    assert only(verdict(pod(f"nginx@{SHA256}"), policy)).rule == "recalled"
    rules, request = Rules((policy,)), pod(NGINX)
    (image,) = needed_facts(rules, request)
    for facts, rule in ((HERE, "recalled"), (None, Exists.name)):
        found = only(judge(rules, request, {image: facts}, NOW))
        assert (found.allowed, found.rule) == (False, rule)


def test_an_exception_of_a_policy_spares_a_digest_that_it_names() -> None:
    named = standing(pattern("docker.io", "nginx", digest=SHA256))
    assert verdict(pod(f"nginx@{SHA256}"), excepting(standing(VENDOR), named)).allowed
    assert not verdict(pod(f"httpd@{SHA256}"), excepting(standing(VENDOR), named)).allowed


def test_a_tag_that_may_lie_is_excepted_by_a_policy_only_if_the_registry_vouches_for_it() -> None:
    policy = excepting(standing(pattern("docker.io", "nginx", "1.27")))
    rules, request = Rules((policy,)), pod(f"nginx:1.27@{OTHER}")
    assert not judge(rules, request, {}, NOW).allowed
    (image,) = needed_facts(rules, request)
    assert judge(rules, request, {image: ImageFacts(exists=True, digest=image.digest, tag_verified=True)}, NOW).allowed
    assert policy.depends_on_tags


def test_where_no_namespace_is_known_an_exception_of_a_policy_counts_for_any() -> None:
    policy = replace(excepting(standing(VENDOR)), namespaces=Namespaces())
    another = {parse(NGINX): replace(HERE, digest=Digest(OTHER))}
    assert judge(Rules((policy,)), pod(NGINX, namespace=""), another, NOW).allowed


def test_what_cannot_be_read_is_excepted_by_no_policy() -> None:
    assert not verdict(pod("docker.io./nginx"), excepting(standing(pattern("*")))).allowed


@given(st.lists(POLICIES, min_size=1, max_size=3), st.lists(TEXTS, max_size=2), NAMESPACES)
def test_an_exception_of_a_policy_only_turns_denials_round(
    policies: list[Policy], texts: list[str], namespace: str
) -> None:
    """And what is denied by digest it leaves as it is, unless it names one."""
    request = pod(*texts, namespace=namespace)
    bare = verdict(request, *(replace(each, exceptions=()) for each in policies)).findings
    digest_denials = verdict(request, *(each.digest_denials for each in policies)).findings
    for place, finding in enumerate(verdict(request, *policies).findings):
        assert finding.allowed >= bare[place].allowed
        if finding.rule.startswith("exceptions.") and not digest_denials[place].allowed:
            assert finding.image is not None
            assert finding.image.digest is not None
        elif not finding.rule.startswith("exceptions."):
            assert finding.allowed == bare[place].allowed
