-- What somebody holds of a part of the record, so that whoever has most gives up most; and what they gave up.
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
