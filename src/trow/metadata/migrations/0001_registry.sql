-- A repository exists while it has a manifest.
CREATE TABLE repository (
    name {text} PRIMARY KEY
);

-- Manifests, byte for byte as pushed, once for each repository: who may read one is a matter of its key alone.
CREATE TABLE manifest (
    repository    {text} NOT NULL,
    digest        {text} NOT NULL,
    media_type    {text} NOT NULL,
    size          BIGINT NOT NULL,
    subject       {text},
    artifact_type {text},
    annotations   {text},
    pushed_at     DOUBLE PRECISION NOT NULL,
    pushed_by     {text} NOT NULL,
    content       {bytes} NOT NULL,
    PRIMARY KEY (repository, digest)
);

CREATE INDEX manifest_subject ON manifest (repository, subject, digest) WHERE subject IS NOT NULL;

CREATE TABLE tag (
    repository {text} NOT NULL,
    name       {text} NOT NULL,
    digest     {text} NOT NULL,
    PRIMARY KEY (repository, name)
);

CREATE INDEX tag_digest ON tag (repository, digest);

-- What a tag pointed at, and who made it so; digest is NULL where the tag was deleted.
CREATE TABLE tag_event (
    repository {text} NOT NULL,
    tag        {text} NOT NULL,
    sequence   BIGINT NOT NULL,
    digest     {text},
    at         DOUBLE PRECISION NOT NULL,
    subject    {text} NOT NULL,
    PRIMARY KEY (repository, tag, sequence)
);

-- Blobs the registry holds; content is set for small ones, NULL where the bytes are in the blob store.
CREATE TABLE blob (
    digest  {text} PRIMARY KEY,
    size    BIGINT NOT NULL,
    content {bytes}
);

-- How much is stored is summed from this index alone.
CREATE INDEX blob_size ON blob (size);

CREATE TABLE blob_link (
    repository {text} NOT NULL,
    digest     {text} NOT NULL,
    PRIMARY KEY (repository, digest)
);

CREATE INDEX blob_link_digest ON blob_link (digest, repository);

-- Upload sessions while no process has them in its hands.
CREATE TABLE upload (
    id         {text} PRIMARY KEY,
    repository {text} NOT NULL,
    subject    {text} NOT NULL,
    algorithm  {text} NOT NULL,
    used_at    DOUBLE PRECISION NOT NULL
);
