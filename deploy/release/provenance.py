"""Where a release comes from: an in-toto statement with SLSA provenance.

https://github.com/in-toto/attestation/blob/v1.1.0/spec/v1/statement.md, https://slsa.dev/spec/v1.1/provenance
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final

import msgspec
from deploy.image import debian
from deploy.image.build import REQUIREMENTS, ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping

    from deploy.release.build import Source

STATEMENT: Final = "https://in-toto.io/Statement/v1"
PREDICATE: Final = "https://slsa.dev/provenance/v1"
# A name for what `make release` does, which changes when that does; it is not an address that answers.
BUILD_TYPE: Final = "urn:trow:make-release:v1"
_INPUTS: Final = (debian.LOCK, REQUIREMENTS, ROOT / "requirements.lock")


def provenance(subjects: Mapping[str, str], source: Source, builder: str) -> bytes:
    """The statement, in JSON. It is not signed: whoever publishes the release signs it, and with it every file.

    Args:
        subjects: SHA-256 in hexadecimal of what was built, by name.
        source: what it was built of.
        builder: who built it, as a URI.
    """
    commit = {"uri": "git+trow", "digest": {"gitCommit": source.commit}}
    inputs = [
        {"uri": str(path.relative_to(ROOT)), "digest": {"sha256": hashlib.sha256(path.read_bytes()).hexdigest()}}
        for path in _INPUTS
    ]
    statement = {
        "_type": STATEMENT,
        "subject": [{"name": name, "digest": {"sha256": digest}} for name, digest in sorted(subjects.items())],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {"source": commit},
                "resolvedDependencies": [commit, *inputs],
            },
            "runDetails": {"builder": {"id": builder}, "metadata": {"finishedOn": source.created}},
        },
    }
    return msgspec.json.format(msgspec.json.encode(statement), indent=1)
