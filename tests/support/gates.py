"""Who is who and who may do what, for requests without a server: real passwords, tokens, rules and a database."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final, Literal

from support.audit import RecordingAudit
from support.clock import Clock
from support.metadata import EmbeddedMetadata
from support.registry import basic
from support.requests import Headers, Scope, Transport
from trow.access.identity import Grant
from trow.access.permissions import EVERYTHING, Permission, expand
from trow.access.rules import PermissionRule, Subjects
from trow.http.access import AccessController
from trow.http.challenge import Challenge
from trow.http.pace import Pace
from trow.http.peers import Peers, TerminatorPeers
from trow.http.recorder import Recorder
from trow.http.request import Request
from trow.http.route import Route, Unrecorded
from trow.identity import keys
from trow.identity.authenticator import AuthenticatorChain, Verifiers
from trow.identity.authorizer import AuthorizerChain
from trow.identity.robots import RobotVerifier, new_token
from trow.identity.tokens import RegistryTokens
from trow.identity.users import AnyPasswords, SingleUser
from trow.lib.globs import RepositoryGlob
from trow.metadata.store import SCHEMA
from trow.metadata.transactions import robots
from trow.oci.names import Repository
from trow.registry.transfers import TransferTracker
from trow.sql.sqlite import run_offline

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from trow.access.identity import Identity
    from trow.tls.peer import Peer

APP: Final = Repository.parse("team-a/app")
ALICE: Final = basic("alice", "secret of alice")
BOB: Final = basic("bob", "secret of bob")
ROOT: Final = basic("root", "secret of root")

RULES: Final = (
    PermissionRule(
        "team-a",
        Subjects(users=frozenset({"alice"})),
        (RepositoryGlob.parse("team-a/**"),),
        expand([Permission.PULL, Permission.PUSH, Permission.TAG_OVERWRITE, Permission.DELETE, Permission.LIST]),
    ),
    PermissionRule("operators", Subjects(users=frozenset({"root"})), (RepositoryGlob.parse("**"),), EVERYTHING),
)


class World:
    """What gives access, and all that stands behind it.

    ``alice`` may do everything in ``team-a`` but read the record, ``bob`` may log in, ``root`` may do everything, and
    the robot ``ci`` may pull from ``team-a``.
    """

    def __init__(
        self,
        folder: Path,
        *,
        challenge: Literal["bearer", "basic"] = "bearer",
        anonymous: Literal["none", "pull"] = "none",
        public_url: str = "",
        open_to_all: bool = False,
        fail_closed: bool = False,
        tls_connections: Mapping[str, Peer] | None = None,
    ) -> None:
        self.clock = Clock()
        self.audit = RecordingAudit(fail_closed=fail_closed)
        self.transfers = TransferTracker(self.audit, 10.0, self.clock)
        grants = (Grant(RepositoryGlob.parse("team-a/**"), frozenset({Permission.PULL})),)
        secret, robot = new_token("ci", grants, None, "root", self.clock.now)
        run_offline(folder / "trow.db", SCHEMA, partial(robots.add_robot_token, robot))
        self.robot = f"Bearer {secret}"
        self.robot_secret = secret
        self.metadata = EmbeddedMetadata(folder / "trow.db", self.clock)
        self.tokens = RegistryTokens(keys.load_or_create(folder / "keys"), "trow", clock=self.clock)
        passwords = AnyPasswords(*(SingleUser(name, f"secret of {name}") for name in ("alice", "bob", "root")))
        chain = AuthenticatorChain(
            Verifiers(tokens=self.tokens, robots=RobotVerifier(self.metadata), passwords=passwords)
        )
        self.authenticator = None if open_to_all else chain
        self.authorizer = AuthorizerChain(() if open_to_all else RULES, anonymous=anonymous, open_to_all=open_to_all)
        self.peers = Peers() if tls_connections is None else TerminatorPeers(tls_connections)
        self.recorder = Recorder(self.audit, self.transfers)
        self.challenge = Challenge(bearer=challenge == "bearer", public_url=public_url, service="trow")
        self.access = AccessController(
            self.authenticator, self.authorizer, self.metadata, self.recorder, self.challenge
        )

    def close(self) -> None:
        self.metadata.close()

    def request(
        self,
        authorization: str | None = None,
        permission: Permission = Permission.PULL,
        repository: Repository = APP,
        *,
        method: str = "GET",
        path: str = "/v2/",
        host: str = "registry.example:5000",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"",
        client: str = "192.0.2.1:1234",
    ) -> Request:
        """A request that has found its route, as the dispatcher gives it to the gate."""
        pairs = [("host", host), *(headers or {}).items()]
        if authorization is not None:
            pairs.append(("authorization", authorization))
        scope = Scope(method=method, path=path, query_string=query, headers=Headers(pairs), client=client)
        request = Request(scope, Transport(*([body] if body else [])), self.peers, Pace(5))
        of_all = permission in {Permission.PING, Permission.LIST, Permission.AUDIT, Permission.ADMIN}
        request.repository = Repository("") if of_all else repository
        request.route = Route(method, path, permission, Unrecorded("nothing is answered"))
        return request

    async def identity(self, authorization: str) -> Identity:
        """Who this is."""
        request = self.request(authorization, Permission.PING)
        await self.access.admit(request, Permission.PING)
        return request.identity

    async def token(
        self,
        holder: str,
        *permissions: Permission,
        repository: Repository = APP,
        lists: frozenset[str] = frozenset(),
    ) -> str:
        """The ``Authorization`` header of a token with these of its holder's rights."""
        grants = ((repository, frozenset(permissions)),) if permissions else ()
        issued = self.tokens.issue(await self.identity(holder), grants, lists, await self.metadata.generation())
        return f"Bearer {issued.text}"
