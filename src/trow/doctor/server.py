"""Trow itself: its Pods, whether it is ready, space, and the record."""

from __future__ import annotations

import contextlib
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import msgspec

from trow.doctor.endpoint import endpoint
from trow.doctor.findings import NotCheckedError, ok, problem
from trow.doctor.place import HOME, get
from trow.kube.errors import KubeRefused
from trow.lib.http_client import HttpError
from trow.lib.kube_objects import condition_of, mapping, metadata, object_name, object_namespace, objects_in, text
from trow.lib.threads import aside
from trow.lib.times import rfc3339
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place

# Below a twentieth, and nobody notices for days when it is above.
_FULL: Final = 0.05
_PORT: Final = 9090


# ---- its Pods


async def check_pods(place: Place) -> AsyncIterator[Diagnosis]:
    """Does Trow run?"""
    pods, home = await place.trows(), await place.namespace()
    if not pods:
        yield problem(
            "no Pod of Trow is there",
            f"namespace {home}",
            "install it, name its namespace with --namespace, or see why no Pod is made:"
            f" kubectl describe statefulsets --namespace {home}",
        )
    for pod in pods:
        name, namespace, status = object_name(pod), object_namespace(pod), mapping(pod.get("status"))
        where, named = f"Pod {namespace}/{name}", f"{name} --namespace {namespace}"
        states = [mapping(each.get("state")) for each in objects_in(status, "containerStatuses")]
        waiting = [mapping(each.get("waiting")) for each in states]
        waits = [text(each.get(key)) for each in waiting for key in ("reason", "message") if each.get(key)]
        scheduled = condition_of(status, "PodScheduled")
        if condition_of(status, "Ready").get("status") == "True":
            yield ok("is ready", where)
        elif scheduled.get("status") == "False":
            what, fix = f"is not scheduled: {text(scheduled.get('message'))}", f"kubectl describe pod {named}"
            if "PersistentVolumeClaim" in what:
                fix = (
                    "see why the volume is not there: kubectl get persistentvolumeclaims,storageclasses --namespace"
                    f" {namespace}; without a default class set persistence.storageClass"
                )
            yield problem(what, where, fix)
        elif waits:
            fix = f"kubectl logs {named} --previous"
            if "mage" in waits[0]:
                page = "docs/how-to/install-in-a-cluster.md"
                fix = f"put the image where nodes find it (image.repository), as {page} says"
            yield problem(f"does not start: {': '.join(waits)}", where, fix)
        else:
            yield problem("is not ready", where, f"see what it says: kubectl logs {named}")


# ---- what it says


@dataclass(frozen=True, slots=True)
class Said:
    """What Trow says of itself.

    Attributes:
        checks: of `/readyz`, "ok" or what is wrong.
        metrics: those without labels.
    """

    where: str
    checks: Mapping[str, str]
    metrics: Mapping[str, float]


async def said(place: Place) -> Said:
    """Ask Trow where clients do, else through the API server."""
    return await place.once("said", lambda: _ask(place))


async def _ask(place: Place) -> Said:
    with contextlib.suppress(HttpError, NotCheckedError):
        at = (await endpoint(place)).reached
        base = f"{'https' if at.certificate else 'http'}://{at.host_port}"
        ready, metrics = await get(f"{base}/readyz"), await get(f"{base}/metrics")
        told = Said(at.url, _checks(ready.body), _metrics(metrics.body))
        if told.checks or told.metrics:  # a proxy may keep them from the world
            return told
    pods = await place.trows()
    if not pods:
        raise NotCheckedError("Trow answers neither here nor by way of the API server")
    found = metadata(pods[0])
    pod = f"/api/v1/namespaces/{found.get('namespace')}/pods/{found.get('name')}:{_PORT}/proxy"
    metrics_body = await place.cluster.raw(f"{pod}/metrics")
    ready_body = b""
    with contextlib.suppress(KubeRefused, Unavailable):  # which is what a proxied 503 is
        ready_body = await place.cluster.raw(f"{pod}/readyz")
    return Said(f"Pod {found.get('namespace')}/{found.get('name')}", _checks(ready_body), _metrics(metrics_body))


def _checks(raw: bytes) -> Mapping[str, str]:
    try:
        found = mapping(msgspec.json.decode(raw or b"{}", type=dict[str, object]).get("checks"))
    except (msgspec.DecodeError, UnicodeError, RecursionError):
        return {}
    return {name: text(result) for name, result in found.items()}


def _metrics(raw: bytes) -> Mapping[str, float]:
    samples = (line.split(" ") for line in raw.decode("utf-8", "replace").splitlines() if line.startswith("trow_"))
    return {name: float(value) for name, value in (each for each in samples if len(each) == 2)}  # noqa: PLR2004


async def check_ready(place: Place) -> AsyncIterator[Diagnosis]:
    """Is it ready?"""
    for finding in judge_ready(await said(place), time.time()):
        yield finding


def judge_ready(found: Said, now: float) -> Iterable[Diagnosis]:
    """What is wrong by what it says of itself?"""
    failing = {name: why for name, why in found.checks.items() if why != "ok"}
    for name, why in failing.items():
        yield problem(f"is not ready: {name}: {why}", found.where, "see its log: kubectl logs trow-0 --namespace trow")
    value = found.metrics.get
    for name, what, fix in _GAUGES:
        if value(name) == (0 if name.endswith("_kept") else 1):
            failing[name] = what
            yield problem(what, found.where, fix)
    ends = value("trow_webhook_certificate_expiry_timestamp_seconds")
    if ends is not None and ends < now:
        failing["certificate"] = ""
        what = "has no certificate for the webhooks" if not ends else f"its webhooks' certificate ended {rfc3339(ends)}"
        yield problem(
            what, found.where, "kubectl apply --filename deploy/kubernetes/admission-rbac.yaml, and see its log"
        )
    if not failing:
        yield ok("is ready", found.where)


_GAUGES: Final = (
    (
        "trow_policies_failing",
        "cannot follow the cluster's policies; those that it knew last are in force",
        "kubectl apply --filename deploy/kubernetes/admission-rbac.yaml --filename deploy/kubernetes/crds.yaml",
    ),
    (
        "trow_webhooks_kept",
        "is not asked by the API server, or cannot keep the webhooks in step",
        "its log says why: kubectl logs trow-0 --namespace trow | grep webhook",
    ),
)


# ---- space


@dataclass(frozen=True, slots=True)
class Space:
    """What is left of a volume; 0 where it is not told."""

    where: str
    size: int
    free: int
    inodes: int = 0
    inodes_free: int = 0


async def space(place: Place) -> Space:
    """Of the data directory, here, as its kubelet knows it, or as Trow tells."""
    local = (await place.setup()).data_dir
    if local and place.options.config is not None:
        disk = await aside(lambda: os.statvfs(local))
        size, free = (count * disk.f_frsize for count in (disk.f_blocks, disk.f_bavail))
        return Space(local, size, free, disk.f_files, disk.f_favail)
    with contextlib.suppress(KubeRefused, Unavailable, NotCheckedError):
        if found := await _volume(place):
            return found
    metrics = (await said(place)).metrics
    free, used = (int(metrics.get(f"trow_storage_{name}_bytes", 0)) for name in ("free", "used"))
    return Space(f"the data directory of {(await said(place)).where}", free + used, free)


async def _volume(place: Place) -> Space | None:
    """The volume `data` of Trow's Pod, in the statistics of its kubelet."""
    for pod in await place.trows():
        node = text(mapping(pod.get("spec")).get("nodeName"))
        raw = await place.cluster.raw(f"/api/v1/nodes/{node}/proxy/stats/summary")
        for each in objects_in(msgspec.json.decode(raw, type=dict[str, object]), "pods"):
            if mapping(each.get("podRef")).get("uid") != metadata(pod).get("uid"):
                continue
            for volume in objects_in(each, "volume"):
                if volume.get("name") == "data":
                    found = [volume.get(key) for key in ("capacityBytes", "availableBytes", "inodes", "inodesFree")]
                    numbers = [each if isinstance(each, int) else 0 for each in found]
                    return Space(f"volume data of Pod {object_name(pod)}", *numbers)
    return None


async def check_space(place: Place) -> AsyncIterator[Diagnosis]:
    """How much is left?"""
    for finding in judge_space(await space(place)):
        yield finding


def judge_space(found: Space) -> Iterable[Diagnosis]:
    """Is there room for what comes?"""
    if not found.size:
        raise NotCheckedError(f"{found.where} does not tell its size")
    fix = (
        "delete images that nobody needs, or enlarge the volume:"
        f" kubectl edit persistentvolumeclaim data-trow-0 --namespace {HOME}"
    )
    free = found.free / found.size
    if free < _FULL:
        left = f"{_mib(found.free)} of {_mib(found.size)}"
        yield problem(f"has only {left} left; when it is full, pushes get 507", found.where, fix)
    if found.inodes and found.inodes_free / found.inodes < _FULL:
        yield problem(
            f"has {found.inodes_free} of {found.inodes} inodes left, however many bytes are free", found.where, fix
        )
    elif free >= _FULL:
        yield ok(f"has {_mib(found.free)} of {_mib(found.size)} left", found.where)


def _mib(size: int) -> str:
    return f"{size / 2**20:.0f} MiB" if size < 10 * 2**30 else f"{size / 2**30:.0f} GiB"


# ---- the record


async def check_record(place: Place) -> AsyncIterator[Diagnosis]:
    """Is everything on record?"""
    found = await said(place)
    if "trow_audit_recorded_total" not in found.metrics:
        raise NotCheckedError(f"{found.where} keeps no record, or an older one of Trow is asked (audit.enabled)")
    lost, unsent, failures, written = (
        found.metrics.get(f"trow_audit_{name}", 0)
        for name in ("lost_total", "unsent", "webhook_failures_total", "last_record_timestamp_seconds")
    )
    last = f"; the last record is of {rfc3339(written)}" if written else ""
    if lost:
        yield problem(
            f"{lost:.0f} events since its start could not be put on record{last}",
            found.where,
            "see space and permissions of the data directory, then: trow audit verify",
        )
    if unsent and failures:
        yield problem(
            f"{unsent:.0f} records wait for audit.webhook, which has failed {failures:.0f} times",
            found.where,
            "see that the receiver of audit.webhook answers, and its token and authority",
        )
    if not lost and not (unsent and failures):
        yield ok(f"everything is on record{last}", found.where)
