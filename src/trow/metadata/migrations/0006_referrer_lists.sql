-- Lists of referrers are read without touching what is large: the size of a manifest's annotations stands before them,
-- annotations that are larger than a list shows are left to the manifest, and both stand before its content, because a
-- column is reached through those before it.
ALTER TABLE manifest RENAME TO former_manifest;

CREATE TABLE manifest (
    repository       {text} NOT NULL,
    digest           {text} NOT NULL,
    media_type       {text} NOT NULL,
    size             BIGINT NOT NULL,
    subject          {text},
    artifact_type    {text},
    annotations_size BIGINT NOT NULL,
    annotations      {text},
    pushed_at        DOUBLE PRECISION NOT NULL,
    pushed_by        {text} NOT NULL,
    content          {bytes} NOT NULL,
    PRIMARY KEY (repository, digest)
);

INSERT INTO manifest (repository, digest, media_type, size, subject, artifact_type, annotations_size, annotations,
                      pushed_at, pushed_by, content)
SELECT repository, digest, media_type, size, subject, substr(artifact_type, 1, 255),
       octet_length(coalesce(annotations, '')),
       CASE WHEN octet_length(annotations) > 65536 THEN NULL ELSE annotations END,
       pushed_at, pushed_by, content
FROM former_manifest;

DROP TABLE former_manifest;

CREATE INDEX manifest_subject ON manifest (repository, subject, digest) WHERE subject IS NOT NULL;
