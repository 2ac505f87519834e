"""What Trow writes into the cluster for those who look there: Events of workloads, and PolicyReports of what runs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from support.admission import samples
from support.numbers import fresh
from support.policies import (
    CLUSTER_POLICY,
    EXCEPTION,
    EXCEPTIONS,
    POLICY,
    document,
    exception,
    guard_exceptions,
    policy,
    rule,
)
from support.reports import DEFINITION
from support.waiting import until
from support.warden import ALIEN, OURS, Place, Warden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.cluster import Cluster
    from support.policies import Document


@pytest.fixture(scope="module")
def warden(cluster: Cluster, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warden]:
    with Warden(cluster, tmp_path_factory.mktemp("warden"), scan_interval="500ms") as warden:
        warden.wait_until_ready()
        with warden.asked():
            yield warden


@pytest.fixture
def place(warden: Warden) -> Place:
    return warden.place()


def denial(place: Place, who: str) -> str:
    return (
        f"{who}: {ALIEN} is not allowed by any rule (ClusterImagePolicy/{place.name}, default);"
        " use one of registry.example.com/**"
    )


# ---- Events


def events(place: Place, reason: str = "", kind: str = "") -> list[Document]:
    """Those that Trow has written about what is in the place."""
    return [
        each
        for each in place.get("events")["items"]
        if each["source"].get("component") == "trow"
        and reason in ("", each["reason"])
        and kind in ("", each["involvedObject"]["kind"])
    ]


def event(place: Place, reason: str, kind: str) -> Document:
    """The only one for a reason, once it is there."""
    (found,) = until(lambda: events(place, reason, kind))
    return found


def deploy(place: Place, image: str = ALIEN) -> str:
    return place.kubectl("create", "deployment", "web", f"--image={image}")


def only(place: Place, what: str) -> Document:
    """The only object of a kind, once it is there."""
    (found,) = until(lambda: place.get(what)["items"])
    return dict(found)


def identity(item: Document) -> Document:
    """As an Event names the object that it is about."""
    return {"apiVersion": item["apiVersion"], "kind": item["kind"]} | {
        key: item["metadata"][key] for key in ("name", "namespace", "uid")
    }


def test_who_looks_at_a_replica_set_sees_why_it_has_no_pods(place: Place) -> None:
    place.decree(rules=[rule()])
    said = deploy(place)
    assert f"Warning: {denial(place, 'container nginx')}" in said
    assert "deployment.apps/web created" in said
    found = event(place, "ImageDenied", "ReplicaSet")
    assert found["involvedObject"] == identity(only(place, "replicasets"))
    assert found["message"] == denial(place, "container nginx")
    assert found["type"] == "Warning"
    failed = ("events", "--field-selector", "reason=FailedCreate")  # of the controller, which tells of it in its time
    failures = until(lambda: place.get(*failed)["items"])
    assert any(denial(place, "container nginx") in each["message"] for each in failures)
    described = place.kubectl("describe", "replicaset")
    assert "ImageDenied" in described
    assert "FailedCreate" in described
    assert place.get("pods")["items"] == []


def test_equal_events_are_counted(place: Place) -> None:
    place.decree(rules=[rule()])
    deploy(place)
    until(lambda: event(place, "ImageDenied", "ReplicaSet")["count"] > 2)
    found = event(place, "ImageDenied", "ReplicaSet")
    assert found["firstTimestamp"] <= found["lastTimestamp"]


def test_a_warning_is_an_event_too(place: Place) -> None:
    place.decree(mode="warn", rules=[rule()])
    deploy(place)
    # What makes the ReplicaSet is told of that, and the ReplicaSet of its Pod.
    for kind, resource in (("Deployment", "deployments"), ("ReplicaSet", "replicasets")):
        found = event(place, "ImageNotAllowed", kind)
        assert found["involvedObject"] == identity(only(place, resource))
        assert found["message"] == denial(place, "container nginx")
    assert only(place, "pods")


def test_the_use_of_an_exception_is_an_event(place: Place) -> None:
    place.decree(rules=[rule()])
    name = f"incident-{place.name}"
    policies, images = [f"{CLUSTER_POLICY}/{place.name}"], [{"registry": "docker.io"}]
    spec = exception(namespaces=[place.name], policies=policies, images=images)
    cluster = place.warden.cluster
    guard_exceptions(cluster)
    given, approval = document(EXCEPTION, spec, name), json.dumps({"spec": {"approver": "bob"}})
    given["metadata"]["labels"] = {place.warden.label: "made"}
    trusted = ("--as-group", "system:masters")
    until(lambda: "created" in place.create(given, "--as", "alice", *trusted))
    place.kubectl("patch", "imgex", name, "--type=merge", "--patch", approval, "--as", "bob", *trusted)
    until(lambda: place.told(EXCEPTION, name, "Active"))
    deploy(place)
    assert only(place, "pods")
    said = event(place, "PolicyExceptionUsed", "ReplicaSet")["message"]
    assert f"but {name} exempts it: the registry of the supplier is down" in said
    assert events(place, "ImageDenied") == []
    cluster.kubectl("delete", "--filename", str(EXCEPTIONS))


def test_who_is_told_directly_gets_no_event(place: Place) -> None:
    place.decree(rules=[rule()])
    assert "denied" in place.run(ALIEN)
    assert "created" in place.run(OURS)
    assert "denied" in place.kubectl("set", "image", "pod/web", f"web={ALIEN}")
    found = event(place, "ImageDenied", "Pod")  # the second time there is an object that it can be about
    assert found["involvedObject"] == identity(place.get("pod/web"))
    assert len(events(place)) == 1


@pytest.mark.parametrize("name", ["../x", "a/b c", "A:B", "..", "x" * 4000, "é\n"])
def test_a_claimed_owner_may_have_any_name(place: Place, name: str) -> None:
    """Anybody who creates a Pod can name any owner; the Events of others are written all the same."""
    place.decree(rules=[rule()])
    owner = {"apiVersion": "v1", "kind": "Thing", "name": name, "uid": "1", "controller": True}
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web", "ownerReferences": [owner]},
        "spec": {"containers": [{"name": "web", "image": ALIEN}]},
    }
    assert "denied the request" in place.kubectl("create", "--filename", "-", given=pod)
    deploy(place)
    assert event(place, "ImageDenied", "ReplicaSet")


# ---- PolicyReports


def lists(warden: Warden) -> float:
    """How many lists Trow has asked the API server for; a look at what runs takes some."""
    metrics = fresh(lambda: warden.client.get("/metrics").body)
    return samples(metrics, "trow_kubernetes_seconds_count")[("list",)]


def look_again(warden: Warden) -> None:
    """Let Trow look at everything at least twice from its beginning to its end."""
    before = lists(warden)
    until(lambda: lists(warden) >= before + 3 * 9)


@pytest.fixture(scope="module")
def reports(warden: Warden) -> Iterator[None]:
    """The cluster has PolicyReports from here on."""
    warden.cluster.apply(json.dumps(DEFINITION))
    yield
    warden.cluster.kubectl("delete", "crd", "policyreports.wgpolicyk8s.io")


def report(place: Place, *results: str) -> Document:
    """The report of a place, once it has these results."""

    def look() -> Document:
        found = place.kubectl("get", "polr", "trow", "--output", "json")
        if not found.startswith("{"):
            return {}
        item: Document = json.loads(found)
        return item if [each["result"] for each in item["results"]] == [*results] else {}

    return until(look)


def test_without_a_definition_of_reports_that_is_told_once(warden: Warden) -> None:
    look_again(warden)
    times = warden.trow.stderr.read_text("utf-8").count("PolicyReports are not written")
    assert times == 1


def test_what_ran_before_the_policy_is_reported(reports: None, place: Place) -> None:
    place.run(ALIEN)
    place.run(OURS, "ours")
    place.decree(rules=[rule()])
    found = report(place, "fail")
    assert found["summary"] == {"pass": 1, "fail": 1, "warn": 0, "error": 0, "skip": 0}
    (result,) = found["results"]
    assert result.pop("timestamp")["seconds"] > 0
    assert result == {
        "source": "trow",
        "policy": f"{CLUSTER_POLICY}/{place.name}",
        "rule": "default",
        "result": "fail",
        "severity": "high",
        "scored": True,
        "message": denial(place, "container web"),
        "resources": [identity(place.get("pod/web"))],
    }


def test_a_report_follows_policy_and_pods_and_is_not_written_for_nothing(
    reports: None, warden: Warden, place: Place
) -> None:
    deploy(place)
    assert only(place, "pods")
    place.decree(mode="warn", rules=[rule()])
    # The Pod, and the Deployment that would make it again; the ReplicaSet between them has nothing of its own to say.
    found = report(place, "warn", "warn")
    assert [each["resources"][0]["kind"] for each in found["results"]] == ["Pod", "Deployment"]
    assert found["summary"] == {"pass": 0, "fail": 0, "warn": 2, "error": 0, "skip": 0}
    look_again(warden)
    assert report(place, "warn", "warn") == found
    place.decree(default="Allow")
    assert report(place)["summary"] == {"pass": 2, "fail": 0, "warn": 0, "error": 0, "skip": 0}
    place.kubectl("delete", "deployment", "web")
    place.kubectl("delete", "pod", "--all", "--force")
    assert until(lambda: "NotFound" in place.kubectl("get", "polr", "trow"))


def test_what_has_ended_runs_no_more(reports: None, place: Place) -> None:
    place.run(ALIEN)
    place.decree(rules=[rule()])
    assert report(place, "fail")
    ended = '{"status": {"phase": "Succeeded"}}'
    assert "patched" in place.kubectl("patch", "pod", "web", "--subresource=status", "--type=merge", "--patch", ended)
    assert until(lambda: "NotFound" in place.kubectl("get", "polr", "trow"))


def test_a_policy_of_the_namespace_is_reported_too(reports: None, place: Place) -> None:
    place.run(ALIEN)
    place.put(POLICY, "strict", policy(rules=[rule()]))
    assert report(place, "fail")["results"][0]["policy"] == "ImagePolicy/strict"


def test_a_namespace_that_does_not_end_keeps_no_other_from_its_report(reports: None, warden: Warden) -> None:
    ending, other = sorted((warden.place(), warden.place()), key=lambda each: each.name)
    for place in (ending, other):
        place.run(ALIEN)
    finalizers = '{"metadata": {"finalizers": ["example.com/never"]}}'
    ending.kubectl("patch", "pod", "web", "--type=merge", "--patch", finalizers)
    ending.kubectl("delete", "namespace", ending.name, "--wait=false")
    until(lambda: "it is being terminated" in ending.run(OURS, "late"))
    other.decree(rules=[rule()], namespaces={"include": [ending.name, other.name]})
    assert report(other, "fail")
    assert "NotFound" in ending.kubectl("get", "polr", "trow")
    ending.kubectl("patch", "pod", "web", "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')


def test_where_no_policy_is_in_force_there_is_no_report(reports: None, place: Place) -> None:
    place.run(ALIEN)
    place.decree(rules=[rule()])
    assert report(place, "fail")
    place.kubectl("delete", "cimgpol", place.name)
    assert until(lambda: "NotFound" in place.kubectl("get", "polr", "trow"))


def test_violations_are_counted(reports: None, warden: Warden, place: Place) -> None:
    place.run(ALIEN)
    place.decree(rules=[rule()])
    assert report(place, "fail")
    until(lambda: samples(fresh(lambda: warden.client.get("/metrics").body), "trow_policy_violations")[()] >= 1)
