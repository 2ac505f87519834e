"""The steps of the audit database's schema, applied in order; a step that has been released never changes.

``{text}`` and ``{clustered}`` stand for what differs between engines: the collation of text that sorts by bytes, and
how a table is told to live in the tree of its key.
"""

from __future__ import annotations

import re
from typing import Final

_FIRST: Final = """
CREATE TABLE setting (
    name  {text} PRIMARY KEY,
    value {text} NOT NULL
);

CREATE TABLE record (
    writer     {text} NOT NULL,
    sequence   BIGINT NOT NULL,
    at         BIGINT NOT NULL,
    action     {text} NOT NULL,
    outcome    {text} NOT NULL,
    subject    {text} NOT NULL,
    namespace  {text} NOT NULL,
    repository {text} NOT NULL,
    digest     {text} NOT NULL,
    content    {text} NOT NULL,
    PRIMARY KEY (writer, sequence)
);

-- In the order of searches, so that none is sorted; with the names, to look for many of them in that order.
CREATE INDEX record_at ON record (at, writer, sequence, repository);
CREATE INDEX record_repository ON record (repository, at);
CREATE INDEX record_subject ON record (subject, at);
CREATE INDEX record_action ON record (action, at);
CREATE INDEX record_outcome ON record (outcome, at);
CREATE INDEX record_namespace ON record (namespace, at) WHERE namespace <> '';

CREATE TABLE record_digest (
    digest   {text} NOT NULL,
    at       BIGINT NOT NULL,
    writer   {text} NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (digest, at, writer, sequence)
){clustered};

CREATE INDEX record_digest_record ON record_digest (writer, sequence);

CREATE TABLE checkpoint (
    writer    {text} NOT NULL,
    sequence  BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    hash      {text} NOT NULL,
    key_id    {text} NOT NULL,
    signature {text} NOT NULL,
    PRIMARY KEY (writer, sequence)
);

CREATE INDEX checkpoint_at ON checkpoint (writer, at, sequence);

CREATE TABLE trim (
    writer    {text} PRIMARY KEY,
    sequence  BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    prev      {text} NOT NULL,
    key_id    {text} NOT NULL,
    signature {text} NOT NULL
);

CREATE TABLE sink_position (
    sink     {text} NOT NULL,
    writer   {text} NOT NULL,
    sequence BIGINT NOT NULL,
    PRIMARY KEY (sink, writer)
);
"""

# What somebody holds of a part of the record, so that whoever has most gives up most; and what they gave up.
_SHARES: Final = """
CREATE TABLE holding (
    writer {text} NOT NULL,
    holder {text} NOT NULL,
    bytes  BIGINT NOT NULL,
    PRIMARY KEY (writer, holder)
){clustered};

CREATE INDEX holding_bytes ON holding (writer, bytes);

-- As `store.cost` counts it.
INSERT INTO holding (writer, holder, bytes)
SELECT writer, subject, sum(length(content) + 400 + 450 * (
    SELECT count(*) FROM record_digest
    WHERE record_digest.writer = record.writer AND record_digest.sequence = record.sequence))
FROM record GROUP BY writer, subject;

CREATE TABLE gap (
    writer    {text} NOT NULL,
    first     BIGINT NOT NULL,
    sequence  BIGINT NOT NULL,
    at        BIGINT NOT NULL,
    hash      {text} NOT NULL,
    key_id    {text} NOT NULL,
    signature {text} NOT NULL,
    PRIMARY KEY (writer, sequence)
);
"""

_STEPS: Final = (_FIRST, _SHARES)


def steps(*, text: str, clustered: str) -> list[list[str]]:
    """The statements of each step, in the words of one engine."""
    filled = (step.replace("{text}", text).replace("{clustered}", clustered) for step in _STEPS)
    bare = (re.sub(r"^--.*$", "", step, flags=re.MULTILINE) for step in filled)
    return [[statement.strip() for statement in step.split(";") if statement.strip()] for step in bare]
