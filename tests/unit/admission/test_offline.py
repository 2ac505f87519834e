"""Without a cluster is said what the cluster says: Pods are changed, then judged; or that it is unknown."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from support import platforms
from support.admission import NAMESPACE, REGISTRY, Gatekeeper, containers, pod, workload
from support.verdicts import NOW, OTHER, SHA256, pattern, policy_exception, required
from trow.policy.aliases import aliases_of, with_aliases
from trow.policy.changes import prefixes_of
from trow.policy.pods import ImageUse, Kind
from trow.policy.rules import CLUSTER, Effect, ImageRule, Mode, Mutations, Policy
from trow.policy.verdict import Rules
from trow.policytools.judging import ClusterSettings, EvaluationOutcome, OfflineJudge, worst

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trow.policy.requirements import Requirement

HUB: Final = f"{REGISTRY}/f/docker.io"
PULL_THROUGH: Final = {"docker.io": HUB}
KNOWN: Final = ClusterSettings(frozenset({REGISTRY}), prefixes_of(PULL_THROUGH))
POD: Final = Kind("", "Pod")
DEPLOYMENT: Final = Kind("apps", "Deployment")
JOB: Final = Kind("batch", "Job")

# Of these, the registry has those with the tag v1.
NAMES: Final = st.sampled_from(
    [
        f"{REGISTRY}/team/app:v1",
        f"{REGISTRY}/team/app:v2",
        f"{REGISTRY}/team/app@{SHA256}",
        f"{REGISTRY}/team/app:v1@{SHA256}",
        f"nginx:v1@{OTHER}",
        f"{HUB}/library/nginx:v1",
        "nginx:v1",
        "nginx:v2",
        f"nginx@{OTHER}",
        "quay.io/acme/app:v1",
        "Not An Image",
    ]
)
PATTERNS: Final = st.builds(
    pattern,
    st.sampled_from([REGISTRY, "docker.io", "quay.io", "*", "*.example.com"]),
    st.sampled_from(["**", "team/**", "f/**", "library/nginx"]),
    st.just("*"),
    st.sampled_from(["", "", "", SHA256, OTHER]),
) | st.builds(pattern, st.sampled_from([REGISTRY, "docker.io", "*"]), st.just("**"), st.sampled_from(["v1", "v*"]))
RULES: Final = st.builds(
    ImageRule, st.just("r"), st.sampled_from(Effect), st.lists(PATTERNS, min_size=1, max_size=2).map(tuple)
)
POLICIES: Final = st.builds(
    Policy,
    kind=st.just(CLUSTER),
    name=st.sampled_from(["one", "two"]),
    default=st.sampled_from(Effect),
    rules=st.lists(RULES, max_size=2).map(tuple),
    mode=st.sampled_from([Mode.WARN, Mode.ENFORCE, Mode.ENFORCE, Mode.ENFORCE]),
    controllers=st.sampled_from([Mode.IGNORE, Mode.WARN, Mode.ENFORCE]),
    require=st.builds(required, digest=st.booleans(), exists=st.sampled_from([False, False, True])),
    mutate=st.builds(Mutations, st.booleans(), st.booleans()),
)
EXCEPTIONS: Final = st.lists(
    st.builds(
        policy_exception,
        PATTERNS,
        namespaces=st.just(frozenset({NAMESPACE})),
        policies=st.just(frozenset({f"{CLUSTER}/one"})),
    ),
    max_size=1,
).map(tuple)
RULE_BOOKS: Final = st.builds(
    Rules, st.lists(POLICIES, min_size=1, max_size=2, unique_by=lambda each: each.name).map(tuple), EXCEPTIONS
)


@pytest.fixture(scope="module")
def loop() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture(scope="module")
def cluster(loop: asyncio.Runner, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gatekeeper]:
    keeper = Gatekeeper(tmp_path_factory.mktemp("cluster"), pull_through=PULL_THROUGH)
    keeper.clock.now = NOW
    for repository in ("team/app", "f/docker.io/library/nginx"):
        loop.run(platforms.store(keeper.metadata, repository, platforms.image(), "v1"))
    yield keeper
    keeper.close()


def decree(cluster: Gatekeeper, rules: Rules) -> Rules:
    aliases = aliases_of(PULL_THROUGH)
    adapted = Rules(tuple(with_aliases(each, aliases) for each in rules.policies), rules.exceptions)
    cluster.policies.replace(adapted.policies, adapted.exceptions)
    return adapted


async def runs(cluster: Gatekeeper, kind: Kind, name: str) -> bool:
    """Whether the cluster takes the object, and the Pod that it makes."""
    changed = await cluster.mutated(pod(name))
    if not (await cluster.validate(changed)).allowed:
        return False
    made: dict[str, Any] = workload(kind.name, {"containers": containers(name)})
    return kind == POD or (await cluster.validate(made)).allowed


def said(rules: Rules, setting: ClusterSettings | None, kind: Kind, name: str) -> EvaluationOutcome:
    use = ImageUse("", "container", name)
    return worst(result.outcome for result in OfflineJudge(rules, NOW, setting).evaluate(NAMESPACE, kind, use))


def agree(outcome: EvaluationOutcome, *, runs: bool) -> bool:
    return outcome is EvaluationOutcome.UNDECIDED or (outcome is not EvaluationOutcome.DENIED) is runs


@pytest.mark.slow
@settings(max_examples=300)
@given(RULE_BOOKS, NAMES, st.sampled_from([POD, DEPLOYMENT, JOB]))
def test_what_is_said_without_a_cluster_is_what_the_cluster_says(
    cluster: Gatekeeper, loop: asyncio.Runner, rules: Rules, name: str, kind: Kind
) -> None:
    adapted = decree(cluster, rules)
    running = loop.run(runs(cluster, kind, name))
    assert agree(said(adapted, KNOWN, kind, name), runs=running)
    # Without its configuration, nobody knows what the cluster's Trow is called.
    assert agree(said(adapted, None, kind, name), runs=running)


def policy(**members: Any) -> Rules:
    return Rules((Policy(CLUSTER, "one", **{"default": Effect.ALLOW, **members}),))


PINNING: Final = policy(require=required(digest=True), mutate=Mutations(pin_digests=True))
OURS: Final = ImageRule("ours", Effect.ALLOW, (pattern(REGISTRY),))
RENAMING: Final = policy(default=Effect.DENY, rules=(OURS,), mutate=Mutations(pull_through=True))


@pytest.mark.parametrize(
    ("rules", "name", "setting", "outcome"),
    [
        (PINNING, f"{REGISTRY}/team/app:v1", KNOWN, EvaluationOutcome.UNDECIDED),
        (PINNING, f"{REGISTRY}/team/app:v1", None, EvaluationOutcome.UNDECIDED),
        (PINNING, f"{REGISTRY}/team/app@{SHA256}", KNOWN, EvaluationOutcome.ALLOWED),
        # Only what is in this registry is pinned.
        (PINNING, "quay.io/acme/app:v1", KNOWN, EvaluationOutcome.DENIED),
        (PINNING, "quay.io/acme/app:v1", None, EvaluationOutcome.UNDECIDED),
        (RENAMING, "nginx:1.27", KNOWN, EvaluationOutcome.ALLOWED),
        (RENAMING, "nginx:1.27", None, EvaluationOutcome.UNDECIDED),
        (RENAMING, "quay.io/acme/app:v1", KNOWN, EvaluationOutcome.DENIED),
        (RENAMING, f"{REGISTRY}/team/app:v1", None, EvaluationOutcome.ALLOWED),
    ],
)
def test_changes_are_made_before_it_is_judged(
    rules: Rules, name: str, setting: ClusterSettings | None, outcome: EvaluationOutcome
) -> None:
    assert said(rules, setting, POD, name) is outcome


def test_what_no_digest_can_change_is_decided() -> None:
    denying = ImageRule("no", Effect.DENY, (pattern("quay.io"),))
    rules = policy(rules=(denying,), require=required(digest=True), mutate=Mutations(pin_digests=True))
    assert said(rules, None, POD, "quay.io/acme/app:v1") is EvaluationOutcome.DENIED


@pytest.mark.parametrize("asked", [required(exists=True), required(max_age=60.0), required(platforms=("linux/amd64",))])
def test_images_of_other_registries_are_not_in_this_one(asked: tuple[Requirement, ...]) -> None:
    rules = policy(require=asked)
    assert said(rules, KNOWN, POD, "quay.io/acme/app:v1") is EvaluationOutcome.DENIED
    assert said(rules, KNOWN, POD, f"{REGISTRY}/team/app:v1") is EvaluationOutcome.UNDECIDED
    assert said(rules, None, POD, "quay.io/acme/app:v1") is EvaluationOutcome.UNDECIDED


def test_a_rule_about_a_digest_may_be_about_the_one_that_a_tag_gets() -> None:
    denying = ImageRule("no", Effect.DENY, (pattern(REGISTRY, "team/**", digest=SHA256),))
    rules = policy(rules=(denying,), mutate=Mutations(pin_digests=True))
    assert said(rules, KNOWN, POD, f"{REGISTRY}/team/app:v1") is EvaluationOutcome.UNDECIDED
    assert said(rules, KNOWN, POD, f"{REGISTRY}/other/app:v1") is EvaluationOutcome.ALLOWED


@pytest.mark.parametrize("controllers", [Mode.ENFORCE, Mode.WARN, Mode.IGNORE])
def test_what_makes_pods_is_judged_by_the_names_that_they_get(controllers: Mode) -> None:
    strict = policy(default=Effect.DENY, rules=(OURS,), controllers=controllers, mutate=Mutations(pull_through=True))
    for kind in (POD, DEPLOYMENT, JOB):
        assert said(strict, KNOWN, kind, "nginx:1.27") is EvaluationOutcome.ALLOWED
        assert said(strict, KNOWN, kind, "quay.io/acme/app:v1") is EvaluationOutcome.DENIED
