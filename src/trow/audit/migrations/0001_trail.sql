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
