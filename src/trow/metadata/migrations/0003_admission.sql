-- The digest that the Pods of one owner are given for an image, whatever becomes of its tag meanwhile.
CREATE TABLE pin (
    namespace {text} NOT NULL,
    owner     {text} NOT NULL,
    image     {text} NOT NULL,
    digest    {text} NOT NULL,
    used_at   DOUBLE PRECISION NOT NULL,
    PRIMARY KEY (namespace, owner, image)
);
