"""Pods whose images do not come: what the kubelet says, what it means, and whose credentials it takes."""

from __future__ import annotations

import base64
import re
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import msgspec

from trow.controllers.pull_errors import cause_of, words_of
from trow.doctor.cluster import audience
from trow.doctor.findings import NotCheckedError, ok, problem
from trow.doctor.place import host_of
from trow.lib.kube_objects import mapping, object_name, object_namespace, objects_in, text
from trow.lib.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence

    from trow.doctor.findings import Diagnosis
    from trow.doctor.place import Place
    from trow.kube.objects import Manifest

_WAITING: Final = frozenset({"ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ImageInspectError"})
_STATUSES: Final = ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses")
_CONTAINERS: Final = ("containers", "initContainers", "ephemeralContainers")
_MOST_EVENTS: Final = 10  # namespaces whose Events are read
_MOST_SECRETS: Final = 50
_CAUSE: Final = re.compile(r"ErrImagePull: (.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Stuck:
    """A container that waits for its image."""

    namespace: str
    pod: str
    node: str
    account: str
    image: str
    message: str

    @property
    def key(self) -> str:
        return f"{self.namespace}/{self.pod}"


async def stuck(place: Place) -> Sequence[Stuck]:
    """Containers whose image is the registry's and does not come."""
    hosts = await place.hosts()
    pods = await place.pods()
    found = [each for pod in pods for each in _waiting(pod) if host_of(each.image) in hosts]
    events: dict[str, str] = {}
    vague = dict.fromkeys(each.namespace for each in found if not cause_of(each.message))
    for namespace in list(vague)[:_MOST_EVENTS]:
        for event in await place.listed(f"/api/v1/namespaces/{namespace}/events"):
            if event.get("reason") == "Failed" and cause_of(said := text(event.get("message"))):
                events[f"{namespace}/{mapping(event.get('involvedObject')).get('name')}"] = said
    return [
        each if cause_of(each.message) else replace(each, message=events.get(each.key, each.message)) for each in found
    ]


def _waiting(pod: Manifest) -> Iterator[Stuck]:
    spec, status = mapping(pod.get("spec")), mapping(pod.get("status"))
    images = {each.get("name"): text(each.get("image")) for key in _CONTAINERS for each in objects_in(spec, key)}
    for each in (each for key in _STATUSES for each in objects_in(status, key)):
        waits = mapping(mapping(each.get("state")).get("waiting"))
        if waits.get("reason") in _WAITING:
            yield Stuck(
                object_namespace(pod),
                object_name(pod),
                text(spec.get("nodeName")),
                text(spec.get("serviceAccountName")) or "default",
                images.get(each.get("name"), ""),
                f"{waits.get('reason')}: {text(waits.get('message'))}",
            )


async def check_stuck(place: Place) -> AsyncIterator[Diagnosis]:
    """What does the kubelet say, and what does that mean?"""
    found = await stuck(place)
    if not found:
        yield ok("no Pod waits for an image of the registry")
    told: dict[tuple[str, str], list[Stuck]] = {}
    for each in found:
        told.setdefault((each.namespace, each.image), []).append(each)
    for (namespace, image), pods in told.items():
        first = pods[0]
        where = f"Pod {namespace}/{first.pod}" + (f" and {len(pods) - 1} more" if len(pods) > 1 else "")
        words = words_of(image, namespace, first.account, first.node)
        cause = cause_of(first.message)
        said = _CAUSE.search(first.message)
        kubelet = (said[1] if said else first.message).strip()
        what = f"{cause.means.format(**words)}; the kubelet says" if cause else f"{image} does not come"
        fix = cause.fix.format(**words) if cause else f"kubectl describe pod {first.pod} --namespace {namespace}"
        yield problem(f"{what}: {kubelet}", where, fix)


# ---- image pull secrets


async def check_pull_secrets(place: Place) -> AsyncIterator[Diagnosis]:
    """Do they keep Pods from pulling as their ServiceAccounts? Nothing secret is kept of them."""
    hosts, named, now = await place.hosts(), await _named_secrets(place), time.time()
    try:
        tokens = any((await audience(place)).allowed.values())
    except NotCheckedError:
        tokens = False
    problems = 0
    for (namespace, name), by in list(named.items())[:_MOST_SECRETS]:
        found = await place.cluster.objects.get(f"/api/v1/namespaces/{namespace}/secrets/{name}")
        auths = _auths(found or {})
        where, users = f"Secret {namespace}/{name}", ", ".join(by[:3])
        ours = next((host for host in map(host_of, auths) if host in hosts), "")
        ends = min((end for each in auths.values() if (end := _end(mapping(each))) is not None), default=None)
        what, fix = "", f"kubectl delete secret {name} --namespace {namespace}, and take it out of imagePullSecrets"
        if found is None:
            what, fix = f"does not exist, though {users} names it", f"take it out of imagePullSecrets of {users}"
        elif ours and ends is not None and ends < now:
            what, fix = f"its token for {ours} ended {rfc3339(ends)}", f"{fix}; or write a new token into it"
        elif ours and tokens:
            what = f"{users} pulls from {ours} as its user, not as the ServiceAccount: a kubelet tries it first"
        if what:
            problems += 1
            yield problem(what, where, fix)
    if not problems:
        yield ok("none stands in the way")


async def _named_secrets(place: Place) -> Mapping[tuple[str, str], list[str]]:
    """By namespace and name, who names them, in the namespaces in which images of the registry run."""
    hosts, pods = await place.hosts(), await place.pods()
    ours = {object_namespace(pod) for pod in pods if any(host_of(image) in hosts for image in _images(pod))}
    users = [(pod, mapping(pod.get("spec")), "Pod") for pod in pods]
    users += [(each, each, "ServiceAccount") for each in await place.listed("/api/v1/serviceaccounts")]
    named: dict[tuple[str, str], list[str]] = {}
    for item, spec, kind in users:
        if (namespace := object_namespace(item)) in ours:
            for each in objects_in(spec, "imagePullSecrets"):
                named.setdefault((namespace, text(each.get("name"))), []).append(f"{kind} {object_name(item)}")
    return named


def _images(pod: Manifest) -> Iterator[str]:
    spec = mapping(pod.get("spec"))
    return (text(each.get("image")) for key in _CONTAINERS for each in objects_in(spec, key))


def _auths(secret: Manifest) -> Mapping[str, object]:
    try:
        raw = base64.b64decode(text(mapping(secret.get("data")).get(".dockerconfigjson")))
        return mapping(msgspec.json.decode(raw or b"{}", type=dict[str, object]).get("auths"))
    except (ValueError, msgspec.DecodeError, RecursionError):
        return {}


def _end(auth: Mapping[str, object]) -> float | None:
    """When a token ends, as it says itself (RFC 7519, ``exp``)."""
    try:
        pair = base64.b64decode(text(auth.get("auth"))).decode()
        token = text(auth.get("password")) or pair.partition(":")[2]
        claims = token.split(".")[1]
        end = msgspec.json.decode(base64.urlsafe_b64decode(claims + "=="), type=dict[str, object]).get("exp")
    except (ValueError, IndexError, msgspec.DecodeError, RecursionError):
        return None
    return float(end) if isinstance(end, int | float) else None
