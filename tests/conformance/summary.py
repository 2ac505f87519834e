"""What the judges counted, at the end of every run.

A test says `record_property("judge", "...")`; the lines stand in pytest's last part, also when the test ran in a
worker of pytest-xdist, whose own output nobody sees. `tests/conftest.py` imports the hook.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import pytest

JUDGE: Final = "judge"


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    reports = [report for outcome in ("passed", "failed", "skipped") for report in terminalreporter.getreports(outcome)]
    lines = {str(value) for report in reports for key, value in report.user_properties if key == JUDGE}
    if lines:
        terminalreporter.section("judges")
        for line in sorted(lines):
            terminalreporter.write_line(line)
