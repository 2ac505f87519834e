"""Records in the words of CloudEvents and of the Kubernetes audit log."""

from __future__ import annotations

import uuid
from typing import Any

import msgspec
import pytest

from support.trails import digest, full
from trow.access.identity import Identity, Method
from trow.audit import chain, formats
from trow.audit import record as records
from trow.audit.chain import UNSEALED
from trow.audit.formats import FORMATS
from trow.registry.events import Action, Event, Origin, Outcome

SOURCE = "https://registry.example"


def line(event: Event) -> bytes:
    text, _ = chain.seal(records.compose(event, "0a1b2c3d", 7, 1_700_000_000_123_456, "ab" * 32, UNSEALED))
    return text


def written(name: str, *events: Event) -> Any:
    chosen = FORMATS[name]
    return msgspec.json.decode(chosen.body([chosen.item(line(event), SOURCE) for event in events]))


def test_cloud_events_are_a_batch_of_the_records() -> None:
    assert FORMATS["cloudevents"].media_type.startswith("application/cloudevents-batch+json")
    first, second = written("cloudevents", full(1), Event(Action.COLLECTION))
    assert first == {
        "specversion": "1.0",
        "id": "0a1b2c3d-7",
        "source": SOURCE,
        "type": "io.trow.audit.pull.v1",
        "subject": f"team-a/app-1@{digest(1)}",
        "time": "2023-11-14T22:13:20.123456Z",
        "datacontenttype": "application/json",
        "data": msgspec.json.decode(line(full(1))),
    }
    assert second["type"] == "io.trow.audit.collection.v1"
    assert "subject" not in second  # which may not be empty


def test_cloud_event_has_the_very_bytes_that_were_hashed() -> None:
    chosen = FORMATS["cloudevents"]
    assert line(full(1)) in chosen.body([chosen.item(line(full(1)), SOURCE)])


@pytest.mark.parametrize(
    ("event", "subject"),
    [
        (Event(Action.PULL, repository="a/b", reference="v1"), "a/b:v1"),
        (Event(Action.PULL, repository="a/b"), "a/b"),
        (Event(Action.PULL, repository="a/b", reference="v1", digest=digest(1)), f"a/b@{digest(1)}"),
    ],
)
def test_subject_is_the_image(event: Event, subject: str) -> None:
    (written_event,) = written("cloudevents", event)
    assert written_event["subject"] == subject


def test_kubernetes_events_are_a_list_as_the_api_server_sends_it() -> None:
    document = written("kubernetes", full(1), Event(Action.COLLECTION))
    assert (document["kind"], document["apiVersion"]) == ("EventList", "audit.k8s.io/v1")
    first, second = document["items"]
    annotations = first.pop("annotations")
    assert first == {
        "level": "Metadata",
        "auditID": str(uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_DNS, "audit.trow.io"), "0a1b2c3d-7")),
        "stage": "ResponseComplete",
        "requestURI": "/v2/team-a/app-1",
        "verb": "get",
        "user": {
            "username": "system:serviceaccount:team-a:builder",
            "uid": "uid-1",
            "groups": ["system:serviceaccounts", "system:authenticated"],
            "extra": {
                "authentication.kubernetes.io/pod-name": ["pod-1"],
                "authentication.kubernetes.io/pod-uid": ["pod-uid-1"],
                "authentication.kubernetes.io/node-name": ["node-1"],
                "authentication.kubernetes.io/node-uid": ["node-uid-1"],
                "authentication.kubernetes.io/credential-id": ["token-1"],
                "registry.trow.io/method": ["kubernetes"],
            },
        },
        "sourceIPs": ["10.0.0.1", "10.9.9.9", "10.9.9.8"],
        "userAgent": "containerd/2.0",
        "objectRef": {
            "apiGroup": "registry.trow.io",
            "apiVersion": "v1",
            "resource": "repositories",
            "subresource": "content",
            "namespace": "team-a",
            "name": "app-1",
        },
        "responseStatus": {"metadata": {}, "code": 200},
        "requestReceivedTimestamp": "2023-11-14T22:13:19.250000Z",
        "stageTimestamp": "2023-11-14T22:13:20.123456Z",
    }
    assert all(isinstance(value, str) for value in annotations.values())
    assert annotations["registry.trow.io/reference"] == "v1"
    assert annotations["registry.trow.io/bytes"] == "4000"
    assert annotations["registry.trow.io/manifests"] == f"{digest(1001)},{digest(2001)}"
    assert second["user"] == {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
    assert second["objectRef"] == {"apiGroup": "registry.trow.io", "apiVersion": "v1", "resource": "repositories"}
    assert "responseStatus" not in second
    assert "sourceIPs" not in second


def test_repository_of_one_part_has_no_namespace() -> None:
    (event,) = written("kubernetes", Event(Action.PUSH, repository="app", origin=Origin("::1")))["items"]
    assert event["objectRef"]["name"] == "app"
    assert "namespace" not in event["objectRef"]
    assert (event["verb"], event["sourceIPs"]) == ("create", ["::1"])


def test_every_action_has_a_verb() -> None:
    assert {action.value for action in Action} <= set(formats._VERBS)  # noqa: SLF001


def test_action_of_another_version_is_sent_all_the_same() -> None:
    text = line(full(1)).replace(b'"action":"pull"', b'"action":"new.word"')
    assert b'"verb":"get"' in FORMATS["kubernetes"].item(text, SOURCE)
    assert b'"io.trow.audit.new.word.v1"' in FORMATS["cloudevents"].item(text, SOURCE)


def test_a_name_that_is_only_said_is_not_the_user_of_the_request() -> None:
    """Whoever reads these must not take for true what a stranger wrote."""
    said = Identity("alice", Method.REVIEW, uid="u-1", groups=("admins", "dev"))
    event = Event(Action.ADMISSION, Outcome.DENIED, actor=said)
    (in_cluster,) = written("kubernetes", event)["items"]
    assert in_cluster["user"] == {"username": "system:anonymous", "groups": ["system:unauthenticated"]}
    annotations = in_cluster["annotations"]
    assert [annotations[f"registry.trow.io/said-{name}"] for name in ("user", "uid", "groups")] == [
        "alice", "u-1", "admins,dev"
    ]  # fmt: skip
    (cloud,) = written("cloudevents", event)
    assert (cloud["authtype"], cloud["data"]["actor"]["method"]) == ("unauthenticated", "review")
    assert "authtype" not in written("cloudevents", full(1))[0]
