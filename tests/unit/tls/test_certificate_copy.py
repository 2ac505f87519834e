# ruff: noqa: ASYNC240 - what a test itself does with files may wait
"""The copy of the webhooks' certificate is written, read and taken up beside the event loop."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import pytest

from trow.tls.authority import DAY, Authority, Leaf
from trow.tls.certificate_copy import CertificateCopy

if TYPE_CHECKING:
    from pathlib import Path

NAMES: Final = ("trow.trow.svc",)


class Listener:
    """Takes up the file, as the listener for webhooks does.

    Attributes:
        loaded: what it has taken up, one after the other.
    """

    def __init__(self, path: Path) -> None:
        self.loaded: list[bytes] = []
        self._path = path
        self.fails = False

    async def load(self) -> None:
        if self.fails:
            raise OSError("out of files")
        self.loaded.append(self._path.read_bytes())


def issued(life: float = DAY, names: tuple[str, ...] = NAMES, now: float | None = None) -> Leaf:
    now = time.time() if now is None else now
    return Authority.make(now, 10 * DAY).issue(names, now, life)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "certificates" / "webhook.pem"


async def test_a_certificate_is_written_for_its_owner_alone_and_then_taken_up(path: Path) -> None:
    listener, leaf = Listener(path), issued()
    copy = CertificateCopy(path, NAMES, listener.load)
    await copy.install(leaf)
    assert listener.loaded == [leaf.pem]
    assert copy.expires == leaf.end
    assert path.stat().st_mode & 0o777 == 0o600


async def test_one_that_is_in_use_already_is_not_written_again(path: Path) -> None:
    listener, leaf = Listener(path), issued()
    copy = CertificateCopy(path, NAMES, listener.load)
    await copy.install(leaf)
    written = path.stat().st_ino
    await copy.install(leaf)
    assert len(listener.loaded) == 1
    assert path.stat().st_ino == written


async def test_one_that_could_not_be_taken_up_is_tried_again(path: Path) -> None:
    listener, leaf = Listener(path), issued()
    copy = CertificateCopy(path, NAMES, listener.load)
    listener.fails = True
    with pytest.raises(OSError, match="out of files"):
        await copy.install(leaf)
    assert copy.expires == 0
    listener.fails = False
    await copy.install(leaf)
    assert listener.loaded == [leaf.pem]


async def test_a_start_takes_up_what_the_last_run_has_left(path: Path) -> None:
    leaf = issued()
    await CertificateCopy(path, NAMES, Listener(path).load).install(leaf)
    listener = Listener(path)
    again = CertificateCopy(path, NAMES, listener.load)
    await again.restore()
    assert listener.loaded == [leaf.pem]
    assert again.expires == leaf.end
    await again.install(leaf)
    assert len(listener.loaded) == 1


@pytest.mark.parametrize("left", ["nothing", "garbage", "an expired one", "one for other names"])
async def test_a_start_does_not_take_up_what_is_no_longer_good(path: Path, left: str) -> None:
    path.parent.mkdir()
    match left:
        case "garbage":
            path.write_bytes(b"-----BEGIN")
        case "an expired one":
            path.write_bytes(issued(DAY, now=time.time() - 2 * DAY).pem)
        case "one for other names":
            path.write_bytes(issued(names=("other.trow.svc",)).pem)
    listener = Listener(path)
    copy = CertificateCopy(path, NAMES, listener.load)
    await copy.restore()
    assert listener.loaded == []
    assert copy.expires == 0
