-- Wrong passwords by source and user, which all replicas count together. They are of no use after a crash.
CREATE UNLOGGED TABLE failed_login (
    source   {text} NOT NULL,
    username {text} NOT NULL,
    since    DOUBLE PRECISION NOT NULL,
    failures BIGINT NOT NULL,
    last_at  DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (source, username)
);

CREATE INDEX failed_login_since ON failed_login (since);
