"""The statements, in the common subset of SQLite and PostgreSQL: written once, named, with ``?`` for parameters."""

from __future__ import annotations

import functools
from typing import Final

SETTING: Final = "SELECT value FROM setting WHERE name = ?"
ADD_SETTING: Final = "INSERT INTO setting (name, value) VALUES (?, ?)"

RECORD_COLUMNS: Final = "writer, sequence, at, action, outcome, subject, namespace, repository, digest, content"
# SQLite alone fills the room that was left in a page only if it is told where a row belongs: rows of one writer lie
# together, so that what is removed of one part of the record leaves no half empty pages to the others.
PLACED_COLUMNS: Final = f"rowid, {RECORD_COLUMNS}"
PLACED_WIDTH: Final = 11
DIGEST_COLUMNS: Final = "digest, at, writer, sequence"
DIGEST_WIDTH: Final = 4


@functools.lru_cache(maxsize=256)
def add_records(count: int) -> str:
    """Add this many records by one statement."""
    return f"INSERT INTO record ({PLACED_COLUMNS}) VALUES {_places(PLACED_WIDTH, count)}"  # noqa: S608 - no values


@functools.lru_cache(maxsize=256)
def add_digests(count: int) -> str:
    """Add this many digests of records by one statement."""
    return f"INSERT INTO record_digest ({DIGEST_COLUMNS}) VALUES {_places(DIGEST_WIDTH, count)}"  # noqa: S608


@functools.lru_cache(maxsize=256)
def add_holdings(count: int) -> str:
    """Add to what this many hold by one statement."""
    return f"""
        INSERT INTO holding (writer, holder, bytes) VALUES {_places(3, count)}
        ON CONFLICT (writer, holder) DO UPDATE SET bytes = holding.bytes + excluded.bytes
    """  # noqa: S608 - no values


def _places(width: int, count: int) -> str:
    return ", ".join(["(" + ", ".join("?" * width) + ")"] * count)


LAST_RECORD: Final = "SELECT sequence, content FROM record WHERE writer = ? ORDER BY sequence DESC LIMIT 1"
FIRST_SEQUENCE: Final = "SELECT min(sequence) FROM record WHERE writer = ?"
RECORD: Final = "SELECT content FROM record WHERE writer = ? AND sequence = ?"
RECORDS_AFTER: Final = """
    SELECT sequence, content FROM record WHERE writer = ? AND sequence > ? ORDER BY sequence LIMIT ?
"""

ADD_CHECKPOINT: Final = """
    INSERT INTO checkpoint (writer, sequence, hash, at, key_id, signature) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO NOTHING
"""
LAST_CHECKPOINT: Final = """
    SELECT writer, sequence, hash, at, key_id, signature FROM checkpoint
    WHERE writer = ? ORDER BY sequence DESC LIMIT 1
"""
CHECKPOINTS_BETWEEN: Final = """
    SELECT writer, sequence, hash, at, key_id, signature FROM checkpoint
    WHERE writer = ? AND sequence > ? AND sequence <= ? ORDER BY sequence
"""
# Records up to a checkpoint are at least as old as it is.
CHECKPOINT_BEFORE: Final = """
    SELECT sequence, hash FROM checkpoint WHERE writer = ? AND at < ? ORDER BY at DESC, sequence DESC LIMIT 1
"""
CHECKPOINT_UP_TO: Final = """
    SELECT sequence, hash FROM checkpoint WHERE writer = ? AND sequence <= ? ORDER BY sequence DESC LIMIT 1
"""

TRIM: Final = "SELECT writer, sequence, prev, at, key_id, signature FROM trim WHERE writer = ?"
SET_TRIM: Final = """
    INSERT INTO trim (writer, sequence, prev, at, key_id, signature) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (writer) DO UPDATE SET sequence = excluded.sequence, at = excluded.at, prev = excluded.prev,
        key_id = excluded.key_id, signature = excluded.signature
"""
COUNT_UP_TO: Final = "SELECT count(*) FROM record WHERE writer = ? AND sequence <= ?"

# What each one holds of a part of the record.
HOLDINGS: Final = "SELECT sum(bytes) FROM holding WHERE writer = ?"
LARGEST_HOLDINGS: Final = "SELECT holder, bytes FROM holding WHERE writer = ? ORDER BY bytes DESC LIMIT ?"
DELETE_EMPTY_HOLDINGS: Final = "DELETE FROM holding WHERE writer = ? AND bytes <= 0"
RECORDS_BETWEEN: Final = """
    SELECT sequence, content FROM record WHERE writer = ? AND sequence > ? AND sequence <= ? ORDER BY sequence LIMIT ?
"""

# Records between others that were removed.
GAPS_BETWEEN: Final = """
    SELECT writer, first, sequence, hash, at, key_id, signature FROM gap
    WHERE writer = ? AND sequence > ? AND sequence <= ? ORDER BY sequence
"""
ADD_GAP: Final = "INSERT INTO gap (writer, first, sequence, hash, at, key_id, signature) VALUES (?, ?, ?, ?, ?, ?, ?)"
# From one record up to, and without, another.
DELETE_RECORDS: Final = "DELETE FROM record WHERE writer = ? AND sequence >= ? AND sequence < ?"
DELETE_DIGESTS: Final = "DELETE FROM record_digest WHERE writer = ? AND sequence >= ? AND sequence < ?"
DELETE_GAPS: Final = "DELETE FROM gap WHERE writer = ? AND sequence >= ? AND sequence < ?"
DELETE_CHECKPOINTS: Final = "DELETE FROM checkpoint WHERE writer = ? AND sequence >= ? AND sequence < ?"

POSITIONS: Final = "SELECT sink, writer, sequence FROM sink_position"
SET_POSITION: Final = """
    INSERT INTO sink_position (sink, writer, sequence) VALUES (?, ?, ?)
    ON CONFLICT (sink, writer) DO UPDATE SET sequence = excluded.sequence
"""

# What verifies reads everything, one writer after the other.
WRITERS: Final = """
    SELECT writer FROM record UNION SELECT writer FROM checkpoint UNION SELECT writer FROM trim ORDER BY writer
"""
FULL_RECORDS_AFTER: Final = f"""
    SELECT {RECORD_COLUMNS} FROM record WHERE writer = ? AND sequence > ? ORDER BY sequence LIMIT ?
"""  # noqa: S608 - no values
DIGESTS_BETWEEN: Final = """
    SELECT sequence, digest, at FROM record_digest
    WHERE writer = ? AND sequence > ? AND sequence <= ? ORDER BY sequence
"""
STRAY_DIGEST: Final = """
    SELECT writer, sequence FROM record_digest WHERE NOT EXISTS (
        SELECT 1 FROM record
        WHERE record.writer = record_digest.writer AND record.sequence = record_digest.sequence)
    ORDER BY writer, sequence LIMIT 1
"""
LAST_CHECKPOINTS: Final = """
    SELECT writer, sequence, hash, at, key_id, signature FROM checkpoint
    WHERE (writer, sequence) IN (SELECT writer, max(sequence) FROM checkpoint GROUP BY writer) ORDER BY at
"""

# Searches, newest first. The conditions are put together from these.
BY_DIGEST: Final = (
    "record_digest.digest = ? AND record.writer = record_digest.writer AND record.sequence = record_digest.sequence"
)
BY_REPOSITORY: Final = "record.repository = ?"
# Below a prefix: the index over names is the way to few records; with many, sorting them would take longer than going
# through the index over times, which has the names too. The first cannot use an expression.
BY_PREFIX: Final = "record.repository >= ? AND record.repository < ?"
BY_PREFIX_OF_MANY: Final = "record.repository || '' >= ? AND record.repository || '' < ?"
BY_SUBJECT: Final = "record.subject = ?"
BY_NAMESPACE: Final = "record.namespace = ? AND record.namespace <> ''"
BY_ACTION: Final = "record.action = ?"
BY_OUTCOME: Final = "record.outcome = ?"
SINCE: Final = "{table}.at >= ?"
UNTIL: Final = "{table}.at < ?"
BEFORE: Final = "({table}.at, {table}.writer, {table}.sequence) < (?, ?, ?)"

COUNT_PREFIX: Final = """
    SELECT count(*) FROM (
        SELECT 1 FROM record WHERE repository >= ? AND repository < ? LIMIT ?) AS found
"""
PULLS_OF: Final = """
    SELECT record.content FROM record_digest
    JOIN record ON record.writer = record_digest.writer AND record.sequence = record_digest.sequence
    WHERE record_digest.digest = ? AND record.action IN (?, ?) AND record.outcome IN (?, ?)
    ORDER BY record_digest.at DESC
"""


@functools.lru_cache(maxsize=256)
def search(conditions: tuple[str, ...]) -> str:
    """Records that meet all conditions; the last parameter is how many."""
    # By a digest, its own table has them in order.
    table = "record_digest" if BY_DIGEST in conditions else "record"
    where = " AND ".join(conditions).replace("{table}", table) or "1 = 1"
    return f"""
        SELECT record.content FROM {"record_digest, record" if table != "record" else table} WHERE {where}
        ORDER BY {table}.at DESC, {table}.writer DESC, {table}.sequence DESC LIMIT ?
    """  # noqa: S608 - the conditions are those above
