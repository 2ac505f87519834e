"""A request as handlers see it: parsed once, every part bounded."""

from __future__ import annotations

import asyncio
import itertools
import re
import secrets
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import parse_qsl

from granian.rsgi import ProtocolClosed  # type: ignore[attr-defined]

from trow.access.identity import ANONYMOUS, Identity
from trow.http import framing
from trow.http.pace import Pace, Patience
from trow.oci.errors import BodyIncomplete, BodyTimeout, RequestInvalid, Unauthorized
from trow.oci.names import Repository
from trow.registry.events import Origin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Mapping

    from trow.access.ports import ClientCertificate
    from trow.http.peers import Peers
    from trow.http.route import Route
    from trow.tls.peer import Peer

# What requests have that concern no repository.
NO_REPOSITORY: Final = Repository("")
# What logs show of a path: more than any has that leads somewhere. Clients make them up to 64 KiB long.
LONGEST_PATH: Final = 1024
_MOST_PARAMETERS: Final = 1000
_LONGEST_HEADER: Final = 8192
_LENGTH_DIGITS: Final = 18
_LONGEST_AGENT: Final = 256
# W3C Trace Context, section 3.2: version, trace-id, parent-id, flags.
_TRACE: Final = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
_PREFIX: Final = f"{secrets.token_hex(4)}-"
_numbers: Final = itertools.count(1)


class Headers(Protocol):
    """The header collection of the server."""

    def get(self, key: str, default: str | None = None) -> str | None: ...
    def get_all(self, key: str) -> list[str]: ...


class Scope(Protocol):
    """A request as the server gives it (RSGI). ``path`` is percent-decoded: only the strict parsers may read it."""

    method: str
    path: str
    query_string: str
    client: str
    scheme: str
    http_version: str
    authority: str | None
    headers: Headers


class Transport(Protocol):
    """How the server takes the answer and gives the body (RSGI)."""

    def __call__(self) -> Awaitable[bytes]: ...
    def __aiter__(self) -> AsyncIterator[bytes]: ...
    def response_empty(self, status: int, headers: list[tuple[str, str]]) -> None: ...
    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None: ...
    def response_file(self, status: int, headers: list[tuple[str, str]], file: str) -> None: ...
    def response_file_range(
        self, status: int, headers: list[tuple[str, str]], file: str, start: int, end: int
    ) -> None: ...


class Request:
    """One request.

    Raises:
        Denied: this listener does not serve the connection.

    Attributes:
        method: HEAD, GET, …
        path: the decoded path.
        parameters: what the route's pattern found in the path; still the client's words.
        client: the address the request came from, behind trusted proxies, without port.
        connection: address and port at the other end of its connection, which may be a proxy's.
        number: what the request is called in answers, logs and records.
        repository: the repository that the path names, set before the handler runs.
        route: the row of the table that the request leads to; None before it is found, and if there is none.
        identity: who sends it, set before the handler runs.
        received: bytes of the body that have arrived.
        body_read: whether nothing more of it comes.
        refusal: why it was not let through, for the log.
    """

    __slots__ = (
        "_authority", "_headers", "_pace", "_peer", "_peers", "_pieces", "_query", "_scope", "_transport", "body_read",
        "client", "connection", "identity", "method", "number", "parameters", "path", "received", "refusal",
        "repository", "route",
    )  # fmt: skip

    def __init__(self, scope: Scope, transport: Transport, peers: Peers, pace: Pace) -> None:
        self._scope = scope
        self._transport = transport
        self._peers = peers
        # A connection of our own may end before the answer; it was still that of this client.
        self._peer: Peer | None = peers.known(scope)
        self._pace = pace
        self._headers: Headers = scope.headers
        self._authority: str | None = None
        self._pieces: AsyncIterator[bytes] | None = None
        self._query: list[tuple[str, str]] | None = None
        self.client = peers.address(scope) if self._peer is None else self._peer.address
        self.connection = scope.client if self._peer is None else self._peer.connection
        self.number = _PREFIX + format(next(_numbers), "x")
        self.method = scope.method
        self.path = scope.path
        self.parameters: Mapping[str, str] = {}
        self.repository = NO_REPOSITORY
        self.route: Route | None = None
        self.identity: Identity = ANONYMOUS
        self.received = 0
        self.refusal = ""
        self.body_read = False

    @property
    def peer(self) -> Peer:
        """The other end of the connection."""
        if self._peer is None:
            self._peer = self._peers.of(self._scope)
        return self._peer

    @property
    def authority(self) -> str:
        """The name that it came by, as it was written; proxies may know another one."""
        if self._authority is None:
            self._authority = framing.authority_of(self._headers, self._scope.authority)
        return self._authority

    def require_unambiguous(self) -> None:
        """Require that the request can be read in one way only. Raises RequestInvalid."""
        scope = self._scope
        self._authority = framing.require_unambiguous(self._headers, scope.authority, scope.http_version)

    @property
    def origin(self) -> Origin:
        """Where the request came from, for the record."""
        trace = _TRACE.fullmatch(self._headers.get("traceparent") or "")
        agent = (self._headers.get("user-agent") or "")[:_LONGEST_AGENT]
        return Origin(self.client, self.peer.forwarded, agent, self.number, trace[1] if trace else "")

    @property
    def authorization(self) -> str | None:
        """The credentials, which have a parser and a limit of their own.

        Raises:
            Unauthorized: there are several.
        """
        values = self._headers.get_all("authorization")
        if len(values) > 1:
            raise Unauthorized("the request has more than one Authorization header; send one")
        return values[0] if values else None

    @property
    def certificate(self) -> ClientCertificate | None:
        """The verified client certificate of the connection."""
        return None if self._peer is None else self._peer.certificate

    def header(self, name: str) -> str | None:
        """A header that has one value; some proxies repeat it as it is.

        Raises:
            RequestInvalid: it has several, or is too long.
        """
        value = self._headers.get(name)
        if value is None:
            return None
        if len(value) > _LONGEST_HEADER or set(self._headers.get_all(name)) != {value}:
            raise RequestInvalid(
                f"the header {name} has more than one value, or over {_LONGEST_HEADER} characters; send it once"
            )
        return value

    def optional_header(self, name: str) -> str | None:
        """A header that asks for something which need not be done; None also where it cannot be understood."""
        try:
            return self.header(name)
        except RequestInvalid:
            return None

    def header_list(self, name: str) -> str | None:
        """A header that is a list, which may have several lines (RFC 9110, section 5.3).

        For conditions only: everything after `_LONGEST_HEADER` characters is ignored, as if it did not match.
        """
        if self._headers.get(name) is None:
            return None
        return ", ".join(self._headers.get_all(name))[:_LONGEST_HEADER]

    def query(self, name: str) -> str | None:
        """A query parameter that has one value; one that is empty is not there.

        Raises:
            RequestInvalid: it has several values, or one that is not UTF-8.
        """
        values = set(self.query_all(name)) - {""}
        if len(values) > 1:
            raise RequestInvalid(f"the query parameter {name} has more than one value; give one")
        return values.pop() if values else None

    def query_names(self) -> list[str]:
        """The names of all query parameters, in order."""
        return list(dict.fromkeys(name for name, _ in self._parameters()))

    def query_all(self, name: str) -> list[str]:
        """All values of a query parameter, in order.

        Raises:
            RequestInvalid: one of them is not UTF-8.
        """
        values = self.query_raw(name)
        try:
            "".join(values).encode()
        except UnicodeEncodeError:
            raise RequestInvalid(f"the query parameter {name} is not in UTF-8; write it so, percent-encoded") from None
        return values

    def query_raw(self, name: str) -> list[str]:
        """The same without that check: for values that are only compared with known words."""
        return [value for key, value in self._parameters() if key == name]

    def _parameters(self) -> list[tuple[str, str]]:
        """Name and value of each parameter; what is not in UTF-8 is held against the one that asks for it."""
        if self._query is None:
            text, most = self._scope.query_string, _MOST_PARAMETERS
            try:
                self._query = parse_qsl(text, keep_blank_values=True, max_num_fields=most, errors="surrogateescape")
            except ValueError:
                raise RequestInvalid(f"the query has too many parameters; send at most {most}") from None
        return self._query

    @property
    def content_length(self) -> int | None:
        """The announced length of the body, None for a chunked one.

        Raises:
            RequestInvalid: it is not a number.
        """
        text = self.header("content-length")
        if text is None:
            return None
        if not text.isascii() or not text.isdigit() or len(text) > _LENGTH_DIGITS:
            raise RequestInvalid("Content-Length is not a number; send how many bytes the body has")
        return int(text)

    @property
    def has_body(self) -> bool:
        """Whether a body was announced; HTTP/2 need not announce it (RFC 9113, section 8.1)."""
        length = self._headers.get("content-length")
        if length is not None:
            return length != "0"
        return self._headers.get("transfer-encoding") is not None or self._scope.http_version.startswith("2")

    @property
    def has_unread_body(self) -> bool:
        """Whether more of a body may come than was read. GET and HEAD need not announce that they have none."""
        if self.body_read:
            return False
        if self.method in ("GET", "HEAD"):
            return self._headers.get("content-length") is not None and self.has_body
        return self.has_body

    async def body(self) -> AsyncIterator[bytes]:
        """The body in pieces as they arrive; where it was left before its end, the rest.

        Raises:
            BodyTimeout: it comes too slowly.
            BodyIncomplete: the client went away; what has come was given out before.
        """
        expected = self.content_length
        self._pieces = self._pieces or aiter(self._transport)
        patience = Patience(self._pace)
        while (piece := await self._next(self._pieces, patience)) is not None:
            if piece:
                self.received += len(piece)
                yield piece
        # The server ends the body in the same way whether the client is done or gone.
        if expected is not None and self.received < expected:
            raise BodyIncomplete(
                f"the body has {self.received} of {expected} bytes; send all of it, or continue where the upload ended"
            )

    async def whole_body(self, seconds: float) -> bytes:
        """The body at once, of a request that announced how long it is: for bodies that are small.

        Args:
            seconds: that it may take to come.

        Raises:
            BodyTimeout: it does not come in time.
            BodyIncomplete: the client went away.
        """
        self.body_read = True
        try:
            async with asyncio.timeout(seconds):
                body = await self._transport()
        except ProtocolClosed:
            raise BodyIncomplete(
                f"the body does not have all of its {self.content_length} bytes; send it again"
            ) from None
        except TimeoutError:
            raise BodyTimeout(f"the body did not come within {seconds:g} seconds; send it again") from None
        self.received = len(body)
        return body

    async def _next(self, pieces: AsyncIterator[bytes], patience: Patience) -> bytes | None:
        now = asyncio.get_running_loop().time
        since = now()
        self.body_read = True  # whatever happens but that a piece comes: then nothing comes any more
        try:
            async with asyncio.timeout(patience.left):
                # Not anext() with a default: CPython 3.11 crashes on the server's own kind of awaitable.
                piece = await pieces.__anext__()
        except StopAsyncIteration:
            return None
        except TimeoutError:
            pace = self._pace
            least = f" and at {pace.rate} bytes a second on the whole (limits.body_rate)" if pace.rate else ""
            most = f"{pace.seconds:g} seconds (limits.body_timeout)"
            raise BodyTimeout(f"the body comes too slowly; send it without a break of {most}{least}") from None
        self.body_read = False
        patience.note(now() - since, len(piece))
        return piece
