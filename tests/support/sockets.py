"""The sockets of a process, as the kernel knows them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

_LISTEN: Final = "0A"
_UNIX_LISTENS: Final = "00010000"  # __SO_ACCEPTCON
_UNIX_FIELDS: Final = 8  # with a path


@dataclass(frozen=True)
class Socket:
    """A TCP socket over IPv4: its own port, that of its peer, and whether it listens."""

    port: int
    peer: int
    listens: bool


def inodes(pid: int) -> set[str]:
    """What the kernel calls the sockets that a process has."""
    links = (_target(descriptor) for descriptor in Path(f"/proc/{pid}/fd").iterdir())
    return {link[len("socket:[") : -1] for link in links if link.startswith("socket:[")}


def tcp_sockets(pid: int) -> list[Socket]:
    own = inodes(pid)
    return [Socket(_port(row[1]), _port(row[2]), row[3] == _LISTEN) for row in _rows(pid, "tcp") if row[9] in own]


def listening_ports(pid: int) -> set[int]:
    return {each.port for each in tcp_sockets(pid) if each.listens}


def listening_paths(pid: int) -> list[Path]:
    """Unix sockets in the file system."""
    own = inodes(pid)
    rows = [row for row in _rows(pid, "unix") if row[6] in own and row[3] == _UNIX_LISTENS]
    return [Path(row[7]) for row in rows if len(row) == _UNIX_FIELDS]


def _rows(pid: int, table: str) -> Iterator[list[str]]:
    lines = Path(f"/proc/{pid}/net/{table}").read_text(encoding="utf-8").splitlines()
    return (line.split() for line in lines[1:])


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)


def _target(descriptor: Path) -> str:
    try:
        return str(descriptor.readlink())
    except FileNotFoundError:  # a connection that has just ended
        return ""
