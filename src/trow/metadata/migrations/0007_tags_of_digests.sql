-- Whoever asks for a digest may have come by any tag that stands for it, or once did.
CREATE INDEX tag_event_digest ON tag_event (repository, digest) WHERE digest IS NOT NULL;
