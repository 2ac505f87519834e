"""What is taken for a review, and the exact form of the answer."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st

from support.admission import UID, Answer, body, envelope, owned, pod, request
from trow.admission.review import (
    LONGEST_MESSAGE,
    LONGEST_WARNING,
    WARNINGS_BYTES,
    AdmissionResponse,
    Patch,
    decode,
    encode,
)
from trow.oci.errors import RequestInvalid
from trow.policy.pods import Kind

if TYPE_CHECKING:
    from trow.admission.review import Review

MIB = 2**20
TOO_DEEP = 100_000


def refused(content: bytes) -> str:
    with pytest.raises(RequestInvalid) as caught:
        decode(content)
    return caught.value.message


def spelt(text: str, member: str = "a") -> bytes:
    """A review whose object has a member that is written exactly like this."""
    return body({member: "HERE"}).replace(b'"HERE"', text.encode())


# ---- what is read


def test_members_of_a_request() -> None:
    item, old = pod("nginx:1"), pod("nginx:0")
    review = decode(body(item, old, dryRun=True, subResource="ephemeralcontainers"))
    assert (review.uid, review.operation, review.kind, review.api_version) == (UID, "UPDATE", Kind("", "Pod"), "v1")
    assert (review.name, review.namespace) == ("web", "team-a")
    assert (review.item, review.old_item, review.dry_run) == (item, old, True)
    user = review.user
    assert (user.username, user.uid, user.groups) == ("alice", "u-1", ("dev", "system:authenticated"))


def test_what_may_be_left_out() -> None:
    review = decode(envelope({"uid": "1", "kind": {"kind": "Pod"}, "operation": "CREATE"}))
    assert (review.item, review.old_item) == (None, None)
    assert (review.namespace, review.name, review.dry_run) == ("", "", False)
    assert (review.user.username, review.kind, review.metadata) == ("", Kind("", "Pod"), {})


def test_what_go_leaves_empty_is_null() -> None:
    absent = dict.fromkeys(["subResource", "name", "namespace", "object", "oldObject", "dryRun", "options"])
    user = {"username": "a", "groups": None, "extra": None}
    review = decode(envelope(request(None) | absent | {"userInfo": user}))
    assert (review.name, review.namespace, review.item, review.user.groups) == ("", "", None, None)


def test_unknown_members_are_of_no_interest() -> None:
    """A newer API server has more of them (KEP-6060 and others), in whatever form."""
    asked = request(pod("nginx"), userInfo={"username": "alice", "extra": {"a": None}, "new": 1}, new=[{"a": None}])
    review = decode(envelope(asked, status={"x": 1}))
    assert (review.user.username, review.item) == ("alice", pod("nginx"))


@pytest.mark.parametrize(
    ("item", "members", "name", "title"),
    [
        (pod("a"), {}, "web", "Pod team-a/web"),
        (pod("a"), {"name": None}, "web", "Pod team-a/web"),
        (owned(pod("a"), "1"), {"name": ""}, "web-", "Pod team-a/web-"),
        (pod("a") | {"metadata": {}}, {"name": ""}, "", "Pod team-a/?"),
        (pod("a") | {"metadata": {"name": ["x"], "generateName": {"y": 1}}}, {"name": ""}, "", "Pod team-a/?"),
        (pod("a") | {"metadata": "x"}, {"name": None, "namespace": None}, "", "Pod ?"),
        (pod("a") | {"apiVersion": "apps/v1", "kind": "Deployment"}, {}, "web", "apps/Deployment team-a/web"),
        (None, {"operation": "DELETE"}, "web", "Pod team-a/web"),
    ],
)
def test_name_of_an_object(item: dict[str, Any] | None, members: dict[str, Any], name: str, title: str) -> None:
    review = decode(body(item, **members))
    assert (review.object_name, review.title) == (name, title)


def test_large_objects_are_read() -> None:
    """Two of them, each larger than any request that the API server takes."""
    item, old = pod("nginx:1"), pod("nginx:0")
    for each in (item, old):
        each["metadata"]["annotations"] = {"filling": "ä" * (4 * MIB)}
    review = decode(body(item, old))
    assert review.item == item
    assert review.old_item == old


def test_of_members_that_stand_twice_the_last_one_counts() -> None:
    """As in Go, so that both sides speak of the same image; the API server itself never sends any."""
    image = b'"image": "ours/app"'
    content = body(pod("ours/app")).replace(image, b'"image": "evil/app", ' + image)
    assert content.count(b'"image"') == 2
    assert decode(content).item == pod("ours/app")
    whole = body(pod("ours/app"))
    twice = whole.replace(b'"object": ', b'"object": {"kind": "Pod"}, "object": ')
    assert twice.count(b'"object"') == 2
    assert decode(twice).item == pod("ours/app")


@pytest.mark.parametrize("text", ["0", "-1", "1.5", "1e3", str(2**64), "9" * 300, '"\\u0000"', '"\\ud83d\\ude00"'])
def test_every_value_of_json_is_read(text: str) -> None:
    assert decode(spelt(text)).item == {"a": json.loads(text)}


# ---- what is refused

WRONG: Final[dict[str, list[object]]] = {
    "uid": [None, "", 1, ["u"], "u" * 257],
    "kind": [None, "Pod", {}, {"kind": None}, {"kind": 1}, {"kind": "Pod", "group": None}],
    "operation": [None, "", "create", "PATCH", "*", 1, ["CREATE"]],
    "object": [[], "Pod", 1, True],
    "oldObject": [[], "Pod", 1, False],
    "namespace": [1, {}, ["team-a"]],
    "name": [1, {}, ["web"]],
    "dryRun": ["true", 1, {}],
    "userInfo": ["alice", [], {"username": 1}, {"groups": "dev"}, {"groups": [1]}],
}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b" ",
        b"null",
        b"[]",
        b"1",
        b'"AdmissionReview"',
        b"{",
        b"{}",
        b"apiVersion: admission.k8s.io/v1\nkind: AdmissionReview\n",
        b"uid=1",
        b"\x00" * 100,
        b"\xef\xbb\xbf" + body(pod("a")),
        b"\xff\xfe" + body(pod("a")).decode().encode("utf-16-le"),
        body(pod("a"))[:-1],
        body(pod("a")) + b"{}",
        body(pod("a")).replace(b'"', b"'"),
        spelt('"\xff"').replace("\xff".encode(), b"\xff"),
        spelt('"\xff"').replace("\xff".encode(), b"\xed\xa0\x80"),
        spelt('"\\ud800"'),
        spelt('"\\udc00"'),
        spelt('"\\ud800x"'),
        spelt("NaN"),
        spelt("Infinity"),
        spelt("1e999"),
        spelt("01"),
        spelt("9" * 5000),
        spelt('"\t"'),
    ],
)
def test_what_is_no_json_is_refused(content: bytes) -> None:
    assert "AdmissionReview" in refused(content)


@pytest.mark.parametrize(("opening", "closing"), [('{"a":', "}"), ("[", "]")])
@pytest.mark.parametrize("place", ["object", "oldObject", "unknown", "options"])
def test_deep_nesting_is_refused(opening: str, closing: str, place: str) -> None:
    deep = opening * TOO_DEEP + "1" + closing * TOO_DEEP
    content = envelope(request(pod("a")) | {place: {"x": "HERE"}}).replace(b'"HERE"', deep.encode())
    assert "recursion" in refused(content)


@pytest.mark.parametrize(
    ("version", "kind"),
    [
        ("admission.k8s.io/v1beta1", "AdmissionReview"),
        ("admission.k8s.io/v2", "AdmissionReview"),
        ("admission.k8s.io/V1", "AdmissionReview"),
        ("v1", "AdmissionReview"),
        ("", "AdmissionReview"),
        ("admission.k8s.io/v1", "AdmissionReviewList"),
        ("admission.k8s.io/v1", "admissionreview"),
        ("authorization.k8s.io/v1", "SubjectAccessReview"),
        ("imagepolicy.k8s.io/v1alpha1", "ImageReview"),
    ],
)
def test_other_versions_and_kinds_are_refused(version: str, kind: str) -> None:
    message = refused(envelope(request(pod("a")), apiVersion=version, kind=kind))
    assert "admission.k8s.io/v1" in message
    assert "admissionReviewVersions" in message


@pytest.mark.parametrize(
    ("member", "value"),
    [(member, value) for member, values in WRONG.items() for value in values],
)
def test_wrong_types_are_refused(member: str, value: object) -> None:
    assert f"$.request.{member}" in refused(envelope(request(pod("a")) | {member: value}))


@pytest.mark.parametrize("member", ["uid", "kind", "operation"])
def test_what_has_to_be_there(member: str) -> None:
    asked = request(pod("a"))
    del asked[member]
    assert member in refused(envelope(asked))


@pytest.mark.parametrize("asked", [None, [], "x", 1])
def test_a_review_without_a_request_is_refused(asked: object) -> None:
    assert "request" in refused(envelope(asked))


def test_a_refusal_repeats_no_more_than_a_line_of_what_was_sent() -> None:
    message = refused(envelope(request(pod("a"), operation="\x1b[31m\n" + "X" * MIB)))
    assert len(message) < 2 * LONGEST_WARNING
    assert message.isprintable()


# ---- the answer


def answered(ruling: AdmissionResponse, uid: str = UID) -> Answer:
    return Answer.of(encode(uid, ruling))


def test_leave_is_two_members() -> None:
    assert json.loads(encode("u-1", AdmissionResponse(allowed=True))) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": True},
    }


def test_a_refusal_says_why() -> None:
    ruling = AdmissionResponse(
        allowed=False, message="nginx is denied", warnings=("so-so",), audit_annotations={"verdict": "denied"}
    )
    assert json.loads(encode("u-2", ruling)) == {
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {
            "uid": "u-2",
            "allowed": False,
            "status": {"status": "Failure", "code": 403, "reason": "Forbidden", "message": "nginx is denied"},
            "warnings": ["so-so"],
            "auditAnnotations": {"verdict": "denied"},
        },
    }


def test_a_patch_comes_with_its_type() -> None:
    patches = (Patch("test", "/spec/containers/0/image", "a"), Patch("replace", "/spec/containers/0/image", "a@b"))
    response = answered(AdmissionResponse(allowed=True, patches=patches)).response
    assert set(response) == {"uid", "allowed", "patch", "patchType"}
    assert response["patchType"] == "JSONPatch"
    assert json.loads(base64.b64decode(response["patch"], validate=True)) == [
        {"op": "test", "path": "/spec/containers/0/image", "value": "a"},
        {"op": "replace", "path": "/spec/containers/0/image", "value": "a@b"},
    ]


@pytest.mark.parametrize("uid", ["1", UID, '"quoted"', "ü", "\x00", "u" * 256])
def test_the_uid_is_echoed(uid: str) -> None:
    assert (
        answered(AdmissionResponse(allowed=True), decode(envelope(request(None, uid=uid))).uid).response["uid"] == uid
    )


@pytest.mark.parametrize(
    "text", ["a\nb", "a\rb", "a\x1b[31mb", "a\x00b", "a\u202eb", "a\u2028b", "a\x85b", "a\ud800b", "a\u200bb", "a\x7fb"]
)
def test_control_characters_reach_no_terminal(text: str) -> None:
    answer = answered(AdmissionResponse(allowed=False, message=text, warnings=(text,)))
    assert answer.message.isprintable()
    assert (answer.message[0], answer.message[-1]) == ("a", "b")
    assert answer.warnings == [answer.message]


def test_a_message_is_bounded_and_says_that_it_was_cut() -> None:
    message = answered(AdmissionResponse(allowed=False, message="é" * LONGEST_MESSAGE)).message
    assert len(message.encode()) <= LONGEST_MESSAGE
    assert message.startswith("ééé")
    assert message.endswith("é...")
    whole = "é" * (LONGEST_MESSAGE // 2)
    assert answered(AdmissionResponse(allowed=False, message=whole)).message == whole


def test_warnings_are_cut_with_a_word_on_the_rest() -> None:
    given = tuple(f"{number} " + "w" * (LONGEST_WARNING - 8) for number in range(30))
    *kept, last = answered(AdmissionResponse(allowed=True, warnings=given)).warnings
    assert kept == list(given[: len(kept)])
    assert len(kept) >= 9
    assert last == f"... and {30 - len(kept)} more"


@pytest.mark.parametrize("size", [8, 40, 100, 133, LONGEST_WARNING])
def test_warnings_take_all_the_room_and_no_more(size: int) -> None:
    given = tuple(f"{number:0{size}}" for number in range(WARNINGS_BYTES))
    warnings = answered(AdmissionResponse(allowed=True, warnings=given)).warnings
    assert WARNINGS_BYTES - size - 64 < sum(map(len, warnings)) <= WARNINGS_BYTES
    assert warnings[-1] == f"... and {WARNINGS_BYTES - len(warnings) + 1} more"


def test_each_warning_is_given_once() -> None:
    assert answered(AdmissionResponse(allowed=True, warnings=("b", "a", "b"))).warnings == ["b", "a"]


TEXTS = st.one_of(st.text(max_size=60), st.integers(0, 9).map(lambda n: str(n) * 3000), st.text("é\n", min_size=390))


@given(st.lists(TEXTS, max_size=60))
def test_warnings_fit_whatever_they_are(given_texts: list[str]) -> None:
    warnings = answered(AdmissionResponse(allowed=True, warnings=tuple(given_texts))).warnings
    assert sum(len(warning.encode()) for warning in warnings) <= WARNINGS_BYTES
    assert all(warning.isprintable() and len(warning.encode()) <= LONGEST_WARNING for warning in warnings)
    assert len(set(warnings)) == len(warnings) <= len(set(given_texts))


@given(st.text(), st.lists(st.text(), max_size=3), st.booleans())
def test_whatever_is_said_the_answer_is_json(message: str, warnings: list[str], allowed: bool) -> None:  # noqa: FBT001
    answer = answered(AdmissionResponse(allowed, message, tuple(warnings)))
    assert answer.allowed is allowed
    assert len(answer.message.encode()) <= LONGEST_MESSAGE


# ---- whatever comes


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)),
    max_leaves=12,
)
MEMBERS = st.sampled_from(
    ["uid", "kind", "operation", "object", "oldObject", "userInfo", "name", "namespace", "dryRun"]
)


def read(content: bytes) -> Review | None:
    try:
        return decode(content)
    except RequestInvalid:
        return None


@given(st.binary(max_size=200))
def test_bytes_are_no_review(content: bytes) -> None:
    assert read(content) is None


@given(JSON)
def test_json_is_no_review(value: object) -> None:
    assert read(json.dumps(value).encode()) is None


@given(st.dictionaries(MEMBERS, JSON, max_size=3))
def test_a_review_is_read_or_refused(members: dict[str, object]) -> None:
    review = read(envelope(request(pod("nginx")) | members))
    if review is not None:
        assert review.title
        assert json.loads(encode(review.uid, AdmissionResponse(allowed=True)))["response"]["uid"] == review.uid


@given(st.data())
def test_a_damaged_review_is_read_or_refused(data: st.DataObject) -> None:
    content = bytearray(body(pod("nginx"), pod("httpd")))
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    read(bytes(content))


# ---- what an object may cost


def test_members_are_counted_before_they_are_made() -> None:
    whole = body(pod("nginx")).replace(b'"c0"', b'"c0", "env": [' + b"{}, " * 1_000_000 + b"{}]")
    assert "$.request.object has more than 200000 members" in refused(whole)
    assert refused(body(None, pod("nginx")).replace(b'"c0"', b'"c0", "env": [' + b"0," * 1_000_000 + b"0]"))


def test_what_goes_away_is_not_looked_into() -> None:
    review = decode(body(None, pod("nginx"), operation="DELETE"))
    assert "old_item" not in vars(review)
    assert review.old_item == pod("nginx")


def test_names_longer_than_any_are_refused() -> None:
    assert "$.request.name" in refused(body(pod("nginx"), name="x" * 513))
    assert "$.request.namespace" in refused(body(pod("nginx"), namespace="x" * 513))
