from __future__ import annotations

import json
import logging
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from trow import logs
from trow.logs import JsonFormatter
from trow.oci.digest import Digest

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def test_level_decides_what_is_written(root_logger: logging.Logger, capsys: pytest.CaptureFixture[str]) -> None:
    root_logger.handlers.clear()  # pytest's own, which would be closed
    logs.configure("warning")
    logging.getLogger("trow.test").info("no")
    logging.getLogger("trow.test").warning("yes")
    written = capsys.readouterr()
    assert json.loads(written.err)["event"] == "yes"
    assert not written.out
