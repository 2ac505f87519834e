"""What the API server's own policies are about to refuse is on record, though the validating webhook never sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from support.admission import NAMESPACE, ORIGIN, REGISTRY, body, owned, pod
from support.policies import CLUSTER_POLICY, document
from trow.admission.image_rewriter import ImageRewriter
from trow.admission.judge import BoundedLookup
from trow.admission.mutate import Mutation
from trow.admission.notifications import Notifiers
from trow.admission.preflight import Preflight
from trow.admission.review import decode
from trow.admission.verdict_recorder import VerdictRecorder
from trow.registry.events import Action, Outcome

if TYPE_CHECKING:
    from support.admission import Gatekeeper
    from support.fixtures import Keep
    from trow.admission.ports import Notification

OURS: Final = {"name": "ours", "action": "Allow", "images": [{"registry": REGISTRY}]}
STRICT: Final = document(CLUSTER_POLICY, {"default": "Deny", "rules": [OURS]}, "only-ours")
PRESENT: Final = document(
    CLUSTER_POLICY, {"default": "Deny", "rules": [OURS], "require": {"exists": True}}, "only-what-is-here"
)


class Told:
    def __init__(self) -> None:
        self.notifications: list[Notification] = []

    def notify(self, notification: Notification) -> None:
        self.notifications.append(notification)


async def mutate(keeper: Gatekeeper, item: dict[str, Any], excluded: tuple[str, ...] = (), **members: Any) -> Told:
    told, notifiers = Told(), Notifiers()
    notifiers.add(told)
    rewriter = ImageRewriter(BoundedLookup(NoImages(), 1.0), {})
    recorder = VerdictRecorder(keeper.audit, keeper.metrics, notifiers, within=1.0)
    preflight = Preflight(keeper.policies, recorder, excluded, keeper.clock)
    mutation = Mutation(
        keeper.policies,
        keeper.extractor,
        rewriter,
        keeper.metadata,
        recorder,
        keeper.metrics,
        preflight,
        deadline=1.0,
    )
    answer = await mutation.answer(decode(body(item, **members)), ORIGIN)
    assert answer.allowed
    return told


class NoImages:
    async def facts(self, image: object, needs: object) -> Any:
        raise AssertionError(f"{image} was looked up")


async def test_a_refusal_to_come_is_recorded_counted_and_told(keep: Keep) -> None:
    keeper = keep(STRICT)
    told = await mutate(keeper, owned(pod("docker.io/evil"), "1234"))
    (event,) = keeper.audit.events
    assert (event.action, event.outcome) == (Action.ADMISSION, Outcome.DENIED)
    assert event.repository == "docker.io/library/evil"
    assert "only-ours" in event.reason
    (notification,) = told.notifications
    assert (notification.reason, notification.namespace) == ("ImageDenied", NAMESPACE)
    counted = keeper.counted("trow_admission_decisions_total")
    assert counted == {("enforce", "ClusterImagePolicy/only-ours", "default", "deny"): 1.0}


async def test_what_will_pass_is_left_to_the_validating_webhook(keep: Keep) -> None:
    keeper = keep(STRICT)
    assert (await mutate(keeper, pod(f"{REGISTRY}/app"))).notifications == []
    assert keeper.audit.events == []


async def test_what_only_the_registry_knows_is_not_foreseen(keep: Keep) -> None:
    keeper = keep(PRESENT)
    await mutate(keeper, pod(f"{REGISTRY}/not/here"))
    assert keeper.audit.events == []
    await mutate(keeper, pod("docker.io/evil"))
    assert len(keeper.audit.events) == 1


async def test_new_policies_count_at_once(keep: Keep) -> None:
    keeper = keep(STRICT)
    await mutate(keeper, pod("docker.io/evil"))
    keeper.decree(document(CLUSTER_POLICY, {"default": "Allow"}, "anything"))
    await mutate(keeper, pod("docker.io/evil"))
    assert len(keeper.audit.events) == 1


async def test_excluded_namespaces_and_dry_runs_are_not_reported(keep: Keep) -> None:
    keeper = keep(STRICT)
    await mutate(keeper, pod("docker.io/evil"), excluded=(NAMESPACE,))
    await mutate(keeper, pod("docker.io/evil"), dryRun=True)
    assert keeper.audit.events == []
