-- Which digests somebody may pull for some minutes, because a tag that led to them was allowed.
CREATE UNLOGGED TABLE allowed_pull (
    username   {text} NOT NULL,
    repository {text} NOT NULL,
    digest     {text} NOT NULL,
    tag        {text} NOT NULL,
    at         DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (username, repository, digest)
);

CREATE INDEX allowed_pull_at ON allowed_pull (at);
