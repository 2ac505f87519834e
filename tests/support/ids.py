"""Names of table-driven tests stay readable, whatever stands in the table."""

from __future__ import annotations

from typing import Final

LONGEST: Final = 60


def pytest_make_parametrize_id(val: object) -> str | None:
    """Shorten what is long; the rest is named as usual."""
    if not isinstance(val, (str, bytes)) or len(val) <= LONGEST:
        return None
    return f"{val[: LONGEST // 2]!r}...{len(val)}"
