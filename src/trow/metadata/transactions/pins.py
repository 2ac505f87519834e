"""The digests that the Pods of an owner have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from trow.lib.levels import excess_of
from trow.metadata import sql
from trow.oci.digest import Digest
from trow.sql import columns

if TYPE_CHECKING:
    from trow.sql.transaction import Transaction


# The sources with the most pins, of which some are dropped at a time.
_MOST_SOURCES: Final = 10_000


def pin(namespace: str, owner: str, image: str, digest: Digest, source: str, at: float) -> Transaction[Digest]:
    """Locks nothing: it is one statement, and the first digest counts."""
    ((kept,),) = yield sql.PIN, (namespace, owner, image, digest, source, at)
    return Digest(columns.text(kept))


def drop_old_pins(before: float, most: int) -> Transaction[None]:
    """Locks nothing: pins that are made at the same time are dropped at the next time."""
    yield sql.DROP_OLD_PINS, (before,)
    ((count,),) = yield sql.COUNT_PINS, ()
    if (surplus := columns.integer(count) - most) <= 0:
        return
    rows = yield sql.PINS_OF_SOURCES, (_MOST_SOURCES,)
    held = {columns.text(source): columns.integer(number) for source, number in rows}
    for source, number in excess_of(held, surplus, 0).items():
        if number:
            yield sql.DROP_SURPLUS_PINS, (source, source, number - 1)
