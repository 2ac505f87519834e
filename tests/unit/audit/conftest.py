"""Tests of what a trail holds need not wait for the second that it lets go by before it writes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trow.audit import retention, writer

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module")
def prompt() -> Iterator[None]:
    """Every trail of a module writes at once."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writer, "_LATE_SECONDS", 0.01)
        patched.setattr(writer, "_FLUSH_SECONDS", 0.01)
        patched.setattr(writer, "_LONG_PAUSE_SECONDS", 0.0)
        patched.setattr(retention, "_SIZE_CHECK_SECONDS", 0.01)
        yield
