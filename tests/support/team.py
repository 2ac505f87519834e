"""A live registry with somebody of every kind: users with one right each, robots, an OIDC issuer, token holders.

Every secret that is made here is remembered, and so is every refusal that anybody got, so that in the end nothing that
the server has written may hold any of them. Each client has an address of its own (this machine is a trusted proxy):
failed logins of one test do not slow down the others, and each can find its own records.
"""

from __future__ import annotations

import base64
import itertools
import secrets
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import quote

import bcrypt

from support.issuer import AUDIENCE, Issuer
from support.records import Records
from support.registry import Client, Reply
from support.server import Trow
from trow.access.identity import Grant, Identity, Method
from trow.access.permissions import Permission, expand
from trow.identity.keys import KeyRing
from trow.identity.robots import new_token
from trow.identity.tokens import RegistryTokens
from trow.lib.globs import RepositoryGlob
from trow.metadata.store import SCHEMA
from trow.metadata.transactions import robots
from trow.oci.names import Repository
from trow.sql.sqlite import run_offline

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

ROOT: Final = "root"
# Each user of the file and what a rule lets them do: audit and admin everywhere, the rest on team-a/**.
USERS: Final[Mapping[str, list[str]]] = {
    "puller": ["pull"],
    "pusher": ["pull", "push"],
    "overwriter": ["pull", "push", "tag-overwrite"],
    "attacher": ["pull", "attach"],
    "deleter": ["delete"],
    "lister": ["list"],
    "auditor": ["audit"],
    "admin": ["admin"],
    "robot": [],  # has the name of a robot, and nothing else in common with it
}
_EVERYWHERE: Final = frozenset({"auditor", "admin"})
_GROUP: Final = "dev"
_addresses: Final = itertools.count(1)


def new_address() -> str:
    """An address that no other client has."""
    number = next(_addresses)
    return f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def users_file(passwords: Mapping[str, str]) -> str:
    """With the cheapest hashes that are accepted: it is not their strength that is tested."""
    lines = (
        f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()}:{_GROUP}\n"
        for user, password in passwords.items()
    )
    return "".join(lines)


def settings(folder: Path, issuer: Issuer, **more: Any) -> dict[str, Any]:
    """The configuration file; `more` replaces whole sections, or adds to them."""
    rules: list[dict[str, Any]] = [
        *(
            {"users": [user], "repositories": ["**" if user in _EVERYWHERE else "team-a/**"], "actions": may}
            for user, may in USERS.items()
            if may
        ),
        {"groups": [_GROUP], "repositories": ["dev/**"], "actions": ["pull"]},
        {
            "issuer": "ci",
            "claims": {"repository": "acme/app"},
            "repositories": ["team-a/**"],
            "actions": ["pull"],
        },
    ]
    oidc = {"name": "ci", "issuer": issuer.url, "audiences": [AUDIENCE], "algorithms": ["RS256", "ES256", "EdDSA"]}
    sections: dict[str, Any] = {
        "listen": {"trusted_proxies": ["127.0.0.0/8"]},
        "auth": {"users_file": str(folder / "users"), "oidc": [oidc]},
        "access": {"rules": rules},
        "registry": {"sparse_images": True},  # what is refused here is refused for want of a right
        "audit": {"pull_idle": "1s", "file": str(folder / "audit.jsonl")},
    }
    for section, members in more.items():
        sections[section] = sections.get(section, {}) | members
    return sections


class TeamClient(Client):
    """A client whose refusals are kept.

    Attributes:
        address: where it seems to be.
        born: since when there may be records of it.
    """

    def __init__(self, url: str, refusals: list[Reply], **who: Any) -> None:
        self.address = new_address()
        self.born = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        super().__init__(url, address=self.address, **who)
        self._refusals = refusals

    def request(
        self,
        method: str,
        path: str,
        body: bytes | Iterable[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        reply = super().request(method, path, body, headers)
        if reply.status >= 400:
            self._refusals.append(reply)
        return reply


class Team:
    """See above. `with Team(folder, issuer) as team:` serves until the block ends, and then looks for secrets."""

    def __init__(self, folder: Path, issuer: Issuer, *flags: str, **more: Any) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.issuer = issuer
        self.secrets: set[str] = set()
        self.refusals: list[Reply] = []
        self.passwords = {user: self.secret(secrets.token_urlsafe(16)) for user in (ROOT, *USERS)}
        self._flags = flags
        self._more = more
        users = folder / "users"
        users.write_text(users_file({user: self.passwords[user] for user in USERS}), encoding="utf-8")
        users.chmod(0o600)
        self.trow = self._start()

    def _start(self) -> Trow:
        config = settings(self.folder, self.issuer, **self._more)
        return Trow.start(self.folder, *self._flags, user=(ROOT, self.passwords[ROOT]), config=config)

    def restart(self) -> None:
        """Stop it and start it again."""
        self.trow.stop()
        self.trow = self._start()

    @property
    def data(self) -> Path:
        return self.folder / "data"

    # ---- who is there

    def nobody(self) -> TeamClient:
        return TeamClient(self.trow.url, self.refusals)

    def user(self, name: str, secret: str | None = None) -> TeamClient:
        """Somebody with a password, or with what stands where a password stands."""
        password = self.passwords[name] if secret is None else self.secret(secret)
        self.secret(base64.b64encode(f"{name}:{password}".encode()).decode())
        return TeamClient(self.trow.url, self.refusals, user=(name, password))

    def bearer(self, token: str) -> TeamClient:
        return TeamClient(self.trow.url, self.refusals, bearer=self.secret(token))

    @property
    def root(self) -> TeamClient:
        return self.user(ROOT)

    @property
    def records(self) -> Records:
        return Records(self.user("auditor"))

    # ---- credentials

    def secret(self, text: str) -> str:
        """Remember it. Of a token the parts are secrets too: who has them has the token."""
        self.secrets.add(text)
        self.secrets.update(part for part in text.split(".") if len(part) > 20)
        return text

    def token(self, who: Client, *scopes: str) -> str:
        """A token from the token service."""
        query = "&".join(f"scope={quote(scope)}" for scope in scopes)
        reply = who.get(f"/token?service=trow&{query}")
        assert reply.status == 200, reply
        token: str = reply.json["token"]
        return self.secret(token)

    def forged(self, *, age: float = 0.0, service: str = "trow", keys: Path | None = None, name: str = ROOT) -> str:
        """A token of some age for all of team-a/walk, perhaps for another service or with other keys."""
        ring = KeyRing(keys or self.data / "keys", clock=lambda: time.time() + 3600)
        issuing = RegistryTokens(ring, service, clock=lambda: time.time() - age)
        everything = frozenset({Permission.PULL, Permission.PUSH, Permission.DELETE})
        grants = ((Repository.parse("team-a/walk"), everything),)
        return self.secret(issuing.issue(Identity(name, Method.PASSWORD), grants).text)

    def robot(self, name: str = "robot", *actions: str, glob: str = "team-a/**", age: float = 0.0) -> str:
        """A robot token that was good for an hour, made some seconds ago."""
        permissions = expand([Permission(action) for action in actions or ("pull", "push")])
        made_at = time.time() - age
        grants = [Grant(RepositoryGlob.parse(glob), permissions)]
        text, token = new_token(name, grants, made_at + 3600, "a test", made_at)
        run_offline(self.data / "trow.db", SCHEMA, partial(robots.add_robot_token, token))
        self.secret(text.split("_", 2)[2])
        return self.secret(text)

    def revoke(self, robot: str) -> None:
        assert run_offline(
            self.data / "trow.db",
            SCHEMA,
            partial(robots.revoke_robot_token, robot.split("_")[1], time.time(), "a test"),
        )

    def oidc(self, algorithm: str = "ES256", /, **claims: Any) -> str:
        """A good token of the issuer, except for the claims given."""
        return self.secret(self.issuer.token(algorithm, **({"aud": AUDIENCE, "repository": "acme/app"} | claims)))

    # ---- the end

    def leaks(self) -> list[str]:
        """Where the server has written a secret down."""
        return [f"{place} holds {secret!r}" for place, content in self._written() for secret in self._in(content)]

    def _in(self, content: bytes) -> Iterator[str]:
        yield from (secret for secret in self.secrets if secret and secret.encode() in content)

    def _written(self) -> Iterator[tuple[str, bytes]]:
        yield "stderr", self.trow.stderr.read_bytes()
        for path in (*self.folder.glob("audit.jsonl*"), *self.data.glob("audit.db*"), *self.data.glob("trow.db*")):
            yield path.name, path.read_bytes()
        yield "a refusal", b"\n".join(reply.body + repr(reply.headers.items()).encode() for reply in self.refusals)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *ended: object) -> None:
        self.trow.stop()
        leaks = self.leaks()
        assert not leaks, leaks
        assert b"Traceback" not in self.trow.stderr.read_bytes()
