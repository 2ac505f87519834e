"""Policies and exceptions that the cluster has: in force soon after each change, and told so in their status."""

from __future__ import annotations

import json
import time
from datetime import datetime
from typing import TYPE_CHECKING, Final

import pytest
import yaml

from support.cluster import Cluster
from support.numbers import fresh
from support.policies import (
    CLUSTER_POLICY,
    CRDS,
    EXCEPTION,
    EXCEPTIONS,
    POLICY,
    document,
    exception,
    guard_exceptions,
    policy,
    rule,
)
from support.waiting import until
from support.warden import ALIEN, OURS, ROOT, Place, Warden

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.policies import Document
    from support.records import Record

ALIENS: Final = rule("aliens", "Allow", {"registry": "docker.io"})


@pytest.fixture(scope="module")
def warden(cluster: Cluster, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warden]:
    with Warden(cluster, tmp_path_factory.mktemp("warden"), pull_users=[ROOT[0]]) as warden:
        warden.wait_until_ready()
        with warden.asked():
            yield warden


@pytest.fixture
def place(warden: Warden) -> Place:
    return warden.place()


def would_run(place: Place, image: str, *args: str) -> bool:
    said = place.run(image, "tried", "--dry-run=server", *args)
    assert ("created" in said) != ("denied the request" in said), said
    return "created" in said


def ready(item: Document, condition: str = "Ready") -> Document:
    (found,) = (each for each in item["status"]["conditions"] if each["type"] == condition)
    assert found["observedGeneration"] == item["metadata"]["generation"]
    assert datetime.fromisoformat(found["lastTransitionTime"]).tzinfo
    return {key: found[key] for key in ("status", "reason", "message")}


# ---- policies


def test_a_policy_is_in_force_from_its_creation_to_its_deletion(place: Place) -> None:
    assert would_run(place, ALIEN)
    given = place.decree(rules=[rule()])
    assert ready(given) == {"status": "True", "reason": "InForce", "message": "Trow enforces this policy"}
    assert not would_run(place, ALIEN)
    changed = place.decree(rules=[rule(), ALIENS])
    assert changed["metadata"]["generation"] == 2
    assert ready(changed)["status"] == "True"
    assert would_run(place, ALIEN)
    place.decree(rules=[])
    assert not would_run(place, OURS)
    assert "deleted" in place.kubectl("delete", "cimgpol", place.name)
    assert until(lambda: would_run(place, ALIEN))


def test_a_label_on_a_policy_is_no_change_of_what_is_told(place: Place) -> None:
    before = place.decree(rules=[rule()])["status"]
    assert "labeled" in place.kubectl("label", "cimgpol", place.name, "team=a")
    place.put(POLICY, "later", policy())  # is told of after what came before
    assert place.get(f"cimgpol/{place.name}")["status"] == before


def test_the_list_of_policies_shows_what_they_do(place: Place) -> None:
    place.decree(mode="warn", rules=[rule()])
    place.put(POLICY, "mine", policy(default="Allow"))
    heads, mine = (line.split() for line in place.kubectl("get", "imgpol").splitlines())
    assert heads[:4] == ["NAME", "MODE", "DEFAULT", "READY"]
    assert mine[:4] == ["mine", "enforce", "Allow", "True"]
    heads, cluster = (line.split() for line in place.kubectl("get", "cimgpol", place.name).splitlines())
    assert heads[:4] == ["NAME", "MODE", "DEFAULT", "READY"]
    assert cluster[:4] == [place.name, "warn", "Deny", "True"]


def test_a_namespace_can_only_tighten_what_the_cluster_says(warden: Warden, place: Place) -> None:
    place.decree(rules=[rule()])
    place.put(POLICY, "mine", policy(rules=[ALIENS]))
    assert not would_run(place, ALIEN)
    said = place.run(OURS)
    assert (
        f"container web: {OURS} is not allowed by any rule (ImagePolicy/mine, default); use one of docker.io/**" in said
    )
    place.put(POLICY, "mine", policy(default="Allow"))
    assert not would_run(place, ALIEN)
    assert would_run(place, OURS)
    other = warden.place()  # of which that policy says nothing
    assert would_run(other, ALIEN)


def test_namespaces_are_selected_by_their_labels(warden: Warden, place: Place) -> None:
    label = f"test.trow.io/{place.name}"
    other = warden.place()
    warden.cluster.kubectl("label", "namespace", place.name, f"{label}=prod")
    place.decree(rules=[], namespaces={}, namespaceSelector={"matchLabels": {label: "prod"}})
    assert not would_run(place, OURS)
    assert would_run(other, OURS)
    warden.cluster.kubectl("label", "namespace", other.name, f"{label}=prod")
    assert until(lambda: not would_run(other, OURS))
    warden.cluster.kubectl("label", "namespace", place.name, f"{label}-")
    assert until(lambda: would_run(place, OURS))


def test_namespaces_are_included_and_excluded(warden: Warden, place: Place) -> None:
    other = warden.place()
    stem = place.name[:-1]
    place.decree(rules=[], namespaces={"include": [f"{stem}*", other.name], "exclude": [other.name]})
    assert not would_run(place, OURS)
    assert would_run(other, OURS)
    place.decree(rules=[], namespaces={"include": [other.name]})
    assert would_run(place, OURS)
    assert not would_run(other, OURS)


def test_mode_is_taken_over(place: Place) -> None:
    for mode, words in (("enforce", "denied the request"), ("warn", "Warning: container tried"), ("audit", "")):
        place.decree(mode=mode, rules=[])
        said = place.run(OURS, "tried", "--dry-run=server")
        assert words in said
        assert ("created" in said) == (mode != "enforce")
        assert ("Warning" in said) == (mode == "warn")


# ---- exceptions


@pytest.fixture(scope="module")
def office(warden: Warden) -> Iterator[Warden]:
    """The API server sees to it that two people have to agree."""
    cluster = warden.cluster
    guard_exceptions(cluster)
    names = []
    for role, user in (("requester", "alice"), ("approver", "bob")):
        names.append(f"{warden.name}-{role}")
        given = (f"--clusterrole=trow-exception-{role}", f"--user={user}")
        cluster.kubectl("create", "clusterrolebinding", names[-1], *given)
    place = Place(warden, "default")
    until(lambda: "has to be who creates" in ask(place, "", "forged", "--dry-run=server"))
    until(lambda: "created" in ask(place, "alice", "real", "--dry-run=server"))
    yield warden
    cluster.kubectl("delete", "clusterrolebinding", *names)
    cluster.kubectl("delete", "--filename", str(EXCEPTIONS))
    until(lambda: "created" in ask(place, "", "forged", "--dry-run=server"))


def ask(place: Place, user: str, name: str, *args: str, **fields: object) -> str:
    """Ask for an exception for everything that is not ours, against the policy about the place."""
    policies, images = [f"{CLUSTER_POLICY}/{place.name}"], [{"registry": "docker.io"}]
    spec = exception(**{"namespaces": [place.name], "policies": policies, "images": images, **fields})
    given = document(EXCEPTION, spec, name)
    given["metadata"]["labels"] = {place.warden.label: "made"}
    return place.kubectl("create", "--filename", "-", *args, given=given, user=user)


def approve(place: Place, name: str, user: str = "bob") -> str:
    patch = json.dumps({"spec": {"approver": user}})
    return place.kubectl("patch", "imgex", name, "--type=merge", "--patch", patch, user=user)


def active(place: Place, name: str, reason: str) -> Document:
    """The exception, once what Trow says of it is about what it is now and has this reason."""

    def look() -> Document:
        found = place.told(EXCEPTION, name, "Active", holds=reason == "Active")
        return found if found and ready(found, "Active")["reason"] == reason else {}

    return until(look)


def seconds_between(item: Document) -> float:
    """From the creation of an exception to its end."""
    begun, ends = item["metadata"]["creationTimestamp"], item["status"]["expiresAt"]
    return (datetime.fromisoformat(ends) - datetime.fromisoformat(begun)).total_seconds()


def test_an_exception_that_nothing_guards_does_not_count(warden: Warden) -> None:
    """Without the admission policy, whoever may write one could have approved it in the name of another one."""
    place = warden.place()
    place.decree(rules=[rule()])
    name = f"forged-{place.name}"
    assert "created" in ask(place, "", name, approver="bob")
    words = "there is no ValidatingAdmissionPolicy trow-policy-exceptions, so nothing makes sure of two people; "
    assert ready(active(place, name, "NotGuarded"), "Active")["message"].startswith(words)
    assert not would_run(place, ALIEN)
    assert "trow_exceptions_unguarded 1.0" in fresh(lambda: warden.client.get("/metrics").body)
    assert f"no policy exception counts: {words}".encode() in warden.trow.stderr.read_bytes()
    warden.cluster.kubectl("apply", "--filename", str(EXCEPTIONS))
    try:
        until(lambda: "is older than the policy" in ready(active(place, name, "NotGuarded"), "Active")["message"])
        assert not would_run(place, ALIEN)
        assert "trow_exceptions_unguarded 0.0" in fresh(lambda: warden.client.get("/metrics").body)
    finally:
        warden.cluster.kubectl("delete", "--filename", str(EXCEPTIONS))


def test_an_exception_is_in_force_once_somebody_else_approves(office: Warden, place: Place) -> None:
    place.decree(rules=[rule()])
    name = f"incident-{place.name}"
    assert "created" in ask(place, "alice", name, duration="1h30m")
    words = "somebody other than alice has to set spec.approver to their own name"
    waiting = ready(active(place, name, "WaitingForApproval"), "Active")
    assert waiting == {"status": "False", "reason": "WaitingForApproval", "message": words}
    assert not would_run(place, ALIEN)
    assert "cannot patch" in approve(place, name, "alice")
    assert not would_run(place, ALIEN)

    assert "patched" in approve(place, name)
    found = active(place, name, "Active")
    assert seconds_between(found) == 5400
    words = f"approved by bob, until {found['status']['expiresAt']}"
    assert ready(found, "Active") == {"status": "True", "reason": "Active", "message": words}
    columns = place.kubectl("get", "imgex", name, "--no-headers").split()
    assert columns[:5] == [name, "alice", "bob", "True", found["status"]["expiresAt"]]

    said = place.run(ALIEN)
    assert "created" in said
    why = "the registry of the supplier is down"
    words = f"container web: {ALIEN} is not allowed by any rule, but {name} exempts it: {why}"
    assert f"Warning: {words} (ClusterImagePolicy/{place.name}, default)" in said
    (record,) = until(lambda: [each for each in reviews(office, place) if not each["detail"].startswith("dry run: ")])
    assert (record["outcome"], record["actor"]["user"]) == ("ok", "admin")
    assert record["reason"].startswith(words)


def reviews(office: Warden, place: Place) -> list[Record]:
    return office.records.search(action="admission", namespace=place.name)


def test_an_exception_ends_by_itself(office: Warden, place: Place) -> None:
    place.decree(rules=[rule()])
    name = f"incident-{place.name}"
    ask(place, "alice", name, duration="3s")
    assert "patched" in approve(place, name)
    over = active(place, name, "Expired")
    assert seconds_between(over) == 3
    assert datetime.fromisoformat(over["status"]["expiresAt"]).timestamp() <= time.time()
    words = f"it expired at {over['status']['expiresAt']}"
    assert ready(over, "Active") == {"status": "False", "reason": "Expired", "message": words}
    assert not would_run(place, ALIEN)


def test_an_exception_covers_what_it_names_and_nothing_else(office: Warden, place: Place) -> None:
    other = office.place()
    place.decree(rules=[rule()], namespaces={"include": [place.name, other.name]})
    place.put(POLICY, "strict", policy(rules=[ALIENS]))
    name = f"incident-{place.name}"
    ask(place, "alice", name)
    approve(place, name)
    assert until(lambda: would_run(place, ALIEN))
    assert not would_run(place, "quay.io/org/app:1")
    assert not would_run(other, ALIEN)
    place.put(POLICY, "strict", policy(rules=[rule()]))
    assert not would_run(place, ALIEN)
    assert "deleted" in place.kubectl("delete", "imgex", name)


def test_what_makes_pods_is_excepted_too(office: Warden, place: Place) -> None:
    place.decree(controllers="enforce", rules=[rule()])
    name = f"incident-{place.name}"
    ask(place, "alice", name)
    approve(place, name)
    assert until(lambda: would_run(place, ALIEN))
    said = place.kubectl("create", "deployment", "web", f"--image={ALIEN}")
    assert f"but {name} exempts it" in said
    assert until(lambda: place.get("pods")["items"])


def pulls(place: Place, reference: str) -> bool:
    """Whether somebody whose pulls are decided gets a manifest."""
    reply = place.warden.client.get(f"/v2/{place.name}/app/manifests/{reference}")
    assert reply.status == 200 or reply.refusal == (403, "DENIED")
    return reply.status == 200


def test_pulls_follow_the_policies_too(office: Warden, place: Place) -> None:
    digest = office.push(f"{place.name}/app")
    assert pulls(place, "v1")
    assert pulls(place, digest)
    evil = {"registry": office.host, "repository": f"{place.name}/**"}
    place.decree(default="Allow", rules=[rule("evil", "Deny", evil)], namespaces={"include": ["*"]})
    assert not pulls(place, "v1")
    assert not pulls(place, digest)
    name = f"incident-{place.name}"
    ask(place, "alice", name, images=[evil])
    assert not pulls(place, "v1")
    approve(place, name)
    active(place, name, "Active")
    assert pulls(place, "v1")
    assert pulls(place, digest)
    assert "deleted" in place.kubectl("delete", "imgex", name)
    assert until(lambda: not pulls(place, digest))
    assert not pulls(place, "v1")


# ---- what cannot be read


def without_schema(crd: Document) -> Document:
    """The same kind of objects, of any content."""
    for version in crd["spec"]["versions"]:
        version["schema"] = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    return crd


@pytest.fixture(scope="module")
def lax(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warden]:
    """A cluster that takes anything for a policy, such as one whose definitions are from another version."""
    folder = tmp_path_factory.mktemp("lax")
    with Cluster.start(folder / "cluster", controllers=False) as cluster:
        crds = [without_schema(each) for each in yaml.safe_load_all(CRDS.read_text("utf-8"))]
        cluster.apply(yaml.safe_dump_all(crds))
        cluster.kubectl("wait", "--filename", str(CRDS), "--for", "condition=Established", "--timeout", "30s")
        with Warden(cluster, folder / "warden") as warden:
            warden.wait_until_ready()
            with warden.asked():
                yield warden


def broken(place: Place, kind: str, name: str, spec: object) -> Document:
    """The condition of a policy that cannot be read."""
    said = place.kubectl("apply", "--filename", "-", given=document(kind, spec, name, place.name))
    assert "Error" not in said, said
    return ready(until(lambda: place.told(kind, name, "Ready", holds=False)))


def test_a_policy_that_becomes_unreadable_counts_as_it_was(lax: Warden) -> None:
    place = lax.place()
    place.put(POLICY, "mine", policy(rules=[rule()]))
    condition = broken(place, POLICY, "mine", policy(default="Allow", rulez=[]))
    assert condition["reason"] == "Invalid"
    assert condition["message"].startswith("ImagePolicy/mine: spec: has an unknown 'rulez'; did you mean rules?")
    assert would_run(place, OURS)
    assert not would_run(place, ALIEN)
    place.put(POLICY, "mine", policy(rules=[ALIENS]))
    assert would_run(place, ALIEN)


def test_a_policy_that_never_could_be_read_denies_everything_where_it_is_about(lax: Warden) -> None:
    place, other = lax.place(), lax.place()
    assert broken(place, POLICY, "mine", {"default": "allow"})["reason"] == "Invalid"
    assert not would_run(place, OURS)
    assert would_run(other, OURS)
    assert "deleted" in place.kubectl("delete", "imgpol", "mine")
    assert until(lambda: would_run(place, OURS))
