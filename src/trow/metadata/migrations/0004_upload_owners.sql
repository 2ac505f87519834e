-- Whose share an upload session takes: a user, or a source where nobody showed credentials.

ALTER TABLE upload ADD COLUMN owner {text} NOT NULL DEFAULT '';
