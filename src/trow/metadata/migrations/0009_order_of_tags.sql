-- Some tags of a digest are found in their order, without looking at all of them.
DROP INDEX tag_digest;
CREATE INDEX tag_digest ON tag (repository, digest, name);
DROP INDEX tag_event_digest;
CREATE INDEX tag_event_digest ON tag_event (repository, digest, tag) WHERE digest IS NOT NULL;
