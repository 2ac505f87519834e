-- Since when a repository exists, and who made it: a token of our own that is older belongs to its predecessor.
ALTER TABLE repository ADD COLUMN created_at DOUBLE PRECISION NOT NULL DEFAULT 0;
ALTER TABLE repository ADD COLUMN created_by {text} NOT NULL DEFAULT '';

-- Credentials of programs; the secret only as a hash, grants as JSON.
CREATE TABLE robot_token (
    id          {text} PRIMARY KEY,
    name        {text} NOT NULL,
    secret_hash {text} NOT NULL,
    grants      {text} NOT NULL,
    created_at  DOUBLE PRECISION NOT NULL,
    created_by  {text} NOT NULL,
    expires_at  DOUBLE PRECISION,
    revoked_at  DOUBLE PRECISION
);

-- What commands beside the server did, until the server takes it down in the audit trail.
CREATE TABLE pending_event (
    id     {text} PRIMARY KEY,
    at     DOUBLE PRECISION NOT NULL,
    actor  {text} NOT NULL,
    detail {text} NOT NULL
);
