-- Every repository that is made gets the next number, so that its namesake of before can be told from it without a clock.
ALTER TABLE repository ADD COLUMN generation BIGINT NOT NULL DEFAULT 0;
CREATE TABLE repository_generation (
    latest BIGINT NOT NULL
);
INSERT INTO repository_generation (latest) VALUES (0);
