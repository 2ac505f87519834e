"""The security failures of other registries: none of them here.

The table at the end names each one, and the tests that cover it, here or elsewhere.
"""

from __future__ import annotations

import ast
import secrets
import stat
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlencode

import pytest

import factories
from support.registry import Client, Repository
from support.waiting import until
from support.wire import Wire, chunked, request
from trow.config import SETTINGS
from trow.http.handlers.admission import AdmissionHandlers
from trow.http.handlers.api import Api
from trow.http.handlers.blobs import BlobHandlers
from trow.http.handlers.ops import Operations
from trow.http.handlers.token import TokenService
from trow.http.handlers.v2 import V2
from trow.http.routes import table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.issuer import Issuer
    from support.server import Trow
    from support.team import Team

ROOT: Final = Path(__file__).parents[2]


def new_name(first: str = "team-a") -> str:
    return f"{first}/{secrets.token_hex(8)}"


def sources() -> Iterator[tuple[Path, ast.Module]]:
    """The product's code."""
    for path in (ROOT / "src").rglob("*.py"):
        yield path, ast.parse(path.read_text("utf-8"))


# ---- CVE-2026-35172: a cache knows what was deleted


def test_cve_2026_35172_what_is_deleted_can_neither_be_read_nor_mounted_by_a_token_from_before(team: Team) -> None:
    name, other = new_name(), new_name()
    blob, image = factories.blob(100_000), factories.image(0)
    for repository in (name, other):
        Repository(team.root, repository).push_blob(blob)
        Repository(team.root, repository).push(image, "v1")
    with team.bearer(team.token(team.user("pusher"), f"repository:{name}:pull,push")) as pusher:
        there = Repository(pusher, name)
        assert pusher.get(there.blob(blob.digest)).status == 200
        assert team.root.delete(there.blob(blob.digest)).status == 202
        assert team.root.get(f"/v2/{other}/blobs/{blob.digest}").status == 200
        assert pusher.get(there.blob(blob.digest)).refusal == (404, "BLOB_UNKNOWN")
        assert pusher.post(f"{there.uploads}?mount={blob.digest}&from={name}").status == 202


# ---- CVE-2024-39897: a digest opens a private blob


def test_cve_2024_39897_a_mount_needs_the_right_to_pull_its_source(team: Team) -> None:
    """Also where the registry looks for a source itself, and where the token was issued for both."""
    source, target = new_name("team-b"), new_name()
    blob = factories.blob()
    Repository(team.root, source).push_blob(blob)
    Repository(team.root, target).push(factories.image(0), "v1")
    pusher = team.user("pusher")
    both = team.token(pusher, f"repository:{target}:pull,push", f"repository:{source}:pull")
    for client in (pusher, team.bearer(both), team.user("x", team.robot())):
        for query in (f"?mount={blob.digest}&from={source}", f"?mount={blob.digest}"):
            reply = client.post(f"/v2/{target}/blobs/uploads/{query}")
            assert (reply.status, "docker-content-digest" in reply.headers) == (202, False)
        for method in ("GET", "HEAD"):
            assert client.request(method, f"/v2/{target}/blobs/{blob.digest}").status == 404
    assert team.root.head(f"/v2/{target}/blobs/{blob.digest}").status == 404


# ---- CVE-2025-23208: groups are added, never replaced


@pytest.mark.slow
def test_cve_2025_23208_a_group_that_is_taken_away_is_gone(team: Team) -> None:
    """As is a user: the file counts as it is now, nothing is added to what was known of somebody."""
    name = new_name("dev")
    Repository(team.root, name).push(factories.image(0), "v1")
    puller, lister = team.user("puller"), team.user("lister")
    path, users = f"/v2/{name}/manifests/v1", team.folder / "users"
    before = users.read_text("utf-8")
    assert (puller.get(path).status, lister.get("/v2/").status) == (200, 200)
    left = [line for line in before.splitlines(keepends=True) if not line.startswith("lister:")]
    try:
        users.write_text("".join(left).replace(":dev\n", ":other\n"), encoding="utf-8")
        until(lambda: puller.get(path).status == 403)
        assert puller.get("/v2/").status == 200
        assert lister.get("/v2/").refusal == (401, "UNAUTHORIZED")
    finally:
        users.write_text(before, encoding="utf-8")
    until(lambda: puller.get(path).status == 200)
    assert lister.get("/v2/").status == 200


# ---- CVE-2026-31801: the tag latest is special; zot 4266: the tag parameter overwrites


@pytest.mark.parametrize("tag", ["latest", "v1", "stable", "main"])
def test_cve_2026_31801_no_tag_is_special(team: Team, tag: str) -> None:
    pusher = team.user("pusher")
    repository = Repository(pusher, new_name())
    first, second = factories.image(0), factories.image(0)
    repository.push(first, tag)
    assert repository.put(first, tag).status == 201  # the same again changes nothing
    assert repository.put(second, tag).refusal == (403, "DENIED")
    assert pusher.get(repository.manifest(tag)).body == first.raw
    assert Repository(team.user("overwriter"), repository.name).put(second, tag).status == 201


def test_cve_2026_31801_of_many_who_create_a_tag_at_once_one_does(team: Team) -> None:
    """Whether it is there already is decided where it is written, not before."""
    name, images = new_name(), [factories.image(0) for _ in range(16)]

    def push(image: factories.Manifest) -> int:
        with team.user("pusher") as pusher:
            return Repository(pusher, name).put(image, "latest").status

    with ThreadPoolExecutor(8) as threads:
        statuses = list(threads.map(push, images))
    assert sorted(statuses) == [201] + [403] * 15
    winner = images[statuses.index(201)]
    assert team.root.get(f"/v2/{name}/manifests/latest").body == winner.raw
    assert len(team.root.get(f"/api/v1/repositories/{name}/tags/latest/history").json["history"]) == 1


def test_zot_4266_every_tag_parameter_needs_the_right_to_overwrite_what_is_there(team: Team) -> None:
    repository = Repository(team.user("pusher"), new_name())
    first, second = factories.image(0), factories.image(0)
    repository.push(first, first.digest, "?tag=a&tag=b")
    for query in ("?tag=a", "?tag=new&tag=b", "?tag=b&tag=new", "?tag=new&tag=new&tag=a"):
        assert repository.put(second, second.digest, query).refusal == (403, "DENIED")
        assert repository.client.get(repository.tags).json["tags"] == ["a", "b"]
        assert repository.client.head(repository.manifest(second.digest)).status == 404
    assert repository.put(second, second.digest, "?tag=new").status == 201
    attached = factories.artifact(subject=first)
    attacher = Repository(team.user("attacher"), repository.name)
    assert attacher.put(attached, attached.digest, "?tag=signature").refusal == (403, "DENIED")
    assert attacher.put(attached).status == 201


# ---- zot 3977, 3978, 3984 and CVE-2017-11468: bodies without a limit


@pytest.mark.slow
def test_zot_3978_the_form_of_the_token_service_is_bounded(team: Team) -> None:
    with Wire(team.trow.host) as wire:
        wire.send(request("POST", "/token", [("Transfer-Encoding", "chunked")]))
        for _ in range(5):
            wire.send_what_it_takes(chunked(b"a" * 2**16, end=False))
        answer = wire.answer("POST")
    assert (answer.status, answer.codes) == (400, ["UNSUPPORTED"])


# ---- zot 3980 and 3982: every origin, and no verification


@pytest.mark.slow
def test_zot_3982_no_code_and_no_setting_switches_verification_off() -> None:
    assert not [key for key in SETTINGS if "insecure" in key or "verify" in key]
    for path, module in sources():
        names = {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}
        assert "CERT_NONE" not in names or path.name == "handshake.py", path  # the doctor's looks, without secrets
        imported = {alias.name for node in ast.walk(module) if isinstance(node, ast.ImportFrom) for alias in node.names}
        assert "trusting_all" not in imported or path.parent.name == "doctor", path
        keywords = [node for node in ast.walk(module) if isinstance(node, ast.keyword)]
        for keyword in keywords:
            if keyword.arg in {"ssl", "verify", "verify_ssl", "check_hostname"}:
                assert not (isinstance(keyword.value, ast.Constant) and keyword.value.value is False), path


# ---- CVE-2022-31667: an id of another project


def test_cve_2022_31667_no_id_of_another_repository_leads_anywhere(team: Team) -> None:
    """Everything that has an id is looked for inside of the repository that the path names."""
    image = factories.image(1)
    foreign = Repository(team.root, new_name("team-b"))
    foreign.push(image, "v1")
    attached = factories.artifact(subject=image)
    foreign.push(attached)
    upload = foreign.begin().rpartition("/")[2]
    blob = image.blobs[0].digest
    own = Repository(team.user("overwriter"), new_name())
    own.push(factories.image(0), "mine")
    client = own.client
    for reply in (
        client.get(own.manifest(image.digest)),
        client.get(own.manifest("v1")),
        client.get(own.manifest(attached.digest)),
        client.get(own.blob(blob)),
        client.get(own.history("v1")),
        client.get(f"{own.uploads}{upload}"),
        client.patch(f"{own.uploads}{upload}", b"x"),
        client.put(f"{own.uploads}{upload}?digest={blob}", image.blobs[0].content),
        client.delete(f"{own.uploads}{upload}"),
    ):
        assert reply.status == 404
    assert client.get(own.referrers(image.digest)).json["manifests"] == []
    for query in (f"?last={foreign.name}", "?last=", "?n=1000"):
        assert foreign.name not in team.user("lister").get(f"/v2/_catalog{query}").body.decode()
    root = Repository(team.root, own.name)  # who may delete everywhere deletes nothing elsewhere either
    for path in (root.manifest(image.digest), root.manifest("v1"), root.blob(blob)):
        assert root.client.delete(path).status == 404
    assert team.root.get(foreign.manifest("v1")).body == image.raw
    assert team.root.get(f"{foreign.uploads}{upload}").status == 204


# ---- CVE-2024-22278: a side road to settings


def test_cve_2024_22278_no_route_changes_settings_rights_or_credentials() -> None:
    """So there is no second way to any of them. Whoever adds one decides here what it needs."""
    handlers = (V2, BlobHandlers, TokenService, Api, AdmissionHandlers, Operations)
    routes = table(*(cast("Any", each) for each in handlers))
    assert {route.path for route in routes if route.method != "GET"} == {
        "/token",
        "/admission/validate",
        "/admission/mutate",
        "/admission/reach",
        "/validate-image",
        "/v2/{repository}/blobs/uploads",
        "/v2/{repository}/blobs/uploads/",
        "/v2/{repository}/blobs/uploads/{upload}",
        "/v2/{repository}/blobs/{digest}",
        "/v2/{repository}/manifests/{reference}",
    }


# ---- CVE-2026-4404: a default password


@pytest.mark.parametrize(
    ("user", "password"),
    [("admin", "Harbor12345"), ("admin", "admin"), ("admin", "password"), ("root", "root"), ("admin", ""), ("", "x")],
)
def test_cve_2026_4404_there_is_no_default_user(team: Team, user: str, password: str) -> None:
    with Client(team.trow.url, (user, password), address=team.nobody().address) as somebody:
        assert somebody.get("/v2/").refusal == (401, "UNAUTHORIZED")
        assert somebody.get("/token").refusal == (401, "UNAUTHORIZED")


# ---- Harbor 23675: rights by the beginning of a name


def test_harbor_23675_a_user_named_like_a_robot_has_none_of_its_rights(team: Team) -> None:
    name = new_name()
    Repository(team.root, name).push(factories.image(0), "v1")
    path = f"/v2/{name}/manifests/v1"
    token = team.robot("robot")
    assert team.user("anybody", token).get(path).status == 200
    assert team.user("robot").get("/v2/").status == 200
    assert team.user("robot").get(path).refusal == (403, "DENIED")
    for stranger in ("robot:robot", "scanner-x", "system:serviceaccount:team-a:x", "certificate:root", "ci:acme"):
        assert team.user(stranger, team.passwords["robot"]).get("/v2/").refusal == (401, "UNAUTHORIZED")


def test_harbor_23675_a_robot_or_subject_named_like_a_user_has_none_of_its_rights(team: Team) -> None:
    name = new_name("team-b")
    Repository(team.root, name).push(factories.image(0), "v1")
    for token in (team.robot("root"), team.robot("admin"), team.oidc(sub="root"), team.oidc(sub="admin")):
        for client in (team.user("root", token), team.bearer(token)):
            assert client.get("/v2/").status == 200
            assert client.get(f"/v2/{name}/manifests/v1").refusal == (403, "DENIED")
            assert client.get("/api/v1/audit").refusal == (403, "DENIED")


# ---- CVE-2025-30086: a search reads the passwords


@pytest.mark.parametrize("field", ["password", "secret_hash", "hash", "prev", "json", "1=1", "user;--", "actor.groups"])
def test_cve_2025_30086_only_known_fields_are_searched_by(team: Team, field: str) -> None:
    reply = team.user("auditor").get(f"/api/v1/audit?{urlencode({field: 'a%'})}")
    assert reply.refusal == (400, "UNSUPPORTED")
    for quoted in ("' OR 1=1 --", "%", "_", "a%' UNION SELECT * FROM robot_token --"):
        found = team.user("auditor").get(f"/api/v1/audit?{urlencode({'user': quoted})}")
        assert (found.status, found.json["records"]) == (200, [])


# ---- CVE-2026-32590: stored state is code


@pytest.mark.slow
def test_cve_2026_32590_nothing_is_unpickled_or_evaluated() -> None:
    forbidden = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
    for path, module in sources():
        for node in ast.walk(module):
            if isinstance(node, ast.Import):
                assert forbidden.isdisjoint(alias.name.partition(".")[0] for alias in node.names), path
            if isinstance(node, ast.ImportFrom):
                assert (node.module or "").partition(".")[0] not in forbidden, path
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in {"eval", "exec", "__import__"}, path


# ---- CVE-2025-4374: a pull makes its caller an administrator


def test_cve_2025_4374_who_creates_a_repository_has_no_further_rights_in_it(team: Team) -> None:
    repository = Repository(team.user("pusher"), new_name())
    image = factories.image(1)
    repository.push(image, "v1")
    client = repository.client
    for reply in (
        client.delete(repository.manifest("v1")),
        client.delete(repository.manifest(image.digest)),
        client.delete(repository.blob(image.blobs[0].digest)),
        repository.put(factories.image(0), "v1"),
    ):
        assert reply.refusal == (403, "DENIED")
    assert client.get("/v2/_catalog").refusal == (403, "DENIED")


def test_cve_2025_4374_asking_for_a_token_creates_nothing(team: Team) -> None:
    name = new_name()
    with team.bearer(team.token(team.root, f"repository:{name}:pull,push")) as client:
        assert client.get(f"/v2/{name}/tags/list").refusal == (404, "NAME_UNKNOWN")
        assert client.get(f"/v2/{name}/manifests/v1").status == 404
        assert client.get(f"/v2/{name}/tags/list").refusal == (404, "NAME_UNKNOWN")


# ---- PROJQUAY-9849: an issuer is compared by its beginning


@pytest.mark.parametrize("change", ["/", "/x", "?", "#", ".evil.test", " "])
def test_quay_9849_an_issuer_is_compared_to_the_letter(team: Team, issuer: Issuer, change: str) -> None:
    for name in (issuer.url + change, issuer.url.upper(), issuer.url[:-1]):
        client = team.bearer(team.oidc(iss=name))
        assert client.get("/v2/").refusal == (401, "UNAUTHORIZED")


# ---- CVE-2024-7143: a later record names the wrong user


@pytest.mark.slow
def test_cve_2024_7143_what_is_recorded_later_names_who_did_it(team: Team) -> None:
    """Pulls are put on record in the background, long after the requests; each names its own caller."""
    name, image = new_name(), factories.image(2)
    Repository(team.root, name).push(image, "v1")
    callers = {user: team.user(user) for user in ("puller", "pusher", "overwriter", "attacher", "admin")}
    paths = [f"/v2/{name}/manifests/v1", *(f"/v2/{name}/blobs/{blob.digest}" for blob in image.blobs)]
    for path in paths:
        for client in callers.values():
            assert client.get(path).status == 200
    wanted = {(user, client.address): len(image.blobs) for user, client in callers.items()}

    def recorded() -> Counter[tuple[str, str]]:
        """Blobs by who got them. A slow machine makes two pulls of one."""
        found: Counter[tuple[str, str]] = Counter()
        for record in team.records.search(repository=name, action="pull"):
            found[record["actor"]["user"], record["client"]["address"]] += record.get("blobs", 0)
        return found

    assert until(lambda: found if (found := recorded()).total() >= sum(wanted.values()) else None) == wanted


# ---- CVE-2023-27584: one key for every installation


def test_cve_2023_27584_keys_are_made_once_for_each_registry_and_are_the_owners(team: Team, private: Trow) -> None:
    folders = [team.data / "keys", private.folder / "data" / "keys"]
    for folder in folders:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {path.name for path in folder.iterdir()} == {"audit.pem", "token-0001.pem"}
        assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert len({path.read_bytes() for folder in folders for path in folder.iterdir()}) == 4
    assert stat.S_IMODE((team.data / "audit.db").stat().st_mode) == 0o600
    token = team.token(team.root, "repository:a:pull")
    with Client(private.url, bearer=token) as stranger:
        assert stranger.get("/v2/").refusal == (401, "UNAUTHORIZED")


# ---- the table

HOSTILE: Final = "tests/http/test_hostile.py::test_"
HERE: Final = "tests/http/test_security_table.py::test_"
HTTP: Final = "tests/http/"
IDENTITY: Final = "tests/unit/identity/"
# Where each failure is covered, or, without "::", why it does not apply.
COVERED: Final[dict[str, tuple[str, ...]]] = {
    "CVE-2023-2253: one large page exhausts memory": (
        f"{HOSTILE}cve_2023_2253_a_huge_page_is_clamped",
        f"{HTTP}test_lists.py::test_huge_page_is_made_smaller",
        f"{HTTP}test_audit.py::test_huge_page_is_made_smaller",
    ),
    "CVE-2025-24976: a token brings its own key": (
        f"{IDENTITY}test_tokens.py::test_cve_2025_24976_a_key_in_the_header_is_not_used",
        f"{HTTP}test_bad_credentials.py::test_bad_token_is_refused_everywhere_and_on_record_without_it",
    ),
    "CVE-2026-33540: credentials go to the realm that an upstream names": (
        "nothing is fetched from other registries yet",
    ),
    "CVE-2026-35172: a cache knows what was deleted": (
        f"{HOSTILE}cve_2026_35172_a_deleted_blob_stays_deleted_when_another_repository_reads_it",
        f"{HOSTILE}cve_2026_35172_a_deleted_manifest_stays_deleted_however_often_it_was_read",
        f"{HERE}cve_2026_35172_what_is_deleted_can_neither_be_read_nor_mounted_by_a_token_from_before",
        f"{IDENTITY}test_robots.py::test_cve_2026_35172_a_revoked_token_is_of_no_use_at_once",
    ),
    "CVE-2026-41888: a side road to a deletion": (
        f"{HOSTILE}cve_2026_41888_and_31801_who_may_only_read_changes_nothing",
        f"{HTTP}test_routes_walk.py::test_every_route_answers_as_the_table_says",
    ),
    "CVE-2021-41190: a document is image and index": (
        f"{HOSTILE}cve_2021_41190_no_document_is_both_image_and_index",
        f"{HOSTILE}cve_2021_41190_mediatype_and_content_type_agree",
    ),
    "CVE-2024-39897: a digest opens a private blob": (
        f"{HOSTILE}cve_2024_39897_knowing_a_digest_is_no_right_to_read_it",
        f"{HERE}cve_2024_39897_a_mount_needs_the_right_to_pull_its_source",
    ),
    "CVE-2025-23208: groups are added, never replaced": (
        f"{HERE}cve_2025_23208_a_group_that_is_taken_away_is_gone",
        f"{IDENTITY}test_users.py::test_cve_2025_23208_groups_are_replaced",
        f"{IDENTITY}test_oidc.py::test_cve_2025_23208_groups_are_those_of_this_token",
    ),
    "CVE-2026-31801: the tag latest is special": (
        f"{HERE}cve_2026_31801_no_tag_is_special",
        f"{HERE}cve_2026_31801_of_many_who_create_a_tag_at_once_one_does",
        f"{IDENTITY}test_authorizer.py::test_zot_31801_no_permission_follows_from_another",
    ),
    "zot 4266: the tag parameter overwrites": (
        f"{HERE}zot_4266_every_tag_parameter_needs_the_right_to_overwrite_what_is_there",
        f"{HOSTILE}zot_4266_one_bad_tag_parameter_stores_nothing",
    ),
    "zot 3183: metrics let strangers through": (
        f"{HOSTILE}zot_3183_nothing_of_the_registry_is_shown_to_strangers",
        f"{HTTP}test_routes_walk.py::test_every_route_is_in_the_table",
        f"{HTTP}test_routes_walk.py::test_zot_3183_what_is_open_to_all_is_no_part_of_the_registry",
    ),
    "zot 3977, 3978, 3984 and CVE-2017-11468: bodies without a limit": (
        f"{HOSTILE}cve_2017_11468_an_endless_manifest_is_refused_early",
        f"{HERE}zot_3978_the_form_of_the_token_service_is_bounded",
    ),
    "zot 3980 and 3982: every origin, and no verification": (
        f"{HOSTILE}zot_3980_every_origin_never_goes_with_credentials",
        f"{HERE}zot_3982_no_code_and_no_setting_switches_verification_off",
    ),
    "CVE-2025-30204: a long header is split": (
        f"{HOSTILE}cve_2025_30204_long_credentials_are_refused_unread",
        f"{HTTP}test_bad_credentials.py::test_cve_2025_30204_credentials_of_any_length_are_refused",
        f"{IDENTITY}test_tokens.py::test_cve_2025_30204_many_dots_are_not_split",
    ),
    "CVE-2022-31667: an id of another project": (f"{HERE}cve_2022_31667_no_id_of_another_repository_leads_anywhere",),
    "CVE-2024-22278: a side road to settings": (
        f"{HERE}cve_2024_22278_no_route_changes_settings_rights_or_credentials",
    ),
    "CVE-2026-4404: a default password": (
        f"{HERE}cve_2026_4404_there_is_no_default_user",
        f"{HTTP}test_listen.py::test_other_machines_are_let_in_only_where_somebody_logs_in_or_in_so_many_words",
    ),
    "Harbor 23675: rights by the beginning of a name": (
        f"{HERE}harbor_23675_a_user_named_like_a_robot_has_none_of_its_rights",
        f"{HERE}harbor_23675_a_robot_or_subject_named_like_a_user_has_none_of_its_rights",
        f"{IDENTITY}test_authorizer.py::test_harbor_23675_a_name_is_no_right",
    ),
    "Harbor 22900: a token outlives its project": (
        f"{HTTP}test_token.py::test_harbor_22900_a_token_is_not_for_the_namesake_of_a_deleted_repository",
    ),
    "CVE-2025-30086: a search reads the passwords": (f"{HERE}cve_2025_30086_only_known_fields_are_searched_by",),
    "CVE-2023-20902: a comparison tells the secret": (
        f"{IDENTITY}test_robots.py::test_cve_2023_20902_secrets_are_compared_in_constant_time",
    ),
    "CVE-2020-13788 and PROJQUAY-10572: clients choose where the server connects": (
        "no request makes the server fetch a URL: those of issuers and of the webhook are the operator's alone",
    ),
    "CVE-2026-2376: a redirect leads inside": (f"{IDENTITY}test_oidc_keys.py::test_redirects_are_not_followed",),
    "CVE-2026-32589: an upload of somebody else": (
        f"{HOSTILE}cve_2026_32589_a_session_belongs_to_one_repository",
        f"{HOSTILE}cve_2026_32589_a_session_belongs_to_one_user",
        f"{HTTP}test_auth.py::test_upload_belongs_to_who_began_it",
    ),
    "CVE-2026-32590: stored state is code": (f"{HERE}cve_2026_32590_nothing_is_unpickled_or_evaluated",),
    "CVE-2025-4374: a pull makes its caller an administrator": (
        f"{HERE}cve_2025_4374_who_creates_a_repository_has_no_further_rights_in_it",
        f"{HERE}cve_2025_4374_asking_for_a_token_creates_nothing",
    ),
    "PROJQUAY-10504: an immutable tag goes with its manifest": (
        "there are no immutable tags yet; what deleting a digest needs is in the walk over the routes",
    ),
    "PROJQUAY-9849: an issuer is compared by its beginning": (f"{HERE}quay_9849_an_issuer_is_compared_to_the_letter",),
    "CVE-2024-3727: a digest is a path": (f"{HOSTILE}cve_2024_3727_a_digest_is_no_path",),
    "CVE-2024-7143: a later record names the wrong user": (
        f"{HERE}cve_2024_7143_what_is_recorded_later_names_who_did_it",
    ),
    "CVE-2023-27584: one key for every installation": (
        f"{HERE}cve_2023_27584_keys_are_made_once_for_each_registry_and_are_the_owners",
    ),
    "CVE-2023-44487: streams are reset at once": (
        f"{HOSTILE}cve_2023_44487_streams_that_are_reset_at_once_stop_nobody",
    ),
    "CVE-2024-23332: a tag goes back unseen": (
        f"{HTTP}test_history.py::test_pushes_moves_and_deletions",
        f"{HTTP}test_audit.py::test_tag_move_has_the_old_and_the_new_digest",
    ),
    "artifact-keeper 3606: one upstream token for all": (
        "there are no upstream registries yet, and so no tokens of theirs",
    ),
}


@pytest.mark.slow
def test_every_failure_is_covered_or_does_not_apply() -> None:
    for failure, places in COVERED.items():
        missing = [place for place in places if "::" in place and not exists(place)]
        assert not missing, f"{failure} points at tests that do not exist: {missing}"
        assert all("::" in place for place in places) or len(places) == 1


def exists(place: str) -> bool:
    """Whether there is a test of this name."""
    path, _, name = place.partition("::")
    file = ROOT / path
    if not file.exists():
        return False
    module = ast.parse(file.read_text("utf-8"))
    return any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name for node in module.body)
