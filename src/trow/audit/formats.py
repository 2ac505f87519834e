"""Records in the words of others: CloudEvents 1.0, and the audit events of Kubernetes.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md#4-json-batch-format
https://kubernetes.io/docs/reference/config-api/apiserver-audit.v1/
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import msgspec

from trow.audit import record as records
from trow.registry.events import Action

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from trow.audit.record import Record

_GROUP: Final = "registry.trow.io"
_IDS: Final = uuid.uuid5(uuid.NAMESPACE_DNS, "audit.trow.io")
_encode: Final = msgspec.json.Encoder().encode


@dataclass(frozen=True, slots=True)
class Format:
    """How a batch is written.

    Attributes:
        media_type: of the body.
        item: one record, given as its JSON text, and where it comes from.
        begin, end: what is around the items.
    """

    media_type: str
    item: Callable[[bytes, str], bytes]
    begin: bytes
    end: bytes

    def body(self, items: Sequence[bytes]) -> bytes:
        """The whole of several items."""
        return self.begin + b",".join(items) + self.end


def identifier(record: Record) -> str:
    """Names a record among all of them."""
    return f"{record.writer}-{record.sequence}"


# ---- CloudEvents


def _cloud_event(text: bytes, source: str) -> bytes:
    record = records.read(text)
    event = {
        "specversion": "1.0",
        "id": identifier(record),
        "source": source,
        "type": f"io.trow.audit.{record.action}.v1",
        "time": record.time,
        "datacontenttype": "application/json",
        "data": msgspec.Raw(text),
    }
    subject = f"{record.repository}:{record.reference}" if record.reference else record.repository
    if record.digest:
        subject = f"{record.repository}@{record.digest}"
    if subject:
        event["subject"] = subject
    if _is_only_said(record):
        # The extension "Auth Context": whoever caused it has not shown who they are; `data` has what was said.
        event["authtype"] = "unauthenticated"
    return _encode(event)


def _is_only_said(record: Record) -> bool:
    """Whether the name of the actor is proven by nothing."""
    return record.actor is not None and record.actor.only_said


# ---- Kubernetes

# Verbs and subresources that tools for the audit log of Kubernetes know; our own word is among the annotations.
_VERBS: Final = {
    Action.PULL.value: ("get", "content"),
    Action.PULL_BEGIN.value: ("get", "content"),
    Action.PUSH.value: ("create", "content"),
    Action.TAG_MOVE.value: ("update", "tags"),
    Action.TAG_DELETE.value: ("delete", "tags"),
    Action.MANIFEST_DELETE.value: ("delete", "manifests"),
    Action.BLOB_DELETE.value: ("delete", "blobs"),
    Action.MOUNT.value: ("create", "blobs"),
    Action.LOGIN.value: ("create", "logins"),
    Action.TOKEN_ISSUE.value: ("create", "tokens"),
    Action.ACCESS.value: ("get", ""),
    Action.ADMISSION.value: ("create", "admission"),
    Action.COLLECTION.value: ("deletecollection", ""),
    Action.CONFIGURATION.value: ("update", ""),
    Action.LIST.value: ("list", ""),
    Action.AUDIT_READ.value: ("list", ""),
    Action.AUDIT_TRIM.value: ("deletecollection", ""),
    Action.AUDIT_LOSS.value: ("create", ""),
}
_ANNOTATED: Final = (
    "action", "outcome", "reason", "reference", "digest", "media_type", "previous", "source", "detail", "ended",
    "request", "trace", "hash",
)  # fmt: skip
_NUMBERS: Final = ("count", "blobs", "bytes")


def _kubernetes_event(text: bytes, source: str) -> bytes:
    record = records.read(text)
    verb, subresource = _VERBS.get(record.action, ("get", ""))
    event: dict[str, Any] = {
        "level": "Metadata",
        "auditID": str(uuid.uuid5(_IDS, identifier(record))),
        "stage": "ResponseComplete",
        "requestURI": f"/v2/{record.repository}" if record.repository else "/v2/",
        "verb": verb,
        "user": _user(record),
        "objectRef": _object(record, subresource),
        "requestReceivedTimestamp": record.started or record.time,
        "stageTimestamp": record.time,
        "annotations": _annotations(record, source),
    }
    if record.status:
        event["responseStatus"] = {"metadata": {}, "code": record.status}
    if record.client is not None:
        forwarded = [each.strip() for each in record.client.forwarded.split(",")]
        addresses = list(dict.fromkeys(each for each in (record.client.address, *forwarded) if each))
        event |= _filled({"sourceIPs": addresses, "userAgent": record.client.agent})
    return _encode(event)


def _user(record: Record) -> dict[str, Any]:
    actor = record.actor
    if actor is None or _is_only_said(record):
        return {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
    place = record.workload or records.RecordedWorkload()
    # The keys that the API server itself uses for where a token lives.
    extra = {
        "authentication.kubernetes.io/pod-name": place.pod,
        "authentication.kubernetes.io/pod-uid": place.pod_uid,
        "authentication.kubernetes.io/node-name": place.node,
        "authentication.kubernetes.io/node-uid": place.node_uid,
        "authentication.kubernetes.io/credential-id": actor.credential,
        f"{_GROUP}/method": actor.method,
    }
    told = {name: [value] for name, value in extra.items() if value}
    return _filled({"username": actor.user, "uid": actor.uid, "groups": list(actor.groups), "extra": told})


def _object(record: Record, subresource: str) -> dict[str, Any]:
    first, slash, rest = record.repository.partition("/")
    name = {"namespace": first, "name": rest} if slash else {"name": first}
    members = {"apiGroup": _GROUP, "apiVersion": "v1", "resource": "repositories"}
    return _filled({**members, **name, "subresource": subresource})


def _annotations(record: Record, source: str) -> dict[str, str]:
    members = {name: getattr(record, name) for name in _ANNOTATED}
    members |= {name: str(number) for name in _NUMBERS if (number := getattr(record, name))}
    members |= {"source-of-record": source, "id": identifier(record), "manifests": ",".join(record.manifests)}
    if record.actor is not None and _is_only_said(record):
        # What nobody has proven must not be taken for the user of the request.
        said = record.actor
        members |= {"said-user": said.user, "said-uid": said.uid, "said-groups": ",".join(said.groups)}
    return {f"{_GROUP}/{name.replace('_', '-')}": value for name, value in members.items() if value}


def _filled(members: Mapping[str, Any]) -> dict[str, Any]:
    """The members that say something."""
    return {name: value for name, value in members.items() if value}


_EVENT_LIST: Final = b'{"kind":"EventList","apiVersion":"audit.k8s.io/v1","metadata":{},"items":['
FORMATS: Final = {
    "cloudevents": Format("application/cloudevents-batch+json; charset=utf-8", _cloud_event, b"[", b"]"),
    "kubernetes": Format("application/json", _kubernetes_event, _EVENT_LIST, b"]}"),
}
