"""A trail that writes at once, so that no test waits for the second that a server lets go by."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from trow.audit import retention, writing

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="module", autouse=True)
def prompt() -> Iterator[None]:
    """A module's fixtures write trails too."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(writing, "_LATE_SECONDS", 0.01)
        patched.setattr(writing, "_FLUSH_SECONDS", 0.01)
        patched.setattr(retention, "_SIZE_CHECK_SECONDS", 0.01)
        yield
