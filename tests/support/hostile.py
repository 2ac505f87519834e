"""A live registry with something to hide, and what no request may do to it.

The rule for every request, however it is formed: one answer, below 500; a refusal has an OCI error body; nothing in it
comes from another repository, from the file system or from inside the program. Afterwards the registry serves as
before, and no file is where none should be.
"""

from __future__ import annotations

import contextlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from factories import digest_of, image_of
from support.client import WireClient
from support.codes import CODES
from support.server import Trow
from support.store import assert_clean, strangers
from support.wire import ConnectionEnded, Incoming, Wire, request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from support.wire import Answer

# What the HTTP parser answers by itself to what is no HTTP, or too much of it.
PARSER_STATUSES: Final = frozenset({400, 414, 431})
OWNER: Final = "victim/vault"
ATTACKER: Final = "attacker/box"
OWN: Final = b"the attacker's own"
_CONFIG: Final = "limits: {body_timeout: 1s, page_size: 2, max_page_size: 3}\n"


@dataclass(frozen=True)
class Hostile:
    """One request, to the byte.

    Attributes:
        data: what is sent.
        method: decides whether the answer has a body.
        unparsable: it is no HTTP request, so the parser refuses it before any code of the registry runs.
    """

    data: bytes
    method: str = "GET"
    unparsable: bool = False

    def __str__(self) -> str:
        return f"{self.data[:200]!r}{'…' if len(self.data) > 200 else ''} ({len(self.data)} bytes)"


def hostile(
    method: str, target: str | bytes, headers: Iterable[tuple[str, str]] = (), body: bytes | None = None
) -> Hostile:
    """A request that is well-formed HTTP."""
    if body is None and method in {"POST", "PUT", "PATCH"} and not any(name == "Content-Length" for name, _ in headers):
        body = b""
    return Hostile(request(method, target, [("Connection", "close"), *headers], body), method)


@dataclass(frozen=True)
class Treasure:
    """What the other repository holds, each of its bytes part of a repeated secret."""

    secret: bytes

    @property
    def small(self) -> bytes:
        return self.secret * 10

    @property
    def large(self) -> bytes:
        return self.secret * 10_000

    @property
    def manifest(self) -> bytes:
        return image_of(self.small, [self.large], annotations={"secret": self.secret.decode()})


@dataclass(frozen=True)
class Target:
    """A registry under attack.

    Attributes:
        folder: holds the data directory and nothing that the server should write to.
        session: the path of an upload session of the other repository, with secret bytes in it.
        marker: a name that a file would have if a request could choose it.
    """

    trow: Trow
    folder: Path
    treasure: Treasure
    session: str
    marker: str = field(default_factory=lambda: f"owned-{secrets.token_hex(8)}")

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def upload(self) -> str:
        """The id of the other repository's session."""
        return self.session.rpartition("/")[2]

    @property
    def small(self) -> str:
        return digest_of(self.treasure.small)

    @property
    def large(self) -> str:
        return digest_of(self.treasure.large)

    @property
    def manifest(self) -> str:
        return digest_of(self.treasure.manifest)

    def complaint(self, attack: Hostile) -> str | None:
        """What is wrong with the answer to a request; None when the rule is kept."""
        with Wire(self.trow.host) as wire:
            wire.send_what_it_takes(attack.data)
            received = wire.receive_all()
        try:
            wrong = self._wrong_with(attack, received)
        except ConnectionEnded:
            wrong = "no whole answer"
        return f"{wrong}: {attack}\n    -> {received[:400]!r}" if wrong else None

    def _wrong_with(self, attack: Hostile, received: bytes) -> str | None:
        incoming = Incoming(bytes, received)
        answer = incoming.answer(attack.method)
        checks = {
            "a server error": answer.status < 500,
            "more than one answer": not incoming.received,
            "the other repository's content": self.treasure.secret not in received,
            "a path of the file system": str(self.folder).encode() not in received,
            "a traceback": b"Traceback" not in received,
            "no OCI error body": attack.unparsable or attack.method == "HEAD" or _explained(answer),
            "not refused by the parser": not attack.unparsable or _by_parser(answer),
        }
        return next((name for name, kept in checks.items() if not kept), None)

    def check_serving(self) -> None:
        """The registry serves what it has, as before."""
        with WireClient(self.trow.host) as client:
            assert client.ask("GET", "/v2/").status == 200
            assert client.get_blob(OWNER, self.small).body == self.treasure.small
            assert client.get_blob(OWNER, self.large).body == self.treasure.large
            assert client.get_manifest(OWNER, "latest").body == self.treasure.manifest
            assert client.offset(self.session) == len(self.treasure.small)

    def check_unharmed(self) -> None:
        """It serves, is whole, and has written nothing that it would not write by itself."""
        self.check_serving()
        assert strangers(self.data) == []
        assert {path.name for path in self.folder.iterdir()} == {"data", "stderr.log", "trow.yaml"}
        assert [place for place in self._escapes() if place.exists()] == []
        assert b"Traceback" not in self.trow.stderr.read_bytes()
        assert_clean(self.data)

    def _escapes(self) -> Iterator[Path]:
        """Where a path that climbs, or starts at the root, would lead."""
        for folder in (*self.data.parents, Path.cwd(), Path("/etc"), Path("/tmp")):
            yield folder / self.marker


def _explained(answer: Answer) -> bool:
    return answer.status < 400 or (answer.codes != [] and CODES.issuperset(answer.codes))


def _by_parser(answer: Answer) -> bool:
    return answer.status in PARSER_STATUSES and answer.body == b""


@contextlib.contextmanager
def under_attack(folder: Path) -> Iterator[Target]:
    """A registry that everybody may use, with another one's content in it; afterwards it must be unharmed."""
    config = folder / "trow.yaml"
    config.write_text(_CONFIG, "utf-8")
    with Trow.start(folder, "--config", str(config)) as trow:
        target = _furnished(trow, folder)
        yield target
        target.check_unharmed()


def _furnished(trow: Trow, folder: Path) -> Target:
    treasure = Treasure(f"secret-{secrets.token_hex(8)}-".encode())
    with WireClient(trow.host) as client:
        assert client.push_whole(OWNER, treasure.small).status == 201
        assert client.push_whole(OWNER, treasure.large).status == 201
        assert client.put_manifest(OWNER, "latest", treasure.manifest).status == 201
        for content in (OWN, b"x", b"y", b"z"):
            assert client.push_whole(ATTACKER, content).status == 201
        assert client.put_manifest(ATTACKER, "latest", image_of(OWN)).status == 201
        session = client.begin(OWNER)
        assert client.append(session, treasure.small, 0).status == 202
    return Target(trow, folder, treasure, session)
