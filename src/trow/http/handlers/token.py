"""The token service that docker, podman and containerd know how to ask.

GET is distribution's "Token Authentication Specification", POST its "OAuth2" variant. What proves an identity
at the registry proves it here: passwords, robot tokens, tokens of an OIDC issuer, ServiceAccount tokens, client
certificates. The answer is a token for minutes that carries only what was asked for and is allowed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qsl

from trow.access.permissions import LISTS, Permission, phrase
from trow.http.access import by_header
from trow.http.bodies import FREE, Bodies, Tier
from trow.http.response import json_response
from trow.lib.shares import Bounds, Shares
from trow.lib.times import rfc3339
from trow.oci.errors import NameInvalid, RequestInvalid, Unauthorized
from trow.oci.names import Repository
from trow.registry.actor import event_of
from trow.registry.events import Action, Outcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping, Sequence

    from trow.access.identity import Identity
    from trow.access.ports import Authorizer, TokenIssuer
    from trow.http.access import AccessController, Ask
    from trow.http.recorder import Recorder
    from trow.http.request import Request
    from trow.http.response import Response

_LARGEST_FORM: Final = 64 * 1024
# Nobody has shown who they are. A client has the whole form before it sends the first byte.
_FORMS: Final = Bounds(total=64, each=16, waiting=512, waiting_each=64, patience=5)
_FORM_SECONDS: Final = 10.0
# Scopes that are looked at: many times what a token has room for.
_MOST_SCOPES: Final = 1000
# Bytes of a token for what it is good for, beside its holder, and what a repository takes without its name.
_ROOM: Final = 4400
_ENTRY: Final = 76
_MOST_FIELDS: Final = 100
_ACTIONS: Final[Mapping[str, tuple[Permission, ...]]] = {
    "pull": (Permission.PULL,),
    "push": (Permission.PUSH, Permission.ATTACH),
    "delete": (Permission.DELETE,),
    "*": (Permission.PULL, Permission.PUSH, Permission.ATTACH, Permission.DELETE),
}
_LISTS: Final = {name: permission for permission, name in LISTS.items()}
_NO_REPOSITORY: Final = Repository("")


@dataclass(frozen=True, slots=True)
class _Asked:
    """What a client wants a token for."""

    repositories: Mapping[Repository, frozenset[Permission]]
    lists: frozenset[Permission]


class TokenService:
    """Handlers.

    Args:
        generation: the number of the repository that was made last (`Metadata.generation`).
        anonymous: whether those without credentials get tokens at all.
    """

    def __init__(
        self,
        access: AccessController,
        authorizer: Authorizer,
        tokens: TokenIssuer,
        recorder: Recorder,
        *,
        generation: Callable[[], Awaitable[int]],
        anonymous: bool,
    ) -> None:
        self._access = access
        self._authorizer = authorizer
        self._tokens = tokens
        self._recorder = recorder
        self._generation = generation
        self._anonymous = anonymous
        self.forms: Final = Shares(_FORMS, "large forms")
        self._bodies = Bodies(
            _LARGEST_FORM,
            lambda: RequestInvalid(f"the form is larger than {_LARGEST_FORM} bytes; send only the fields of a login"),
            [Tier(FREE, self.forms)],
            seconds=_FORM_SECONDS,
        )

    async def get(self, request: Request) -> Response:
        """A token for the credentials in ``Authorization``."""
        asked = _parse_scopes(request.query_raw("scope"))
        await self._identify(request, by_header)
        return await self._issue(request, asked)

    async def post(self, request: Request) -> Response:
        """A token for the credentials in a form (RFC 6749, sections 4.3 and 6)."""
        async with self._bodies.receive(request) as body:
            form = _read_form(body)
        asked = _parse_scopes(form.get("scope", []))
        user = ""
        match _one(form, "grant_type"):
            case "password":
                user, secret = _one(form, "username"), _one(form, "password")
            case "refresh_token":  # clients send a stored identity token, so it may be any secret
                secret = _one(form, "refresh_token")
            case _:
                raise RequestInvalid("grant_type is neither password nor refresh_token; send one of these")
        del body, form  # who has to wait keeps what the answer takes
        await self._identify(request, lambda asked, who: who.verify_secret(user, secret, asked.client))
        return await self._issue(request, asked)

    async def _identify(self, request: Request, ask: Ask) -> None:
        await self._access.identify(request, ask)
        if request.identity.anonymous and not self._anonymous:
            raise Unauthorized("log in to get a token")

    async def _issue(self, request: Request, asked: _Asked) -> Response:
        identity = request.identity
        granted: dict[Repository, frozenset[Permission]] = {}
        refused: list[str] = []
        for repository, permissions in asked.repositories.items():
            granted[repository], reasons = await self._allowed(identity, repository, permissions)
            refused += reasons
        listing, reasons = await self._allowed(identity, _NO_REPOSITORY, asked.lists)
        refused += reasons
        lists = frozenset(LISTS[permission] for permission in listing)
        # Made before it is recorded, given away after that.
        grants = tuple((repository, permissions) for repository, permissions in granted.items() if permissions)
        token = self._tokens.issue(identity, grants, lists, await self._generation())
        scopes = [f"repository:{name}:{','.join(sorted(each.value for each in allowed))}" for name, allowed in grants]
        words = " ".join([*scopes, *(f"registry:{name}:*" for name in sorted(lists))])
        event = event_of(
            request,
            # A token without any scope is what ``docker login`` asks for.
            Action.TOKEN_ISSUE if granted or lists or refused else Action.LOGIN,
            Outcome.DENIED if refused else Outcome.OK,
            status=200,
            reason="; ".join(refused),
            repository=next(iter(granted), ""),
            detail=f"granted {words or 'nothing'}",
        )
        # A client that gets nothing can ask as often as it likes.
        await self._recorder.given(event, first=bool(grants or lists or not refused))
        body = {
            "token": token.text,
            "access_token": token.text,
            "expires_in": token.expires_in,
            "issued_at": rfc3339(token.issued_at, "milliseconds"),
            "scope": words,
        }
        return json_response(200, body, [("cache-control", "no-store")])

    async def _allowed(
        self, identity: Identity, repository: Repository, permissions: frozenset[Permission]
    ) -> tuple[frozenset[Permission], list[str]]:
        """Which of the permissions the identity has, and why it lacks others. Pushing includes attaching."""
        allowed: set[Permission] = set()
        reasons: list[str] = []
        for permission in sorted(permissions, key=_ORDER.index):
            if permission is Permission.ATTACH and Permission.PUSH in allowed:
                allowed.add(permission)
                continue
            decision = await self._authorizer.decide(identity, permission, repository)
            if decision.allowed:
                allowed.add(permission)
            elif permission is not Permission.ATTACH:
                reasons.append(f"may not {phrase(permission, repository)}: {decision.reason}")
        return frozenset(allowed), reasons


# Pushing comes before attaching, which it includes.
_ORDER: Final = tuple(Permission)


def _parse_scopes(texts: Sequence[str]) -> _Asked:
    """What the scopes ask for.

    A scope that means nothing here (another type, an invalid name, unknown actions) asks for nothing, and does not
    refuse the others (distribution, "Token Scope Documentation"): containerd and kaniko ask for the source and
    the target of a copy in one request. So does one that is too many; the answer says what the token is good for.
    """
    repositories: dict[Repository, frozenset[Permission]] = {}
    lists: set[Permission] = set()
    room = _ROOM
    for scope in " ".join(texts).split(maxsplit=_MOST_SCOPES)[:_MOST_SCOPES]:
        # type(class):name:actions; the name may hold colons.
        kind, _, rest = scope.partition(":")
        name, _, actions = rest.rpartition(":")
        kind = kind.partition("(")[0]
        if kind == "registry" and name in _LISTS:
            lists.add(_LISTS[name])
        wanted = frozenset(permission for action in actions.split(",") for permission in _ACTIONS.get(action, ()))
        if kind != "repository" or not wanted:
            continue
        try:
            repository = Repository.parse(name)
        except NameInvalid:
            continue
        room -= 0 if repository in repositories else len(repository) + _ENTRY
        if room >= 0:
            repositories[repository] = repositories.get(repository, frozenset()) | wanted
    return _Asked(repositories, frozenset(lists))


def _read_form(body: bytes) -> Mapping[str, list[str]]:
    form: dict[str, list[str]] = {}
    try:
        for name, value in parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS,
                                     errors="strict"):  # fmt: skip
            form.setdefault(name, []).append(value)
    except ValueError:
        raise RequestInvalid("the form cannot be read; send application/x-www-form-urlencoded") from None
    return form


def _one(form: Mapping[str, list[str]], name: str) -> str:
    values = form.get(name, [])
    if len(values) != 1:
        raise RequestInvalid(f"the form does not have exactly one {name}; send it once")
    return values[0]
