"""A requirement is one class: whatever reads, decides, explains and compiles goes through the list of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import pytest

from support.policies import CLUSTER_POLICY, document
from support.verdicts import NOW, cluster_policy, pod, required
from trow.policy import requirements
from trow.policy.facts import ImageConfig, ImageFacts, Need
from trow.policy.images import parse
from trow.policy.pods import ImageUse, Kind
from trow.policy.requirements import REQUIREMENTS, AlwaysPulled, Candidate, Requirement, Violation
from trow.policy.resources import ManifestError, policy_of
from trow.policy.rules import CLUSTER, Effect, Policy, RunContext
from trow.policy.vap.export import compile_policy
from trow.policy.verdict import Rules, judge, needed_facts
from trow.policytools.explain import explain
from trow.policytools.judging import EvaluationOutcome, OfflineJudge
from trow.policytools.loading import Policies

if TYPE_CHECKING:
    from collections.abc import Iterable

# What asks for it, in the field of each.
WRITTEN: Final[dict[str, object]] = {
    "digest": True,
    "forbidPullPolicyNever": True,
    "imagePullPolicy": "Always",
    "exists": True,
    "maxAge": "90d",
    "platforms": ["linux/amd64"],
}
NGINX: Final = parse("nginx:1")


def read(field: str, value: object) -> Policy:
    return policy_of(document(CLUSTER_POLICY, {"default": "Allow", "require": {field: value}}, "strict"))


def only(policy: Policy) -> Requirement:
    (requirement,) = policy.require
    return requirement


each_requirement = pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda each: each.field())


@each_requirement
def test_each_is_read_from_its_field(requirement: type[Requirement]) -> None:
    assert isinstance(only(read(requirement.field(), WRITTEN[requirement.field()])), requirement)
    with pytest.raises(ManifestError, match=rf"spec\.require\.{requirement.field()}"):
        read(requirement.field(), 7.5)


def test_all_are_read_in_the_order_in_which_images_are_asked() -> None:
    written = dict(reversed(WRITTEN.items()))
    policy = policy_of(document(CLUSTER_POLICY, {"default": "Allow", "require": written}, "strict"))
    assert tuple(map(type, policy.require)) == REQUIREMENTS


@each_requirement
def test_each_is_compiled_or_the_api_server_could_not_know(requirement: type[Requirement]) -> None:
    assert bool(requirement.cel) is not bool(requirement.needs)
    assert bool(requirement.cel) is not bool(requirement.unknown)
    compiled = compile_policy(read(requirement.field(), WRITTEN[requirement.field()]))
    assert (requirement.name in str(compiled.policies)) is bool(requirement.cel)
    left_out = [each for each in compiled.left_out if each.startswith(f"{requirement.name}: ")]
    assert bool(left_out) is not bool(requirement.cel)


@each_requirement
def test_each_is_explained(requirement: type[Requirement]) -> None:
    policy = read(requirement.field(), WRITTEN[requirement.field()])
    _, lines = explain(Policies(Rules((policy,)), None), RunContext("team-a"), "nginx:1", NOW)  # type: ignore[arg-type]
    assert [line for line in lines if line.startswith(f"  {requirement.name}: ")]


@each_requirement
def test_what_each_needs_is_looked_up_and_nothing_else(requirement: type[Requirement]) -> None:
    policy = read(requirement.field(), WRITTEN[requirement.field()])
    wanted = needed_facts(Rules((policy,)), pod("nginx:1"))
    assert wanted == ({NGINX: requirement.needs} if requirement.needs else {})


@pytest.mark.parametrize(
    ("given", "unmet"),
    [
        (required(exists=True, digest=True), "require.digest"),  # what is certain comes before what is not known
        (required(digest=True, always_pulled=True), "require.digest"),
        (required(exists=True), "require.exists"),
    ],
)
def test_the_first_that_is_certain_is_named(given: Iterable[Requirement], unmet: str) -> None:
    candidate = Candidate(ImageUse("", "", "", "Never"), NGINX, None, NOW)
    found = requirements.unmet(tuple(given), candidate)
    assert found is not None
    assert found.rule == unmet


def test_only_pinning_gives_an_image_a_digest() -> None:
    everything = cluster_policy(require=required(digest=True, exists=True, always_pulled=True))
    assert everything.when_pinned.require == required(exists=True, always_pulled=True)


@dataclass(frozen=True, slots=True)
class Small(Requirement):
    """One more, as somebody would add it."""

    name = "require.small"
    needs = frozenset({Need.CONFIG})
    unknown = "how large an image is"

    def unmet(self, candidate: Candidate) -> Violation | None:
        if candidate.facts is None or candidate.facts.config is None:
            return Violation(self.name, "is not known", "try again", Need.CONFIG)
        return None if candidate.facts.config.created else Violation(self.name, "is too large", "build it smaller")


def test_one_more_requirement_takes_one_class() -> None:
    policy = Policy(CLUSTER, "strict", Effect.ALLOW, require=(Small(),))
    rules, request = Rules((policy,)), pod("nginx:1")
    assert needed_facts(rules, request) == {NGINX: {Need.CONFIG}}
    for facts, allowed, unknown in (
        (ImageFacts(True, config=ImageConfig(NOW)), True, None),
        (ImageFacts(True, config=ImageConfig()), False, None),
        (ImageFacts(True), False, Need.CONFIG),
    ):
        (found,) = judge(rules, request, {NGINX: facts}, NOW).findings
        assert (found.allowed, found.unknown) == (allowed, unknown)
    (result,) = OfflineJudge(rules, NOW).evaluate("team-a", Kind("", "Pod"), request.uses[0])
    assert (result.outcome, result.finding.rule) == (EvaluationOutcome.UNDECIDED, "require.small")
    assert compile_policy(policy).left_out == ("require.small: the API server does not know how large an image is",)


def test_a_pull_policy_that_nobody_wrote_is_left_to_the_api_server() -> None:
    assert AlwaysPulled().unmet(Candidate(ImageUse("", "", ""), NGINX, None, NOW)) is None
