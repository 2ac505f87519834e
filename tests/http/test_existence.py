"""Whether a repository is there is nothing for those who may not see it: answers are the same for one that is not."""

from __future__ import annotations

import itertools
import re
import secrets
from typing import TYPE_CHECKING, Any, Final, cast

import pytest

import factories
from support.registry import Repository
from trow.http.handlers.admission import AdmissionHandlers
from trow.http.handlers.api import Api
from trow.http.handlers.blobs import BlobHandlers
from trow.http.handlers.ops import Operations
from trow.http.handlers.token import TokenService
from trow.http.handlers.v2 import V2
from trow.http.routes import table

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.registry import Reply
    from support.team import Team, TeamClient

HERE: Final = "team-b/is-here"
ABSENT: Final = "team-b/is-none"  # as long as the other, so that lengths can be compared too
NAMES: Final = (HERE, ABSENT)
HANDLERS: Final = (V2, BlobHandlers, TokenService, Api, AdmissionHandlers, Operations)
IMAGE: Final = factories.image()
# Everything of a path that is there in the one repository.
PARTS: Final = {"reference": "v1", "tag": "v1", "digest": IMAGE.blobs[0].digest, "upload": "0" * 32}
ROUTES: Final = [route for route in table(*(cast("Any", each) for each in HANDLERS)) if "{repository}" in route.path]

CALLERS: Final[dict[str, Callable[[Team], TeamClient]]] = {
    "nobody": lambda team: team.nobody(),
    "wrong": lambda team: team.user("puller", secrets.token_urlsafe()),
    "puller": lambda team: team.user("puller"),
    "attacher": lambda team: team.user("attacher"),
    "lister": lambda team: team.user("lister"),
    "robot": lambda team: team.bearer(team.robot("elsewhere")),
    "oidc": lambda team: team.bearer(team.oidc()),
    # Tokens that are older than the repository, and say nothing of it.
    "token": lambda team: team.bearer(team.token(team.user("puller"), "repository:team-a/app:pull")),
    "lists": lambda team: team.bearer(team.token(team.root, "registry:catalog:*")),
    "elsewhere": lambda team: team.bearer(team.token(team.root, "repository:team-a/app:pull,push,delete")),
    "refused": lambda team: team.bearer(team.token(team.user("pusher"), *(f"repository:{n}:pull" for n in NAMES))),
}


@pytest.fixture(scope="module")
def callers(team: Team) -> dict[str, TeamClient]:
    """Those who may not see it, with tokens from before it was there."""
    known = {name: make(team) for name, make in CALLERS.items()}
    Repository(team.root, HERE).push(IMAGE, "v1")
    return known


def told(reply: Reply, repository: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that an answer says, but for the name that was asked for."""
    headers = [(name, value) for name, value in reply.headers.items() if name not in {"date", "x-request-id"}]
    anonymous = [(name, value.replace(repository, "NAME")) for name, value in headers]
    return reply.status, anonymous, reply.body.replace(repository.encode(), b"NAME")


@pytest.mark.slow
@pytest.mark.parametrize("caller", CALLERS)
def test_no_route_tells_whether_a_repository_is_there(callers: dict[str, TeamClient], caller: str) -> None:
    client = callers[caller]
    for route, body in itertools.product(ROUTES, [b"", IMAGE.raw]):
        for method in (route.method, *(["HEAD"] if route.method == "GET" else [])):
            path = re.sub(r"\{(\w+)\}", lambda match: PARTS.get(match[1], match[0]), route.path)
            answers = [
                told(client.request(method, path.replace("{repository}", name), body or None), name) for name in NAMES
            ]
            assert answers[0] == answers[1], (method, path)
            assert answers[0][0] in {401, 403, 429}


@pytest.mark.parametrize("caller", ["puller", "robot", "token", "refused"])
def test_neither_the_token_service_nor_a_mount_tells(team: Team, callers: dict[str, TeamClient], caller: str) -> None:
    client = callers[caller]
    asked = [client.get(f"/token?scope=repository:{name}:pull,push,delete") for name in NAMES]
    assert [(reply.status, reply.json["scope"]) for reply in asked] == [(200, "")] * 2
    pusher = team.user("pusher")
    mounted = [pusher.post(f"/v2/team-a/mounts/blobs/uploads/?mount={PARTS['digest']}&from={name}") for name in NAMES]
    assert [reply.status for reply in mounted] == [202, 202]
    names = [sorted(name for name in reply.headers if name != "date") for reply in mounted]
    assert names[0] == names[1]
