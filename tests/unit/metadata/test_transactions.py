"""What is asked of the database, whichever it is."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, TypeVar

from trow.metadata import offline, shared, sql, store, transactions, uploads
from trow.metadata.transactions.blobs import blob_files
from trow.oci.digest import Digest
from trow.oci.names import Repository
from trow.registry.location import BlobLocation
from trow.registry.ports import BlobRecord

if TYPE_CHECKING:
    from collections.abc import Callable

    from trow.sql.transaction import Row, Transaction

Result = TypeVar("Result")
APP = Repository("team/app")


def run(asked: Transaction[Result], answer: Callable[[Row], list[Row]]) -> tuple[Result, int]:
    """What comes of a transaction whose statements are answered like this, and how many there were."""
    statements, rows = 0, None
    while True:
        try:
            _, values = next(asked) if rows is None else asked.send(rows)
        except StopIteration as end:
            return end.value, statements
        rows = answer(values)
        statements += 1


def test_what_a_manifest_names_is_not_looked_for_one_by_one() -> None:
    """It may name 25 000, some of them again and again."""
    there = [Digest.of(b"%d" % number) for number in range(1000)]

    def answer(values: Row) -> list[Row]:
        assert (values[0], len(values)) == (APP, 1 + sql.DIGESTS)
        return [(digest, 7, str(BlobLocation.former(digest))) for digest in there if digest in values[1:]]

    found, statements = run(blob_files(APP, [*there, Digest.of(b"not there"), *there]), answer)
    assert found == {digest: BlobRecord(7, None, BlobLocation.former(digest)) for digest in there}
    assert [*found] == there
    assert statements == -(-1001 // sql.DIGESTS)


WRITES = re.compile(r"\.write\(\s*(?:partial\()?(\w+)\.(\w+)|_run\(partial\((robots)\.(\w+)")


def test_each_write_says_what_it_locks_where_writes_run_side_by_side() -> None:
    named = [
        (module, function)
        for user in (store, shared, uploads, offline)
        for found in WRITES.findall(inspect.getsource(user))
        for module, function in (found[:2], found[2:])
        if function
    ]
    assert len(named) > 17
    for module, function in named:
        parts = transactions.uploads if module == "transactions" else getattr(transactions, module)
        source = inspect.getsource(getattr(parts, function))
        assert re.search(r"\byield lock\(|\bLocks nothing\b", source), function
