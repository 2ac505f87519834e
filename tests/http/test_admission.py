"""The webhooks of the API server, as it calls them."""

from __future__ import annotations

import gzip
import json
import secrets
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.admission import REGISTRY, Answer, body, containers, envelope, owned, pod, request, samples, workload
from support.numbers import fresh
from support.records import Records, stored
from support.registry import Client
from support.server import Trow
from support.waiting import until
from support.wire import Wire, chunked
from support.wire import request as wired

if TYPE_CHECKING:
    from collections.abc import Iterator

ALICE: Final = ("alice", "correct horse")
VALIDATE: Final = "/admission/validate"
MUTATE: Final = "/admission/mutate"
FORMER: Final = "/validate-image"
PATHS: Final = (VALIDATE, FORMER, MUTATE)
JSON: Final = "application/json"
KIB, MIB = 1024, 1024 * 1024
OURS: Final = f"{REGISTRY}/team/app:v1"
THEIRS: Final = "docker.io/evil/app:v1"
CONFIG: Final[dict[str, Any]] = {
    "image_validation": {"default": "Deny", "allow": [f"{REGISTRY}/", "docker.io/acme/"], "deny": [f"{REGISTRY}/bad"]},
    "admission": {
        "on_registry_addresses": True,
        "extra_kinds": [{"group": "argoproj.io", "kind": "Rollout", "paths": ["spec.template.spec"]}],
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Trow]:
    """A server with a policy, where nobody but alice may do anything else."""
    with Trow.start(tmp_path_factory.mktemp("admission"), user=ALICE, config=CONFIG) as server:
        yield server
    assert b"Traceback" not in server.stderr.read_bytes()


@pytest.fixture(scope="module")
def client(server: Trow) -> Iterator[Client]:
    """The API server, which has no credentials."""
    with Client(server.url) as client:
        yield client


@pytest.fixture(scope="module")
def records(server: Trow) -> Iterator[Records]:
    with Client(server.url, ALICE) as auditor:
        yield Records(auditor)


def ask(client: Client, content: bytes, path: str = VALIDATE) -> Answer:
    reply = client.post(path, content, content_type=JSON)
    assert reply.status == 200, reply
    assert reply.headers["content-type"] == JSON
    return Answer.of(reply.body)


def serves(client: Client) -> bool:
    """Whether reviews are answered, whatever was sent before."""
    return ask(client, body(pod(OURS))).allowed and not ask(client, body(pod(THEIRS))).allowed


# ---- the three routes


@pytest.mark.parametrize("path", [VALIDATE, FORMER])
@pytest.mark.parametrize("query", ["", "?timeout=10s"])
def test_a_verdict(client: Client, path: str, query: str) -> None:
    answer = ask(client, body(pod(OURS)), path + query)
    assert (answer.allowed, answer.response["uid"]) == (True, request(None)["uid"])
    answer = ask(client, body(pod(OURS, THEIRS)), path + query)
    assert not answer.allowed
    assert "image_validation" in answer.message
    assert THEIRS in answer.message


def test_nothing_is_changed_without_a_policy_that_asks_for_it(client: Client) -> None:
    answer = ask(client, body(pod(OURS, THEIRS)), MUTATE)
    assert set(answer.response) == {"uid", "allowed"}
    assert answer.allowed


@pytest.mark.parametrize(
    ("image", "allowed"),
    [
        (OURS, True),
        (f"{REGISTRY}/bad", False),
        (f"{REGISTRY}/bad/app", False),
        (f"{REGISTRY}/badminton", True),
        ("acme/app", True),
        ("docker.io/acme-evil/app", False),
        ("nginx", False),
        ("", False),
        ("not an image", False),
    ],
)
def test_the_policy_of_the_file(client: Client, image: str, allowed: bool) -> None:  # noqa: FBT001
    assert ask(client, body(pod(image))).allowed is allowed


def test_what_makes_pods_is_warned_of(client: Client) -> None:
    answer = ask(client, body(workload("CronJob", {"containers": containers(THEIRS)})))
    assert answer.allowed
    assert len(answer.warnings) == 1
    rollout = workload("Deployment", {"containers": containers(THEIRS)})
    rollout |= {"apiVersion": "argoproj.io/v1alpha1", "kind": "Rollout"}
    assert ask(client, body(rollout)).warnings == answer.warnings
    assert ask(client, body(rollout | {"kind": "Experiment"})).warnings == []


def test_debugging_a_pod(client: Client) -> None:
    new = pod(OURS, ephemeralContainers=containers(THEIRS))
    answer = ask(client, body(new, pod(OURS), subResource="ephemeralcontainers"))
    assert not answer.allowed
    assert "ephemeral container" in answer.message


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "PATCH", "DELETE"])
def test_other_methods(client: Client, path: str, method: str) -> None:
    reply = client.request(method, path)
    assert (reply.status, reply.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize("path", ["/admission", "/admission/", "/admission/validate/", "/admission/other", "/validate"])
def test_other_paths(client: Client, path: str) -> None:
    assert client.post(path, body(pod(OURS)), content_type=JSON).status == 404


def test_credentials_are_not_asked_for_and_of_no_use(client: Client, server: Trow) -> None:
    assert client.get("/v2/").status == 401
    for user in (ALICE, ("alice", "wrong"), ("nobody", "")):
        with Client(server.url, user) as somebody:
            assert serves(somebody)


@pytest.mark.slow
@pytest.mark.parametrize(
    "config", [{}, {"image_validation": {"default": "Deny"}}, {"limits": {"requests_per_second": 1000}}]
)
def test_a_server_that_nobody_has_told_to_has_no_webhooks(
    tmp_path_factory: pytest.TempPathFactory, config: dict[str, Any]
) -> None:
    """Neither without a policy, nor with one where nobody has asked for webhooks on the registry's own addresses."""
    with Trow.start(tmp_path_factory.mktemp("plain"), config=config) as plain, Client(plain.url) as of_plain:
        for path in PATHS:
            reply = of_plain.post(path, body(pod(OURS)), content_type=JSON)
            assert reply.refusal[0] == 404
            assert of_plain.get(path).status == 404
    assert stored(plain.folder / "data", action="admission") == []


# ---- what is no review


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ("application/json", 200),
        ("application/json; charset=utf-8", 200),
        ("Application/JSON", 200),
        (" application/json ;charset=utf-8", 200),
        ("application/yaml", 400),
        ("text/plain", 400),
        ("application/x-www-form-urlencoded", 400),
        ("application/vnd.kubernetes.protobuf", 400),
        ("application/json-patch+json", 400),
        ("text/plain; application/json", 400),
        ("", 400),
    ],
)
def test_content_types(client: Client, path: str, content_type: str, status: int) -> None:
    reply = client.post(path, body(pod(OURS)), content_type=content_type)
    assert reply.status == status
    if status == 400:
        assert reply.codes == ["UNSUPPORTED"]
        assert "application/json" in reply.json["errors"][0]["message"]


def test_a_content_type_that_is_missing_or_twice(server: Trow) -> None:
    for headers in ([], [("Content-Type", JSON), ("Content-Type", "text/plain")]):
        with Wire(server.host) as wire:
            assert wire.ask("POST", VALIDATE, headers, body(pod(OURS))).status == 400


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"null",
        b"{}",
        b"[]",
        b"\x00" * KIB,
        body(pod(OURS))[:-1],
        body(pod(OURS)) + b"x",
        envelope(None),
        envelope(request(pod(OURS)), apiVersion="admission.k8s.io/v1beta1"),
        envelope(request(pod(OURS)), kind="ImageReview"),
        envelope(request(pod(OURS), uid="")),
        envelope(request(pod(OURS), operation="PATCH")),
        body(pod(OURS)).replace(b'"web"', b'"\\ud800"'),
        body(pod(OURS)).replace(b'"web"', b'"\xff"'),
        gzip.compress(body(pod(OURS)), mtime=0),
    ],
)
def test_what_is_no_review(client: Client, path: str, content: bytes) -> None:
    reply = client.post(path, content, content_type=JSON)
    assert reply.refusal == (400, "UNSUPPORTED")
    assert "AdmissionReview" in reply.json["errors"][0]["message"]
    assert len(reply.body) < 2 * KIB
    assert serves(client)


@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}")])
@pytest.mark.parametrize("member", ["object", "oldObject", "options"])
def test_deep_nesting(client: Client, opening: str, closing: str, member: str) -> None:
    """100 000 levels, and nearly a million: more than the stack of any thread."""
    for depth in (100_000, 900_000):
        deep = opening * depth + "1" + closing * depth
        content = envelope(request(pod(OURS)) | {member: {"x": "HERE"}}).replace(b'"HERE"', deep.encode())
        reply = client.post(VALIDATE, content, content_type=JSON)
        assert reply.refusal == (400, "UNSUPPORTED")
    assert serves(client)


# ---- bodies


def padded(item: dict[str, Any], size: int) -> dict[str, Any]:
    """The same object with annotations of this many bytes."""
    item["metadata"]["annotations"] = {"filling": "x" * size}
    return item


@pytest.mark.parametrize("path", [VALIDATE, FORMER])
def test_the_largest_reviews(client: Client, path: str) -> None:
    """Two objects as large as the API server takes them."""
    size = 3 * MIB
    for image, allowed in ((OURS, True), (THEIRS, False)):
        content = body(padded(pod(OURS, image), size), padded(pod(OURS), size))
        assert len(content) > 6 * MIB
        assert ask(client, content, path).allowed is allowed
    images = [f"{REGISTRY}/team/app:{number:0120}" for number in range(999)]
    assert ask(client, body(padded(pod(*images), size))).allowed
    assert not ask(client, body(padded(pod(*images, THEIRS), size))).allowed


def too_large(path: str) -> bytes:
    return wired("POST", path, [("Content-Type", JSON)], b" " * (7 * MIB))


@pytest.mark.parametrize("path", PATHS)
def test_larger_ones_are_refused(client: Client, server: Trow, path: str) -> None:
    with Wire(server.host) as wire:
        wire.send_what_it_takes(too_large(path))
        answer = wire.answer("POST")
    assert (answer.status, answer.codes) == (413, ["UNSUPPORTED"])
    assert serves(client)


def test_larger_ones_in_chunks_are_refused(client: Client, server: Trow) -> None:
    headers = [("Content-Type", JSON), ("Transfer-Encoding", "chunked")]
    with Wire(server.host) as wire:
        wire.send_what_it_takes(wired("POST", VALIDATE, headers) + chunked(*[b" " * MIB] * 7))
        assert wire.answer("POST").status == 413
    assert serves(client)


def test_bodies_in_chunks(client: Client) -> None:
    content = body(padded(pod(THEIRS), 600 * KIB))
    pieces = [content[start : start + 10_007] for start in range(0, len(content), 10_007)]
    for path in (VALIDATE, FORMER):
        reply = client.post(path, iter(pieces), content_type=JSON)
        assert reply.status == 200
        assert not Answer.of(reply.body).allowed


def test_a_body_that_ends_too_early_is_no_review(client: Client, server: Trow) -> None:
    content = body(pod(OURS))
    whole = wired("POST", VALIDATE, [("Content-Type", JSON)], content)
    headers = [("Content-Type", JSON), ("Transfer-Encoding", "chunked")]
    in_chunks = wired("POST", VALIDATE, headers) + chunked(content[: len(content) // 2], end=False)
    for cut in (whole[:-1], whole[: -len(content)], in_chunks):
        with Wire(server.host) as wire:
            wire.send(cut)
            wire.reset()
    assert serves(client)


def test_a_body_that_is_complete_but_for_its_end(client: Client, server: Trow) -> None:
    """Half a review must not be taken for a review of less."""
    content = body(pod(OURS))
    headers = [("Content-Type", JSON), ("Transfer-Encoding", "chunked")]
    with Wire(server.host) as wire:
        wire.send(wired("POST", VALIDATE, headers) + chunked(content[:-1]))
        assert wire.answer("POST").status == 400
    assert serves(client)


# ---- what remains of it


def namespace() -> str:
    """One that no other test uses."""
    return f"team-{secrets.token_hex(6)}"


@pytest.mark.slow
def test_a_verdict_is_on_record(client: Client, records: Records, server: Trow) -> None:
    where = namespace()
    ask(client, body(pod(OURS, THEIRS), namespace=where))
    record = records.one(namespace=where)
    assert record["action"] == "admission"
    assert (record["outcome"], record["status"]) == ("denied", 200)
    assert record["actor"] == {
        "user": "alice",
        "uid": "u-1",
        "groups": ["dev", "system:authenticated"],
        "method": "review",
        "unproven": True,
    }
    assert record["workload"] == {"namespace": where, "pod": "web"}
    assert (record["repository"], record["reference"]) == ("docker.io/evil/app", "v1")
    assert record["detail"] == f"CREATE Pod {where}/web: {OURS}, {THEIRS}"
    assert "image_validation" in record["reason"]
    assert record["client"]["address"] == "127.0.0.1"
    (printed,) = [
        json.loads(line)
        for line in server.command(
            "audit", "search", "--action", "admission", "--namespace", where, "--json"
        ).splitlines()
    ]
    assert printed == record
    assert stored(server.folder / "data", action="admission", namespace=where) == [record]
    assert "docker.io/evil/app" in server.command("audit", "search", "--action", "admission", "--user", "alice")


def test_leave_is_on_record(client: Client, records: Records) -> None:
    where = namespace()
    for path in (VALIDATE, FORMER):
        ask(client, body(pod(OURS), namespace=where, name=path[1:9]), path)
    found = records.wait(2, namespace=where, action="admission", outcome="ok", user="alice")
    assert {record["repository"] for record in found} == {f"{REGISTRY}/team/app"}
    assert len({record["request"] for record in found}) == 2


def test_what_is_not_on_record(client: Client, records: Records) -> None:
    """What runs nothing new, what changes nothing, and what is no review."""
    where = namespace()
    ask(client, body(pod(THEIRS), pod(THEIRS), namespace=where))
    ask(client, body(None, pod(THEIRS), namespace=where, operation="DELETE"))
    ask(client, body(pod(THEIRS), namespace=where), MUTATE)
    client.post(VALIDATE, body(pod(THEIRS), namespace=where)[:-1], content_type=JSON)
    ask(client, body(pod(OURS), namespace=where))  # the last one, which is
    assert records.one(namespace=where)["outcome"] == "ok"


def test_a_dry_run_is_on_record_as_one(client: Client, records: Records) -> None:
    where = namespace()
    ask(client, body(pod(THEIRS), namespace=where, dryRun=True))
    record = records.one(namespace=where)
    assert record["detail"].startswith("dry run: CREATE Pod ")


def test_what_a_controller_tries_again_is_counted(client: Client, records: Records) -> None:
    """The Pods that it makes have another name each time."""
    where = namespace()
    for number in range(12):
        made = owned(pod(THEIRS), "01234567-89ab-4def-8123-456789abcdef")
        ask(client, body(made, namespace=where, name=f"web-{number}"))
    assert records.one(namespace=where)["workload"]["pod"] == "web-0"


def test_what_is_sent_cannot_forge_a_record(client: Client, records: Records, server: Trow) -> None:
    where = namespace()
    forged = 'web\n{"action":"push","outcome":"ok"}\x1b[31m'
    user = {"username": f"mallory\n{forged}", "groups": [forged] * 500}
    ask(client, body(pod(f"evil.example.com/a\n{forged}"), namespace=where, name=forged, userInfo=user))
    record = records.one(namespace=where)
    assert (record["action"], record["outcome"]) == ("admission", "denied")
    assert len(record["actor"]["groups"]) <= 100
    printed = server.command("audit", "search", "--action", "admission", "--namespace", where)
    assert "\x1b" not in printed
    assert not any(line.startswith("{") for line in printed.splitlines())


@pytest.mark.slow
def test_numbers(client: Client) -> None:
    def counted(name: str) -> dict[tuple[str, ...], float]:
        return samples(fresh(lambda: client.get("/metrics").body), name)

    decisions, reviews = "trow_admission_decisions_total", "trow_admission_duration_seconds_count"
    ask(client, body(pod(THEIRS, f"{REGISTRY}/bad/app")))
    before, asked = counted(decisions), counted(reviews)
    ask(client, body(pod(THEIRS, f"{REGISTRY}/bad/app")))
    ask(client, body(pod(THEIRS)), MUTATE)
    after = counted(decisions)
    grown = {labels: count - before[labels] for labels, count in after.items() if count != before[labels]}
    assert grown == {
        ("enforce", "image_validation", "default", "deny"): 1.0,
        ("enforce", "image_validation", f"deny {REGISTRY}/bad", "deny"): 1.0,
    }
    assert counted(reviews)[("validate",)] == asked[("validate",)] + 1
    assert counted(reviews)[("mutate",)] == asked.get(("mutate",), 0) + 1
    requests = samples(fresh(lambda: client.get("/metrics").body), "trow_http_requests_total")
    assert requests[("POST", VALIDATE, "200")] >= 2


@pytest.mark.slow
def test_a_policy_that_only_warns(tmp_path_factory: pytest.TempPathFactory) -> None:
    config = {
        "image_validation": {"default": "Deny", "mode": "warn"},
        "admission": {"on_registry_addresses": True},
    }
    with Trow.start(tmp_path_factory.mktemp("warn"), config=config) as server, Client(server.url) as client:
        answer = ask(client, body(pod(THEIRS)))
        assert answer.allowed
        assert "image_validation" in answer.warnings[0]
        record = until(lambda: stored(server.folder / "data", action="admission"))[0]
        assert (record["outcome"], "not allowed by any rule" in record["reason"]) == ("ok", True)


def test_reviews_go_on_beside_a_large_one(client: Client, server: Trow) -> None:
    """One that is still on its way holds up nobody."""
    content = body(padded(pod(THEIRS), 3 * MIB))
    whole = wired("POST", VALIDATE, [("Content-Type", JSON)], content)
    with Wire(server.host) as wire:
        wire.send(whole[: -len(content) // 2])
        assert serves(client)
        wire.send(whole[-len(content) // 2 :])
        assert not Answer.of(wire.answer("POST").body).allowed


def test_answers_belong_to_their_questions(client: Client) -> None:
    """A wrong uid is an error of the webhook, to which its failurePolicy answers."""
    for number in range(20):
        answer = ask(client, body(pod(OURS if number % 2 else THEIRS), uid=f"u-{number}"))
        assert (answer.response["uid"], answer.allowed) == (f"u-{number}", bool(number % 2))
