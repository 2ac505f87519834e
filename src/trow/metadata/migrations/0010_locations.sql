-- Where the bytes of a blob are in the blob store; NULL where its content is here. No location is ever used twice.
ALTER TABLE blob ADD COLUMN location {text};
UPDATE blob SET location = substr(digest, 1, 6) || '/' || substr(digest, 8, 2) || '/' || substr(digest, 8)
WHERE content IS NULL;
CREATE UNIQUE INDEX blob_location ON blob (location) WHERE location IS NOT NULL;

-- Locations that may have bytes and have no blob, and since when. Their bytes go later, when nobody reads or brings them.
-- From then on (removing = 1) no blob gets there any more.
CREATE TABLE doomed (
    location {text} PRIMARY KEY,
    since    DOUBLE PRECISION NOT NULL,
    removing INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX doomed_since ON doomed (since);
