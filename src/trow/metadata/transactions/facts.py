"""What is decided once for all replicas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.metadata import sql
from trow.sql import columns

if TYPE_CHECKING:
    from trow.sql.transaction import Transaction


def fact(name: str) -> Transaction[str | None]:
    rows = yield sql.FACT, (name,)
    return columns.text(rows[0][0]) if rows else None


def agree(name: str, value: str) -> Transaction[str]:
    """Decide it, unless another replica has; what counts. Locks nothing: one statement decides."""
    ((decided,),) = yield sql.AGREE_ON_FACT, (name, value)
    return columns.text(decided)
