"""What each client says when the registry refuses it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from clients.registry import CAROL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clients.registry import Registry


class Words(NamedTuple):
    """What a client says without credentials, with wrong ones, and when its user may not pull."""

    without: str
    wrong: str
    denied: str


DENIED: Final = f"{CAROL.name} may not pull"
CONTAINERS: Final = Words("unauthorized", "invalid username/password", f"denied: {DENIED}")
ORAS: Final = Words("unauthorized: log in to get a token", "unauthorized: the user name or", f"denied: {DENIED}")
CRANE: Final = Words("UNAUTHORIZED: log in to get a token", "UNAUTHORIZED: the user name or", f"DENIED: {DENIED}")
TOKEN: Final[Mapping[str, Words]] = {
    "buildah": CONTAINERS,
    "crane": CRANE,
    "ctr": Words("401 Unauthorized", "401 Unauthorized", "403 Forbidden"),
    "docker": ORAS,
    "helm": ORAS,
    "oras": ORAS,
    "podman": CONTAINERS,
    "regctl": Words("unauthorized", "unauthorized", f'"code":"DENIED","message":"{DENIED}'),
    "skopeo": CONTAINERS,
}
PASSWORD: Final[Mapping[str, Words]] = {
    **TOKEN,
    "crane": TOKEN["crane"]._replace(without="401 Unauthorized"),
    "docker": TOKEN["docker"]._replace(without="no basic auth credentials", wrong="401 Unauthorized"),
    "helm": TOKEN["helm"]._replace(without="basic credential not found"),
    "oras": TOKEN["oras"]._replace(without="basic credential not found"),
}


def words(registry: Registry, client: str) -> Words:
    return (PASSWORD if registry.challenge == "basic" else TOKEN)[client]
