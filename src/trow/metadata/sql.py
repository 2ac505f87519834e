"""The statements, in the common subset of SQLite and PostgreSQL: written once, named, with ``?`` for parameters."""

from __future__ import annotations

from typing import Final

# How many digests one statement looks for. Where there are fewer, the last one is repeated, so that the statement stays
# the same.
DIGESTS: Final = 16
_DIGESTS: Final = ", ".join("?" * DIGESTS)

MANIFEST: Final = "SELECT digest, media_type, content FROM manifest WHERE repository = ? AND digest = ?"

TAGGED_MANIFEST: Final = """
    SELECT digest, media_type, content FROM manifest
    WHERE repository = ? AND digest = (SELECT digest FROM tag WHERE repository = ? AND name = ?)
"""

# The same for whoever has the content of a digest already: where it is that one, only the names are sent.
MANIFEST_BEYOND: Final = """
    SELECT digest, media_type, CASE WHEN digest = ? THEN NULL ELSE content END FROM manifest
    WHERE repository = ? AND digest = ?
"""
TAGGED_MANIFEST_BEYOND: Final = """
    SELECT digest, media_type, CASE WHEN digest = ? THEN NULL ELSE content END FROM manifest
    WHERE repository = ? AND digest = (SELECT digest FROM tag WHERE repository = ? AND name = ?)
"""

REPOSITORY: Final = "SELECT generation, created_by FROM repository WHERE name = ?"
GENERATION: Final = "SELECT latest FROM repository_generation"
# Locks the row where transactions run side by side, so that numbers come true in their order.
NEXT_GENERATION: Final = "UPDATE repository_generation SET latest = latest + 1 RETURNING latest"
ADD_REPOSITORY: Final = """
    INSERT INTO repository (name, generation, created_at, created_by) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING
"""
DROP_EMPTY_REPOSITORY: Final = """
    DELETE FROM repository WHERE name = ?
    AND NOT EXISTS (SELECT 1 FROM manifest WHERE manifest.repository = repository.name)
"""
REPOSITORIES: Final = "SELECT name FROM repository WHERE name > ? AND name < ? ORDER BY name LIMIT ?"
# Where a stretch of the list ends, and a second row when more follows it.
END_OF_REPOSITORIES: Final = "SELECT name FROM repository WHERE name > ? AND name < ? ORDER BY name LIMIT 2 OFFSET ?"
COUNT_REPOSITORIES: Final = """
    SELECT count(*) FROM (SELECT name FROM repository WHERE name > ? AND name < ? LIMIT ?) AS few
"""
# LIKE ignores case in SQLite alone, and names are all lower-case. '!' is in no name, and means the same everywhere.
SEARCH_REPOSITORIES: Final = """
    SELECT name FROM repository WHERE name > ? AND name <= ? AND name LIKE ? ESCAPE '!' ORDER BY name
"""

ADD_MANIFEST: Final = """
    INSERT INTO manifest (repository, digest, media_type, size, subject, artifact_type, annotations_size, annotations,
                          pushed_at, pushed_by, content)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (repository, digest)
    DO UPDATE SET media_type = excluded.media_type, size = excluded.size, content = excluded.content
"""
MEDIA_TYPE: Final = "SELECT media_type FROM manifest WHERE repository = ? AND digest = ?"
MANIFEST_SIZES: Final = f"SELECT digest, size FROM manifest WHERE repository = ? AND digest IN ({_DIGESTS})"  # noqa: S608
DELETE_MANIFEST: Final = "DELETE FROM manifest WHERE repository = ? AND digest = ? RETURNING 1"

# What each entry of a referrers list will take, so that a page's rows are only fetched when they fit.
REFERRER_SIZES: Final = """
    SELECT digest, CASE WHEN annotations IS NULL THEN 0 ELSE annotations_size END
    FROM manifest WHERE repository = ? AND subject = ? AND digest > ? AND (? = '' OR artifact_type = ?)
    ORDER BY digest LIMIT ?
"""
REFERRERS: Final = """
    SELECT digest, media_type, size, artifact_type, annotations, annotations IS NULL AND annotations_size > 0
    FROM manifest WHERE repository = ? AND subject = ? AND digest > ? AND digest <= ? AND (? = '' OR artifact_type = ?)
    ORDER BY digest
"""

TAGS: Final = "SELECT name FROM tag WHERE repository = ? AND name > ? ORDER BY name LIMIT ?"
TAG: Final = "SELECT digest FROM tag WHERE repository = ? AND name = ?"
TAGS_OF: Final = "SELECT name FROM tag WHERE repository = ? AND digest = ?"
SET_TAG: Final = """
    INSERT INTO tag (repository, name, digest) VALUES (?, ?, ?)
    ON CONFLICT (repository, name) DO UPDATE SET digest = excluded.digest
"""
DELETE_TAG: Final = "DELETE FROM tag WHERE repository = ? AND name = ? RETURNING digest"

LAST_TAG_EVENT: Final = "SELECT max(sequence) FROM tag_event WHERE repository = ? AND tag = ?"
ADD_TAG_EVENT: Final = """
    INSERT INTO tag_event (repository, tag, sequence, digest, at, subject) VALUES (?, ?, ?, ?, ?, ?)
"""
TRIM_TAG_EVENTS: Final = "DELETE FROM tag_event WHERE repository = ? AND tag = ? AND sequence <= ?"
TAG_EVENTS: Final = """
    SELECT sequence, digest, at, subject FROM tag_event
    WHERE repository = ? AND tag = ? AND sequence < ? ORDER BY sequence DESC LIMIT ?
"""

WAS_TAGGED: Final = """
    SELECT 1 FROM tag WHERE repository = ? AND name = ? AND digest = ?
    UNION ALL SELECT 1 FROM tag_event WHERE repository = ? AND tag = ? AND digest = ? LIMIT 1
"""

# Those that stand for it now come first. Each part is read no further than the whole may go.
TAGGED_AS: Final = """
    SELECT name FROM (
        SELECT name, 0 AS past FROM (
            SELECT name FROM tag WHERE repository = ? AND digest = ? ORDER BY name LIMIT ?
        ) AS present
        UNION ALL SELECT tag, 1 FROM (
            SELECT DISTINCT tag FROM tag_event WHERE repository = ? AND digest = ? ORDER BY tag LIMIT ?
        ) AS former
    ) AS named GROUP BY name ORDER BY min(past), name LIMIT ?
"""

BLOB: Final = """
    SELECT size, content, location FROM blob
    WHERE digest = (SELECT digest FROM blob_link WHERE repository = ? AND digest = ?)
"""
BLOB_SIZES: Final = f"""
    SELECT blob.digest, blob.size FROM blob_link JOIN blob ON blob.digest = blob_link.digest
    WHERE blob_link.repository = ? AND blob_link.digest IN ({_DIGESTS})
"""  # noqa: S608
BLOB_FILES: Final = f"""
    SELECT blob.digest, blob.size, blob.location FROM blob_link JOIN blob ON blob.digest = blob_link.digest
    WHERE blob_link.repository = ? AND blob_link.digest IN ({_DIGESTS}) AND blob.content IS NULL
"""  # noqa: S608
# What was there may be damaged; what comes was verified.
ADD_BLOB: Final = """
    INSERT INTO blob (digest, size, content, location) VALUES (?, ?, ?, ?)
    ON CONFLICT (digest) DO UPDATE SET size = excluded.size, content = excluded.content, location = excluded.location
    WHERE blob.size <> excluded.size OR blob.content IS DISTINCT FROM excluded.content
    OR blob.location IS DISTINCT FROM excluded.location
"""
# Where the blob was before it is somewhere else.
DOOM_FORMER_LOCATION: Final = """
    INSERT INTO doomed (location, since) SELECT location, CAST(? AS DOUBLE PRECISION) FROM blob
    WHERE digest = ? AND location IS NOT NULL AND location <> ? ON CONFLICT DO NOTHING
"""
LOCATION: Final = "SELECT 1 FROM blob WHERE location = ?"
LOCATION_EVER: Final = """
    SELECT 1 FROM blob WHERE location = ? UNION ALL SELECT 1 FROM doomed WHERE location = ? LIMIT 1
"""
DOOMED: Final = """
    SELECT location FROM doomed WHERE since < ?
    AND NOT EXISTS (SELECT 1 FROM blob WHERE blob.location = doomed.location) ORDER BY since LIMIT ?
"""
# Whatever was reserved late: where a blob is, nothing is removed.
REMOVE_DOOMED: Final = """
    UPDATE doomed SET removing = 1 WHERE location = ? AND since < ?
    AND NOT EXISTS (SELECT 1 FROM blob WHERE blob.location = doomed.location) RETURNING 1
"""
RESERVE_LOCATION: Final = """
    INSERT INTO doomed (location, since) SELECT ?, CAST(? AS DOUBLE PRECISION)
    WHERE NOT EXISTS (SELECT 1 FROM blob WHERE location = ?)
    ON CONFLICT (location) DO UPDATE SET since = excluded.since WHERE doomed.removing = 0 RETURNING 1
"""
TAKE_RESERVED: Final = "DELETE FROM doomed WHERE location = ? AND removing = 0 RETURNING 1"
FORGET_DOOMED: Final = "DELETE FROM doomed WHERE location = ?"
# A sum of whole numbers is not a whole number in PostgreSQL.
STORED: Final = "SELECT count(*), CAST(coalesce(sum(size), 0) AS BIGINT) FROM blob"
LINK_BLOB: Final = "INSERT INTO blob_link (repository, digest) VALUES (?, ?) ON CONFLICT DO NOTHING"
UNLINK_BLOB: Final = "DELETE FROM blob_link WHERE repository = ? AND digest = ? RETURNING 1"
DROP_UNLINKED_CONTENT: Final = """
    DELETE FROM blob WHERE digest = ? AND content IS NOT NULL
    AND NOT EXISTS (SELECT 1 FROM blob_link WHERE blob_link.digest = blob.digest)
"""
HAS_BLOB: Final = "SELECT 1 FROM blob_link WHERE repository = ? AND digest = ?"
REPOSITORIES_WITH: Final = "SELECT repository FROM blob_link WHERE digest = ? ORDER BY repository LIMIT ?"

ADD_ROBOT: Final = """
    INSERT INTO robot_token (id, name, secret_hash, grants, created_at, created_by, expires_at, revoked_at)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?)
"""
ROBOT: Final = """
    SELECT id, name, secret_hash, grants, created_at, created_by, expires_at, revoked_at FROM robot_token WHERE id = ?
"""
ROBOTS: Final = """
    SELECT id, name, secret_hash, grants, created_at, created_by, expires_at, revoked_at FROM robot_token
    ORDER BY created_at, id
"""
REVOKE_ROBOT: Final = "UPDATE robot_token SET revoked_at = ? WHERE id = ? AND revoked_at IS NULL RETURNING 1"

ADD_PENDING_EVENT: Final = "INSERT INTO pending_event (id, at, actor, detail) VALUES (?, ?, ?, ?)"
PENDING_EVENTS: Final = "SELECT id, at, actor, detail FROM pending_event ORDER BY at, id LIMIT 100"
DROP_PENDING_EVENT: Final = "DELETE FROM pending_event WHERE id = ?"

PIN: Final = """
    INSERT INTO pin (namespace, owner, image, digest, source, used_at) VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT (namespace, owner, image) DO UPDATE SET used_at = excluded.used_at RETURNING digest
"""
DROP_OLD_PINS: Final = "DELETE FROM pin WHERE used_at < ?"
COUNT_PINS: Final = "SELECT count(*) FROM pin"
PINS_OF_SOURCES: Final = "SELECT source, count(*) AS held FROM pin GROUP BY source ORDER BY held DESC, source LIMIT ?"
DROP_SURPLUS_PINS: Final = """
    DELETE FROM pin WHERE source = ? AND used_at <= (
        SELECT used_at FROM pin WHERE source = ? ORDER BY used_at LIMIT 1 OFFSET ?
    )
"""

ADD_UPLOAD: Final = """
    INSERT INTO upload (id, repository, subject, algorithm, used_at, owner, empty, state, version)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_UPLOAD: Final = "id, repository, subject, algorithm, used_at, owner, empty, state, version"
TAKE_UPLOADS: Final = f"DELETE FROM upload RETURNING {_UPLOAD}"  # noqa: S608
UPLOAD: Final = f"SELECT {_UPLOAD} FROM upload WHERE id = ?"  # noqa: S608
UPLOADS: Final = f"SELECT {_UPLOAD} FROM upload ORDER BY used_at, id"  # noqa: S608
TOUCH_UPLOAD: Final = "UPDATE upload SET used_at = ?, empty = ? WHERE id = ?"
SAVE_UPLOAD: Final = "UPDATE upload SET state = ?, version = version + 1 WHERE id = ? AND version = ? RETURNING 1"
END_UPLOAD: Final = "DELETE FROM upload WHERE id = ? RETURNING 1"
EXPIRE_UPLOADS: Final = f"""
    DELETE FROM upload WHERE (empty = 0 AND used_at < ?) OR (empty = 1 AND used_at < ?) RETURNING {_UPLOAD}
"""  # noqa: S608
# Three numbers at a time, none of which needs to be exact among uploads that are opened in the same moment.
COUNT_UPLOADS: Final = """
    SELECT (SELECT count(*) FROM upload), (SELECT count(*) FROM upload WHERE owner = ?),
           (SELECT count(*) FROM upload WHERE repository = ?)
"""

SKIP_GENERATIONS: Final = """
    UPDATE repository_generation
    SET latest = (SELECT coalesce(max(generation), 0) FROM repository) + latest + ?
"""
BLOB_BY_DIGEST: Final = "SELECT size, content, location FROM blob WHERE digest = ?"
DANGLING_LINKS: Final = """
    SELECT blob_link.repository, blob_link.digest FROM blob_link
    WHERE NOT EXISTS (SELECT 1 FROM blob WHERE blob.digest = blob_link.digest)
"""
DANGLING_TAGS: Final = """
    SELECT tag.repository, tag.name, tag.digest FROM tag WHERE NOT EXISTS (
        SELECT 1 FROM manifest WHERE manifest.repository = tag.repository AND manifest.digest = tag.digest)
"""
DROP_BLOB_LINKS: Final = "DELETE FROM blob_link WHERE digest = ?"
DROP_BLOB: Final = "DELETE FROM blob WHERE digest = ?"
DROP_TAGS_OF: Final = "DELETE FROM tag WHERE repository = ? AND digest = ?"

# Replicas agree by these, in PostgreSQL alone.
FACT: Final = "SELECT value FROM registry_fact WHERE name = ?"
AGREE_ON_FACT: Final = """
    INSERT INTO registry_fact (name, value) VALUES (?, ?)
    ON CONFLICT (name) DO UPDATE SET value = registry_fact.value RETURNING value
"""

FAILED_LOGINS: Final = "SELECT since, failures, last_at FROM failed_login WHERE source = ? AND username = ?"
# A window opens with the first failure; one that has had its time begins again.
ADD_FAILED_LOGIN: Final = """
    INSERT INTO failed_login (source, username, since, failures, last_at) VALUES (?, ?, ?, 1, ?)
    ON CONFLICT (source, username) DO UPDATE SET
        failures = CASE WHEN failed_login.since <= ? THEN 1 ELSE failed_login.failures + 1 END,
        since = CASE WHEN failed_login.since <= ? THEN excluded.since ELSE failed_login.since END,
        last_at = excluded.last_at
"""
FORGET_FAILED_LOGINS: Final = "DELETE FROM failed_login WHERE source = ? AND username = ?"
DROP_FAILED_LOGINS: Final = "DELETE FROM failed_login WHERE since <= ?"
DROP_SURPLUS_FAILED_LOGINS: Final = """
    DELETE FROM failed_login WHERE last_at <= (
        SELECT last_at FROM failed_login ORDER BY last_at DESC LIMIT 1 OFFSET ?
    )
"""

ALLOWED_PULL: Final = "SELECT tag, at FROM allowed_pull WHERE username = ? AND repository = ? AND digest = ?"
ADD_ALLOWED_PULLS: Final = """
    INSERT INTO allowed_pull (username, repository, tag, at, digest)
    SELECT CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS TEXT), CAST(? AS DOUBLE PRECISION),
           unnest(string_to_array(?, ','))
    ON CONFLICT (username, repository, digest) DO UPDATE SET tag = excluded.tag, at = excluded.at
"""
DROP_ALLOWED_PULLS: Final = "DELETE FROM allowed_pull WHERE at < ?"
DROP_SURPLUS_ALLOWED_PULLS: Final = """
    DELETE FROM allowed_pull WHERE at <= (SELECT at FROM allowed_pull ORDER BY at DESC LIMIT 1 OFFSET ?)
"""
