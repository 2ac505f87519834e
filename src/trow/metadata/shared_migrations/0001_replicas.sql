-- What is decided once for all replicas, such as which data directory is theirs.
CREATE TABLE registry_fact (
    name  {text} PRIMARY KEY,
    value {text} NOT NULL
);
