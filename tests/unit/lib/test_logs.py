from __future__ import annotations

import contextlib
import json
import logging
import threading
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trow.lib.logs import JsonFormatter, TextFormatter, to_standard_error
from trow.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from trow.lib.logs import Output


def line(message: str, *values: object, **extra: object) -> dict[str, Any]:
    record = logging.getLogger("trow.test").makeRecord(
        "trow.test", logging.WARNING, __file__, 1, message, values, None, extra=extra
    )
    text = JsonFormatter().format(record)
    assert "\n" not in text
    decoded: dict[str, Any] = json.loads(text)
    return decoded


def test_record_is_one_object() -> None:
    found = line("count is %d", 7)
    assert time.time() - 60 < found.pop("time") <= time.time()
    assert found == {"level": "warning", "event": "count is 7", "logger": "trow.test"}


def test_extra_stands_beside_the_message() -> None:
    found = line("m", count=3, digest=Digest.of(b""), path=Path("/a"), nested={"a": [1]}, error=ValueError("x"))
    assert (found["count"], found["digest"], found["nested"]) == (3, Digest.of(b""), {"a": [1]})
    assert (found["path"], found["error"]) == ("/a", "x")


def test_what_other_formatters_leave_in_a_record_is_not_written() -> None:
    record = logging.LogRecord("a", logging.INFO, __file__, 1, "m", (), None)
    logging.Formatter("%(asctime)s %(message)s").format(record)
    record.taskName = "Task-1"
    assert set(json.loads(JsonFormatter().format(record))) == {"time", "level", "event", "logger"}


@pytest.mark.parametrize("text", ["two\nlines", 'a "quote"', "\x1b[31m", "\u2028", "é"])
def test_no_text_makes_two_lines(text: str) -> None:
    found = line("%s", text, extra_text=text)
    assert found["event"] == found["extra_text"] == text


def test_exception_is_written_with_its_traceback() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        _ = 1 / 0
    reason = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, "failed", (), reason)
    found = json.loads(JsonFormatter().format(record))
    assert found["event"] == "failed"
    assert "Traceback" in found["exception"]
    assert found["exception"].endswith("ZeroDivisionError: division by zero")


@pytest.fixture
def root_logger() -> Iterator[logging.Logger]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield root
    root.handlers[:], root.level = handlers, level


@contextlib.contextmanager
def standard_error(root: logging.Logger, *, level: str = "info", form: str = "auto") -> Iterator[Output]:
    """What a server does with its logs; of pytest's own handlers none is closed."""
    root.handlers.clear()
    hook = threading.excepthook
    try:
        with to_standard_error(level, form) as output:
            yield output
    finally:
        threading.excepthook = hook
        logging.captureWarnings(capture=False)


def test_level_decides_what_is_written(root_logger: logging.Logger, capfd: pytest.CaptureFixture[str]) -> None:
    with standard_error(root_logger, level="warning"):
        logging.getLogger("trow.test").info("no")
        logging.getLogger("trow.test").warning("yes")
    written = capfd.readouterr()
    assert json.loads(written.err)["event"] == "yes"
    assert not written.out


def test_a_value_that_cannot_be_worded_stops_nobody(
    root_logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    class Spiteful:
        def __str__(self) -> str:
            raise ZeroDivisionError

    with standard_error(root_logger):
        logging.getLogger("trow.test").error("%s", Spiteful())
        logging.getLogger("trow.test").error("%d", "no number")
        logging.getLogger("trow.test").error("a file: %s", "\udcff")
    lines = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert [each["event"] for each in lines] == [
        "a log line could not be worded: ZeroDivisionError",
        "a log line could not be worded: TypeError",
        "a file: \udcff",
    ]


def test_what_python_itself_has_to_say_is_a_line_too(
    root_logger: logging.Logger, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise ZeroDivisionError

    with warnings.catch_warnings(), standard_error(root_logger):
        warnings.simplefilter("default")
        warnings.warn("old", stacklevel=1)
        thread = threading.Thread(target=fail, name="unlucky")
        thread.start()
        thread.join()
    first, second = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    assert "UserWarning: old" in first["event"]
    assert second["event"] == "the thread unlucky has ended with an error"
    assert second["exception"].endswith("ZeroDivisionError")


# What reaches a terminal

_COMMANDS = ["\x1b[31m", "\x9b31m", "\u202etxt.exe", "\u2066", "\x00", "\x7f", "\u2028", "\ufeff", "\U000e0041"]


@pytest.mark.parametrize("text", _COMMANDS)
def test_no_command_of_others_reaches_a_terminal(text: str) -> None:
    record = logging.makeLogRecord({"msg": "m %s", "args": (text,), "given": text})
    for formatter in (JsonFormatter(), TextFormatter(colours=False)):
        written = formatter.format(record)
        assert written.isprintable(), written
    assert json.loads(JsonFormatter().format(record))["given"] == text


def test_names_of_all_languages_stay_as_they_are() -> None:
    record = logging.makeLogRecord({"msg": "größer 東京", "given": "Ångström"})
    assert "größer 東京" in JsonFormatter().format(record)
    assert TextFormatter(colours=False).format(record).endswith("größer 東京 given=Ångström")


# For people


def text(message: str, level: int = logging.INFO, *, colours: bool = False, **extra: object) -> str:
    record = logging.getLogger("trow.test").makeRecord("trow.test", level, __file__, 1, message, (), None, extra=extra)
    record.created = 1_700_000_000.1234
    return TextFormatter(colours=colours).format(record)


def test_a_line_for_people() -> None:
    line = text("uploads were removed", logging.WARNING, count=3, seconds=0.12345678, path="/a b", user="", kind="x=y")
    assert line == (
        '2023-11-14T22:13:20.123Z WARNING uploads were removed count=3 seconds=0.123457 path="/a b" user="" kind="x=y"'
    )


def test_a_value_cannot_pretend_to_be_another_field() -> None:
    assert text("m", user='a" level="error') == '2023-11-14T22:13:20.123Z INFO    m user="a\\" level=\\"error"'


def test_a_message_cannot_pretend_to_be_another_line() -> None:
    assert text("m\n2023-11-14T22:13:20.123Z ERROR forged").count("\n") == 0


def test_levels_have_colours_where_they_are_wanted() -> None:
    assert "\x1b[31mERROR  \x1b[0m" in text("m", logging.ERROR, colours=True)
    assert "\x1b" not in text("m", logging.ERROR)


def test_a_traceback_stands_below_its_line() -> None:
    with pytest.raises(ZeroDivisionError) as caught:
        raise ZeroDivisionError("\x1b[2J")
    reason = (caught.type, caught.value, caught.tb)
    record = logging.LogRecord("a", logging.ERROR, __file__, 1, "failed", (), reason)
    first, *below = TextFormatter(colours=False).format(record).splitlines()
    assert first.endswith("ERROR   failed")
    assert below[0] == "    Traceback (most recent call last):"
    assert below[-1] == "    ZeroDivisionError: \\x1b[2J"
