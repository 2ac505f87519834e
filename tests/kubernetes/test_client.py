"""Objects read, followed and written as a real API server has them."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.cluster import Cluster
from support.waiting import eventually
from trow.kube.access import ClusterAccess
from trow.kube.client import KubeClient, KubeRequest
from trow.kube.errors import Conflict, Expired, Forbidden, Invalid, KubeRefused, NotFound
from trow.kube.informer import Informer
from trow.kube.kubeconfig import cluster_access_of
from trow.kube.objects import Change, Manifest, Objects, PatchType, WatchEvent
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from pathlib import Path

SETTLE_SECONDS: Final = 30
CONFIG_MAPS: Final = "/api/v1/namespaces/{}/configmaps"


@asynccontextmanager
async def api(
    cluster: Cluster, token: str = "", seconds: float = 20.0, observe: Callable[[str, float], None] | None = None
) -> AsyncIterator[Objects]:
    """As the administrator, or whoever has the token."""
    administrator = cluster_access_of([cluster.kubeconfig])
    access = ClusterAccess(cluster.url, ca=cluster.ca, token=token) if token else administrator
    client = KubeClient(access, observe=observe)
    try:
        yield Objects(client, seconds=seconds)
    finally:
        await client.close()


@asynccontextmanager
async def following(objects: Objects, path: str, **options: Any) -> AsyncIterator[Informer]:
    """A copy of a collection, as long as the block lasts."""
    copy = Informer(objects, path, lambda: None, **options)
    running = asyncio.create_task(copy.run())
    try:
        yield copy
        assert not running.done()
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running


def config_map(name: str, **data: str) -> Manifest:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


def pod(name: str, image: str = "web:1") -> Manifest:
    spec = {"containers": [{"name": "web", "image": image}]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


async def apply_as(manager: str, cluster: Cluster, path: str, manifest: Manifest) -> None:
    """Apply as another manager, which takes no fields away."""
    client = KubeClient(cluster_access_of([cluster.kubeconfig]))
    query = f"fieldManager={manager}&force=false"
    request = KubeRequest("PATCH", f"{path}?{query}", json.dumps(manifest).encode(), "application/apply-patch+yaml")
    try:
        await client.send("apply", request, seconds=20, most_bytes=1 << 20)
    finally:
        await client.close()


def names(copy: Informer) -> set[str]:
    return {name for _, name in copy.objects} - {"kube-root-ca.crt"}


def say(cluster: Cluster, namespace: str, *args: str) -> str:
    return cluster.kubectl("--namespace", namespace, *args)


# Reading and writing


async def test_an_object_is_created_read_and_deleted(cluster: Cluster, namespace: str) -> None:
    path = CONFIG_MAPS.format(namespace)
    async with api(cluster) as objects:
        assert await objects.get(f"{path}/colours") is None
        created = await objects.create(path, config_map("colours", red="1"))
        assert created["data"] == {"red": "1"}
        assert await objects.get(f"{path}/colours") == created
        with pytest.raises(Conflict, match=f'POST {path} \\(409\\): configmaps "colours" already exists') as caught:
            await objects.create(path, config_map("colours"))
        assert caught.value.reason == "AlreadyExists"
        assert await objects.delete(f"{path}/colours")
        assert not await objects.delete(f"{path}/colours")
    assert "colours" not in say(cluster, namespace, "get", "configmaps", "--output", "name")


async def test_apply_creates_and_changes_what_its_manager_has(cluster: Cluster, namespace: str) -> None:
    path = f"{CONFIG_MAPS.format(namespace)}/colours"
    async with api(cluster) as objects:
        await objects.apply(path, config_map("colours", red="1", blue="1"))
        await apply_as("other", cluster, path, config_map("colours", green="2"))
        applied = await objects.apply(path, config_map("colours", red="3"))
    assert applied["data"] == {"red": "3", "green": "2"}


async def test_a_field_of_another_manager_is_taken(cluster: Cluster, namespace: str) -> None:
    path = f"{CONFIG_MAPS.format(namespace)}/colours"
    async with api(cluster) as objects:
        await apply_as("other", cluster, path, config_map("colours", red="1"))
        assert (await objects.apply(path, config_map("colours", red="2")))["data"] == {"red": "2"}
        with pytest.raises(Conflict, match=r'1 conflict: conflict with "trow": \.data\.red$') as caught:
            await apply_as("other", cluster, path, config_map("colours", red="1"))
        assert (caught.value.status, caught.value.reason) == (409, "Conflict")
        assert (await objects.get(path) or {})["data"] == {"red": "2"}


async def test_a_dry_run_leaves_nothing(cluster: Cluster, namespace: str) -> None:
    path = CONFIG_MAPS.format(namespace)
    async with api(cluster) as objects:
        assert (await objects.create(path, config_map("dry", red="1"), dry_run=True))["data"] == {"red": "1"}
        with pytest.raises(Invalid):
            await objects.create(path, config_map("No_Name"), dry_run=True)
        assert await objects.get(f"{path}/dry") is None


async def test_both_kinds_of_patch_are_taken(cluster: Cluster, namespace: str) -> None:
    path = f"{CONFIG_MAPS.format(namespace)}/colours"
    async with api(cluster) as objects:
        with pytest.raises(NotFound, match='configmaps "colours" not found'):
            await objects.patch(path, {"data": {}}, PatchType.MERGE)
        await objects.apply(path, config_map("colours", red="1", blue="1"))
        merged = await objects.patch(path, {"data": {"red": None, "green": "2"}}, PatchType.MERGE)
        assert merged["data"] == {"blue": "1", "green": "2"}
        test = {"op": "test", "path": "/data/blue", "value": "1"}
        changed = await objects.patch(path, [test, {"op": "remove", "path": "/data/blue"}], PatchType.JSON)
        assert changed["data"] == {"green": "2"}
        with pytest.raises(Invalid):
            await objects.patch(path, [test], PatchType.JSON)
        stale = {"metadata": {"resourceVersion": "1"}}
        with pytest.raises(Conflict, match="the object has been modified"):
            await objects.patch(path, stale, PatchType.MERGE)


async def test_a_status_is_applied_by_itself(cluster: Cluster, namespace: str) -> None:
    path = f"/api/v1/namespaces/{namespace}/pods/web"
    async with api(cluster) as objects:
        with pytest.raises(NotFound):
            await objects.apply_status(path, pod("web") | {"status": {"message": "early"}})
        await objects.create(f"/api/v1/namespaces/{namespace}/pods", pod("web"))
        applied = await objects.apply_status(path, pod("web", image="other:2") | {"status": {"message": "seen"}})
    status, spec = applied["status"], applied["spec"]
    assert isinstance(status, dict)
    assert isinstance(spec, dict)
    assert status["message"] == "seen"
    assert spec["containers"][0]["image"] == "web:1"


async def test_an_object_that_breaks_a_rule_is_told_which(cluster: Cluster, namespace: str) -> None:
    path = CONFIG_MAPS.format(namespace)
    async with api(cluster) as objects:
        with pytest.raises(Invalid, match=r"\(422\).*metadata.name: Invalid value: \"No_Name\""):
            await objects.create(path, config_map("No_Name"))
        with pytest.raises(KubeRefused, match=r"\(400\)"):
            await objects.apply(f"{path}/other", config_map("colours"))


async def test_an_unknown_kind_is_told(cluster: Cluster) -> None:
    async with api(cluster) as objects:
        for path in ("/apis/example.com/v1/colours", "/apis/apps/v1/colours"):
            with pytest.raises(NotFound, match=r"is its CustomResourceDefinition installed\?$"):
                await objects.list_all(path)
            assert await objects.get(f"{path}/red") is None


async def test_a_missing_right_is_told_with_the_rule_to_add(cluster: Cluster, namespace: str) -> None:
    token = cluster.token(namespace, "default", "https://kubernetes.default.svc")
    path = CONFIG_MAPS.format(namespace)
    role = f"bind a Role in namespace {namespace} with {{apiGroups: "
    async with api(cluster, token) as objects:
        for asking, message in (
            (objects.list_all(path), role + '[""], resources: [configmaps], verbs: [list]} to'),
            (objects.get(f"{path}/a"), role + '[""], resources: [configmaps], verbs: [get]} to'),
            (objects.apply(f"{path}/a", config_map("a")), role + '[""], resources: [configmaps], verbs: [patch]} to'),
            (
                objects.apply_status(f"/apis/apps/v1/namespaces/{namespace}/deployments/a", config_map("a")),
                role + '["apps"], resources: [deployments/status], verbs: [patch]} to',
            ),
            (
                objects.list_all("/api/v1/nodes"),
                'bind a ClusterRole with {apiGroups: [""], resources: [nodes], verbs: [list]} to',
            ),
        ):
            with pytest.raises(Forbidden) as caught:
                await asking
            assert message in caught.value.message
            assert f'User "system:serviceaccount:{namespace}:default" cannot' in caught.value.message
            assert token not in caught.value.message
        with pytest.raises(Forbidden, match="verbs: \\[watch\\]"):
            async with objects.watch(path, "1"):
                pass


async def test_credentials_that_the_cluster_does_not_know_are_told(cluster: Cluster) -> None:
    async with api(cluster, token="no.such.token") as objects:
        with pytest.raises(Unavailable, match=r"own credentials \(401\)"):
            await objects.list_all("/api/v1/configmaps")


# Lists and watches


async def test_a_list_is_read_page_by_page(cluster: Cluster, namespace: str) -> None:
    seen: list[str] = []
    path = CONFIG_MAPS.format(namespace)
    async with api(cluster, observe=lambda operation, seconds: seen.append(operation)) as objects:
        created = [await objects.create(path, config_map(f"colour-{number}")) for number in range(7)]
        found = await objects.list_all(path, limit=2)
    for manifest in created:
        metadata = manifest["metadata"]
        assert isinstance(metadata, dict)
        assert found.objects[namespace, metadata["name"]] == manifest
    assert seen.count("list") >= 4
    assert len(found.objects) in (7, 8)  # a controller adds the certificate of the cluster


async def events_of(objects: Objects, path: str, version: str, count: int) -> list[WatchEvent]:
    """The next events about objects of ours."""
    found: list[WatchEvent] = []
    async with objects.watch(path, version) as events:
        async for event in events:
            if event.key[1] == "colours":
                found.append(event)
            if len(found) == count:
                break
    return found


async def test_a_watch_tells_all_that_happens_after_the_list(cluster: Cluster, namespace: str) -> None:
    path = CONFIG_MAPS.format(namespace)
    async with api(cluster) as objects:
        version = (await objects.list_all(path)).version
        watching = asyncio.create_task(events_of(objects, path, version, 3))
        created = await objects.create(path, config_map("colours", red="1"))
        changed = await objects.apply(f"{path}/colours", config_map("colours", red="2"))
        await objects.delete(f"{path}/colours")
        added, modified, deleted = await watching
        assert (added.change, added.key, added.manifest) == (Change.ADDED, (namespace, "colours"), created)
        assert (modified.change, modified.manifest) == (Change.MODIFIED, changed)
        assert (deleted.change, deleted.manifest["data"]) == (Change.DELETED, {"red": "2"})
        # It goes on after any of them.
        assert await events_of(objects, path, modified.version, 1) == [deleted]


async def test_a_watch_ends_when_it_should(cluster: Cluster, namespace: str) -> None:
    path = CONFIG_MAPS.format(namespace)
    async with api(cluster) as objects:
        version = (await objects.list_all(path)).version
        began = time.monotonic()
        async with objects.watch(path, version, seconds=1) as events:
            assert [event async for event in events if event.key[1] == "colours"] == []
        assert 0.9 < time.monotonic() - began < 10


async def test_a_version_that_cannot_be_one_is_refused(cluster: Cluster, namespace: str) -> None:
    async with api(cluster) as objects:
        with pytest.raises(Unavailable, match="resourceVersion: Invalid value"):
            async with objects.watch(CONFIG_MAPS.format(namespace), "abc"):
                pass


# Copies


async def test_a_copy_follows_its_collection(cluster: Cluster, namespace: str) -> None:
    seen: list[str] = []
    path = CONFIG_MAPS.format(namespace)
    say(cluster, namespace, "create", "configmap", "red", "--from-literal=shade=1")
    async with (
        api(cluster, observe=lambda operation, seconds: seen.append(operation)) as objects,
        following(objects, path, watch_seconds=60) as copy,
    ):
        await eventually(lambda: copy.synced and "red" in names(copy))
        say(cluster, namespace, "create", "configmap", "blue", "--from-literal=shade=1")
        await eventually(lambda: names(copy) == {"red", "blue"})
        say(cluster, namespace, "patch", "configmap", "blue", "--patch", json.dumps({"data": {"shade": "2"}}))
        await eventually(lambda: copy.objects[namespace, "blue"]["data"] == {"shade": "2"})
        say(cluster, namespace, "delete", "configmap", "red")
        await eventually(lambda: names(copy) == {"blue"})
        assert copy.objects[namespace, "blue"]["kind"] == "ConfigMap"
        assert "managedFields" not in str(copy.objects)
        assert copy.failing == ""
        assert copy.age < SETTLE_SECONDS
    assert seen == ["list"]


async def test_a_copy_goes_on_from_watch_to_watch(cluster: Cluster, namespace: str) -> None:
    """Something happens all the time, so each watch of a second has something for the next one to go on from."""
    path = CONFIG_MAPS.format(namespace)
    seen: list[str] = []
    async with (
        api(cluster, observe=lambda operation, seconds: seen.append(operation)) as objects,
        following(objects, path, watch_seconds=1, first_pause=0.1) as copy,
    ):
        await eventually(lambda: copy.synced)
        began = time.monotonic()
        while time.monotonic() - began < 3.5:
            name = f"colour-{len(seen)}"
            await objects.create(path, config_map(name))
            await eventually(lambda name=name: name in names(copy))  # type: ignore[misc]
        assert len(names(copy)) == seen.count("create")
        assert copy.failing == ""
    assert seen.count("list") == 1


def definition(plural: str) -> Manifest:
    schema = {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object"}}}}
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.example.com"},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": plural, "kind": plural.title()},
            "versions": [{"name": "v1", "served": True, "storage": True, "schema": schema}],
        },
    }


async def test_a_copy_waits_for_its_kind_and_outlives_it(cluster: Cluster, namespace: str) -> None:
    plural = f"colours{namespace.removeprefix('test-')}"
    definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
    red = {"apiVersion": "example.com/v1", "kind": plural.title(), "metadata": {"name": "red", "namespace": namespace}}
    path = f"/apis/example.com/v1/{plural}"
    async with api(cluster) as objects, following(objects, path, first_pause=0.1) as copy:
        await eventually(lambda: "is its CustomResourceDefinition installed?" in copy.failing)
        assert not copy.synced
        await objects.create(definitions, definition(plural))
        await eventually(lambda: copy.synced and not copy.failing)
        await objects.apply(f"/apis/example.com/v1/namespaces/{namespace}/{plural}/red", red)
        await eventually(lambda: copy.objects.keys() == {(namespace, "red")})
        await objects.delete(f"{definitions}/{plural}.example.com")
        await eventually(lambda: "is its CustomResourceDefinition installed?" in copy.failing)
        assert copy.synced


async def test_a_copy_of_what_may_not_be_read_waits_for_the_right(
    cluster: Cluster, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    token = cluster.token(namespace, "default", "https://kubernetes.default.svc")
    path = CONFIG_MAPS.format(namespace)
    async with api(cluster, token) as objects, following(objects, path, first_pause=0.1) as copy:
        await eventually(lambda: "verbs: [list]" in copy.failing)
        assert not copy.synced
        say(
            cluster,
            namespace,
            "create",
            "rolebinding",
            "view",
            "--clusterrole=view",
            f"--serviceaccount={namespace}:default",
        )
        await eventually(lambda: copy.synced and not copy.failing)
    assert [record.levelname for record in caplog.records if record.name.startswith("trow")] == ["WARNING"]


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Cluster]:
    """A control plane to stop and start."""
    with Cluster.start(tmp_path, controllers=False) as running:
        yield running


async def test_a_copy_survives_a_restart_of_the_api_server(own: Cluster, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="trow")
    path = CONFIG_MAPS.format("default")
    async with api(own) as objects, following(objects, path, first_pause=0.2) as copy:
        say(own, "default", "create", "configmap", "red")
        await eventually(lambda: names(copy) == {"red"})
        old = (await objects.list_all(path)).version
        await asyncio.to_thread(own.stop_api)
        await eventually(lambda: copy.failing)
        assert (copy.synced, names(copy)) == (True, {"red"})
        await asyncio.to_thread(own.start_api)
        say(own, "default", "create", "configmap", "blue")
        say(own, "default", "delete", "configmap", "red")
        await eventually(lambda: names(copy) == {"blue"})
        await eventually(lambda: not copy.failing)
        # What was before its start the API server does not know.
        with pytest.raises(Expired, match=f"too old resource version: {old}"):
            await events_of(objects, path, old, 1)
    assert [record.levelname for record in caplog.records if record.name.startswith("trow")] == ["WARNING", "INFO"]


async def test_a_copy_notices_an_api_server_that_hangs(own: Cluster) -> None:
    path = CONFIG_MAPS.format("default")
    async with api(own, seconds=2.0) as objects, following(objects, path, watch_seconds=1, first_pause=0.2) as copy:
        await eventually(lambda: copy.synced)
        own.pause_api()
        try:
            await eventually(lambda: copy.failing)
            assert copy.age > 1
        finally:
            own.resume_api()
        say(own, "default", "create", "configmap", "red")
        await eventually(lambda: names(copy) == {"red"} and not copy.failing)
        assert copy.age < SETTLE_SECONDS
