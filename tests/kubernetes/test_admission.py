"""What somebody with kubectl sees of the policies: the API server asks a Trow before it stores something."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Any, Final

import pytest

import factories
from support import platforms
from support.policies import rule
from support.registry import Repository
from support.waiting import until
from support.warden import ALIEN, OURS, REGISTRY, Place, Warden

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.cluster import Cluster
    from support.policies import Document

UPSTREAM: Final = "quay.io"
PREFIX: Final = f"{REGISTRY}/f/quay.io"


@pytest.fixture(scope="module")
def warden(cluster: Cluster, crds: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Warden]:
    with Warden(cluster, tmp_path_factory.mktemp("warden"), pull_through={UPSTREAM: PREFIX}) as warden:
        warden.wait_until_ready()
        with warden.asked():
            yield warden


@pytest.fixture
def place(warden: Warden) -> Place:
    return warden.place()


@pytest.fixture
def strict(place: Place) -> Place:
    """Where only the images of one registry may run."""
    place.decree(rules=[rule()])
    return place


def refusal(place: Place, who: str, image: str = ALIEN) -> str:
    """What is said to whoever wants to run an image that no rule allows."""
    return (
        f'admission webhook "must-validate.trow.io" denied the request: {who}: {image} is not allowed by any rule'
        f" (ClusterImagePolicy/{place.name}, default); use one of registry.example.com/**"
    )


def pod(image: str = OURS, **spec: Any) -> Document:
    containers = [{"name": "web", "image": image}]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web"},
        "spec": {"containers": containers, **spec},
    }


def images(place: Place, *args: str) -> list[str]:
    """Of the first container of each Pod."""
    return [each["spec"]["containers"][0]["image"] for each in place.get("pods", *args)["items"]]


# ---- Pods


def test_a_pod_with_an_allowed_image_runs(strict: Place) -> None:
    assert strict.run(OURS) == "pod/web created\n"


def test_a_pod_with_another_image_is_denied_with_everything_to_put_it_right(strict: Place) -> None:
    said = strict.run(ALIEN)
    assert said == f"Error from server (Forbidden): {refusal(strict, 'container web')}\n"
    assert strict.get("pods")["items"] == []


@pytest.mark.parametrize(
    ("spec", "who"),
    [
        ({"initContainers": [{"name": "first", "image": ALIEN}]}, "init container first"),
        ({"initContainers": [{"name": "mesh", "image": ALIEN, "restartPolicy": "Always"}]}, "init container mesh"),
        ({"volumes": [{"name": "data", "image": {"reference": ALIEN}}]}, "image volume data"),
        ({"containers": [{"name": "a", "image": OURS}, {"name": "b", "image": ALIEN}]}, "container b"),
    ],
)
def test_every_place_for_an_image_counts(strict: Place, spec: Document, who: str) -> None:
    assert refusal(strict, who) in strict.create(pod(**spec))


def test_everything_that_is_wrong_is_said_at_once(strict: Place) -> None:
    volume = {"name": "data", "image": {"reference": "quay.io/data/set:3"}}
    said = strict.create(pod(ALIEN, volumes=[volume]))
    assert refusal(strict, "container web") in said
    assert "; image volume data: quay.io/data/set:3 is not allowed by any rule" in said


def test_a_rule_that_denies_is_named(place: Place) -> None:
    evil = rule("no-nginx", "Deny", {"registry": "docker.io", "repository": "library/nginx"})
    place.decree(default="Allow", rules=[evil])
    assert (
        f"container web: {ALIEN} is denied (ClusterImagePolicy/{place.name}, no-nginx);"
        " use an image that this rule does not match"
    ) in place.run("nginx:1.27")
    assert "created" in place.run("busybox", "other")


def test_an_image_that_cannot_be_read_is_denied(place: Place) -> None:
    place.decree(default="Allow")
    said = place.create(pod("docker.io./library/nginx"))
    assert f"(ClusterImagePolicy/{place.name}, invalid-image)" in said
    assert "container web: 'docker.io./library/nginx' cannot be read: " in said


def test_an_ephemeral_container_is_judged(strict: Place) -> None:
    strict.run(OURS)
    for image, words in ((ALIEN, refusal(strict, "ephemeral container look")), (OURS, "")):
        said = strict.kubectl("debug", "web", "--image", image, "--container", "look", "--attach=false")
        assert words in said
    added = strict.get("pod", "web")["spec"]["ephemeralContainers"]
    assert [each["image"] for each in added] == [OURS]


def test_the_image_of_a_pod_is_not_exchanged(strict: Place) -> None:
    strict.run(OURS)
    assert refusal(strict, "container web") in strict.kubectl("set", "image", "pod/web", f"web={ALIEN}")
    other = OURS.replace(":1", ":2")
    assert "image updated" in strict.kubectl("set", "image", "pod/web", f"web={other}")
    assert images(strict) == [other]


def test_what_runs_already_can_be_labelled_finalized_and_deleted(place: Place) -> None:
    place.create(pod(ALIEN) | {"metadata": {"name": "web", "finalizers": ["example.com/last-words"]}})
    place.decree(rules=[rule()])
    assert refusal(place, "container other") in place.run(ALIEN, "other")
    assert "labeled" in place.kubectl("label", "pod", "web", "tier=front")
    assert "deleted" in place.kubectl("delete", "pod", "web", "--wait=false")
    patch = ("patch", "pod", "web", "--type=json", "--patch", '[{"op": "remove", "path": "/metadata/finalizers"}]')
    assert "patched" in place.kubectl(*patch)
    assert until(lambda: not place.get("pods")["items"])


def test_a_dry_run_is_answered_and_on_record_as_one(warden: Warden, strict: Place) -> None:
    for image in (ALIEN, OURS):
        said = strict.run(image, "dry", "--dry-run=server")
        assert ("created (server dry run)" in said) == (image == OURS), said
        assert (refusal(strict, "container dry") in said) == (image == ALIEN), said
    strict.run(ALIEN, "real")
    found = warden.records.wait(3, action="admission", namespace=strict.name)
    dry = [each for each in found if each["detail"].startswith(f"dry run: CREATE Pod {strict.name}/dry: ")]
    assert sorted(each["outcome"] for each in dry) == ["denied", "ok"]
    (record,) = (each for each in found if each not in dry)
    assert record["workload"] == {"namespace": strict.name, "pod": "real"}
    assert (record["outcome"], record["actor"]["user"]) == ("denied", "admin")
    assert record["repository"] == "docker.io/library/nginx"
    assert record["reason"] == refusal(strict, "container real").partition("request: ")[2]
    assert record["detail"] == f"CREATE Pod {strict.name}/real: {ALIEN}"


@pytest.mark.parametrize("mode", ["warn", "audit"])
def test_a_milder_policy_refuses_nothing(warden: Warden, place: Place, mode: str) -> None:
    place.decree(mode=mode, rules=[rule()])
    said = place.run(ALIEN)
    assert "pod/web created" in said
    words = refusal(place, "container web").partition("request: ")[2]
    assert (f"Warning: {words}" in said) == (mode == "warn"), said
    record = warden.records.one(action="admission", namespace=place.name)
    assert (record["outcome"], record["reason"]) == ("ok", words)


# ---- what makes Pods


def template(image: str) -> Document:
    return {
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": image}], "restartPolicy": "Always"},
    }


def workload(kind: str, image: str = ALIEN) -> Document:
    group = {"CronJob": "batch/v1", "Job": "batch/v1"}.get(kind, "apps/v1")
    made = template(image)
    spec: Document = {"selector": {"matchLabels": {"app": "web"}}, "template": made}
    if kind in ("Job", "CronJob"):
        made["spec"]["restartPolicy"] = "Never"
        spec = {"template": made}
    if kind == "CronJob":
        spec = {"schedule": "0 0 1 1 *", "jobTemplate": {"spec": spec}}
    if kind == "StatefulSet":
        spec["serviceName"] = "web"
    if kind in ("ReplicationController", "PodTemplate"):
        group, spec["selector"] = "v1", {"app": "web"}
    body = {"template": made} if kind == "PodTemplate" else {"spec": spec}
    return {"apiVersion": group, "kind": kind, "metadata": {"name": "web"}, **body}


KINDS: Final = (
    "CronJob", "DaemonSet", "Deployment", "Job", "PodTemplate", "ReplicaSet", "ReplicationController", "StatefulSet",
)  # fmt: skip


def test_what_makes_pods_is_warned_about_when_it_is_applied(strict: Place) -> None:
    words = refusal(strict, "container web").partition("request: ")[2]
    for kind in set(KINDS) - {"Job"}:
        said = strict.kubectl("apply", "--filename", "-", given=workload(kind))
        assert f"Warning: {words}" in said, said
        assert "/web created" in said, said
        assert strict.create(workload(kind, OURS) | {"metadata": {"name": "ours"}}).count("\n") == 1


def test_a_job_is_refused_like_its_pods(strict: Place) -> None:
    """It could never be put right, and would try to make them forever."""
    assert refusal(strict, "container web") in strict.create(workload("Job"))
    assert "created" in strict.create(workload("Job", OURS))


def test_jobs_of_a_cron_job_do_not_pile_up_and_it_is_told_why(strict: Place) -> None:
    """As long as its Jobs were let in, each minute one more was there that tried forever."""
    assert "Warning: container web" in strict.create(workload("CronJob"))
    come_due(strict)
    said = until(lambda: told(strict, "FailedCreate", "cronjob-controller"))
    assert refusal(strict, "container web") in said
    assert until(lambda: told(strict, "ImageDenied", "trow")) == said.partition("denied the request: ")[2]
    assert strict.get("jobs")["items"] == []
    assert "image updated" in strict.kubectl("set", "image", "cronjob/web", f"web={OURS}")
    come_due(strict)
    assert until(lambda: images(strict)) == [OURS]


def come_due(place: Place) -> None:
    """A time of the schedule has passed since the last run."""
    long_ago = '{"status": {"lastScheduleTime": "2020-06-01T00:00:00Z"}}'
    place.kubectl("patch", "cronjob/web", "--subresource", "status", "--type", "merge", "--patch", long_ago)


def told(place: Place, reason: str, component: str) -> str:
    """What somebody has said of the CronJob."""
    found = place.get("events", "--field-selector", f"reason={reason},involvedObject.kind=CronJob")["items"]
    return next((each["message"] for each in found if each["source"].get("component") == component), "")


@pytest.mark.parametrize("controllers", ["enforce", "ignore"])
def test_what_makes_pods_is_refused_or_left_alone_as_the_policy_says(place: Place, controllers: str) -> None:
    place.decree(controllers=controllers, rules=[rule()])
    for kind in KINDS:
        said = place.create(workload(kind))
        assert (refusal(place, "container web") in said) == (controllers == "enforce"), said
        assert ("/web created" in said) == (controllers == "ignore"), said
        assert "Warning" not in said


def test_the_image_of_a_deployment_is_not_exchanged_where_controllers_are_held_to_it(place: Place) -> None:
    place.decree(controllers="enforce", rules=[rule()])
    place.create(workload("Deployment", OURS))
    assert refusal(place, "container web") in place.kubectl("set", "image", "deployment/web", f"web={ALIEN}")
    assert "scaled" in place.kubectl("scale", "deployment/web", "--replicas", "2")


def test_exchanging_the_image_of_a_deployment_warns(strict: Place) -> None:
    strict.create(workload("Deployment", OURS))
    said = strict.kubectl("set", "image", "deployment/web", f"web={ALIEN}")
    assert f"Warning: {refusal(strict, 'container web').partition('request: ')[2]}" in said
    assert "image updated" in said


# ---- what is changed in Pods


def test_a_tag_is_pinned_to_its_digest(warden: Warden, place: Place) -> None:
    digest = warden.push(f"{place.name}/app")
    place.decree(default="Allow", mutate={"pinDigests": True}, require={"digest": True})
    image = f"{warden.host}/{place.name}/app"
    volume = {"name": "data", "image": {"reference": f"{image}:v1"}}
    assert "created" in place.create(pod(f"{image}:v1", volumes=[volume]))
    stored = place.get("pod", "web")
    assert images(place) == [f"{image}:v1@{digest}"]
    assert [each["image"]["reference"] for each in stored["spec"]["volumes"] if "image" in each] == images(place)
    place.kubectl("debug", "web", "--image", f"{image}:v1", "--attach=false")
    assert [each["image"] for each in place.get("pod/web")["spec"]["ephemeralContainers"]] == images(place)
    # What came of it is what comes of that.
    warden.push(f"{place.name}/app")
    assert "created" in place.create({**stored, "metadata": {"name": "again"}, "status": {}})
    assert images(place) == [f"{image}:v1@{digest}"] * 2


def test_a_manifest_that_is_applied_once_more_changes_nothing(warden: Warden, place: Place) -> None:
    digest = warden.push(f"{place.name}/app")
    place.decree(default="Allow", mutate={"pinDigests": True}, require={"digest": True})
    image = f"{warden.host}/{place.name}/app"
    manifest = pod(f"{image}:v1")
    place.kubectl("apply", "--filename", "-", given=manifest)
    warden.push(f"{place.name}/app")
    place.kubectl("apply", "--filename", "-", given=manifest)
    assert images(place) == [f"{image}:v1@{digest}"]
    place.kubectl("set", "image", "pod/web", f"web={image}:v1")
    assert images(place) == [f"{image}:v1@{digest}"]


def test_what_is_not_here_is_not_pinned_and_denied_where_a_digest_is_required(warden: Warden, place: Place) -> None:
    place.decree(default="Allow", mutate={"pinDigests": True}, require={"digest": True})
    image = f"{warden.host}/{place.name}/app:v1"
    assert f"container web: {image} has no digest (ClusterImagePolicy/{place.name}, require.digest)" in place.run(image)


def test_all_pods_of_a_replica_set_have_the_digest_of_the_first(warden: Warden, place: Place) -> None:
    first = warden.push(f"{place.name}/app")
    place.decree(default="Allow", mutate={"pinDigests": True})
    image = f"{warden.host}/{place.name}/app:v1"
    place.create(workload("Deployment", image))
    assert until(lambda: images(place)) == [f"{image}@{first}"]
    second = warden.push(f"{place.name}/app")
    place.kubectl("scale", "deployment/web", "--replicas", "3")
    assert until(lambda: found if len(found := images(place)) == 3 else []) == [f"{image}@{first}"] * 3
    made = place.get("deployment", "web")["spec"]["template"]["spec"]["containers"][0]["image"]
    assert made == image  # who owns the Deployment finds it as it was written
    place.kubectl("rollout", "restart", "deployment/web")
    assert until(lambda: f"{image}@{second}" in images(place))


def test_an_image_is_renamed_to_be_pulled_through(warden: Warden, place: Place) -> None:
    place.decree(rules=[rule("quay", "Allow", {"registry": UPSTREAM})], mutate={"pullThrough": True})
    assert place.run(f"{UPSTREAM}/org/app:1") == "pod/web created\n"
    assert images(place) == [f"{PREFIX}/org/app:1"]
    stored = place.get("pod", "web")
    assert "created" in place.create({**stored, "metadata": {"name": "again"}, "status": {}})
    assert images(place) == [f"{PREFIX}/org/app:1"] * 2


def test_what_makes_pods_is_judged_by_the_name_that_they_get(place: Place) -> None:
    quay = rule("through", "Allow", {"registry": REGISTRY, "repository": "f/**"})
    place.decree(rules=[quay], mutate={"pullThrough": True}, controllers="enforce")
    assert place.create(workload("Deployment", f"{UPSTREAM}/org/app:1")) == "deployment.apps/web created\n"
    assert until(lambda: images(place)) == [f"{PREFIX}/org/app:1"]
    for kind in KINDS:
        assert f"container web: {ALIEN} is not allowed by any rule" in place.create(workload(kind))


def test_what_makes_pods_is_judged_by_the_digest_that_they_get(warden: Warden, place: Place) -> None:
    warden.push(f"{place.name}/app")
    place.decree(default="Allow", mutate={"pinDigests": True}, require={"digest": True}, controllers="enforce")
    image = f"{warden.host}/{place.name}/app"
    assert place.create(workload("Deployment", f"{image}:v1")) == "deployment.apps/web created\n"
    assert f"container web: {image}:v2 has no digest" in place.create(workload("Job", f"{image}:v2"))


def test_a_renamed_image_is_pinned_at_once(warden: Warden, place: Place) -> None:
    digest = warden.push(f"f/quay.io/{place.name}/app", "1")
    place.decree(default="Allow", mutate={"pullThrough": True, "pinDigests": True})
    assert place.run(f"{UPSTREAM}/{place.name}/app:1") == "pod/web created\n"
    assert images(place) == [f"{PREFIX}/{place.name}/app:1@{digest}"]


# ---- trouble


def laborious(warden: Warden, repository: str) -> str:
    """An image that takes long to look at: 64 platforms with configurations as large as they are read."""
    images = [platforms.image(number=number, filling=[[]] * 240_000) for number in range(64)]
    Repository(warden.client, repository).push(factories.index(images), "v1")
    return f"{warden.host}/{repository}:v1"


def test_who_has_to_wait_too_long_is_told_so(cluster: Cluster, crds: None, tmp_path: Path) -> None:
    with Warden(cluster, tmp_path, deadline="10ms") as warden, warden.asked():
        place = warden.place()
        image = laborious(warden, "team/app")
        place.decree(default="Allow", require={"maxAge": "90d"})
        said = place.run(image)
    assert f"container web: {image} is not known: this registry could not be asked about it" in said
    assert f"(ClusterImagePolicy/{place.name}, require.exists); try again" in said


def test_while_the_database_is_locked_pods_are_pinned_all_the_same(warden: Warden, place: Place) -> None:
    digest = warden.push(f"{place.name}/app")
    place.decree(default="Allow", mutate={"pinDigests": True}, require={"exists": True})
    database = sqlite3.connect(warden.folder / "data" / "trow.db", isolation_level=None)
    with contextlib.closing(database):
        database.execute("BEGIN IMMEDIATE")
        image = f"{warden.host}/{place.name}/app:v1"
        place.create(workload("ReplicaSet", image))
        assert until(lambda: images(place)) == [f"{image}@{digest}"]


def test_while_trow_is_down_nothing_starts_but_what_it_needs_itself(warden: Warden) -> None:
    """Every Trow may be down at once, as after a power cut: the cluster comes up, then Trow, then all the rest."""
    place = warden.place(asked=False)
    place.create(workload("ReplicaSet", OURS) | {"metadata": {"name": "web"}})
    assert until(lambda: images(place)) == [OURS]
    with warden.asked(everywhere=True):
        warden.stop()
        try:
            said = place.run(OURS)
            assert 'failed calling webhook "must-mutate.trow.io"' in said
            assert "connection refused" in said
            for excluded in ("kube-system", warden.name):
                assert "created" in Place(warden, excluded).run(ALIEN, place.name)
            assert "deleted" in place.kubectl("delete", "pod", "--all", "--force")
            assert place.get("pods")["items"] == []
        finally:
            warden.start()
        assert until(lambda: images(place)) == [OURS]
        assert "created" in place.run(OURS, "other")
    assert "deleted" in Place(warden, "kube-system").kubectl("delete", "pod", place.name, "--force")


def test_as_long_as_the_policies_are_not_read_trow_is_not_ready_and_denies(warden: Warden, strict: Place) -> None:
    strict.run(OURS)
    warden.stop()
    warden.revoke()
    try:
        warden.start()
        reply = warden.client.get("/readyz")
        assert reply.status == 503
        assert "the cluster's image policies have not been read yet" in reply.body.decode()
        said = strict.run(OURS, "other")
        assert "denied the request: the cluster's image policies have not been read yet; try again" in said
        assert "labeled" in strict.kubectl("label", "pod", "web", "tier=front")
    finally:
        warden.grant()
    warden.wait_until_ready()
    assert "created" in strict.run(OURS, "other")
    assert refusal(strict, "container third") in strict.run(ALIEN, "third")
