"""What no honest client sends: a long table of it, and the failures of other registries by their CVE numbers."""

from __future__ import annotations

import json
from base64 import b64encode
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final

import pytest

from factories import OCI_CONFIG, OCI_IMAGE, OCI_INDEX, descriptor_of, digest_of, image_of
from support.attacks import ABSENT, FAMILIES
from support.client import WireClient
from support.hostile import ATTACKER, OWNER, Hostile, Target, hostile, under_attack
from support.server import Trow
from support.wire import Wire, chunked, request

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SENDERS: Final = 8
# What is refused before any code of the registry runs, and hence without an OCI error body: no HTTP, or too much of it.
MOST_UNPARSABLE: Final = 40
ALICE: Final = ("alice", "correct horse")
AS_ALICE: Final = [("Authorization", f"Basic {b64encode(':'.join(ALICE).encode()).decode()}")]


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    """One registry for every attack of this module: what one of them breaks, the others see too."""
    with under_attack(tmp_path_factory.mktemp("target")) as target:
        yield target


@pytest.fixture
def client(target: Target) -> Iterator[WireClient]:
    with WireClient(target.trow.host) as client:
        yield client


# ---- the table


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_the_rule_is_kept(family: str, target: Target) -> None:
    with ThreadPoolExecutor(SENDERS) as senders:
        found = [each for each in senders.map(target.complaint, FAMILIES[family](target)) if each]
    assert not found, f"{len(found)} complaints\n" + "\n".join(found[:20])
    target.check_serving()


def test_the_table_is_long_and_its_exceptions_are_few(target: Target) -> None:
    attacks = [attack for members in FAMILIES.values() for attack in members(target)]
    assert len({attack.data for attack in attacks}) > 5000
    assert sum(attack.unparsable for attack in attacks) <= MOST_UNPARSABLE


@pytest.mark.parametrize("path", ["blobs/{target.small}", "blobs/{target.large}", "manifests/latest"])
def test_a_leak_would_be_noticed(path: str, target: Target) -> None:
    complaint = target.complaint(hostile("GET", f"/v2/{OWNER}/{path.format(target=target)}"))
    assert complaint is not None
    assert complaint.startswith("the other repository's content")


def test_a_refusal_without_explanation_would_be_noticed(target: Target) -> None:
    refused = request("GET", "/v2/<>")
    complaint = target.complaint(Hostile(refused))
    assert complaint is not None
    assert complaint.startswith("no OCI error body")
    assert target.complaint(Hostile(refused, unparsable=True)) is None


# ---- failures of other registries, repeated here


def test_cve_2023_2253_a_huge_page_is_clamped(client: WireClient) -> None:
    repository = "paged/repository"
    manifest = image_of(b"paged", annotations={"a": "b"})
    assert client.push_whole(repository, b"paged").status == 201
    for tag in ("a", "b", "c", "d", "e"):
        assert client.push_whole(repository, tag.encode()).status == 201
        assert client.put_manifest(repository, tag, manifest).status == 201
        assert client.put_manifest(repository, "same", image_of(tag.encode())).status == 201
    for n in ("4", "1000000000", "18446744073709551616", "9" * 3000):
        for path, name in (
            (f"/v2/{repository}/tags/list", "tags"),
            (f"/api/v1/repositories/{repository}/tags/same/history", "history"),
        ):
            answer = client.ask("GET", f"{path}?n={n}")
            assert (answer.status, len(json.loads(answer.body)[name])) == (200, 3)
            assert 'rel="next"' in answer.header("link")


@pytest.mark.slow
def test_cve_2017_11468_an_endless_manifest_is_refused_early(target: Target) -> None:
    with Wire(target.trow.host) as wire:
        headers = [("Content-Type", OCI_IMAGE), ("Transfer-Encoding", "chunked")]
        wire.send(request("PUT", f"/v2/{ATTACKER}/manifests/endless", headers))
        for _ in range(5):
            wire.send_what_it_takes(chunked(b" " * 2**20, end=False))
        answer = wire.answer("PUT")
    assert (answer.status, answer.codes) == (413, ["MANIFEST_INVALID"])


@pytest.mark.parametrize("media_type", [OCI_IMAGE, OCI_INDEX])
@pytest.mark.parametrize(
    "members", [("manifests", "layers", "config"), ("manifests", "layers"), ("manifests", "config")]
)
def test_cve_2021_41190_no_document_is_both_image_and_index(
    members: tuple[str, ...], media_type: str, client: WireClient
) -> None:
    parts = {"manifests": [], "layers": [], "config": descriptor_of(b"x", OCI_CONFIG)}
    document = {"schemaVersion": 2, "mediaType": media_type} | {member: parts[member] for member in members}
    answer = client.put_manifest(ATTACKER, "both", json.dumps(document).encode(), media_type)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])
    assert client.get_manifest(ATTACKER, "both").status == 404


def test_cve_2021_41190_mediatype_and_content_type_agree(client: WireClient) -> None:
    answer = client.put_manifest(ATTACKER, "disagrees", image_of(b"x"), OCI_INDEX)
    assert (answer.status, answer.codes) == (400, ["MANIFEST_INVALID"])
    assert client.get_manifest(ATTACKER, "disagrees").status == 404


def test_cve_2024_39897_knowing_a_digest_is_no_right_to_read_it(target: Target, client: WireClient) -> None:
    for digest in (target.small, target.large):
        assert client.ask("HEAD", f"/v2/{ATTACKER}/blobs/{digest}").status == 404
        assert client.get_blob(ATTACKER, digest).codes == ["BLOB_UNKNOWN"]
        mounted = client.ask("POST", f"/v2/{ATTACKER}/blobs/uploads/?mount={digest}&from={ATTACKER}", body=b"")
        assert (mounted.status, mounted.header("docker-content-digest")) == (202, "")
        assert client.get_blob(ATTACKER, digest).status == 404
    assert client.get_manifest(ATTACKER, target.manifest).codes == ["MANIFEST_UNKNOWN"]


def test_cve_2024_3727_a_digest_is_no_path(target: Target, client: WireClient) -> None:
    escape = f"sha256:../../../{target.marker}"
    pushed = client.ask("POST", f"/v2/{ATTACKER}/blobs/uploads/?digest={escape}", body=b"owned")
    assert (pushed.status, pushed.codes) == (400, ["DIGEST_INVALID"])
    layered = json.loads(image_of(b"x")) | {"layers": [descriptor_of(b"y") | {"digest": escape}]}
    published = client.put_manifest(ATTACKER, "escape", json.dumps(layered).encode())
    assert (published.status, published.codes) == (400, ["MANIFEST_INVALID"])
    assert not list(target.folder.rglob(f"*{target.marker}*"))


def test_cve_2026_35172_a_deleted_blob_stays_deleted_when_another_repository_reads_it(client: WireClient) -> None:
    for content in (b"small", b"large" * 20_000):
        digest = digest_of(content)
        for repository in ("first/owner", "second/owner"):
            assert client.push_whole(repository, content).status == 201
        assert client.ask("DELETE", f"/v2/first/owner/blobs/{digest}").status == 202
        assert client.get_blob("second/owner", digest).body == content
        assert client.get_blob("first/owner", digest).codes == ["BLOB_UNKNOWN"]
        assert client.ask("HEAD", f"/v2/first/owner/blobs/{digest}").status == 404


def test_cve_2026_35172_a_deleted_manifest_stays_deleted_however_often_it_was_read(client: WireClient) -> None:
    manifest = image_of(b"popular")
    digest = digest_of(manifest)
    for ending in (digest, "latest"):
        for repository in ("first/reader", "second/reader"):
            assert client.push_whole(repository, b"popular").status == 201
            assert client.put_manifest(repository, "latest", manifest).status == 201
        for _ in range(20):
            assert client.get_manifest("first/reader", "latest").body == manifest
            assert client.get_manifest("first/reader", digest).body == manifest
        assert client.ask("DELETE", f"/v2/first/reader/manifests/{ending}").status == 202
        assert client.get_manifest("second/reader", "latest").body == manifest
        assert client.get_manifest("first/reader", "latest").codes == ["MANIFEST_UNKNOWN"]
        assert client.get_manifest("first/reader", digest).status == (404 if ending == digest else 200)


def test_cve_2026_32589_a_session_belongs_to_one_repository(target: Target, client: WireClient) -> None:
    elsewhere = f"/v2/{ATTACKER}/blobs/uploads/{target.upload}"
    for method, query in (("GET", ""), ("PATCH", ""), ("PUT", f"?digest={target.small}"), ("DELETE", "")):
        answer = client.ask(method, elsewhere + query, body=b"")
        assert (answer.status, answer.codes) == (404, ["BLOB_UPLOAD_UNKNOWN"])


@pytest.mark.slow
def test_cve_2026_32589_a_session_belongs_to_one_user(tmp_path: Path) -> None:
    content = b"of alice"
    everybody = {"anonymous": True, "repositories": ["shared/*"], "actions": ["pull", "push"]}
    with (
        Trow.start(tmp_path, user=ALICE, config={"access": {"rules": [everybody]}}) as trow,
        WireClient(trow.host) as client,
    ):
        opened = client.ask("POST", "/v2/shared/repository/blobs/uploads/", AS_ALICE, b"")
        session = opened.header("location")
        for method in ("GET", "PATCH", "DELETE"):
            assert client.ask(method, session, body=b"").codes == ["BLOB_UPLOAD_UNKNOWN"]
        assert client.finish(session, digest_of(content), content).codes == ["BLOB_UPLOAD_UNKNOWN"]
        assert client.ask("PUT", f"{session}?digest={digest_of(content)}", AS_ALICE, content).status == 201


@pytest.mark.slow
def test_cve_2025_30204_long_credentials_are_refused_unread(tmp_path: Path) -> None:
    with Trow.start(tmp_path, user=ALICE) as trow, WireClient(trow.host) as client:
        for value in ("Bearer " + "." * 8000, "Basic " + "QTpB" * 2000, "Basic " + ":" * 5000):
            answer = client.ask("GET", "/v2/", [("Authorization", value)])
            assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
        answer = client.ask("GET", "/v2/", [("Authorization", "Bearer " + "." * 500_000)])
        assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"])
        assert client.ask("GET", "/v2/", AS_ALICE).status == 200


@pytest.mark.slow
def test_cve_2026_41888_and_31801_who_may_only_read_changes_nothing(tmp_path: Path) -> None:
    """Not by tag, by digest, by a tag parameter, or under a name that others treat as special."""
    blob, manifest, other = b"kept", image_of(b"kept"), image_of(b"kept", annotations={"new": "one"})
    with Trow.start(tmp_path, "--anonymous", "pull", user=ALICE) as trow, WireClient(trow.host) as client:
        path = "/v2/kept/repository"
        assert client.ask("POST", f"{path}/blobs/uploads/?digest={digest_of(blob)}", AS_ALICE, blob).status == 201
        typed = ("Content-Type", OCI_IMAGE)
        assert client.ask("PUT", f"{path}/manifests/latest", [*AS_ALICE, typed], manifest).status == 201
        session = client.ask("POST", f"{path}/blobs/uploads/", AS_ALICE, b"").header("location")
        for method, target_path, body in (
            ("DELETE", f"{path}/manifests/latest", None),
            ("DELETE", f"{path}/manifests/{digest_of(manifest)}", None),
            ("DELETE", f"{path}/blobs/{digest_of(blob)}", None),
            ("DELETE", session, None),
            ("PUT", f"{path}/manifests/latest", other),
            ("PUT", f"{path}/manifests/new", other),
            ("PUT", f"{path}/manifests/{digest_of(other)}", other),
            ("PUT", f"{path}/manifests/{digest_of(manifest)}?tag=latest&tag=new", manifest),
            ("POST", f"{path}/blobs/uploads/", b""),
            ("POST", f"{path}/blobs/uploads/?digest={digest_of(b'new')}", b"new"),
            ("POST", f"/v2/thief/repository/blobs/uploads/?mount={digest_of(blob)}&from=kept/repository", b""),
            ("PATCH", session, b"x"),
            ("PUT", f"{session}?digest={digest_of(b'x')}", b"x"),
        ):
            answer = client.ask(method, target_path, [typed], body)
            assert (answer.status, answer.codes) == (401, ["UNAUTHORIZED"]), (method, target_path)
        assert client.get_manifest("kept/repository", "latest").body == manifest
        assert json.loads(client.ask("GET", f"{path}/tags/list").body)["tags"] == ["latest"]
        assert client.get_blob("kept/repository", digest_of(blob)).body == blob
        assert client.ask("GET", session, AS_ALICE).status == 204


def test_zot_4266_one_bad_tag_parameter_stores_nothing(client: WireClient) -> None:
    manifest = image_of(b"tagged")
    path = f"/v2/tagged/repository/manifests/{digest_of(manifest)}"
    for query in ("?tag=good&tag=..", "?tag=good&tag=", f"?tag=good&tag={'x' * 129}", "?tag=good&tag=%2e%2e%2fx"):
        answer = client.ask("PUT", path + query, [("Content-Type", OCI_IMAGE)], manifest)
        assert answer.status == 400
    too_many = "&".join(f"tag=t{number}" for number in range(65))
    assert client.ask("PUT", f"{path}?{too_many}", [("Content-Type", OCI_IMAGE)], manifest).status == 414
    assert client.ask("GET", path).status == 404
    assert client.ask("GET", "/v2/tagged/repository/tags/list").codes == ["NAME_UNKNOWN"]


@pytest.mark.slow
def test_zot_3183_nothing_of_the_registry_is_shown_to_strangers(tmp_path: Path) -> None:
    with Trow.start(tmp_path, user=ALICE) as trow, WireClient(trow.host) as client:
        for method, path in (
            ("GET", "/v2/"),
            ("GET", "/v2/_catalog"),
            ("GET", "/api/v1/repositories"),
            ("GET", "/v2/a/tags/list"),
            ("HEAD", "/v2/a/manifests/latest"),
            ("GET", f"/v2/a/blobs/{ABSENT}"),
            ("GET", f"/v2/a/referrers/{ABSENT}"),
            ("GET", "/v2/a/blobs/uploads/0123456789abcdef0123456789abcdef"),
            ("GET", "/api/v1/repositories/a/tags/latest/history"),
        ):
            for headers in ([], [("Authorization", "Basic")], [("Authorization", "Bearer x")]):
                answer = client.ask(method, path, headers)
                assert (answer.status, answer.header("www-authenticate")[:7]) == (401, "Bearer "), path


@pytest.mark.slow
def test_zot_3980_every_origin_never_goes_with_credentials(tmp_path: Path) -> None:
    with Trow.start(tmp_path, "--cors", "*", user=ALICE) as trow, WireClient(trow.host) as client:
        preflight = [("Origin", "https://evil.test"), ("Access-Control-Request-Method", "GET")]
        for method, headers in (("OPTIONS", preflight), ("GET", preflight[:1])):
            answer = client.ask(method, "/v2/", headers)
            assert answer.header("access-control-allow-origin") == "*"
            assert answer.header("access-control-allow-credentials") == ""


def test_cve_2023_44487_streams_that_are_reset_at_once_stop_nobody(target: Target, client: WireClient) -> None:
    """HTTP/2, RFC 9113: `HEADERS` and `RST_STREAM`, two thousand times."""
    get_root = bytes([0x82, 0x86, 0x84, 0x41, 1]) + b"x"  # :method GET, :scheme http, :path /, :authority x
    with Wire(target.trow.host) as wire:
        wire.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        for number in range(1, 4001, 2):
            wire.send_what_it_takes(frame(1, 5, number, get_root) + frame(3, 0, number, bytes(4)))
        assert client.ask("GET", "/v2/").status == 200


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload
