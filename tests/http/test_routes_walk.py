"""Every route of the table, asked by every kind of caller, against one table of expected answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from secrets import token_urlsafe
from typing import TYPE_CHECKING, Any, Final, TypeAlias, cast
from urllib.parse import urlencode

import pytest

import factories
from support.codes import CODES
from support.registry import Client, Repository
from support.team import Team
from support.waiting import until
from trow.access.permissions import Permission
from trow.http.handlers.admission import AdmissionHandlers
from trow.http.handlers.api import Api
from trow.http.handlers.blobs import BlobHandlers
from trow.http.handlers.ops import Operations
from trow.http.handlers.token import TokenService
from trow.http.handlers.v2 import V2
from trow.http.route import Unrecorded
from trow.http.routes import table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from factories import Manifest
    from support.issuer import Issuer
    from support.registry import Reply
    from support.team import TeamClient
    from trow.http.routes import Endpoint

# The answers. `public` and `guest` are at a server where everybody may pull, all others where nobody may do anything
# without credentials. In the second part of the table are tokens of the token service:
#   token  the user who may do everything, for this repository      else   the same for another repository
#   small  the user who may pull here, who asked for more           lists  for the catalogue and the audit trail alone
#   guest  somebody without credentials, for this repository
# `bad` are credentials that are not good: wrong, expired, revoked, tampered with.
# 401 is answered where other credentials, or another token, would help; 403 where they would not.
EXPECTED: Final = """
                     nobody public bad root pull push over att del list aud adm robot oidc token else small lists guest
get manifest         401    200    401 200  200  200  200  200 403 403  403 200 200   200  200   401  200   401   200
head manifest        401    200    401 200  200  200  200  200 403 403  403 200 200   200  200   401  200   401   200
get by digest        401    200    401 200  200  200  200  200 403 403  403 200 200   200  200   401  200   401   200
get foreign          401    200    401 200  403  403  403  403 403 403  403 200 403   403  401   401  403   401   401
get absent           401    404    401 404  403  403  403  403 403 403  403 404 403   403  401   401  403   401   401
get blob             401    200    401 200  200  200  200  200 403 403  403 200 200   200  200   401  200   401   200
list tags            401    200    401 200  200  200  200  200 403 403  403 200 200   200  200   401  200   401   200
list referrers       401    200    401 200  200  200  200  200 403 403  403 200 200   200  200   401  200   401   200
tag history          401    200    401 200  200  200  200  200 403 403  403 200 200   200  200   401  200   401   200
put new tag          401    401    401 201  403  201  201  403 403 403  403 201 201   403  201   401  403   401   401
put same again       401    401    401 201  403  201  201  403 403 403  403 201 201   403  201   401  403   401   401
put over a tag       401    401    401 201  403  403  201  403 403 403  403 201 403   403  201   401  403   401   401
put digest over tag  401    401    401 201  403  403  201  403 403 403  403 201 403   403  201   401  403   401   401
put digest           401    401    401 201  403  201  201  403 403 403  403 201 201   403  201   401  403   401   401
attach               401    401    401 201  403  201  201  201 403 403  403 201 201   403  201   401  403   401   401
attach with tag      401    401    401 201  403  201  201  403 403 403  403 201 201   403  201   401  403   401   401
delete tag           401    401    401 202  403  403  403  403 202 403  403 202 403   403  202   401  403   401   401
delete manifest      401    401    401 202  403  403  403  403 202 403  403 202 403   403  202   401  403   401   401
delete blob          401    401    401 202  403  403  403  403 202 403  403 202 403   403  202   401  403   401   401
begin                401    401    401 202  403  202  202  202 403 403  403 202 202   403  202   401  403   401   401
begin without slash  401    401    401 202  403  202  202  202 403 403  403 202 202   403  202   401  403   401   401
push whole           401    401    401 201  403  201  201  201 403 403  403 201 201   403  201   401  403   401   401
mount foreign        401    401    401 201  403  202  202  202 403 403  403 201 202   403  201   401  403   401   401
status               401    401    401 204  403  204  204  204 403 403  403 204 204   403  204   401  403   401   401
append               401    401    401 202  403  202  202  202 403 403  403 202 202   403  202   401  403   401   401
finish               401    401    401 201  403  201  201  201 403 403  403 201 201   403  201   401  403   401   401
cancel               401    401    401 204  403  204  204  204 403 403  403 204 204   403  204   401  403   401   401
ping                 401    401    401 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
ping without slash   401    401    401 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
catalogue            401    200    401 200  403  403  403  403 403 200  403 200 403   403  401   401  403   200   401
search               401    200    401 200  403  403  403  403 403 200  403 200 403   403  401   401  403   200   401
audit                401    401    401 200  403  403  403  403 403 403  200 200 403   403  401   401  403   200   401
nodes                401    401    401 400  403  403  403  403 403 403  403 400 403   403  401   401  403   401   401
token                401    200    401 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
token by form        400    400    401 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
welcome              200    200    200 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
health               200    200    200 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
ready                200    200    200 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
readiness            200    200    200 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
admission            404    404    404 404  404  404  404  404 404 404  404 404 404   404  404   404  404   404   404
mutation             404    404    404 404  404  404  404  404 404 404  404 404 404   404  404   404  404   404   404
reach                404    404    404 404  404  404  404  404 404 404  404 404 404   404  404   404  404   404   404
validate image       404    404    404 404  404  404  404  404 404 404  404 404 404   404  404   404  404   404   404
metrics              200    200    200 200  200  200  200  200 200 200  200 200 200   200  200   200  200   200   200
"""
HERE: Final = "team-a/walk"
FOREIGN: Final = "team-b/vault"
ABSENT: Final = "team-b/absent"
SCOPE: Final = f"repository:{HERE}:pull,push,delete"
Answers: TypeAlias = "dict[str, int]"


def expected() -> Mapping[str, Answers]:
    """The table by column."""
    heads, *lines = EXPECTED.strip("\n").splitlines()
    columns = heads.split()
    rows = {line[:20].strip(): list(map(int, line[20:].split())) for line in lines}
    assert all(len(row) == len(columns) for row in rows.values())
    return {name: {row: answers[at] for row, answers in rows.items()} for at, name in enumerate(columns)}


TABLE: Final = expected()


# ---- what is asked for


@dataclass(frozen=True)
class Place:
    """What the repositories hold before each request."""

    image: Manifest
    foreign: Manifest
    other: Manifest  # pushed by those who may
    attached: Manifest

    @classmethod
    def new(cls) -> Place:
        image = factories.image()
        return cls(image, factories.image(), factories.image(0), factories.artifact(subject=image))


@dataclass(frozen=True)
class Caller:
    """Who asks; each credential as it is sent, and in the form that the token service takes."""

    client: TeamClient
    form: Mapping[str, str]


Probe: TypeAlias = "Callable[[Walk, Caller], Reply]"
PROBES: Final[dict[str, Probe]] = {}
ROUTES: Final[dict[str, tuple[str, str]]] = {}


def probe(name: str, method: str, route: str) -> Callable[[Probe], Probe]:
    """A request to a route."""

    def add(function: Probe) -> Probe:
        PROBES[name], ROUTES[name] = function, (method, route)
        return function

    return add


class Walk:
    """One server with the place as it should be."""

    def __init__(self, team: Team) -> None:
        self.team = team
        self.place = Place.new()
        self.root = team.root
        self.here = Repository(self.root, HERE)
        Repository(self.root, FOREIGN).push(self.place.foreign, "v1")
        self.here.push(factories.image(), "keeper")  # the repository stays, whatever is deleted
        self.sessions: list[str] = []
        self.restore()
        self.before = self.state()

    def restore(self) -> None:
        """Undo what a request was allowed to do."""
        place, root, here = self.place, self.root, self.here
        for session in self.sessions:
            root.delete(session)
        for manifest in (place.other, place.attached):
            root.delete(here.manifest(manifest.digest))
        for blob in (place.foreign.blobs[0], place.other.blobs[0], place.attached.blobs[1]):
            root.delete(here.blob(blob.digest))
        here.push(place.image, "v1")
        root.delete(here.manifest("v2"))
        self.sessions = [here.begin()]

    def state(self) -> tuple[object, ...]:
        """What there is to change."""
        root, here, place = self.root, self.here, self.place
        blobs = (*place.image.blobs, place.foreign.blobs[0], place.other.blobs[0])
        return (
            root.get(here.tags).json["tags"],
            root.get(here.manifest("v1")).body,
            [root.head(here.manifest(each.digest)).status for each in (place.image, place.other, place.attached)],
            [root.head(here.blob(blob.digest)).status for blob in blobs],
            root.get(here.referrers(place.image.digest)).json["manifests"],
            root.get(self.sessions[0]).headers["range"],
            root.get(f"/v2/{FOREIGN}/tags/list").json["tags"],
        )

    def session(self, caller: Caller) -> str:
        """An upload of the caller's, or of somebody else's where the caller may not begin one."""
        reply = caller.client.post(self.here.uploads)
        return reply.headers["location"] if reply.status == 202 else self.sessions[0]


def put(walk: Walk, caller: Caller, manifest: Manifest, reference: str) -> Reply:
    path = walk.here.manifest(reference)
    return caller.client.put(path, manifest.raw, content_type=manifest.media_type)


MANIFEST: Final = "/v2/{repository}/manifests/{reference}"
BLOB: Final = "/v2/{repository}/blobs/{digest}"
UPLOAD: Final = "/v2/{repository}/blobs/uploads/{upload}"


@probe("get manifest", "GET", MANIFEST)
def get_manifest(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(walk.here.manifest("v1"))


@probe("head manifest", "GET", MANIFEST)
def head_manifest(walk: Walk, caller: Caller) -> Reply:
    return caller.client.head(walk.here.manifest("v1"))


@probe("get by digest", "GET", MANIFEST)
def get_by_digest(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(walk.here.manifest(walk.place.image.digest))


@probe("get foreign", "GET", MANIFEST)
def get_foreign(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(f"/v2/{FOREIGN}/manifests/v1")


@probe("get absent", "GET", MANIFEST)
def get_absent(walk: Walk, caller: Caller) -> Reply:
    """Who may not pull does not learn whether there is something."""
    return caller.client.get(f"/v2/{ABSENT}/manifests/v1")


@probe("get blob", "GET", BLOB)
def get_blob(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(walk.here.blob(walk.place.image.blobs[0].digest))


@probe("list tags", "GET", "/v2/{repository}/tags/list")
def list_tags(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(walk.here.tags)


@probe("list referrers", "GET", "/v2/{repository}/referrers/{digest}")
def list_referrers(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(walk.here.referrers(walk.place.image.digest))


@probe("tag history", "GET", "/api/v1/repositories/{repository}/tags/{tag}/history")
def tag_history(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(walk.here.history("v1"))


@probe("put new tag", "PUT", MANIFEST)
def put_new_tag(walk: Walk, caller: Caller) -> Reply:
    return put(walk, caller, walk.place.other, "v2")


@probe("put same again", "PUT", MANIFEST)
def put_same_again(walk: Walk, caller: Caller) -> Reply:
    return put(walk, caller, walk.place.image, "v1")


@probe("put over a tag", "PUT", MANIFEST)
def put_over_a_tag(walk: Walk, caller: Caller) -> Reply:
    return put(walk, caller, walk.place.other, "v1")


@probe("put digest over tag", "PUT", MANIFEST)
def put_digest_over_tag(walk: Walk, caller: Caller) -> Reply:
    """The second of the tags is there already (zot 4266)."""
    return put(walk, caller, walk.place.other, f"{walk.place.other.digest}?tag=v2&tag=v1")


@probe("put digest", "PUT", MANIFEST)
def put_digest(walk: Walk, caller: Caller) -> Reply:
    return put(walk, caller, walk.place.other, walk.place.other.digest)


@probe("attach", "PUT", MANIFEST)
def attach(walk: Walk, caller: Caller) -> Reply:
    return put(walk, caller, walk.place.attached, walk.place.attached.digest)


@probe("attach with tag", "PUT", MANIFEST)
def attach_with_tag(walk: Walk, caller: Caller) -> Reply:
    return put(walk, caller, walk.place.attached, f"{walk.place.attached.digest}?tag=v2")


@probe("delete tag", "DELETE", MANIFEST)
def delete_tag(walk: Walk, caller: Caller) -> Reply:
    return caller.client.delete(walk.here.manifest("v1"))


@probe("delete manifest", "DELETE", MANIFEST)
def delete_manifest(walk: Walk, caller: Caller) -> Reply:
    return caller.client.delete(walk.here.manifest(walk.place.image.digest))


@probe("delete blob", "DELETE", BLOB)
def delete_blob(walk: Walk, caller: Caller) -> Reply:
    return caller.client.delete(walk.here.blob(walk.place.image.blobs[0].digest))


@probe("begin", "POST", "/v2/{repository}/blobs/uploads/")
def begin(walk: Walk, caller: Caller) -> Reply:
    return caller.client.post(walk.here.uploads)


@probe("begin without slash", "POST", "/v2/{repository}/blobs/uploads")
def begin_without_slash(walk: Walk, caller: Caller) -> Reply:
    return caller.client.post(walk.here.uploads.rstrip("/"))


@probe("push whole", "POST", "/v2/{repository}/blobs/uploads/")
def push_whole(walk: Walk, caller: Caller) -> Reply:
    blob = walk.place.other.blobs[0]
    return caller.client.post(f"{walk.here.uploads}?digest={blob.digest}", blob.content)


@probe("mount foreign", "POST", "/v2/{repository}/blobs/uploads/")
def mount_foreign(walk: Walk, caller: Caller) -> Reply:
    """Knowing a digest is no right to have it (CVE-2024-39897)."""
    digest = walk.place.foreign.blobs[0].digest
    named = caller.client.post(f"{walk.here.uploads}?mount={digest}&from={FOREIGN}")
    anywhere = caller.client.post(f"{walk.here.uploads}?mount={digest}")
    assert named.status == anywhere.status
    return anywhere


@probe("status", "GET", UPLOAD)
def status(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(walk.session(caller))


@probe("append", "PATCH", UPLOAD)
def append(walk: Walk, caller: Caller) -> Reply:
    return caller.client.patch(walk.session(caller), b"some bytes")


@probe("finish", "PUT", UPLOAD)
def finish(walk: Walk, caller: Caller) -> Reply:
    blob = walk.place.other.blobs[0]
    return caller.client.put(f"{walk.session(caller)}?digest={blob.digest}", blob.content)


@probe("cancel", "DELETE", UPLOAD)
def cancel(walk: Walk, caller: Caller) -> Reply:
    return caller.client.delete(walk.session(caller))


@probe("ping", "GET", "/v2/")
def ping(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/v2/")


@probe("ping without slash", "GET", "/v2")
def ping_without_slash(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/v2")


@probe("catalogue", "GET", "/v2/_catalog")
def catalogue(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/v2/_catalog")


@probe("search", "GET", "/api/v1/repositories")
def search(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/api/v1/repositories?q=walk")


@probe("audit", "GET", "/api/v1/audit")
def audit(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/api/v1/audit?n=1")


@probe("nodes", "GET", "/api/v1/nodes")
def nodes(walk: Walk, caller: Caller) -> Reply:
    """There is no cluster here."""
    return caller.client.get("/api/v1/nodes")


@probe("token", "GET", "/token")
def token(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get(f"/token?service=trow&scope={SCOPE}")


@probe("token by form", "POST", "/token")
def token_by_form(walk: Walk, caller: Caller) -> Reply:
    with Client(walk.team.trow.url, address=caller.client.address) as plain:
        return plain.post("/token", urlencode(caller.form).encode())


@probe("health", "GET", "/healthz")
def health(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/healthz")


@probe("ready", "GET", "/readyz")
def ready(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/readyz")


@probe("readiness", "GET", "/readiness")
def readiness(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/readiness")


def review(walk: Walk, caller: Caller, path: str) -> Reply:
    request = {"uid": "1", "kind": {"version": "v1", "kind": "Pod"}, "operation": "DELETE", "namespace": "team-a"}
    body = {"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request}
    return caller.client.post(path, json.dumps(body).encode(), **{"content-type": "application/json"})


@probe("admission", "POST", "/admission/validate")
def admission(walk: Walk, caller: Caller) -> Reply:
    return review(walk, caller, "/admission/validate")


@probe("mutation", "POST", "/admission/mutate")
def mutation(walk: Walk, caller: Caller) -> Reply:
    return review(walk, caller, "/admission/mutate")


@probe("reach", "POST", "/admission/reach")
def reach(walk: Walk, caller: Caller) -> Reply:
    return review(walk, caller, "/admission/reach")


@probe("validate image", "POST", "/validate-image")
def validate_image(walk: Walk, caller: Caller) -> Reply:
    return review(walk, caller, "/validate-image")


@probe("welcome", "GET", "/")
def welcome(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/")


@probe("metrics", "GET", "/metrics")
def metrics(walk: Walk, caller: Caller) -> Reply:
    return caller.client.get("/metrics")


# ---- who asks

CALLERS: Final[dict[str, tuple[str, Callable[[Team], Caller]]]] = {}


def without_credentials(team: Team) -> Caller:
    return Caller(team.nobody(), {"grant_type": "password"})


def by_password(name: str, secret: Callable[[Team], str] | None = None) -> Callable[[Team], Caller]:
    """Basic, with a password or with what stands in its place."""

    def make(team: Team) -> Caller:
        password = team.passwords[name] if secret is None else secret(team)
        form = {"grant_type": "password", "service": "trow", "username": name, "password": password}
        return Caller(team.user(name, password), form)

    return make


def by_bearer(token: Callable[[Team], str]) -> Callable[[Team], Caller]:
    def make(team: Team) -> Caller:
        text = token(team)
        return Caller(team.bearer(text), {"grant_type": "refresh_token", "service": "trow", "refresh_token": text})

    return make


def both(name: str, column: str, token: Callable[[Team], str]) -> None:
    """A token as Basic password, with any user name, and as Bearer."""
    CALLERS[f"{name}, as password"] = column, by_password("anybody", token)
    CALLERS[f"{name}, as bearer"] = column, by_bearer(token)


def of(name: str, *scopes: str) -> Callable[[Team], str]:
    """A token of the token service."""
    return lambda team: team.token(team.user(name), *scopes)


def revoked(team: Team) -> str:
    robot = team.robot("revoked")
    team.revoke(robot)
    return robot


def tampered(team: Team) -> str:
    """For a repository that it was not issued for."""
    head, claims, signature = of("root", SCOPE)(team).split(".")
    _, others, _ = of("root", f"repository:{FOREIGN}:pull")(team).split(".")
    assert others != claims
    return team.secret(f"{head}.{others}.{signature}")


CALLERS.update(
    {
        "nobody": ("nobody", without_credentials),
        "nobody, where everybody may pull": ("public", without_credentials),
        "wrong password": ("bad", by_password("root", lambda _: token_urlsafe())),
        "no password": ("bad", by_password("root", lambda _: "")),
        "unknown user": ("bad", by_password("stranger", lambda team: team.passwords["root"])),
        "root": ("root", by_password("root")),
        **{
            user: (column, by_password(user))
            for user, column in {
                "puller": "pull",
                "pusher": "push",
                "overwriter": "over",
                "attacher": "att",
                "deleter": "del",
                "lister": "list",
                "auditor": "aud",
                "admin": "adm",
            }.items()
        },
    }
)
both("robot", "robot", lambda team: team.robot())
both("expired robot", "bad", lambda team: team.robot("expired", age=7200))
both("revoked robot", "bad", revoked)
both("unknown robot", "bad", lambda team: team.secret("trow_aaaaaaaaaaaa_" + "x" * 43))
both("OIDC token", "oidc", lambda team: team.oidc())
both("expired OIDC token", "bad", lambda team: team.oidc(exp=1, iat=0))
both("OIDC token for somebody else", "bad", lambda team: team.oidc(aud="another"))
both("token", "token", of("root", SCOPE))
both("token for another repository", "else", of("root", f"repository:{HERE}/more:pull,push,delete"))
both("token of who may only pull", "small", of("puller", SCOPE))
both("token for lists", "lists", of("root", "registry:catalog:*", "registry:audit:*"))
both("expired token", "bad", lambda team: team.forged(age=301))
both("tampered token", "bad", tampered)
both("token for another service", "bad", lambda team: team.forged(service="another"))
both("guest's token", "guest", lambda team: team.token(team.nobody(), SCOPE))
OPEN: Final = {"public", "guest"}


# ---- the walk


@pytest.fixture(scope="module")
def closed(team: Team) -> Walk:
    return Walk(team)


@pytest.fixture(scope="module")
def opened(open_team: Team) -> Walk:
    return Walk(open_team)


@pytest.mark.slow
@pytest.mark.parametrize("name", CALLERS)
def test_every_route_answers_as_the_table_says(name: str, request: pytest.FixtureRequest) -> None:
    column, make = CALLERS[name]
    walk: Walk = request.getfixturevalue("opened" if column in OPEN else "closed")
    answers: Answers = {}
    good = make(walk.team)  # bad credentials come from a new address each time: failures slow down
    refused: list[str] = []
    for row, ask in PROBES.items():
        if refused and TABLE[column][row] < 400:
            assert walk.state() == walk.before, refused
            refused = []
        reply = ask(walk, make(walk.team) if column == "bad" else good)
        answers[row] = reply.status
        if reply.status >= 400:
            check_refusal(row, reply)
            refused.append(row)
        elif ROUTES[row][0] != "GET" or "uploads" in ROUTES[row][1]:
            walk.restore()
    assert answers == TABLE[column]
    assert walk.state() == walk.before, refused


@pytest.mark.slow
def test_every_request_leaves_on_record_what_its_route_says(tmp_path: Path, issuer: Issuer) -> None:
    """Where intents are recorded, so that each kind of record comes at once; webhooks are not answered there."""
    with Team(tmp_path, issuer, audit={"fail_closed": True}) as team:
        walk, root = Walk(team), by_password("root")
        callers: dict[object, Caller] = {}  # one for each handler: some have two paths
        handlers = {(route.method, route.path): route.handler for route in all_routes()}
        for row, status in TABLE["root"].items():
            if status < 400:
                caller = callers.setdefault(handlers[ROUTES[row]], root(team))
                assert PROBES[row](walk, caller).status == status
                walk.restore()
        for route in all_routes():
            if route.handler in callers and isinstance(route.records, Unrecorded):
                assert team.records.now(callers[route.handler].client) == [], route.path
            elif route.handler in callers and not isinstance(route.records, Unrecorded):
                found = until(partial(team.records.now, callers[route.handler].client))
                assert {record["action"] for record in found} <= {action.value for action in route.records}, route.path


def check_refusal(row: str, reply: Reply) -> None:
    """It is worded as the specification wants it, and asks for credentials where these would help."""
    if row != "head manifest":
        assert CODES.issuperset(reply.codes)
        assert {401: ["UNAUTHORIZED"], 403: ["DENIED"]}.get(reply.status, reply.codes) == reply.codes
    assert ("www-authenticate" in reply.headers) == (reply.status == 401)
    if reply.status == 401:
        kind = "Basic " if ROUTES[row][1] == "/token" else "Bearer "
        assert reply.headers["www-authenticate"].startswith(kind)


def all_routes() -> tuple[Endpoint, ...]:
    return table(
        cast("Any", V2),
        cast("Any", BlobHandlers),
        cast("Any", TokenService),
        cast("Any", Api),
        cast("Any", AdmissionHandlers),
        cast("Any", Operations),
    )


def test_every_route_is_in_the_table() -> None:
    assert {(route.method, route.path) for route in all_routes()} == set(ROUTES.values())
    assert all(set(PROBES) == set(answers) for answers in TABLE.values())
    assert {column for column, _ in CALLERS.values()} == set(TABLE)


def test_zot_3183_what_is_open_to_all_is_no_part_of_the_registry() -> None:
    """A route without a permission would be open; the ones that are meant to be are named here."""
    assert {route.path for route in all_routes() if route.permission is Permission.OPEN} == {
        "/token",
        "/admission/validate",  # the API server shows no credentials
        "/admission/mutate",
        "/admission/reach",
        "/validate-image",
        "/",
        "/healthz",
        "/readyz",
        "/readiness",
        "/metrics",
    }
    assert {route.path for route in all_routes() if route.permission is Permission.PING} == {"/v2/", "/v2"}
