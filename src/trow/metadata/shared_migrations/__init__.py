"""The steps of the tables by which replicas agree; they are on a server only, and in PostgreSQL's own SQL."""
