"""Sends the trail to a receiver, in batches, at least once.

The database is the queue: what is to be sent is read from it, and how far the receiver has come is kept there, so that
neither a restart nor a receiver that is away for days loses a record. The position moves after an answer of 2xx.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import re
import ssl
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import apsw

from trow.audit.errors import AuditError
from trow.audit.formats import FORMATS
from trow.audit.store import TrailReader
from trow.audit.writer import WEBHOOK
from trow.lib.backoff import Backoff
from trow.lib.failures import FailureLog
from trow.lib.file_watch import CurrentFile
from trow.lib.http_client import AnswerTooLarge, HttpClient, HttpError
from trow.lib.urls import problem_with

if TYPE_CHECKING:
    from pathlib import Path

    from trow.audit.store import Line
    from trow.audit.writer import TrailWriter

log = logging.getLogger(__name__)

MOST_BATCH_RECORDS: Final = 100
MOST_BATCH_BYTES: Final = 2**20
_LONGEST_PAUSE: Final = 300.0
# A receiver may delay requests, but not stop them.
_LONGEST_RETRY_AFTER: Final = 3600.0
_MOST_DIGITS: Final = 6
_ANSWER_BYTES: Final = 64 * 1024
_TOKEN: Final = re.compile(r"[!-~]{1,8192}", re.ASCII)
_LONGEST_FILE: Final = 2**20
_TOO_LARGE: Final = 413


@dataclass(frozen=True, slots=True)
class Target:
    """Where records are sent.

    Attributes:
        format: one of `FORMATS`.
        source: where they come from, a URI: the registry's own address for one.
        ca_file: authorities to trust instead of the system's.
        token_file: holds a bearer token; read again when it changes, as ``ca_file`` is.
        timeout: seconds that one request may take.

    Raises:
        ValueError: records cannot be sent there; the message is for people.
    """

    url: str
    format: str = "cloudevents"
    source: str = "/trow"
    ca_file: Path | None = None
    token_file: Path | None = None
    timeout: float = 30.0

    def __post_init__(self) -> None:
        """See Raises."""
        if self.format not in FORMATS:
            raise ValueError(f"{self.format!r} is not a format of audit records; use one of {', '.join(FORMATS)}")
        if problem := problem_with(self.url, query=True):
            # Without the URL, in which there may be a password.
            raise ValueError(f"the webhook's URL {problem}; write https://HOST/PATH, and put a token into a file")


def _read_token(content: bytes) -> str:
    token = content.decode("ascii", "replace").strip()
    if not _TOKEN.fullmatch(token):
        raise ValueError("the webhook's token file holds no token")
    return token


def _read_authorities(content: bytes) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=content.decode("ascii", "replace"))
    except ssl.SSLError:
        raise ValueError("the webhook's CA file holds no certificate in PEM") from None


class _Rejected(Exception):
    """The receiver did not take a batch."""

    def __init__(self, status: int, retry_after: float) -> None:
        super().__init__(f"it answered {status}")
        self.status = status
        self.retry_after = retry_after


class Webhook:
    """Sends what the trail records. `run` goes on until it is cancelled.

    Attributes:
        sent: how many records the receiver has taken since the start.
        failures: how many requests have failed since then.
    """

    def __init__(self, trail: TrailWriter, target: Target, *, first_pause: float = 1.0) -> None:
        self.sent = self.failures = 0
        self._trail = trail
        self._target = target
        self._format = FORMATS[target.format]
        self._backoff = Backoff(first_pause, _LONGEST_PAUSE)
        self._failures = FailureLog(
            log, "the audit webhook fails; records are kept and sent again", "the audit webhook takes records again"
        )
        self._most = MOST_BATCH_RECORDS
        self._token = CurrentFile(target.token_file, _read_token, _LONGEST_FILE) if target.token_file else None
        ca = target.ca_file
        self._authorities = CurrentFile(ca, _read_authorities, _LONGEST_FILE) if ca else None

    async def run(self) -> None:
        """Send the records as they come."""
        loop, news = asyncio.get_running_loop(), asyncio.Event()

        def tell() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(news.set)

        self._trail.on_stored(tell)
        async with HttpClient() as client:
            while True:
                news.clear()
                await self._send_all(client)
                await news.wait()

    async def _send_all(self, client: HttpClient) -> None:
        while True:
            try:
                if (batch := await asyncio.to_thread(self._next_batch)) is None:
                    return
                last, count, body = batch
                await self._post(client, body)
                for writer, sequence in last.items():
                    self._trail.positions.advance(WEBHOOK, writer, sequence)
                self._trail.wake()
                self.sent += count
                self._backoff.succeed()
                self._failures.succeed()
                self._most = MOST_BATCH_RECORDS
            except (_Rejected, AuditError, apsw.Error, HttpError, OSError, ValueError) as error:
                self.failures += 1
                pause = self._backoff.fail()
                if isinstance(error, _Rejected):
                    pause = max(pause, error.retry_after)
                    if error.status == _TOO_LARGE:
                        self._most = max(1, self._most // 2)
                self._failures.fail(error)
                await asyncio.sleep(pause)

    def _next_batch(self) -> tuple[dict[str, int], int, bytes] | None:
        """The last record of each writer in the next batch, how many there are in all, and the body."""
        last: dict[str, int] = {}
        items: list[bytes] = []
        size = 0
        for writer, line in self._next_lines():
            item = self._format.item(line.content, self._target.source)
            size += len(item) + 1
            if items and size > MOST_BATCH_BYTES:
                break
            items.append(item)
            last[writer] = line.sequence
        return (last, len(items), self._format.body(items)) if items else None

    def _next_lines(self) -> list[tuple[str, Line]]:
        """The next records, of each writer in turn: one of them may have more than can be sent."""
        # Opened each time, for a thread cannot be cancelled and would hold on to it.
        with contextlib.closing(TrailReader(self._trail.path)) as reader:
            positions = {writer: self._trail.positions.get(WEBHOOK, writer) or 0 for writer in self._trail.heads}
            waiting = [
                [(writer, line) for line in reader.records_after(writer, position, self._most)]
                for writer, position in positions.items()
            ]
        turns = itertools.chain.from_iterable(itertools.zip_longest(*waiting))
        return list(itertools.islice(filter(None, turns), self._most))

    async def _post(self, client: HttpClient, body: bytes) -> None:
        headers = {"Content-Type": self._format.media_type}
        if self._token is not None:
            headers["Authorization"] = f"Bearer {await self._token.get()}"
        if self._authorities is not None:
            client.tls = await self._authorities.get()
        seconds = self._target.timeout
        async with client.stream("POST", self._target.url, headers=headers, body=body, seconds=seconds) as answer:
            if answer.status // 100 == 2:  # noqa: PLR2004 - 2xx, what HTTP calls success
                with contextlib.suppress(AnswerTooLarge):  # read so that the connection can be used again
                    await answer.read(_ANSWER_BYTES, seconds=seconds)
                return
            raise _Rejected(answer.status, _retry_after(answer.headers.get("Retry-After", "")))


def _retry_after(text: str) -> float:
    """RFC 9110, section 10.2.3: seconds or a date; 0.0 when it is neither."""
    if text.isdecimal() and text.isascii():
        return min(float(text), _LONGEST_RETRY_AFTER) if len(text) <= _MOST_DIGITS else _LONGEST_RETRY_AFTER
    try:
        seconds = parsedate_to_datetime(text).timestamp() - time.time()
    except ValueError:
        return 0.0
    return min(max(0.0, seconds), _LONGEST_RETRY_AFTER)
