"""May this be stored."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest

from support import platforms
from support.admission import NAMESPACE, ORIGIN, REGISTRY, body, containers, owned, pod, workload
from support.memory import MemoryBlobs
from support.policies import CLUSTER_POLICY, EXCEPTION, POLICY, document, exception, policy, rule
from support.trails import sql
from trow.access.identity import Identity, Method, Workload
from trow.admission.judge import BoundedLookup
from trow.admission.policy_store import PolicyStore
from trow.admission.review import AdmissionResponse, decode
from trow.admission.validate import Validation
from trow.policy import configured, images
from trow.policy.facts import ImageFacts, Need
from trow.policy.resources import policy_of
from trow.policy.rules import Effect
from trow.policy.selectors import KnownLabels
from trow.registry.events import Action, Event, Outcome
from trow.registry.image_lookup import LocalImageLookup
from trow.registry.pull import Pull

if TYPE_CHECKING:
    from support.admission import Gatekeeper
    from support.fixtures import Keep
    from trow.policy.images import ImageReference

OURS: Final = f"{REGISTRY}/team/app:v1"
THEIRS: Final = "docker.io/evil/app:v1"
DAY: Final = 86400.0


def ours(mode: str = "enforce", name: str = "only-ours", **fields: Any) -> dict[str, Any]:
    """The policy of a cluster that allows the images of this registry alone."""
    return document(CLUSTER_POLICY, policy(mode=mode, rules=[rule()], **fields), name)


def requiring(mode: str = "enforce", name: str = "checked", **require: Any) -> dict[str, Any]:
    """One that allows everything that fulfils this."""
    return document(CLUSTER_POLICY, {"default": "Allow", "mode": mode, "require": require}, name)


def exempt(**fields: Any) -> dict[str, Any]:
    """An approved exception for the image that is not ours."""
    given = {"images": [{"registry": "docker.io", "repository": "evil/app"}], "approver": "bob", **fields}
    return document(EXCEPTION, exception(**given), "incident-4711")


def only(keeper: Gatekeeper) -> Event:
    (event,) = keeper.audit.taken()
    return event


class Silent:
    """A registry that never answers."""

    async def facts(self, image: ImageReference, needs: object) -> ImageFacts:
        await asyncio.Event().wait()
        return ImageFacts(exists=True)


# ---- what is decided


async def test_what_a_policy_allows(keep: Keep) -> None:
    answer = await keep(ours()).validate(pod(OURS))
    assert answer.response == {
        "uid": answer.response["uid"],
        "allowed": True,
        "auditAnnotations": {"verdict": "allowed"},
    }


async def test_what_a_policy_denies(keep: Keep) -> None:
    answer = await keep(ours()).validate(pod(OURS, THEIRS))
    assert not answer.allowed
    assert answer.response["status"]["code"] == 403
    for word in ("c1", THEIRS, "ClusterImagePolicy/only-ours", "registry.example.com"):
        assert word in answer.message
    assert OURS not in answer.message
    assert answer.annotations == {
        "verdict": "denied",
        "denied-by": "ClusterImagePolicy/only-ours:default (enforce)",
    }


async def test_a_policy_that_warns(keep: Keep) -> None:
    answer = await keep(ours("warn")).validate(pod(THEIRS))
    assert answer.allowed
    (warning,) = answer.warnings
    assert THEIRS in warning
    assert answer.annotations == {
        "verdict": "allowed",
        "denied-by": "ClusterImagePolicy/only-ours:default (warn)",
    }


async def test_a_policy_that_only_records(keep: Keep) -> None:
    keeper = keep(ours("audit"))
    answer = await keeper.validate(pod(THEIRS))
    assert (answer.allowed, answer.warnings) == (True, [])
    assert answer.annotations == {
        "verdict": "allowed",
        "denied-by": "ClusterImagePolicy/only-ours:default (audit)",
    }
    assert THEIRS in only(keeper).reason


async def test_all_policies_have_to_be_content(keep: Keep) -> None:
    """A namespace can only tighten what the cluster allows."""
    lax = document(POLICY, {"default": "Allow"}, "lax", NAMESPACE)
    strict = document(POLICY, policy(), "strict", NAMESPACE)
    assert not (await keep(ours(), lax).validate(pod(THEIRS))).allowed
    keeper = keep(ours(), strict)
    assert "ImagePolicy/strict" in (await keeper.validate(pod(OURS))).message
    assert (await keeper.validate(pod(OURS), namespace="team-b")).allowed


async def test_the_policy_of_the_configuration_counts_too(keep: Keep) -> None:
    given = configured.policy_of(Effect.ALLOW, [], [f"{REGISTRY}/team/"])
    for keeper in (keep(ours(), configured=given), keep(configured=given, following=False)):
        assert "image_validation" in (await keeper.validate(pod(OURS))).message
        assert (await keeper.validate(pod(f"{REGISTRY}/other/app"))).allowed


async def test_without_a_policy_that_applies_everything_runs(keep: Keep) -> None:
    for keeper in (keep(), keep(ours(namespaces={"exclude": [NAMESPACE]}))):
        answer = await keeper.validate(pod(THEIRS))
        assert (answer.allowed, answer.warnings, answer.annotations) == (True, [], {"verdict": "allowed"})


async def test_what_makes_pods_is_warned_of(keep: Keep) -> None:
    spec = {"containers": containers(THEIRS)}
    for given, allowed, warned in (
        (ours(), True, True),
        (ours(controllers="enforce"), False, False),
        (ours(controllers="ignore"), True, False),
        (ours("audit", controllers="enforce"), True, False),
    ):
        answer = await keep(given).validate(workload("Deployment", spec))
        assert (answer.allowed, bool(answer.warnings)) == (allowed, warned), given
    assert "denied-by" not in (await keep(ours(controllers="ignore")).validate(workload("Job", spec))).annotations


# ---- what makes Pods where these are changed


def changing(mutate: dict[str, Any], **fields: Any) -> dict[str, Any]:
    return document(CLUSTER_POLICY, policy(rules=[rule()], mutate=mutate, **fields), "changing")


@pytest.mark.parametrize("kind", ["Deployment", "Job", "CronJob"])
async def test_what_makes_pods_is_judged_by_the_names_that_they_get(keep: Keep, kind: str) -> None:
    spec = {"containers": containers("nginx:1.27")}
    keeper = keep(
        changing({"pullThrough": True}, controllers="enforce"),
        pull_through={"docker.io": f"{REGISTRY}/f/docker.io"},
    )
    assert (await keeper.validate(workload(kind, spec))).allowed
    assert not (await keeper.validate(pod("nginx:1.27"))).allowed  # which was changed before, if it was to be
    denied = await keeper.validate(workload(kind, {"containers": containers("quay.io/acme/app:1")}))
    assert "container c0: quay.io/acme/app:1 is not allowed by any rule" in denied.message


async def test_what_makes_pods_is_judged_by_the_digests_that_they_get(keep: Keep) -> None:
    keeper = keep()
    good, bad = platforms.image(), platforms.image()
    await platforms.store(keeper.metadata, "team/app", good, "good")
    await platforms.store(keeper.metadata, "team/app", bad, "bad")
    by_digest = [
        rule("good", "Allow", {"registry": REGISTRY, "digest": good.digest}),
        rule("bad", "Deny", {"registry": REGISTRY, "digest": bad.digest}),
    ]
    strict = {"default": "Deny", "require": {"digest": True}, "mutate": {"pinDigests": True}, "controllers": "enforce"}
    keeper.decree(document(CLUSTER_POLICY, {**strict, "rules": by_digest}, "pinning"))
    spec = {"containers": containers(f"{REGISTRY}/team/app:good")}
    assert (await keeper.validate(workload("Deployment", spec))).allowed
    assert (
        await keeper.validate(workload("Deployment", spec), workload("Deployment", {"containers": containers("a")}))
    ).allowed
    for tag, reason in (("bad", "is denied"), ("absent", "is not allowed by any rule")):
        denied = await keeper.validate(workload("Deployment", {"containers": containers(f"{REGISTRY}/team/app:{tag}")}))
        assert reason in denied.message


async def test_what_a_change_makes_worse_is_told_before_pods_are_made(keep: Keep) -> None:
    """By the name that is written it may run, by the one that its Pods get it may not."""
    keeper = keep(
        document(CLUSTER_POLICY, policy(rules=[rule("hub", "Allow", {"registry": "docker.io"})]), "hub"),
        document(POLICY, {"default": "Allow", "mutate": {"pullThrough": True}}, "mine", NAMESPACE),
        pull_through={"docker.io": f"{REGISTRY}/f/docker.io"},
    )
    answer = await keeper.validate(workload("Deployment", {"containers": containers("nginx:1.27")}))
    assert answer.allowed
    (warning,) = answer.warnings
    assert f"{REGISTRY}/f/docker.io/library/nginx:1.27 is not allowed by any rule" in warning


async def test_updates_are_judged_by_what_is_new(keep: Keep) -> None:
    keeper = keep(ours())
    assert (await keeper.validate(pod(THEIRS), pod(THEIRS))).allowed
    assert not (await keeper.validate(pod(THEIRS), pod(OURS))).allowed
    assert keeper.audit.taken()[0].outcome is Outcome.DENIED


# ---- what cannot be known


@pytest.mark.parametrize("item", [pod(), pod("a") | {"spec": {"containers": "a"}}, pod("not an image"), pod("")])
async def test_what_cannot_be_read_is_a_denial_like_any_other(keep: Keep, item: dict[str, Any]) -> None:
    answer = await keep(ours()).validate(item)
    assert (answer.allowed, answer.warnings) == (False, [])
    warned = await keep(ours("warn")).validate(item)
    assert (warned.allowed, warned.warnings) == (True, [answer.message])
    audited = await keep(ours("audit")).validate(item)
    assert (audited.allowed, audited.warnings) == (True, [])
    assert (await keep().validate(item)).allowed
    for word in ("cannot be read", "ClusterImagePolicy/only-ours", "invalid-image"):
        assert word in answer.message


async def test_both_say_their_word_on_what_cannot_be_read(keep: Keep) -> None:
    answer = await keep(ours(), ours("warn", "second")).validate(pod("not an image"))
    assert not answer.allowed
    assert "only-ours" in answer.message
    assert "second" not in answer.message
    assert ["second" in warning for warning in answer.warnings] == [True]


@pytest.mark.parametrize("mode", ["enforce", "warn", "audit"])
async def test_no_exception_covers_what_cannot_be_read(keep: Keep, mode: str) -> None:
    everything = exempt(images=[{"registry": "*"}])
    answer = await keep(ours(mode), everything).validate(pod() | {"spec": 1})
    assert answer.allowed is (mode != "enforce")
    assert "exceptions" not in answer.annotations


async def test_an_answer_that_comes_too_late_is_none(keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    for mode, allowed in (("enforce", False), ("warn", True)):
        answer = await keep(requiring(mode, exists=True), images=Silent(), deadline=0.05).validate(pod(OURS))
        assert answer.allowed is allowed
        assert "is not known" in (answer.message or answer.warnings[0])
    assert "no answer in time" in caplog.text


async def test_time_runs_out_in_the_database_too(keep: Keep) -> None:
    """It answers at once, so that nothing but the number of questions takes time."""
    keeper = keep()
    await platforms.store(keeper.metadata, "team/app", platforms.image(), *(f"v{number}" for number in range(800)))
    asked = {images.parse(f"{REGISTRY}/team/app:v{number}"): [Need.EXISTENCE] for number in range(800)}
    metadata = keeper.metadata
    lookup = BoundedLookup(LocalImageLookup(Pull(MemoryBlobs(), metadata), metadata, [REGISTRY]), 0.001)
    others = asyncio.Event()
    asyncio.get_running_loop().call_soon(others.set)
    found = await lookup.facts(asked)
    assert None in found.values()
    assert others.is_set()


async def test_a_database_that_does_not_answer(keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    keeper = keep(requiring(exists=True), requiring("warn", "second", exists=True), ours())
    sql(keeper.database, "ALTER TABLE manifest RENAME TO gone")
    answer = await keeper.validate(pod(OURS))
    assert not answer.allowed
    assert "this registry could not be asked" in answer.message
    assert ["second" in warning for warning in answer.warnings] == [True]
    assert "could not be looked up" in caplog.text
    # What a rule decides alone needs no database.
    assert "is not allowed by any rule" in (await keeper.validate(pod(THEIRS))).message


async def test_policies_that_are_not_known_permit_nothing_new(keep: Keep) -> None:
    keeper = keep(following=False)
    answer = await keeper.validate(pod(OURS))
    assert not answer.allowed
    assert "image_validation.default" in answer.message
    assert not (await keeper.validate(pod())).allowed


async def test_controllers_go_on_while_policies_are_not_known(keep: Keep) -> None:
    """A finalizer that cannot be removed would hold up the cluster that the policies are read from."""
    keeper = keep(following=False)
    for item, old, operation in ((pod("a"), pod("a"), "UPDATE"), (None, pod("a"), "DELETE")):
        assert (await keeper.validate(item, old, operation=operation)).allowed
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}}
    assert (await keeper.validate(service)).allowed
    assert keeper.audit.taken() == []


async def test_a_mistake_of_ours_is_a_denial(keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def facts(self, image: ImageReference, needs: object) -> ImageFacts:
            raise ZeroDivisionError

    keeper = keep(requiring("warn", exists=True), images=Broken())
    answer = await keeper.validate(pod(OURS))
    assert not answer.allowed
    assert "the log of the registry" in answer.message
    assert [record.message for record in caplog.records if record.exc_info] == ["a review failed"]
    event = only(keeper)
    assert (event.outcome, event.reason) == (Outcome.FAILED, answer.message)


# ---- content


async def test_images_are_looked_up_where_a_policy_asks_for_it(keep: Keep) -> None:
    keeper = keep(requiring(exists=True, maxAge="90d", platforms=["linux/amd64"]))
    await platforms.store(keeper.metadata, "team/app", platforms.image(), "v1")
    await platforms.store(keeper.metadata, "team/app", platforms.image("2020-01-01T00:00:00Z"), "old")
    await platforms.store(keeper.metadata, "team/app", platforms.image(architecture="s390x"), "big")
    for tag, word in (
        ("v1", ""),
        ("v2", "is not in this registry"),
        ("old", "too old"),
        ("big", "any of the allowed platforms"),
    ):
        answer = await keeper.validate(pod(f"{REGISTRY}/team/app:{tag}"))
        assert answer.allowed is not bool(word)
        assert word in answer.message
    keeper.clock.now += 90 * DAY
    assert "too old" in (await keeper.validate(pod(OURS))).message


# ---- exceptions


async def test_an_exception_lets_run_and_everybody_hears_of_it(keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    keeper = keep(ours(), exempt())
    with caplog.at_level(logging.WARNING):
        answer = await keeper.validate(pod(THEIRS))
    assert answer.allowed
    (warning,) = answer.warnings
    for word in (THEIRS, "incident-4711", "the registry of the supplier is down"):
        assert word in warning
        assert word in caplog.text
    assert answer.annotations == {"verdict": "allowed", "exceptions": "incident-4711"}
    event = only(keeper)
    assert (event.outcome, event.reason) == (Outcome.OK, warning)
    label = ("enforce", "ClusterImagePolicy/only-ours", "default", "exempt")
    assert keeper.counted("trow_admission_decisions_total") == {label: 1.0}


@pytest.mark.parametrize(
    "fields",
    [
        {"approver": ""},
        {"approver": "alice"},
        {"duration": "30s"},
        {"namespaces": ["team-b"]},
        {"policies": ["ClusterImagePolicy/other", "ImagePolicy/only-ours", "image_validation"]},
        {"images": [{"registry": "docker.io", "repository": "evil/other"}]},
    ],
)
async def test_an_exception_is_for_nothing_else(keep: Keep, fields: dict[str, Any]) -> None:
    assert not (await keep(ours(), exempt(**fields)).validate(pod(THEIRS))).allowed


async def test_an_exception_ends(keep: Keep) -> None:
    keeper = keep(ours(), exempt(duration="1h"))
    assert (await keeper.validate(pod(THEIRS))).allowed
    keeper.clock.now += 3600
    assert not (await keeper.validate(pod(THEIRS))).allowed


async def test_two_exceptions_are_no_wider_than_each(keep: Keep) -> None:
    """GHSA-gg4x-fgg2-h9w9: a cover made of pieces of several exceptions."""
    one = exempt(policies=["ClusterImagePolicy/only-ours"], namespaces=["team-b"])
    two = exempt(policies=["ClusterImagePolicy/other"], namespaces=[NAMESPACE])
    assert not (await keep(ours(), ours(name="other"), one, two).validate(pod(THEIRS))).allowed


# ---- records, numbers


async def test_one_record_of_one_review(keep: Keep) -> None:
    keeper = keep(ours("audit", "first"), ours("warn", "second"), ours(name="third"))
    await keeper.validate(owned(pod(OURS, THEIRS, THEIRS), "1"), name="")
    event = only(keeper)
    assert event == Event(
        Action.ADMISSION,
        Outcome.DENIED,
        actor=Identity("alice", Method.REVIEW, "u-1", ("dev", "system:authenticated")),
        origin=ORIGIN,
        status=200,
        reason=event.reason,
        repository="docker.io/evil/app",
        reference="v1",
        workload=Workload(NAMESPACE, pod="web-"),
        detail=f"CREATE Pod {NAMESPACE}/web-: {OURS}, {THEIRS}",
    )
    # What counted, not what was said first.
    assert event.reason.startswith(
        f"container c1: {THEIRS} is not allowed by any rule (ClusterImagePolicy/third, default)"
    )


async def test_the_record_of_leave(keep: Keep) -> None:
    keeper = keep(ours())
    digest = "sha256:" + "a" * 64
    await keeper.validate(workload("Deployment", {"containers": containers(f"{OURS}@{digest}")}), name="web")
    event = only(keeper)
    assert (event.outcome, event.repository, event.reference) == (Outcome.OK, f"{REGISTRY}/team/app", digest)
    assert (event.digest, event.workload) == (digest, Workload(NAMESPACE))
    assert event.detail == f"CREATE apps/Deployment {NAMESPACE}/web: {OURS}@{digest}"
    assert "is allowed" in event.reason


async def test_the_record_of_what_no_policy_is_about(keep: Keep) -> None:
    keeper = keep()
    await keeper.validate(pod(THEIRS))
    event = only(keeper)
    assert (event.outcome, event.reason) == (Outcome.OK, "no policy applies")
    assert event.detail == f"CREATE Pod {NAMESPACE}/web: {THEIRS}"


async def test_the_record_of_what_cannot_be_read(keep: Keep) -> None:
    keeper = keep(ours())
    await keeper.validate(pod())
    event = only(keeper)
    assert (event.outcome, event.repository) == (Outcome.DENIED, "")
    assert "spec.containers" in event.reason
    assert event.detail == f"CREATE Pod {NAMESPACE}/web"


async def test_a_refusal_while_policies_are_not_read_yet_is_on_record(keep: Keep) -> None:
    keeper = keep()
    validation = Validation(
        PolicyStore(None, following=True),
        keeper.extractor,
        keeper.rewriter,
        keeper.judge,
        keeper.recorder,
        keeper.metrics,
    )
    answer = await validation.answer(decode(body(pod(OURS))), ORIGIN)
    event = only(keeper)
    assert (event.action, event.outcome, event.reason) == (Action.ADMISSION, Outcome.FAILED, answer.message)
    assert (event.actor.name, event.workload) == ("alice", Workload(NAMESPACE, pod="web"))


async def test_where_no_cluster_is_expected_to_ask_nothing_is_on_record(keep: Keep) -> None:
    """Or everybody who reaches a registry could fill its trail."""
    keeper = keep(following=False)
    assert not (await keeper.validate(pod(OURS))).allowed
    assert keeper.audit.taken() == []


@pytest.mark.parametrize("item", [pod(OURS), pod(THEIRS), pod()])
async def test_a_dry_run_is_on_record_as_one_and_nobody_is_told(
    keep: Keep, item: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    """It tells as much as another review does."""
    for keeper in (keep(ours(), exempt()), keep(ours()), keep(following=False)):
        wet = await keeper.validate(item)
        recorded = keeper.audit.taken()
        caplog.clear()
        dry = await keeper.validate(item, dryRun=True)
        assert dry == wet
        assert keeper.audit.taken() == [replace(event, detail=f"dry run: {event.detail}") for event in recorded]
        assert caplog.records == []


async def test_nothing_runs_off_the_record(keep: Keep) -> None:
    keeper = keep(ours(), fail_closed=True)
    assert (await keeper.validate(pod(OURS))).allowed
    assert len(keeper.audit.now) == 1
    keeper.audit.full = True
    answer = await keeper.validate(pod(OURS))
    assert not answer.allowed
    assert "the record has no space left" in answer.message
    assert (await keeper.validate(pod(OURS), dryRun=True)).allowed


async def test_a_record_that_is_not_written_in_time_is_none(keep: Keep) -> None:
    keeper = keep(ours(), fail_closed=True, deadline=0.05)
    keeper.audit.open.clear()
    answer = await keeper.validate(pod(OURS))
    assert not answer.allowed
    assert "takes too long" in answer.message


async def test_numbers(keep: Keep) -> None:
    keeper = keep(ours(), ours("warn", "second"), exempt(policies=["ClusterImagePolicy/second"]))
    await keeper.validate(pod(OURS, THEIRS, "not an image"))
    await keeper.validate(pod(OURS), pod(OURS))
    await keeper.validate(pod(OURS), dryRun=True)
    assert keeper.counted("trow_admission_decisions_total") == {
        ("enforce", "ClusterImagePolicy/only-ours", "ours", "allow"): 2.0,
        ("enforce", "ClusterImagePolicy/only-ours", "default", "deny"): 1.0,
        ("enforce", "ClusterImagePolicy/only-ours", "invalid-image", "deny"): 1.0,
        ("warn", "ClusterImagePolicy/second", "ours", "allow"): 2.0,
        ("warn", "ClusterImagePolicy/second", "default", "exempt"): 1.0,
        ("warn", "ClusterImagePolicy/second", "invalid-image", "deny"): 1.0,
    }
    assert keeper.counted("trow_admission_duration_seconds_count") == {("validate",): 3.0}


async def test_a_thousand_bad_images_are_one_short_answer(keep: Keep) -> None:
    keeper = keep(ours(), ours("warn", "second"))
    answer = await keeper.validate(pod(*(f"evil.example.com/app:{number}" for number in range(1000))))
    assert not answer.allowed
    assert len(answer.message.encode()) <= 2048
    assert answer.warnings[-1].startswith("... and ")
    assert sum(len(warning.encode()) for warning in answer.warnings) <= 4096
    assert len(keeper.audit.taken()) == 1


async def test_what_is_no_review_of_ours_is_answered(keep: Keep) -> None:
    keeper = keep(ours())
    review = decode(body({"apiVersion": "example.com/v1", "kind": "Thing"}))
    assert await keeper.validation.answer(review, ORIGIN) == AdmissionResponse(allowed=True)


async def test_a_policy_is_about_namespaces_with_its_labels_and_about_those_that_nobody_knows(keep: Keep) -> None:
    keeper = keep()
    selecting = document(CLUSTER_POLICY, policy(namespaceSelector={"matchLabels": {"tier": "prod"}}))
    labels = KnownLabels({"team-a": {"tier": "prod"}, "team-b": {"tier": "test"}})
    keeper.policies.replace([policy_of(selecting)], [], labels)
    for name, allowed in (("team-a", False), ("team-b", True), ("new", False)):
        assert (await keeper.validate(pod("nginx"), namespace=name)).allowed is allowed
