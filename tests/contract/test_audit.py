"""What the audit trail promises to the use cases, and keeps when its process is killed."""

from __future__ import annotations

import contextlib
import inspect
import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import apsw
import pytest

from trow.audit.keys import SigningKey
from trow.audit.sinks import FileSink
from trow.audit.trail import AuditTrail
from trow.audit.verify import verify_database, verify_files
from trow.registry.events import Action, AuditLog, Event

if TYPE_CHECKING:
    from pathlib import Path

# Takes one event down after the other, and says so when the trail has answered for it.
_PROCESS: Final = """
import asyncio, sys
from pathlib import Path
from trow.audit.keys import SigningKey
from trow.audit.sinks import FileSink
from trow.audit.trail import AuditTrail
from trow.registry.events import Action, Event

async def main(folder):
    trail = AuditTrail(folder / "audit.db", SigningKey.load_or_make(folder / "audit.pem"))
    trail.add_sink(FileSink(folder / "audit.jsonl", most_bytes=20_000, keep=1_000))
    for number in range(10_000):
        trail.record(Event(Action.PULL, detail="soon"))
        await trail.record_now(Event(Action.PUSH, detail=str(number)))
        print(number, flush=True)

asyncio.run(main(Path(sys.argv[1])))
"""


def test_trail_has_the_methods_of_its_port_as_they_are_written_there() -> None:
    for name in ("record", "record_now"):
        wanted, found = getattr(AuditLog, name), getattr(AuditTrail, name)
        assert list(inspect.signature(found).parameters) == list(inspect.signature(wanted).parameters)
        assert inspect.iscoroutinefunction(found) == inspect.iscoroutinefunction(wanted)


@pytest.mark.parametrize("fail_closed", [True, False])
async def test_trail_tells_whether_it_may_fail(tmp_path: Path, *, fail_closed: bool) -> None:
    key = SigningKey.load_or_make(tmp_path / "audit.pem")
    with contextlib.closing(AuditTrail(tmp_path / "audit.db", key, fail_closed=fail_closed)) as trail:
        port: AuditLog = trail
        assert port.fail_closed is fail_closed
        port.record(Event(Action.LOGIN))
        await port.record_now(Event(Action.PUSH))
        with contextlib.closing(apsw.Connection(str(tmp_path / "audit.db"))) as other:
            assert other.execute("SELECT action FROM record ORDER BY sequence").fetchall() == [("login",), ("push",)]


@pytest.mark.slow
def test_what_was_answered_for_outlasts_a_kill(tmp_path: Path) -> None:
    """Three times over, in the middle of the work; database and files stay whole and go on."""
    answered = 0
    for count in (1, 40, 150):
        process = subprocess.Popen([sys.executable, "-c", _PROCESS, str(tmp_path)], stdout=subprocess.PIPE)
        with process:
            assert process.stdout is not None
            for _ in range(count):
                assert process.stdout.readline()
            os.kill(process.pid, signal.SIGKILL)
        answered += count
    key = SigningKey.load(tmp_path / "audit.pem")
    trail = AuditTrail(tmp_path / "audit.db", key)
    trail.add_sink(FileSink(tmp_path / "audit.jsonl", most_bytes=20_000, keep=1_000))
    trail.close()
    report = verify_database(tmp_path / "audit.db", {key.id: key.public})
    assert (report.problem, report.unchecked) == (None, [])
    assert report.records >= 2 * answered
    files = [path for path in tmp_path.iterdir() if path.name.startswith("audit.jsonl")]
    written = verify_files(files, {key.id: key.public})
    assert (written.problem, written.unchecked) == (None, [])
    assert written.records == report.records
