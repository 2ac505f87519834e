"""Trails to look at: real ones, small, with every member that a record can have."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import apsw
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from support.clock import Clock
from trow.access.identity import Identity, Method
from trow.audit import record as records
from trow.audit.keys import SigningKey
from trow.audit.trail import AuditTrail
from trow.registry.events import Action, Event, Origin, Outcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from trow.audit.record import Record

KEY: Final = SigningKey(Ed25519PrivateKey.from_private_bytes(b"k" * 32))
OTHER_KEY: Final = SigningKey(Ed25519PrivateKey.from_private_bytes(b"o" * 32))
KEYS: Final = {KEY.id: KEY.public}
NOW: Final = 1_700_000_000.25


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def workload(number: int = 1, namespace: str = "team-a") -> Identity:
    return Identity(
        f"system:serviceaccount:{namespace}:builder",
        Method.KUBERNETES,
        f"uid-{number}",
        ("system:serviceaccounts", "system:authenticated"),
        (
            ("authentication.kubernetes.io/node-name", (f"node-{number}",)),
            ("authentication.kubernetes.io/node-uid", (f"node-uid-{number}",)),
            ("authentication.kubernetes.io/pod-name", (f"pod-{number}",)),
            ("authentication.kubernetes.io/pod-uid", (f"pod-uid-{number}",)),
        ),
        f"token-{number}",
    )


def full(number: int, **members: Any) -> Event:
    """An event with everything that one can have."""
    values: dict[str, Any] = {
        "action": Action.PULL,
        "outcome": Outcome.OK,
        "actor": workload(number),
        "origin": Origin(
            f"10.0.0.{number % 250}", "10.9.9.9, 10.9.9.8", "containerd/2.0", f"r{number}", "4bf92f3577b3"
        ),
        "status": 200,
        "reason": "allowed by rule builders",
        "repository": f"team-a/app-{number}",
        "reference": "v1",
        "digest": digest(number),
        "media_type": "application/vnd.oci.image.index.v1+json",
        "manifests": (digest(number + 1_000), digest(number + 2_000)),
        "previous": digest(number + 3_000),
        "source": "team-b/base",
        "detail": "with détails",
        "count": 2,
        "blobs": 3,
        "bytes": 4_000,
        "started_at": NOW - 1,
    }
    return Event(**values | members)


def content_of(path: Path) -> bytes:
    """What a file holds; nothing while it is not begun, or was moved away a moment ago."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def write(path: Path, events: Iterable[Event], now: float = NOW, step: float = 1.0, **options: Any) -> Path:
    """A database with these records, this many seconds apart, written and closed."""
    clock = Clock(now)
    trail = AuditTrail(path, KEY, clock=clock, **options)
    for event in events:
        trail.record(event)
        clock.now += step
    trail.close()
    return path


def copy(path: Path, folder: Path) -> Path:
    """A closed database in another place."""
    return Path(shutil.copy(path, folder / path.name))


def sql(path: Path, statement: str, *values: Any) -> list[Any]:
    """What somebody with access to the file can do."""
    with contextlib.closing(apsw.Connection(str(path))) as connection:
        return connection.execute(statement, values).fetchall()


def name_of(path: Path) -> str:
    """What its writers are called."""
    ((name,),) = sql(path, "SELECT value FROM setting WHERE name = 'writer'")
    return str(name)


def texts(path: Path) -> list[str]:
    """The JSON of all records in order."""
    return [text for (text,) in sql(path, "SELECT content FROM record ORDER BY writer, sequence")]


def read(path: Path) -> Sequence[Record]:
    return [records.decode(text) for text in texts(path)]
