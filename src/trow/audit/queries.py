"""Searches the trail by what was done, by whom and when, and finds who runs an image."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from trow.audit import database, sql
from trow.audit import record as records
from trow.audit.chain import Head
from trow.audit.errors import AuditError
from trow.lib import times
from trow.oci.digest import Digest
from trow.oci.errors import DigestInvalid, NameInvalid, RequestInvalid, Unavailable
from trow.oci.names import Repository
from trow.registry.events import Action, Outcome, RecordPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    import apsw

    from trow.audit.record import Record

DEFAULT_LIMIT: Final = 100
MOST_RECORDS: Final = 1000

# With this many records below a prefix, reading the index over times is faster than sorting.
_MANY: Final = 5_000
_LONGEST_SECONDS: Final = 10.0
_STEPS_BETWEEN_LOOKS: Final = 20_000
_AT_ONCE: Final = 2
MOST_WORKLOADS: Final = 10_000
_LONGEST_TEXT: Final = 256
_MOST_DIGITS: Final = 16


@dataclass(frozen=True, slots=True)
class Position:
    """A position in the list, newest first: after this record."""

    at: int
    writer: str
    sequence: int

    def __str__(self) -> str:
        """As ``last`` in a query."""
        return f"{self.at}-{self.writer}-{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Position:
        """Read what `__str__` wrote.

        Raises:
            ValueError: it did not.
        """
        parts = text.split("-")
        if len(parts) == 3:  # noqa: PLR2004 - as written above
            at, writer, sequence = parts
            numbers = all(n.isdecimal() and n.isascii() and len(n) <= _MOST_DIGITS for n in (at, sequence))
            if writer.replace(".", "", 1).isalnum() and numbers:
                return cls(int(at), writer, int(sequence))
        raise ValueError(f"last is not a position in the list: {text[:_LONGEST_TEXT]!r}; give that of the page before")

    @classmethod
    def of(cls, record: Record) -> Position:
        """The position of a record."""
        return cls(times.parse(record.time), record.writer, record.sequence)


def read_limit(text: str) -> int:
    """How many records somebody wants.

    Raises:
        ValueError: it is not a number; the message is for people.
    """
    if not (text.isdecimal() and text.isascii()):
        raise ValueError(f"{text[:_LONGEST_TEXT]!r} is not a number; give how many records there may be")
    if not text.strip("0"):
        raise ValueError("0 records are not a limit; give how many records there may be, 1 or more")
    return int(text.lstrip("0")[:_MOST_DIGITS])  # with more digits it is more than there are records


@dataclass(frozen=True, slots=True)
class Query:
    """What to search for; None matches everything. `parse` reads it from texts.

    Attributes:
        repository: a name, or with ``/`` at its end everything below.
        digest: of the manifest, or of one of the platforms pulled with it.
        since, until: microseconds since 1970; the second is not included.
        last: where the page before ended.
    """

    repository: str | None = None
    user: str | None = None
    namespace: str | None = None
    digest: Digest | None = None
    action: Action | None = None
    outcome: Outcome | None = None
    since: int | None = None
    until: int | None = None
    last: Position | None = None
    limit: int = DEFAULT_LIMIT

    @classmethod
    def parse(cls, given: Mapping[str, str], now: int) -> Query:
        """Read a query as a client wrote it.

        Args:
            given: by the attributes' names, and ``n`` for the limit.
            now: what ``24h`` in ``since`` and ``until`` counts from, in microseconds.

        Raises:
            RequestInvalid: a name or a value is not understood; the message says which.
        """
        if unknown := set(given) - set(_PARSERS):
            raise RequestInvalid(f"{min(unknown)!r} is not something to search by; use {', '.join(sorted(_PARSERS))}")
        values: dict[str, Any] = {}
        for name, text in given.items():
            attribute, parser = _PARSERS[name]
            try:
                values[attribute] = parser(text, now)
            except (ValueError, DigestInvalid, NameInvalid) as error:
                raise RequestInvalid(f"{name}: {error}") from None
        return cls(**values)


def _parse_repository(text: str, _now: int) -> str:
    name = text.removesuffix("/**").removesuffix("/*")
    if "*" in name:
        raise ValueError(f"{text[:_LONGEST_TEXT]!r} has * elsewhere than at its end; team-a/* is all below team-a")
    return Repository.parse(name) + ("" if name == text else "/")


def _parse_word(words: type[Action | Outcome]) -> Callable[[str, int], Action | Outcome]:
    def parse(text: str, _now: int) -> Action | Outcome:
        try:
            return words(text)
        except ValueError:
            known = ", ".join(word.value for word in words)
            raise ValueError(f"{text[:_LONGEST_TEXT]!r} is not one of {known}") from None

    return parse


def _parse_text(text: str, _now: int) -> str:
    if not text or len(text) > _LONGEST_TEXT:
        raise ValueError(f"give 1 to {_LONGEST_TEXT} characters")
    return text


_PARSERS: Final[dict[str, tuple[str, Callable[[str, int], Any]]]] = {
    "repository": ("repository", _parse_repository),
    "user": ("user", _parse_text),
    "namespace": ("namespace", _parse_text),
    "digest": ("digest", lambda text, _now: Digest.parse(text)),
    "action": ("action", _parse_word(Action)),
    "outcome": ("outcome", _parse_word(Outcome)),
    "since": ("since", times.parse_point),
    "until": ("until", times.parse_point),
    "last": ("last", lambda text, _now: Position.parse(text)),
    "n": ("limit", lambda text, _now: min(read_limit(text), MOST_RECORDS)),
}


class Found(NamedTuple):
    """Records, newest first, as the JSON texts they were hashed as; ``last`` leads to more of them."""

    records: list[str]
    more: bool
    last: str


@dataclass(slots=True)
class PullingWorkload:
    """Who pulled an image, with the times of the first and last pull.

    Attributes:
        count: how many pulls.
    """

    namespace: str
    service_account: str
    pod: str
    node: str
    user: str
    address: str
    image: str
    first: str
    last: str
    count: int = 0


class AuditQueries:
    """`AuditRecords` from the trail's database: searches in threads, a few at a time."""

    def __init__(self, path: Path, longest_seconds: float = _LONGEST_SECONDS) -> None:
        self._path = path
        self._longest = longest_seconds
        self._free = asyncio.Semaphore(_AT_ONCE)

    async def search(self, given: Mapping[str, str]) -> RecordPage:
        query = Query.parse(given, times.microseconds(time.time()))

        def matching() -> Found:
            with opened(self._path, self._longest) as connection:
                return search(connection, query)

        try:
            async with self._free:
                found = await asyncio.to_thread(matching)
        except TimeoutError:
            raise Unavailable("the search takes too long; narrow it, for example with since") from None
        except AuditError:
            raise Unavailable("the audit trail cannot be read at the moment; try again") from None
        return RecordPage([record.encode() for record in found.records], found.last if found.more else "")


@contextlib.contextmanager
def opened(path: Path, longest_seconds: float | None = None) -> Iterator[apsw.Connection]:
    """The trail, for reading.

    Raises:
        AuditError: it cannot be opened, or what is asked of it inside fails.
        TimeoutError: a statement inside goes on for too long.
    """
    with database.translate_errors(path), contextlib.closing(database.open_reader(path)) as connection:
        if longest_seconds is not None:
            end = time.monotonic() + longest_seconds
            connection.set_progress_handler(lambda: time.monotonic() > end, _STEPS_BETWEEN_LOOKS)
        yield connection


def search(connection: apsw.Connection, query: Query) -> Found:
    """The records that match."""
    conditions = list(_conditions(connection, query))
    values = [value for _, some in conditions for value in some]
    statement = sql.search(tuple(condition for condition, _ in conditions))
    rows = database.rows(connection, statement, *values, query.limit + 1)
    found = [row[0] for row in rows[: query.limit]]
    last = str(Position.of(records.read(found[-1]))) if found else ""
    return Found(found, len(rows) > query.limit > 0, last)


def pages(connection: apsw.Connection, query: Query, most: int) -> Iterator[Found]:
    """The records that match, page after page up to ``most``; the last page says whether there are more.

    Args:
        connection: the trail.
        query: its limit does not matter.
        most: how many records, in all pages.
    """
    found = search(connection, replace(query, limit=min(most, MOST_RECORDS)))
    yield found
    left = most - len(found.records)
    while found.more and left > 0:
        query = replace(query, last=Position.parse(found.last), limit=min(left, MOST_RECORDS))
        found = search(connection, query)
        yield found
        left -= len(found.records)


def anchors(connection: apsw.Connection) -> list[Head]:
    """The last record of each chain that a checkpoint covers."""
    return [Head(*row[:3]) for row in database.rows(connection, sql.LAST_CHECKPOINTS)]


def _conditions(connection: apsw.Connection, query: Query) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    if query.digest is not None:
        yield sql.BY_DIGEST, (query.digest,)
    if query.repository is not None:
        yield _in_repository(connection, query.repository)
    simple = {
        sql.BY_SUBJECT: query.user,
        sql.BY_NAMESPACE: query.namespace,
        sql.BY_ACTION: query.action and query.action.value,
        sql.BY_OUTCOME: query.outcome and query.outcome.value,
        sql.SINCE: query.since,
        sql.UNTIL: query.until,
    }
    for condition, value in simple.items():
        if value is not None:
            yield condition, (value,)
    if query.last is not None:
        yield sql.BEFORE, (query.last.at, query.last.writer, query.last.sequence)


def _in_repository(connection: apsw.Connection, repository: str) -> tuple[str, tuple[str, ...]]:
    if not repository.endswith("/"):
        return sql.BY_REPOSITORY, (repository,)
    # "0" is the character after "/": all names below, and none beside.
    bounds = repository, repository[:-1] + "0"
    (count,) = database.one(connection, sql.COUNT_PREFIX, *bounds, _MANY)
    return sql.BY_PREFIX_OF_MANY if count >= _MANY else sql.BY_PREFIX, bounds


def who_runs(connection: apsw.Connection, digest: Digest) -> tuple[list[PullingWorkload], bool]:
    """Who pulled an image, or one of its platforms, latest first; and whether there may be more."""
    actions = Action.PULL.value, Action.PULL_BEGIN.value
    outcomes = Outcome.OK.value, Outcome.INTENT.value
    found: dict[tuple[str, ...], PullingWorkload] = {}
    for (text,) in connection.execute(sql.PULLS_OF, (digest, *actions, *outcomes)):
        _note(found, records.read(text))
        if len(found) >= MOST_WORKLOADS:
            return list(found.values()), True
    return list(found.values()), False


def _note(found: dict[tuple[str, ...], PullingWorkload], record: Record) -> None:
    place, client = record.workload or records.RecordedWorkload(), record.client or records.RecordedClient()
    user = record.actor.user if record.actor is not None else ""
    # A workload is known by its pod and node; others only by where they come from.
    address = "" if place.pod else client.address
    key = place.namespace, place.service_account, place.pod, place.node, user, address, image_of(record)
    workload = found.setdefault(key, PullingWorkload(*key, first=record.time, last=record.time))
    workload.first = min(workload.first, record.time)
    workload.last = max(workload.last, record.time)
    workload.count += record.count if record.action == Action.PULL.value else 0


def image_of(record: Record) -> str:
    """The image as it was asked for."""
    if not record.reference:
        return record.repository
    return f"{record.repository}{'@' if ':' in record.reference else ':'}{record.reference}"
