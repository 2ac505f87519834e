"""What happens in the database, free of any driver, by what it is about.

Reads need READ COMMITTED, the list of a search included: it is made so that writes between its statements do no harm.
Each write first yields the locks that make it serializable on an engine that runs writes side by side
(`trow.sql.engine`): of a repository, a tag, a manifest or a blob; exclusive where it may remove or move it, shared
where it relies on it. A repository's lock covers its links and manifests, so that a push with many layers takes as few
locks as one with a single layer. A write that yields none says why.
"""
