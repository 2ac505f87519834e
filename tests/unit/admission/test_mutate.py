"""What is changed in a Pod before it is stored."""

from __future__ import annotations

import asyncio
import contextlib
import copy
import json
from typing import TYPE_CHECKING, Any, Final

import apsw
import pytest

from support import platforms
from support.admission import NAMESPACE, REGISTRY, applied, containers, owned, pod, uid, workload
from support.policies import CLUSTER_POLICY, POLICY, document
from support.trails import sql
from trow.policy import images
from trow.policy.pods import POD_SPECS

if TYPE_CHECKING:
    from factories import Manifest
    from support.admission import Gatekeeper
    from support.fixtures import Keep

APP: Final = f"{REGISTRY}/team/app"
MIRROR: Final = f"{REGISTRY}/f/docker.io"
PULL_THROUGH: Final = {"docker.io": MIRROR, "Quay.io:443": f"{REGISTRY}/f/quay.io"}
DIGEST: Final = "sha256:" + "d" * 64


def wishes(name: str = "pinning", **fields: bool) -> dict[str, Any]:
    """A policy that allows everything and has Pods changed."""
    return document(CLUSTER_POLICY, {"default": "Allow", "mutate": fields}, name)


PINNING: Final = wishes(pinDigests=True)
RENAMING: Final = wishes("renaming", pullThrough=True)


async def stored(keeper: Gatekeeper, *tags: str, repository: str = "team/app") -> Manifest:
    manifest = platforms.image()
    await platforms.store(keeper.metadata, repository, manifest, *tags)
    return manifest


def named(item: dict[str, Any], field: str = "containers") -> list[str]:
    return [container["image"] for container in item["spec"][field]]


# ---- digests


async def test_a_tag_stays_beside_its_digest(keep: Keep) -> None:
    keeper = keep(PINNING)
    manifest = await stored(keeper, "v1", "latest")
    answer = await keeper.mutate(pod(f"{APP}:v1", APP))
    assert answer.patch == [
        {"op": "test", "path": "/spec/containers/0/image", "value": f"{APP}:v1"},
        {"op": "replace", "path": "/spec/containers/0/image", "value": f"{APP}:v1@{manifest.digest}"},
        {"op": "test", "path": "/spec/containers/1/image", "value": APP},
        {"op": "replace", "path": "/spec/containers/1/image", "value": f"{APP}:latest@{manifest.digest}"},
    ]
    assert answer.warnings == []


async def test_what_is_written_stays_written_like_that(keep: Keep) -> None:
    keeper = keep(PINNING)
    manifest = await stored(keeper, "v1")
    host = "Registry.Example.com:443"
    assert named(await keeper.mutated(pod(f"{host}/team/app:v1"))) == [f"{host}/team/app:v1@{manifest.digest}"]


async def test_every_field_is_pinned(keep: Keep) -> None:
    keeper = keep(PINNING)
    manifest = await stored(keeper, "v1")
    fields = {field: containers(f"{APP}:v1") for field in ("initContainers", "containers", "ephemeralContainers")}
    volumes = [{"name": "a", "emptyDir": {}}, {"name": "b", "image": {"reference": f"{APP}:v1"}}]
    changed = await keeper.mutated(pod(**fields, volumes=volumes))
    assert [named(changed, field) for field in fields] == [[f"{APP}:v1@{manifest.digest}"]] * 3
    assert changed["spec"]["volumes"][1]["image"]["reference"] == f"{APP}:v1@{manifest.digest}"


async def test_what_is_pinned_is_allowed_where_digests_are_required(keep: Keep) -> None:
    strict = document(CLUSTER_POLICY, {"default": "Allow", "require": {"digest": True}, "mutate": {"pinDigests": True}})
    keeper = keep(strict)
    await stored(keeper, "v1")
    assert not (await keeper.validate(pod(f"{APP}:v1"))).allowed
    assert (await keeper.validate(await keeper.mutated(pod(f"{APP}:v1")))).allowed


@pytest.mark.parametrize(
    "image",
    [
        f"{APP}:v1@{DIGEST}",
        f"{APP}@{DIGEST}",
        f"{APP}:absent",
        f"{REGISTRY}/other/app:v1",
        "docker.io/team/app:v1",
        "team/app:v1",
        "not an image",
        "",
    ],
)
async def test_what_stays_as_it_is(keep: Keep, image: str) -> None:
    keeper = keep(PINNING)
    await stored(keeper, "v1")
    assert (await keeper.mutate(pod(image))).patch == []


async def test_one_image_that_cannot_be_read_keeps_no_other_from_being_pinned(keep: Keep) -> None:
    keeper = keep(PINNING)
    manifest = await stored(keeper, "v1")
    assert named(await keeper.mutated(pod("not an image", f"{APP}:v1"))) == [
        "not an image",
        f"{APP}:v1@{manifest.digest}",
    ]


async def test_only_where_a_policy_asks_for_it(keep: Keep) -> None:
    elsewhere = document(POLICY, {"default": "Allow", "mutate": {"pinDigests": True}}, namespace="team-b")
    for keeper in (keep(), keep(wishes()), keep(wishes(pullThrough=True)), keep(elsewhere), keep(following=False)):
        await stored(keeper, "v1")
        assert (await keeper.mutate(pod(f"{APP}:v1"))).patch == []
    keeper = keep(elsewhere)
    await stored(keeper, "v1")
    assert (await keeper.mutate(pod(f"{APP}:v1"), namespace="team-b")).patch


async def test_one_policy_that_asks_for_it_is_enough(keep: Keep) -> None:
    keeper = keep(wishes("first"), PINNING)
    await stored(keeper, "v1")
    assert (await keeper.mutate(pod(f"{APP}:v1"))).patch


@pytest.mark.parametrize("kind", [name for _, name in POD_SPECS if name != "Pod"])
async def test_only_pods_are_changed(keep: Keep, kind: str) -> None:
    """Whoever owns a Deployment would change it back (kyverno issue 11167)."""
    keeper = keep(PINNING, RENAMING, pull_through=PULL_THROUGH)
    await stored(keeper, "v1")
    item = workload(kind, {"containers": containers(f"{APP}:v1", "nginx")})
    assert (await keeper.mutate(item)).patch == []


@pytest.mark.parametrize("operation", ["DELETE", "CONNECT"])
async def test_what_goes_away_is_not_changed(keep: Keep, operation: str) -> None:
    keeper = keep(PINNING)
    await stored(keeper, "v1")
    assert (await keeper.mutate(pod(f"{APP}:v1"), operation=operation)).patch == []


async def test_an_update_changes_only_what_is_new(keep: Keep) -> None:
    keeper = keep(PINNING)
    manifest = await stored(keeper, "v1", "v2")
    old = pod(f"{APP}:v1", f"{APP}:v1")
    new = pod(f"{APP}:v1", f"{APP}:v2")
    assert named(await keeper.mutated(new, old)) == [f"{APP}:v1", f"{APP}:v2@{manifest.digest}"]
    debugged = pod(f"{APP}:v1", f"{APP}:v1", ephemeralContainers=containers(f"{APP}:v2"))
    changed = await keeper.mutated(debugged, old, subResource="ephemeralcontainers")
    assert named(changed, "ephemeralContainers") == [f"{APP}:v2@{manifest.digest}"]


async def test_a_manifest_applied_once_more_keeps_the_digest_though_the_tag_moves(keep: Keep) -> None:
    keeper = keep(PINNING)
    await stored(keeper, "v1", "v2")
    written = pod(f"{APP}:v1", APP.removesuffix("app") + "gone:v1")
    before = await keeper.mutated(written)
    moved = await stored(keeper, "v1")
    assert await keeper.mutated(written, before) == before
    assert named(await keeper.mutated(pod(f"{APP}:v2"), before))[0].startswith(f"{APP}:v2@")
    assert named(await keeper.mutated(written))[0] == f"{APP}:v1@{moved.digest}"


async def test_what_cannot_be_read_is_left_to_the_other_webhook(keep: Keep) -> None:
    keeper = keep(PINNING)
    for spec in (None, "x", {}, {"containers": "x"}):
        answer = await keeper.mutate(pod() | {"spec": spec})
        assert (answer.patch, answer.warnings) == ([], [])


# ---- applied


async def test_a_pod_that_somebody_else_changed_is_left_alone(keep: Keep) -> None:
    keeper = keep(PINNING)
    await stored(keeper, "v1")
    item = pod(f"{APP}:v1", f"{APP}:v1")
    patch = (await keeper.mutate(item)).patch
    assert [operation["op"] for operation in patch] == ["test", "replace"] * 2
    meanwhile = copy.deepcopy(item)
    meanwhile["spec"]["containers"].insert(0, {"name": "sidecar", "image": "docker.io/istio/proxyv2"})
    with pytest.raises(AssertionError, match="fails"):
        applied(meanwhile, patch)


@pytest.mark.parametrize("owner", [None, "1"])
async def test_what_was_changed_is_not_changed_again(keep: Keep, owner: str | None) -> None:
    """A sidecar that another webhook adds has the API server ask again (`reinvocationPolicy: IfNeeded`)."""
    keeper = keep(PINNING, RENAMING, pull_through=PULL_THROUGH)
    await stored(keeper, "v1")
    await stored(keeper, "1.27", repository="f/docker.io/library/nginx")
    item = pod(f"{APP}:v1", "nginx:1.27", "redis", "quay.io/a/b:1", f"docker.io/a/b@{DIGEST}", "not an image")
    item = owned(item, uid(owner)) if owner else item
    changed = await keeper.mutated(item)
    assert changed != item
    await stored(keeper, "v1")
    await stored(keeper, "1.27", repository="f/docker.io/library/nginx")
    assert (await keeper.mutate(changed)).patch == []
    changed["spec"]["containers"] += containers("istio/proxyv2")
    again = await keeper.mutate(changed)
    assert [operation["path"] for operation in again.patch] == ["/spec/containers/6/image"] * 2


async def test_the_patch_of_many_images(keep: Keep) -> None:
    keeper = keep(PINNING)
    manifest = await stored(keeper, *(f"v{number}" for number in range(100)))
    changed = await keeper.mutated(pod(*(f"{APP}:v{number}" for number in range(100))))
    assert named(changed) == [f"{APP}:v{number}@{manifest.digest}" for number in range(100)]


# ---- the same digest for the Pods of one owner


async def given(keeper: Gatekeeper, item: dict[str, Any], **members: Any) -> str:
    (image,) = named(await keeper.mutated(item, **members))
    return image


async def test_all_pods_of_one_replica_set_run_the_same(keep: Keep) -> None:
    keeper = keep(PINNING)
    item = pod(f"{APP}:v1")
    first = await stored(keeper, "v1")
    assert await given(keeper, owned(item, uid("one"))) == f"{APP}:v1@{first.digest}"
    second = await stored(keeper, "v1")
    assert second.digest != first.digest
    assert await given(keeper, owned(item, uid("one"))) == f"{APP}:v1@{first.digest}"
    assert await given(keeper, owned(pod("Registry.example.com/team/app:v1"), uid("one"))) == (
        f"Registry.example.com/team/app:v1@{first.digest}"
    )
    # A new ReplicaSet is a new rollout.
    assert await given(keeper, owned(item, uid("two"))) == f"{APP}:v1@{second.digest}"
    assert await given(keeper, item) == f"{APP}:v1@{second.digest}"


async def test_pods_that_are_made_at_once_run_the_same(keep: Keep) -> None:
    keeper = keep(PINNING)
    item = owned(pod(f"{APP}:v1"), uid("one"))
    await stored(keeper, "v1")
    changing = asyncio.gather(*(given(keeper, item) for _ in range(20)))
    await stored(keeper, "v1")
    assert len({*await changing, *[await given(keeper, item) for _ in range(3)]}) == 1


@pytest.mark.parametrize("kind", ["StatefulSet", "DaemonSet"])
async def test_a_new_revision_is_a_new_rollout(keep: Keep, kind: str) -> None:
    """These stay the same objects when their template changes, as by ``kubectl rollout restart``."""
    keeper = keep(PINNING)
    item = pod(f"{APP}:v1")
    before = owned(item, uid("one"), kind, **{"controller-revision-hash": "web-1"})
    after = owned(item, uid("one"), kind, **{"controller-revision-hash": "web-2"})
    first = await stored(keeper, "v1")
    assert await given(keeper, before) == f"{APP}:v1@{first.digest}"
    second = await stored(keeper, "v1")
    assert await given(keeper, after) == f"{APP}:v1@{second.digest}"
    assert await given(keeper, before) == f"{APP}:v1@{first.digest}"


async def test_an_owner_of_that_uid_in_another_namespace_is_another(keep: Keep) -> None:
    """Whoever makes a Pod names its owner; nothing may come of it for anybody else's Pods."""
    keeper = keep(PINNING)
    item = owned(pod(f"{APP}:v1"), uid("one"))
    first = await stored(keeper, "v1")
    assert await given(keeper, item, namespace="team-b") == f"{APP}:v1@{first.digest}"
    second = await stored(keeper, "v1")
    assert await given(keeper, item, namespace=NAMESPACE) == f"{APP}:v1@{second.digest}"
    assert await given(keeper, item, namespace="team-b") == f"{APP}:v1@{first.digest}"


@pytest.mark.parametrize(
    "owners",
    [
        None,
        "one",
        {},
        [],
        ["one"],
        [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "one"}],
        [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "one", "controller": False}],
        [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "one", "controller": "true"}],
        [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": 1, "controller": True}],
        [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "web", "uid": "u" * 300, "controller": True}],
    ],
)
async def test_what_is_no_controller_keeps_no_digest(keep: Keep, owners: object) -> None:
    keeper = keep(PINNING)
    item = pod(f"{APP}:v1")
    item["metadata"]["ownerReferences"] = owners
    await stored(keeper, "v1")
    await given(keeper, item)
    second = await stored(keeper, "v1")
    assert await given(keeper, item) == f"{APP}:v1@{second.digest}"
    assert pins(keeper) == 0


def pins(keeper: Gatekeeper) -> int:
    return len(sql(keeper.database, "SELECT * FROM pin"))


@pytest.mark.parametrize(
    ("owner", "labels", "namespace"),
    [
        ("one", {}, NAMESPACE),
        ("x" * 10_000, {}, NAMESPACE),
        (uid("one").upper(), {}, NAMESPACE),
        (uid("one") + "\n", {}, NAMESPACE),
        (uid("one"), {"controller-revision-hash": "x" * 64}, NAMESPACE),
        (uid("one"), {"controller-revision-hash": "a b"}, NAMESPACE),
        (uid("one"), {}, "x" * 64),
        (uid("one"), {}, "Team_A"),
        (uid("one"), {}, ""),
    ],
)
async def test_nothing_is_kept_for_what_no_cluster_has(
    keep: Keep, owner: str, labels: dict[str, str], namespace: str
) -> None:
    """The digest of the day is given all the same."""
    keeper = keep(PINNING)
    manifest = await stored(keeper, "v1")
    item = owned(pod(f"{APP}:v1"), owner, **labels)
    assert await given(keeper, item, namespace=namespace) == f"{APP}:v1@{manifest.digest}"
    assert pins(keeper) == 0


async def test_what_is_kept_counts_for_whoever_asked(keep: Keep) -> None:
    keeper = keep(PINNING)
    await stored(keeper, "v1")
    await given(keeper, owned(pod(f"{APP}:v1"), uid("one")))
    assert sql(keeper.database, "SELECT source FROM pin") == [("10.0.0.1",)]


async def test_a_dry_run_keeps_nothing(keep: Keep) -> None:
    keeper = keep(PINNING)
    item = owned(pod(f"{APP}:v1"), uid("one"))
    first = await stored(keeper, "v1")
    assert await given(keeper, item, dryRun=True) == f"{APP}:v1@{first.digest}"
    assert pins(keeper) == 0
    second = await stored(keeper, "v1")
    assert await given(keeper, item) == f"{APP}:v1@{second.digest}"
    assert pins(keeper) == 1


async def test_without_a_place_to_keep_digests_the_latest_is_given(
    keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = keep(PINNING)
    item = owned(pod(f"{APP}:v1"), uid("one"))
    manifest = await stored(keeper, "v1")
    sql(keeper.database, "DROP TABLE pin")
    assert await given(keeper, item) == f"{APP}:v1@{manifest.digest}"
    assert "could not be kept" in caplog.text


async def test_a_digest_that_is_not_kept_in_time_is_given_all_the_same(
    keep: Keep, caplog: pytest.LogCaptureFixture
) -> None:
    keeper = keep(PINNING, deadline=0.05)
    item = owned(pod(f"{APP}:v1"), uid("one"))
    manifest = await stored(keeper, "v1")
    with contextlib.closing(apsw.Connection(str(keeper.database))) as other:
        other.execute("BEGIN IMMEDIATE")  # nobody else can write
        assert await given(keeper, item) == f"{APP}:v1@{manifest.digest}"
        other.execute("ROLLBACK")
    assert "could not be kept" in caplog.text


# ---- names under which this registry pulls through


@pytest.mark.parametrize(
    ("image", "renamed"),
    [
        ("nginx", f"{MIRROR}/library/nginx:latest"),
        ("nginx:1.27", f"{MIRROR}/library/nginx:1.27"),
        ("index.docker.io/bitnami/redis:7", f"{MIRROR}/bitnami/redis:7"),
        ("registry-1.docker.io/a/b/c", f"{MIRROR}/a/b/c:latest"),
        (f"nginx@{DIGEST}", f"{MIRROR}/library/nginx@{DIGEST}"),
        (f"nginx:1.27@{DIGEST}", f"{MIRROR}/library/nginx:1.27@{DIGEST}"),
        ("quay.io/org/app:1", f"{REGISTRY}/f/quay.io/org/app:1"),
        ("quay.io:80/org/app:1", f"{REGISTRY}/f/quay.io/org/app:1"),
        ("quay.io:8443/org/app:1", "quay.io:8443/org/app:1"),
        ("ghcr.io/org/app:1", "ghcr.io/org/app:1"),
        (f"{APP}:v1", f"{APP}:v1"),
        (f"{MIRROR}/library/nginx:1.27", f"{MIRROR}/library/nginx:1.27"),
        ("not an image", "not an image"),
    ],
)
async def test_pull_through_names(keep: Keep, image: str, renamed: str) -> None:
    keeper = keep(RENAMING, pull_through=PULL_THROUGH)
    changed = await keeper.mutated(pod(image))
    assert named(changed) == [renamed]
    assert (await keep(PINNING, pull_through=PULL_THROUGH).mutate(pod(image))).patch == []


async def test_what_is_pulled_through_is_pinned_by_what_is_here(keep: Keep) -> None:
    keeper = keep(PINNING, RENAMING, pull_through=PULL_THROUGH)
    manifest = await stored(keeper, "1.27", repository="f/docker.io/library/nginx")
    changed = await keeper.mutated(pod("nginx:1.27", "nginx:1.26"))
    assert named(changed) == [f"{MIRROR}/library/nginx:1.27@{manifest.digest}", f"{MIRROR}/library/nginx:1.26"]
    for image in named(changed):
        images.parse(image)


# ---- the answer


async def test_a_mistake_of_ours_is_told_of(keep: Keep, caplog: pytest.LogCaptureFixture) -> None:
    class Broken:
        async def facts(self, image: images.ImageReference) -> Any:
            raise ZeroDivisionError

    answer = await keep(PINNING, images=Broken()).mutate(pod(f"{APP}:v1"))
    assert answer.patch == []
    assert "not pinned" in answer.warnings[0]
    assert [record.message for record in caplog.records if record.exc_info] == ["a Pod could not be changed"]


async def test_a_database_that_does_not_answer_changes_nothing(keep: Keep) -> None:
    keeper = keep(PINNING)
    await stored(keeper, "v1")
    sql(keeper.database, "ALTER TABLE tag RENAME TO gone")
    answer = await keeper.mutate(pod(f"{APP}:v1"))
    assert (answer.patch, answer.warnings) == ([], [])


async def test_reviews_are_counted(keep: Keep) -> None:
    keeper = keep(PINNING)
    await keeper.mutate(pod("a"))
    await keeper.mutate(pod() | {"spec": 1})
    assert keeper.counted("trow_admission_duration_seconds_count") == {("mutate",): 2.0}
    assert keeper.counted("trow_admission_decisions_total") == {}
    assert keeper.audit.taken() == []


async def test_members_of_the_object_are_left_as_they_are(keep: Keep) -> None:
    """Keys that a JSON pointer would have to escape, an order, and what looks like an image elsewhere."""
    keeper = keep(PINNING)
    await stored(keeper, "v1")
    item = pod(f"{APP}:v1")
    item["metadata"]["annotations"] = {"a/b~c": f"{APP}:v1", "": "x"}
    item["spec"]["containers"][0] |= {"env": [{"name": "IMAGE", "value": f"{APP}:v1"}], "command": [f"{APP}:v1"]}
    changed = await keeper.mutated(item)
    image = changed["spec"]["containers"][0].pop("image")
    item["spec"]["containers"][0].pop("image")
    assert image.startswith(f"{APP}:v1@")
    assert json.dumps(changed) == json.dumps(item)
