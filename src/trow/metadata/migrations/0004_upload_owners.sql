-- Whose share an upload session takes: a user, or a source where nobody showed credentials; and whether it has no bytes.

ALTER TABLE upload ADD COLUMN owner {text} NOT NULL DEFAULT '';
ALTER TABLE upload ADD COLUMN empty INTEGER NOT NULL DEFAULT 0;
