"""What the API server is told to ask about, and where it has to get an answer."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, Final

import pytest

from trow.policy.kinds import WELL_KNOWN
from trow.policy.pods import POD_SPECS, Kind
from trow.policy.resources import exception_of, policy_of
from trow.policy.rules import CLUSTER, NAMESPACED
from trow.policy.vap.namespace_expressions import any_of, namespaces_of
from trow.policy.webhooks import WebhookClient, WebhookScope, mutating, reach, validating

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.policy.rules import Policy

PODS: Final = "request.resource.group == '' && request.resource.resource == 'pods'"
JOBS: Final = "request.resource.group == 'batch' && request.resource.resource == 'jobs'"
CLIENT: Final = WebhookClient(namespace="trow", service="trow", bundle=b"PEM")
OURS: Final = {"registry": "registry.example.com"}


def policy(kind: str = CLUSTER, name: str = "p", **spec: Any) -> Policy:
    metadata = {"name": name} | ({"namespace": "team-a"} if kind == NAMESPACED else {})
    item = {"apiVersion": "policy.trow.io/v1alpha1", "kind": kind, "metadata": metadata}
    return policy_of({**item, "spec": {"default": "Deny", **spec}})


def by(*images: dict[str, str], action: str = "Allow") -> list[dict[str, Any]]:
    return [{"name": "r", "action": action, "images": [*images]}]


def scope(*policies: Policy, **members: Any) -> WebhookScope:
    return WebhookScope(policies, **{"compiled": lambda _: True, "registries": ["registry.example.com"], **members})


def webhooks(found: Sequence[Any]) -> dict[str, Any]:
    return {webhook["name"]: webhook for webhook in found}


def conditions(webhook: Any) -> list[str]:
    return [each["expression"] for each in webhook["matchConditions"]]


# ---- about what


def test_every_kind_that_makes_pods_is_asked_about() -> None:
    asked = asked_about(webhooks(validating(scope(), CLIENT))["validate.trow.io"])
    for group, kind in POD_SPECS:
        assert asked[group, f"{kind.lower()}s"] == {"CREATE", "UPDATE"}
    for known in WELL_KNOWN.values():
        assert asked[known.kind.group, known.resource] == {"CREATE", "UPDATE"}
    assert asked["", "pods/ephemeralcontainers"] == {"UPDATE"}
    assert not any("DELETE" in operations for operations in asked.values())


def test_pods_alone_are_changed() -> None:
    asked = asked_about(webhooks(mutating(scope(), CLIENT))["mutate.trow.io"])
    assert asked == {("", "pods"): {"CREATE", "UPDATE"}, ("", "pods/ephemeralcontainers"): {"UPDATE"}}


def asked_about(webhook: Any) -> dict[tuple[str, str], set[str]]:
    return {
        (group, resource): set(rule["operations"])
        for rule in webhook["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
    }


def test_further_kinds_are_asked_about() -> None:
    extra = [
        (Kind("example.com", "Fleet"), "fleets"),
        (Kind("example.org", "Ship"), ""),
        (Kind("argoproj.io", "Argo"), ""),
        (Kind("argoproj.io", "Rollout"), "rollouts"),
        (Kind("apps", "Deployment"), "*"),
    ]
    asked = asked_about(webhooks(validating(scope(extra=extra), CLIENT))["validate.trow.io"])
    assert {("example.com", "fleets"), ("example.org", "*"), ("argoproj.io", "*")} <= set(asked)
    assert ("argoproj.io", "rollouts") not in asked  # the API server takes no list in which a star has company
    assert ("apps", "*") not in asked  # what is built in is asked about by its own resources


def test_the_excluded_namespaces_are_left_alone() -> None:
    for found in (validating, mutating):
        for name, webhook in webhooks(found(scope(excluded=["trow", "kube-system"]), CLIENT)).items():
            (selected,) = webhook["namespaceSelector"]["matchExpressions"]
            assert selected["key"] == "kubernetes.io/metadata.name"
            wanted = ("In", ["trow"]) if name == "reach.trow.io" else ("NotIn", ["kube-system", "trow"])
            assert (selected["operator"], selected["values"]) == wanted
            assert webhook["objectSelector"] == {}


# ---- how


def test_a_service_is_called_or_a_url() -> None:
    bundle = base64.b64encode(b"PEM").decode()
    called = reach(CLIENT)["clientConfig"]
    service = {"namespace": "trow", "name": "trow", "port": 8443, "path": "/admission/reach"}
    assert called == {"service": service, "caBundle": bundle}
    called = reach(WebhookClient("https://10.0.0.1:9443", "trow"))["clientConfig"]
    assert called == {"url": "https://10.0.0.1:9443/admission/reach"}


# ---- where it takes an answer


def insisting(*policies: Policy, **members: Any) -> str:
    """The condition under which Trow has to answer: "always", "never" or an expression."""
    found = webhooks(validating(scope(*policies, **members), CLIENT))
    must = found.get("must-validate.trow.io")
    if must is None:
        assert conditions(found["validate.trow.io"]) == []
        return "never"
    assert must["failurePolicy"] == "Fail"
    if not must["matchConditions"]:
        assert "validate.trow.io" not in found
        return "always"
    (condition,) = conditions(must)
    assert conditions(found["validate.trow.io"]) == [f"!({condition})"]
    assert found["validate.trow.io"]["failurePolicy"] == "Ignore"
    return condition


@pytest.mark.parametrize(
    "spec",
    [
        {"rules": by(OURS)},
        {"rules": by(OURS), "controllers": "warn", "require": {"digest": True, "forbidPullPolicyNever": True}},
        {"rules": by(OURS), "mode": "warn", "require": {"exists": True}},
        {"rules": by(OURS), "mode": "audit", "mutate": {"pinDigests": True}},
        {"rules": by({**OURS, "tag": "v*"}), "mode": "warn"},
    ],
)
def test_what_the_api_server_decides_alone_needs_no_answer(spec: dict[str, Any]) -> None:
    assert insisting(policy(**spec)) == "never"
    assert "must-mutate.trow.io" not in webhooks(mutating(scope(policy(**spec)), CLIENT))


def test_without_policies_no_answer_is_needed() -> None:
    assert insisting() == "never"


@pytest.mark.parametrize("require", [{"exists": True}, {"maxAge": "1d"}, {"platforms": ["linux/amd64"]}])
def test_what_an_image_is_only_trow_knows(require: dict[str, Any]) -> None:
    strict = policy(require=require, controllers="enforce")
    assert insisting(strict) == "always"
    condition = insisting(policy(require=require))
    assert condition.startswith(f"{PODS} ? (true) : ({JOBS} ? (true) : (")
    assert JOBS not in insisting(policy(require=require, controllers="ignore"))


def test_a_policy_that_is_not_compiled_needs_an_answer() -> None:
    strict = policy(rules=by(OURS), controllers="enforce")
    assert insisting(strict, compiled=lambda _: False) == "always"


def test_kinds_of_others_need_an_answer_where_what_makes_pods_is_refused() -> None:
    built_in = 'request.resource.group in ["", "apps", "batch"] ? (false) : (true)'
    assert built_in in insisting(policy(rules=by(OURS), controllers="enforce"))


def test_an_answer_is_needed_where_the_policy_is_about() -> None:
    one = policy(require={"exists": True}, namespaces={"include": ["shop", "team-*"], "exclude": ["team-x"]})
    condition = insisting(one, policy(NAMESPACED, require={"exists": True}))
    namespace = "request.?namespace.orValue('')"
    assert f'({namespace} in ["team-a"])' in condition
    included = f"({namespace} in [\"shop\"] || ({namespace}).matches(r'^(?:team\\-.*)$'))"
    assert f'{included} && !({namespace} in ["team-x"])' in condition


def test_where_tags_are_allowed_a_digest_beside_them_needs_an_answer() -> None:
    condition = insisting(policy(rules=by({**OURS, "tag": "v*"})))
    assert "i.contains('@')" in condition
    assert insisting(policy(rules=by({**OURS, "digest": f"sha256:{'0' * 64}"}))) == "never"


def test_where_an_exception_is_by_tag_a_digest_beside_it_needs_an_answer() -> None:
    spec = {
        "reason": "the repair is needed tonight",
        "requester": "alice",
        "duration": "1h",
        "namespaces": ["shop"],
        "policies": ["ClusterImagePolicy/p"],
        "images": [{**OURS, "tag": "v1"}],
    }
    item = {"apiVersion": "policy.trow.io/v1alpha1", "kind": "PolicyException", "metadata": {"name": "e"}, "spec": spec}
    condition = insisting(policy(), exceptions=[exception_of(item, 0.0)])
    assert 'in ["shop"]' in condition
    assert "i.contains('@')" in condition
    assert insisting(policy(name="other"), exceptions=[exception_of(item, 0.0)]) == "never"


def test_where_a_digest_is_denied_what_a_tag_stands_for_needs_an_answer() -> None:
    recalled = policy(default="Allow", rules=by({**OURS, "digest": f"sha256:{'0' * 64}"}, action="Deny"))
    condition = insisting(recalled)
    assert "registry\\\\.example\\\\.com" in condition
    assert "!i.contains('@')" in condition
    assert insisting(recalled, registries=[]) == "never"


def test_what_changes_pods_needs_an_answer() -> None:
    for wish in ("pinDigests", "pullThrough"):
        found = webhooks(mutating(scope(policy(mutate={wish: True}, namespaces={"include": ["shop"]})), CLIENT))
        condition = "(request.?namespace.orValue('') in [\"shop\"])"
        assert conditions(found["must-mutate.trow.io"]) == [condition]
        assert conditions(found["mutate.trow.io"]) == [f"!({condition})"]
        assert all(each["reinvocationPolicy"] == "IfNeeded" for each in found.values())


@pytest.mark.parametrize("controllers", ["enforce", "warn", "ignore"])
def test_where_pods_are_changed_what_makes_them_needs_an_answer(controllers: str) -> None:
    """By the names that its Pods get, which the API server does not know."""
    changing = policy(rules=by(OURS), mutate={"pullThrough": True}, namespaces={"include": ["shop"]})
    condition = insisting(changing, policy(name="all", rules=by(OURS), controllers=controllers))
    needed = any_of(namespaces_of([changing]))
    assert condition.startswith(f"{PODS} ? (false) : ({JOBS} ? ({needed}) : (")
    deployments = f'request.resource.group in ["", "apps", "batch"] ? ({needed}) : (true)'
    assert (deployments in condition) == (controllers == "enforce")
    assert condition.endswith(": (false))") == (controllers != "enforce")


def test_a_policy_that_only_warns_and_changes_pods_lets_nobody_wait() -> None:
    changing = policy(rules=by(OURS), mode="warn", mutate={"pullThrough": True})
    assert insisting(changing, policy(name="all", rules=by(OURS))) == "never"


def test_too_many_namespaces_to_be_told_are_all() -> None:
    many = [
        policy(
            name=f"p{number}",
            require={"exists": True},
            namespaces={"include": [f"namespace-{number:06}" for number in range(part, part + 40)]},
        )
        for number, part in enumerate(range(0, 4000, 40))
    ]
    assert insisting(*many).startswith("request.resource.group == '' && request.resource.resource == 'pods' ? (true)")
