-- Where an upload goes on, whichever replica the next request comes to: what the blob store needs for that, and how often
-- it was written. Who is about to write names the number that was read.
ALTER TABLE upload ADD COLUMN state {text} NOT NULL DEFAULT '';
ALTER TABLE upload ADD COLUMN version BIGINT NOT NULL DEFAULT 0;
CREATE INDEX upload_owner ON upload (owner);
CREATE INDEX upload_repository ON upload (repository);
CREATE INDEX upload_used ON upload (used_at);
