"""Logs on standard error: JSON for programs, lines for people.

Nothing here waits for whoever reads them (`trow.lib.lines`), and no text of others reaches a terminal as it is
(`trow.lib.terminal`).
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
import threading
from typing import TYPE_CHECKING, Final

import msgspec

from trow.lib.lines import LineWriter
from trow.lib.terminal import escaped_bytes, escaped_text
from trow.lib.times import rfc3339

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


log = logging.getLogger(__name__)

_STANDARD: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
# How long a process that ends waits until its last lines are read.
_LAST_SECONDS: Final = 1.0
_BARE: Final = frozenset("!#$%&'()*+,-./:;<>?@[]^_`{|}~")
_COLOURS: Final = {"debug": "2", "info": "36", "warning": "33", "error": "31", "critical": "31;1"}


class JsonFormatter(logging.Formatter):
    """One JSON object a record; what was given as ``extra`` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": record.created,
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "logger": record.name,
        }
        line |= _extra(record)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        try:
            encoded = msgspec.json.encode(line, enc_hook=str)
        except UnicodeEncodeError:  # the name of a file that is not text
            encoded = json.dumps(line, default=str).encode()
        return escaped_bytes(encoded).decode()


class TextFormatter(logging.Formatter):
    """One line a record: time, level, message, and what was given as ``extra`` as key=value; a traceback below."""

    def __init__(self, *, colours: bool) -> None:
        super().__init__()
        self._colours = colours

    def format(self, record: logging.LogRecord) -> str:
        level = record.levelname.lower()
        line = text_line(record.created, level, record.getMessage(), _extra(record), colours=self._colours)
        if record.exc_info:
            below = self.formatException(record.exc_info).splitlines()
            line = "\n    ".join([line, *map(escaped_text, below)])
        return line


def _extra(record: logging.LogRecord) -> dict[str, object]:
    return {key: value for key, value in vars(record).items() if key not in _STANDARD}


def text_line(at: float, level: str, message: str, fields: Mapping[str, object], *, colours: bool) -> str:
    """A line for people, without its line break; ``at`` is in seconds since 1970."""
    moment = rfc3339(at, "milliseconds")
    name = f"{level.upper():7}"
    if colours:
        name = f"\x1b[{_COLOURS.get(level, '0')}m{name}\x1b[0m"
    pairs = "".join(f" {escaped_text(key)}={text_value(value)}" for key, value in fields.items())
    return f"{moment} {name} {escaped_text(message)}{pairs}"


def text_value(value: object) -> str:
    """A value in a line for people: as it is where that is one word, else in quotes."""
    text = f"{value:.6g}" if isinstance(value, float) else str(value)
    if text and all(each.isalnum() or each in _BARE for each in text):
        return text
    return escaped_text(json.dumps(text, ensure_ascii=False))


class Output:
    """The log of a process: its lines go to one place, in one form.

    Attributes:
        lines: what writes them.
        text: whether they are for people.
        colours: whether levels have colours.
    """

    def __init__(self, form: str, fd: int) -> None:
        terminal = os.isatty(fd)
        self.text = form == "text" or (form == "auto" and terminal)
        self.colours = self.text and terminal and not os.environ.get("NO_COLOR")
        self.formatter = TextFormatter(colours=self.colours) if self.text else JsonFormatter()
        self.lines = LineWriter(fd, self._dropped)

    def _dropped(self, count: int) -> bytes:
        message = "log lines were dropped: whoever reads them did not keep up"
        record = logging.makeLogRecord(
            {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING", "msg": message, "count": count}
        )
        return self.word(record)

    def word(self, record: logging.LogRecord) -> bytes:
        """The line of a record, with its line break."""
        return self.formatter.format(record).encode("utf-8", "backslashreplace") + b"\n"


class _Handler(logging.Handler):
    """Hands records over; unlike the handlers of the library it writes nothing itself, nor when wording fails."""

    def __init__(self, output: Output) -> None:
        super().__init__()
        self._output = output

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self._output.word(record)
        except Exception as error:  # noqa: BLE001 - a value that cannot be worded must not stop what logs it
            told = {"name": record.name, "levelname": record.levelname, "msg": "a log line could not be worded: %s"}
            line = self._output.word(logging.makeLogRecord({**told, "args": (type(error).__name__,)}))
        self._output.lines.put(line)


@contextlib.contextmanager
def to_standard_error(level: str, form: str) -> Iterator[Output]:
    """Send all records of at least this level to standard error while the context lasts; see the section `log`."""
    output = Output(form, sys.stderr.fileno())
    logging.basicConfig(level=level.upper(), handlers=[_Handler(output)], force=True)
    logging.captureWarnings(capture=True)

    def log_thread(args: threading.ExceptHookArgs) -> None:
        if args.exc_value is not None and not isinstance(args.exc_value, SystemExit):
            name = args.thread.name if args.thread else "?"
            log.error("the thread %s has ended with an error", name, exc_info=args.exc_value)

    threading.excepthook = log_thread  # Python's own would write to standard error by itself
    try:
        yield output
    finally:
        output.lines.close(_LAST_SECONDS)
