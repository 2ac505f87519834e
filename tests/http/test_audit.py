"""What is put on record of requests, and who can read it."""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import pytest

import factories
from factories import DOCKER_IMAGE, OCI_IMAGE, Manifest
from support.records import Records, stored
from support.registry import Client, Repository
from support.server import Trow
from support.team import Team
from support.waiting import until

if TYPE_CHECKING:
    from pathlib import Path

    from support.issuer import Issuer
    from support.records import Record
    from support.team import TeamClient

ALICE: Final = ("alice", "correct horse")
TRACE: Final = "0af7651916cd43dd8448eb211c80319c"


def home(team: Team, client: Client | None = None) -> Repository:
    """A repository of its own for each test."""
    return Repository(client or team.root, f"team-a/{secrets.token_hex(8)}")


def members(record: Record, *names: str) -> list[Any]:
    return [record.get(name) for name in names]


# ---- pulls and pushes


def pull(client: TeamClient, repository: Repository, index: factories.Manifest) -> int:
    """As containerd does it: HEAD and GET by tag, a platform of the index, its config and layers."""
    child = index.children[0]
    there = Repository(client, repository.name)
    assert client.head(there.manifest("v1")).status == 200
    bodies = [client.get(there.manifest("v1")).body, client.get(there.manifest(child.digest)).body]
    for blob in child.blobs:
        assert client.head(there.blob(blob.digest)).status == 200
        bodies.append(client.get(there.blob(blob.digest)).body)
    assert bodies == [index.raw, child.raw, *(blob.content for blob in child.blobs)]
    return sum(map(len, bodies))


@pytest.mark.slow
def test_pull_is_one_record(team: Team) -> None:
    repository = home(team)
    index = factories.index([factories.image(3, layer_size=100_000), factories.image(1)])
    repository.push(index, "v1")
    puller = team.user("puller")
    size = pull(puller, repository, index)
    record = team.records.one(repository=repository.name, action="pull")
    assert record["actor"] == {"user": "puller", "groups": ["dev"], "method": "password"}
    assert record["client"]["address"] == puller.address
    assert members(record, "outcome", "status", "reference", "digest") == ["ok", 200, "v1", index.digest]
    assert record["manifests"] == [index.children[0].digest]
    assert members(record, "blobs", "bytes", "detail") == [4, size, "2 manifest requests, 1 checks (HEAD)"]
    assert record["media_type"] == factories.OCI_INDEX
    assert record["started"] <= record["time"]


@pytest.mark.slow
def test_pulls_of_two_clients_are_two_records(team: Team) -> None:
    repository = home(team)
    index = factories.index([factories.image(1)])
    repository.push(index, "v1")
    with team.bearer(team.token(team.user("puller"), f"repository:{repository.name}:pull")) as bearer:
        one, other = team.user("puller"), team.robot("puller")
        robot = team.user("x", other)
        for client in (one, robot, bearer):
            pull(client, repository, index)
    records = team.records.wait(3, repository=repository.name, action="pull")
    found = {record["client"]["address"]: record["actor"] for record in records}
    assert found[one.address]["user"] == found[bearer.address]["user"] == "puller"
    assert found[robot.address]["user"] == "robot:puller"
    assert found[robot.address]["credential"] == other.split("_")[1]
    assert {record["blobs"] for record in records} == {2}


@pytest.mark.slow
def test_looking_whether_a_blob_is_there_is_no_pull(team: Team) -> None:
    repository = home(team)
    image = factories.image(1)
    repository.push(image, "v1")
    client = team.root
    client.head(repository.blob(image.blobs[0].digest))
    client.get(repository.tags)
    assert client.get(repository.manifest("v1")).status == 200  # what comes after is on record
    record = team.records.one(repository=repository.name, action="pull")
    assert members(record, "blobs", "bytes") == [None, image.size]


def test_push_is_one_record_with_its_blobs_and_one_for_the_tag(team: Team) -> None:
    pusher = team.user("pusher")
    repository = home(team, pusher)
    image = factories.image(3)
    repository.push(image, "v1")
    pushed = team.records.one(repository=repository.name, action="push")
    assert pushed["actor"]["user"] == "pusher"
    assert pushed["client"]["address"] == pusher.address
    assert members(pushed, "outcome", "status", "reference", "digest") == ["ok", 201, "v1", image.digest]
    assert members(pushed, "blobs", "bytes") == [4, image.size + sum(blob.size for blob in image.blobs)]
    moved = team.records.one(repository=repository.name, action="tag.move")
    assert members(moved, "reference", "digest", "previous") == ["v1", image.digest, None]
    assert moved["request"] == pushed["request"]


def test_tag_move_has_the_old_and_the_new_digest(team: Team) -> None:
    repository = home(team)
    old, new = factories.image(0), factories.image(0)
    repository.push(old, "v1")
    repository.push(new, new.digest, "?tag=v1&tag=v2")
    repository.push(new, "v1")  # moves nothing
    records = team.records.wait(3, repository=repository.name, action="tag.move")
    assert {tuple(members(record, "reference", "previous", "digest")) for record in records} == {
        ("v1", None, old.digest),
        ("v1", old.digest, new.digest),
        ("v2", None, new.digest),
    }
    team.records.wait(3, repository=repository.name, action="push")


def test_manifest_that_becomes_another_media_type_is_on_record_and_needs_the_right_to_overwrite(team: Team) -> None:
    overwriter = team.user("overwriter")
    repository = home(team, overwriter)
    image = factories.image(0)
    raw = factories.encode(image.document | {"mediaType": None})
    oci, docker = (Manifest(raw, each, image.blobs) for each in (OCI_IMAGE, DOCKER_IMAGE))
    repository.push(oci, "v1")
    path = repository.manifest("v1")
    for user in ("pusher", "attacher"):
        other = Repository(team.user(user), repository.name)
        for reference in ("v1", "v2", oci.digest):
            assert other.put(docker, reference).refusal == (403, "DENIED")
    assert overwriter.head(path).headers["content-type"] == OCI_IMAGE
    assert repository.put(docker, docker.digest).status == 201
    assert overwriter.head(path).headers["content-type"] == DOCKER_IMAGE
    records = team.records.wait(2, repository=repository.name, action="push", outcome="ok")
    assert {(record["media_type"], record.get("detail")) for record in records} == {
        (OCI_IMAGE, None),
        (DOCKER_IMAGE, f"was {OCI_IMAGE} before"),
    }


def test_push_that_fails_is_on_record_with_the_reason(team: Team) -> None:
    repository = home(team)
    reply = team.root.put(repository.manifest("v1"), b"{}", content_type=factories.OCI_IMAGE)
    assert reply.status == 400
    record = team.records.one(repository=repository.name, action="push")
    assert members(record, "outcome", "reference") == ["failed", "v1"]
    assert record["reason"] == reply.json["errors"][0]["message"]


def test_deletions_are_on_record_with_what_is_gone(team: Team) -> None:
    repository, client = home(team), team.root
    image = factories.image(1)
    repository.push(image, image.digest, "?tag=a&tag=b")
    assert client.delete(repository.manifest("a")).status == 202
    (tag,) = team.records.wait(repository=repository.name, action="tag.delete")
    assert members(tag, "outcome", "reference", "previous") == ["ok", "a", image.digest]
    assert client.delete(repository.manifest(image.digest)).status == 202
    gone = team.records.one(repository=repository.name, action="manifest.delete")
    assert members(gone, "outcome", "digest", "status") == ["ok", image.digest, 202]
    tags = team.records.wait(2, repository=repository.name, action="tag.delete")
    assert members(tags[1], "reference", "previous", "request") == ["b", image.digest, gone["request"]]
    blob = image.blobs[0].digest
    assert client.delete(repository.blob(blob)).status == 202
    assert team.records.one(repository=repository.name, action="blob.delete")["digest"] == blob
    assert client.delete(repository.blob(blob)).status == 404
    team.records.wait(1, repository=repository.name, action="blob.delete", outcome="ok")


def test_mount_is_on_record_with_its_source(team: Team) -> None:
    source = home(team)
    for query in (f"&from={source.name}", ""):
        target, blob = home(team, team.user("pusher")), factories.blob()
        source.push_blob(blob)
        assert target.client.post(f"{target.uploads}?mount={blob.digest}{query}").status == 201
        record = team.records.one(repository=target.name, action="mount")
        assert members(record, "outcome", "status", "digest", "source") == ["ok", 201, blob.digest, source.name]
        assert record["actor"]["user"] == "pusher"


# ---- logins and tokens


def test_logins_are_on_record_whether_they_succeed_or_not(team: Team) -> None:
    good, bad, somebody = team.user("puller"), team.user("puller", secrets.token_urlsafe()), team.user("robot")
    assert good.get("/v2/").status == 200
    assert bad.get("/v2/").status == 401
    assert somebody.get("/v2/").status == 200
    (record,) = team.records.of(good, action="login")
    assert members(record, "outcome", "status") == ["ok", 200]
    assert record["actor"] == {"user": "puller", "groups": ["dev"], "method": "password"}
    (record,) = team.records.of(bad, action="login")
    assert record["outcome"] == "denied"
    assert record["reason"].startswith("the user name or the password is wrong;")
    assert "actor" not in record  # nobody has shown who it is


def test_token_is_on_record_with_what_was_refused(team: Team) -> None:
    client = team.user("puller")
    team.token(client, "repository:team-a/app:pull,push", "repository:team-b/app:pull", "registry:catalog:*")
    (record,) = team.records.of(client, action="token.issue")
    assert members(record, "outcome", "detail") == ["denied", "granted repository:team-a/app:pull"]
    assert "may not push to team-a/app" in record["reason"]
    assert "may not pull team-b/app" in record["reason"]
    assert record["actor"]["user"] == "puller"


def test_token_without_scopes_is_a_login(team: Team) -> None:
    client, other = team.user("puller"), team.user("puller", secrets.token_urlsafe())
    team.token(client)
    assert other.get("/token").status == 401
    (record,) = team.records.of(client)
    assert members(record, "action", "outcome") == ["login", "ok"]
    (record,) = team.records.of(other)
    assert members(record, "action", "outcome") == ["login", "denied"]


@pytest.mark.slow
def test_use_of_a_token_names_its_holder(team: Team) -> None:
    repository = home(team)
    repository.push(factories.image(0), "v1")
    robot = team.robot("ci")
    with team.bearer(team.token(team.user("x", robot), f"repository:{repository.name}:pull")) as client:
        client.get(repository.manifest("v1"))
    record = team.records.one(repository=repository.name, action="pull")
    assert record["actor"]["user"] == "robot:ci"
    assert members(record["actor"], "method", "credential") == ["robot", robot.split("_")[1]]


# ---- refusals


def test_refusal_is_on_record_with_its_reason(team: Team) -> None:
    repository = home(team)
    client = team.user("puller")
    reply = client.put(repository.manifest("v1"), b"{}")
    assert reply.status == 403
    record = team.records.one(repository=repository.name, outcome="denied")
    assert members(record, "action", "reference") == ["access", "v1"]
    assert record["actor"]["user"] == "puller"
    assert record["reason"] == reply.json["errors"][0]["detail"]["reason"]
    assert record["detail"] == "PUT /v2/{repository}/manifests/{reference}"
    assert record["client"]["address"] == client.address


def test_refusals_that_repeat_do_not_fill_the_record(team: Team) -> None:
    repository = home(team)
    client = team.user("puller")
    for _ in range(50):
        assert client.delete(repository.manifest("v1")).status == 403
    assert client.put(repository.manifest("v1"), b"{}").status == 403
    records = team.records.wait(2, repository=repository.name, outcome="denied")
    assert len({record["reason"] for record in records}) == 2


def test_client_that_is_refused_in_many_ways_does_not_fill_the_record(team: Team) -> None:
    client, other = team.user("puller"), team.user("puller")
    for number in range(200):
        assert client.get(f"/v2/team-b/x{number}/tags/list").status == 403
    assert other.get("/v2/team-b/last/tags/list").status == 403
    team.records.wait(repository="team-b/last", outcome="denied")
    found = team.records.now(client, outcome="denied")
    assert len(found) <= 62
    assert found[-1]["reason"] == "many different refusals of this client"


# ---- where a request came from


def test_record_names_the_request_and_its_trace(team: Team) -> None:
    repository = home(team)
    headers = {"traceparent": f"00-{TRACE}-b7ad6b7169203331-01", "user-agent": "containerd/2.0"}
    client = team.user("puller")
    reply = client.request("DELETE", repository.manifest("v1"), headers=headers)
    record = team.records.one(repository=repository.name)
    assert record["request"] == reply.headers["x-request-id"]
    assert record["trace"] == TRACE
    assert record["client"]["agent"] == "containerd/2.0"


@pytest.mark.slow
@pytest.mark.parametrize(
    "traceparent", ["", "x", f"00-{TRACE.upper()}-b7ad6b7169203331-01", f"00-{TRACE}", "00-" + "0" * 70_000]
)
def test_trace_that_is_none_is_left_out(team: Team, traceparent: str) -> None:
    repository = home(team)
    reply = team.user("puller").request("DELETE", repository.manifest("v1"), headers={"traceparent": traceparent})
    if reply.status == 403:  # else the parser refuses so long a header
        assert "trace" not in team.records.one(repository=repository.name)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("forwarded", "address"),
    [
        ("198.51.100.7", "198.51.100.7"),
        ("203.0.113.9, 198.51.100.7", "198.51.100.7"),
        ("203.0.113.9, 198.51.100.7, 127.0.0.1", "198.51.100.7"),
        ("[2001:db8::1]:4711", "2001:db8::1"),
        ("203.0.113.9, nonsense, 198.51.100.7", "198.51.100.7"),
        ("198.51.100.7, nonsense", "127.0.0.1"),
        ("127.0.0.1, 127.0.0.2", "127.0.0.1"),
    ],
)
def test_client_behind_trusted_proxies_is_the_last_one_that_is_no_proxy(
    team: Team, forwarded: str, address: str
) -> None:
    repository = home(team)
    user = ("puller", team.passwords["puller"])
    with Client(team.trow.url, user) as client:
        reply = client.request("DELETE", repository.manifest("v1"), headers={"x-forwarded-for": forwarded})
    assert reply.status == 403
    record = team.records.one(repository=repository.name)
    assert record["client"]["address"] == address
    assert record["client"]["forwarded"] == forwarded


@pytest.mark.slow
def test_what_others_say_of_the_client_is_ignored(tmp_path: Path) -> None:
    """No proxy is trusted unless the settings name it."""
    said = {"x-forwarded-for": "198.51.100.7", "x-forwarded-proto": "https", "x-forwarded-host": "evil.test"}
    # Of its own: where others are refused from the same address, the share of its records may be used up.
    with (
        Trow.start(tmp_path, user=ALICE) as trow,
        Client(trow.url) as nobody,
        Client(trow.url, ALICE) as alice,
    ):
        wrong = {"authorization": f"Bearer {secrets.token_hex(8)}"}  # told apart from other refusals by its user
        alice.get("/v2/")
        reply = nobody.request("GET", "/v2/", headers=said | wrong)
        assert reply.headers["www-authenticate"].startswith(f'Bearer realm="{trow.url}/token"')
        number = reply.headers["x-request-id"]
        (record,) = until(lambda: [each for each in Records(alice).search() if each.get("request") == number])
    assert record["client"]["address"] == "127.0.0.1"
    assert "forwarded" not in record["client"]


def test_challenge_names_the_address_that_a_trusted_proxy_tells(team: Team) -> None:
    headers = {"x-forwarded-proto": "https", "x-forwarded-host": "registry.example.com"}
    challenge = team.nobody().request("GET", "/v2/", headers=headers).headers["www-authenticate"]
    assert challenge.startswith('Bearer realm="https://registry.example.com/token"')


# ---- reading the record


def test_filters_and_pages_lead_through_all(team: Team) -> None:
    repository = home(team)
    for _ in range(7):
        repository.push(factories.image(0), "v1")
    team.records.wait(7, repository=repository.name, action="tag.move")
    auditor = team.user("auditor")
    query = urlencode({"repository": repository.name, "action": "tag.move", "outcome": "ok", "user": "root", "n": 3})
    pages = list(auditor.pages(f"/api/v1/audit?{query}"))
    assert [len(page.json["records"]) for page in pages] == [3, 3, 1]
    records = [record for page in pages for record in page.json["records"]]
    sequences = [record["sequence"] for record in records]
    assert sequences == sorted(set(sequences), reverse=True)
    assert records[0]["previous"] == records[1]["digest"]
    digest = records[0]["digest"]
    assert {each["repository"] for each in team.records.search(digest=digest)} == {repository.name}


def test_time_and_prefix_narrow_the_search(team: Team) -> None:
    prefix = f"team-a/{secrets.token_hex(6)}"
    for name in ("one", "two"):
        Repository(team.root, f"{prefix}/{name}").push(factories.image(0), "v1")
    Repository(team.root, f"{prefix}more/one").push(factories.image(0), "v1")
    one, two = team.records.wait(2, repository=f"{prefix}/*", action="push")
    assert [one["repository"], two["repository"]] == [f"{prefix}/one", f"{prefix}/two"]
    found = team.records.search(repository=f"{prefix}/*", action="push", since=two["time"])
    assert [record["repository"] for record in found] == [two["repository"]]
    found = team.records.search(repository=f"{prefix}/*", action="push", until=two["time"])
    assert [record["repository"] for record in found] == [one["repository"]]
    assert team.records.search(repository=f"{prefix}/*", since="0s") == []


@pytest.mark.parametrize(
    "query",
    ["action=unknown", "outcome=x", "n=x", "n=-1", "last=x", "since=yesterday", "repository=A", "digest=x",
     "password=x", "n=1&n=2", "%ff=1", "user=" + "x" * 300, "last=1-2-3-4", "secret_hash=x"],
)  # fmt: skip
def test_search_that_cannot_be_understood(team: Team, query: str) -> None:
    assert team.user("auditor").get(f"/api/v1/audit?{query}").refusal == (400, "UNSUPPORTED")


def test_huge_page_is_made_smaller(team: Team) -> None:
    reply = team.user("auditor").get("/api/v1/audit?n=9999999999999999")
    assert reply.status == 200
    assert len(reply.json["records"]) <= 1000


def test_record_is_kept_in_every_place_alike(team: Team) -> None:
    repository = home(team)
    repository.push(factories.image(1), "v1")
    record = team.records.one(repository=repository.name, action="push")

    def lines() -> list[Record]:
        content = (team.folder / "audit.jsonl").read_text("utf-8")
        return [each for line in content.splitlines() if (each := json.loads(line)).get("hash") == record["hash"]]

    assert until(lines) == [record]
    assert stored(team.data, repository=repository.name, action="push") == [record]


# ---- changes of who may do what


@pytest.mark.slow
def test_robot_tokens_and_users_that_change_are_on_record(tmp_path: Path, issuer: Issuer) -> None:
    with Team(tmp_path, issuer) as team:
        made = json.loads(
            team.trow.command(
                "token", "create", "--name", "ci", "--repository", "team-a/**", "--action", "pull", "--json"
            )
        )
        team.secret(made["token"])
        assert team.user("x", made["token"]).get("/v2/").status == 200
        team.trow.command("token", "revoke", made["id"])
        assert team.user("x", made["token"]).get("/v2/").refusal == (401, "UNAUTHORIZED")
        users = tmp_path / "users"
        users.write_text(users.read_text("utf-8") + "# a remark\n", encoding="utf-8")
        records = team.records.wait(4, action="configuration")
    started, *changes = [record["detail"] for record in records]
    assert started.startswith("started with settings sha256:")
    assert f"{users} changed" in changes
    assert sum(made["id"] in detail for detail in changes) == 2
    assert all("actor" in record for record in records if made["id"] in record["detail"])


# ---- what is read, and what is repeated


def test_whoever_is_told_what_there_is_is_on_record(team: Team) -> None:
    repository, image = home(team), factories.image()
    repository.push(image, "v1")
    reader = team.user("puller")
    there = Repository(reader, repository.name)
    for _ in range(3):
        assert reader.get(there.tags).status == 200
        assert reader.get(f"/v2/{there.name}/referrers/{image.digest}").status == 200
        assert reader.get(f"/api/v1/repositories/{there.name}/tags/v1/history").status == 200
    found = team.records.of(reader, 3, action="list")
    assert {(each["repository"], each.get("reference", ""), each["detail"]) for each in found} == {
        (repository.name, "", "tags"),
        (repository.name, image.digest, "referrers"),
        (repository.name, "v1", "history"),
    }


def test_whoever_lists_repositories_is_on_record(team: Team) -> None:
    lister = team.user("lister")
    assert lister.get("/v2/_catalog").status == lister.get("/api/v1/repositories?q=app").status == 200
    found = team.records.of(lister, 2, action="list")
    assert [(each.get("reference"), each["detail"]) for each in found] == [
        (None, "repositories"), ("app", "repositories")
    ]  # fmt: skip


def test_whoever_reads_the_record_is_on_it(team: Team) -> None:
    auditor = team.user("auditor")
    assert auditor.get("/api/v1/audit?repository=team-a/app&n=1").status == 200
    (record,) = team.records.of(auditor, action="audit.read")
    assert record["detail"] == "by n 1, repository team-a/app"


def test_tokens_of_somebody_without_rights_are_counted(team: Team) -> None:
    """However many scopes a request has, and however often it comes."""
    client = team.user("puller")
    scopes = "&".join(f"scope=repository:team-b/app-{number}:pull,push" for number in range(60))
    for _ in range(100):
        assert client.get(f"/token?service=trow&{scopes}").status == 200
    (record,) = team.records.of(client, action="token.issue")
    assert record["outcome"] == "denied"
    assert len(json.dumps(record)) < 4096
