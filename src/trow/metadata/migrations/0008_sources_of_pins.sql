-- Who asked for a digest to be kept: nobody has shown who they are, and whoever has most gives up most.
ALTER TABLE pin ADD COLUMN source {text} NOT NULL DEFAULT '';
CREATE INDEX pin_source ON pin (source, used_at);
