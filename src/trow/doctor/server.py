"""Trow itself: its Pods, whether it is ready, space, and the record."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import msgspec

from trow.doctor.endpoint import endpoint
from trow.doctor.findings import NotCheckedError, ok, problem
from trow.doctor.place import CONNECT_SECONDS, HOME
from trow.kube.errors import KubeRefused
from trow.lib.handshake import trusting_all
from trow.lib.http_client import HttpClient, HttpError
from trow.lib.kube_objects import listing, mapping, metadata, text
from trow.lib.threads import aside
from trow.lib.times import rfc3339
from trow.oci.errors import Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place
    from trow.kube.objects import Manifest

_MOST_BYTES: Final = 4 << 20
# Below a twentieth, and nobody notices for days when it is above.
_FULL: Final = 0.05
_PORT: Final = 9090


# ---- its Pods


def judge_pods(pods: Sequence[Manifest], home: str) -> Iterable[Diagnosis]:
    """Does Trow run?"""
    if not pods:
        yield problem(
            "no Pod of Trow is there",
            f"namespace {home}",
            "install it, name its namespace with --namespace, or see why no Pod is made:"
            f" kubectl describe statefulsets --namespace {home}",
        )
    for pod in pods:
        name, status = f"{metadata(pod).get('namespace')}/{metadata(pod).get('name')}", mapping(pod.get("status"))
        conditions = {each.get("type"): each for each in map(mapping, listing(status.get("conditions")))}
        if mapping(conditions.get("Ready")).get("status") == "True":
            yield ok("is ready", f"Pod {name}")
            continue
        named = f"{metadata(pod).get('name')} --namespace {metadata(pod).get('namespace')}"
        waits = [text(each.get(key)) for each in _waiting(status) for key in ("reason", "message") if each.get(key)]
        unscheduled = mapping(conditions.get("PodScheduled"))
        if unscheduled.get("status") == "False":
            what, fix = f"is not scheduled: {text(unscheduled.get('message'))}", f"kubectl describe pod {named}"
            if "PersistentVolumeClaim" in what:
                fix = (
                    "see why the volume is not there: kubectl get persistentvolumeclaims,storageclasses --namespace"
                    f" {metadata(pod).get('namespace')}; without a default class set persistence.storageClass"
                )
        elif waits:
            what, fix = f"does not start: {': '.join(waits)}", f"kubectl logs {named} --previous"
            if "mage" in waits[0]:
                fix = (
                    "put the image where nodes find it (image.repository), as docs/how-to/install-in-a-cluster.md says"
                )
        else:
            what, fix = "is not ready", f"see what it says: kubectl logs {named}"
        yield problem(what, f"Pod {name}", fix)


def _waiting(status: Mapping[str, object]) -> Sequence[Mapping[str, object]]:
    states = [mapping(mapping(each).get("state")) for each in listing(status.get("containerStatuses"))]
    return [found for state in states if (found := mapping(state.get("waiting")))]


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
    return await place.once("said", lambda: _said(place))


async def _said(place: Place) -> Said:
    with contextlib.suppress(HttpError, NotCheckedError):
        at = (await endpoint(place)).reached
        scheme = "https" if at.certificate else "http"
        async with HttpClient(trusting_all(), connect_seconds=CONNECT_SECONDS) as client:
            ready, metrics = [
                await client.request("GET", f"{scheme}://{at.host_port}/{path}", seconds=10, most_bytes=_MOST_BYTES)
                for path in ("readyz", "metrics")
            ]
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


def judge_ready(found: Said, now: float) -> Iterable[Diagnosis]:
    """Is it content?"""
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
        return await aside(lambda: _statvfs(Path(local)))
    with contextlib.suppress(KubeRefused, Unavailable, NotCheckedError):
        if found := await _volume(place):
            return found
    metrics = (await said(place)).metrics
    free, used = (int(metrics.get(f"trow_storage_{name}_bytes", 0)) for name in ("free", "used"))
    return Space(f"the data directory of {(await said(place)).where}", free + used, free)


def _statvfs(path: Path) -> Space:
    found = os.statvfs(path)
    size, free = (count * found.f_frsize for count in (found.f_blocks, found.f_bavail))
    return Space(str(path), size, free, found.f_files, found.f_favail)


async def _volume(place: Place) -> Space | None:
    """The volume `data` of Trow's Pod, in the statistics of its kubelet."""
    for pod in await place.trows():
        node = text(mapping(pod.get("spec")).get("nodeName"))
        raw = await place.cluster.raw(f"/api/v1/nodes/{node}/proxy/stats/summary")
        for each in map(mapping, listing(msgspec.json.decode(raw, type=dict[str, object]).get("pods"))):
            if mapping(each.get("podRef")).get("uid") != metadata(pod).get("uid"):
                continue
            for volume in map(mapping, listing(each.get("volume"))):
                if volume.get("name") == "data":
                    numbers = [volume.get(key) for key in ("capacityBytes", "availableBytes", "inodes", "inodesFree")]
                    return Space(f"volume data of Pod {metadata(pod).get('name')}", *map(_number, numbers))
    return None


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0


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


@dataclass(frozen=True, slots=True)
class RecordFacts:
    """How the audit record fares.

    Attributes:
        lost: events that could not be recorded.
        unsent: records that the webhook has not taken.
        failures: of requests to the webhook.
        written: when the last record was, in seconds since 1970; 0 where none was since the start.
    """

    where: str
    lost: int
    unsent: int = 0
    failures: int = 0
    written: float = 0


async def record(place: Place) -> RecordFacts:
    """Ask for it."""
    found = await said(place)
    if "trow_audit_recorded_total" not in found.metrics:
        raise NotCheckedError(f"{found.where} keeps no record, or an older one of Trow is asked (audit.enabled)")
    names = ("lost_total", "unsent", "webhook_failures_total", "last_record_timestamp_seconds")
    lost, unsent, failures, written = (found.metrics.get(f"trow_audit_{name}", 0) for name in names)
    return RecordFacts(found.where, int(lost), int(unsent), int(failures), written)


def judge_record(found: RecordFacts) -> Iterable[Diagnosis]:
    """Is everything on record?"""
    last = f"; the last record is of {rfc3339(found.written)}" if found.written else ""
    if found.lost:
        yield problem(
            f"{found.lost} events since its start could not be put on record{last}",
            found.where,
            "see space and permissions of the data directory, then: trow audit verify",
        )
    if found.unsent and found.failures:
        yield problem(
            f"{found.unsent} records wait for audit.webhook, which has failed {found.failures} times",
            found.where,
            "see that the receiver of audit.webhook answers, and its token and authority",
        )
    if not found.lost and not (found.unsent and found.failures):
        yield ok(f"everything is on record{last}", found.where)
