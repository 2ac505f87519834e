"""Keys that sign registry tokens: Ed25519, each in a PEM file of its own.

In a folder they are called ``token-0001.pem``, ``token-0002.pem`` and so on: the highest number is the newest. A new
key signs only after `SETTLING` seconds, when every replica that shares the folder has seen it; the older ones go on
verifying what they have signed, until `rotate` removes them.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import itertools
import re
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from trow.lib.file_watch import FileWatcher
from trow.lib.files import BrokenFile, try_folder
from trow.lib.key_files import load_key, make_key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

# No registry token lives longer, whatever the configuration says.
LONGEST_TOKEN_LIFE: Final = 3600.0
# Longer than a kubelet takes to bring a changed Secret to every pod.
SETTLING: Final = 120.0
_SLACK: Final = 60.0
_MOST_KEYS: Final = 32
_NAME: Final = re.compile(r"token-([0-9]{4,9})\.pem")


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key and the file that it came from."""

    id: str
    path: Path
    private: Ed25519PrivateKey = field(repr=False)
    public: Ed25519PublicKey = field(repr=False)
    created_at: float


@dataclass(frozen=True, slots=True, eq=False)
class KeySet:
    """All keys as of now. Another version of the files is another set."""

    keys: tuple[TokenKey, ...]
    by_id: Mapping[str, TokenKey]


class KeyRing:
    """The keys of one registry, the newest first, read again when their files change.

    Raises:
        BrokenFile: there is no key, or one that cannot be used.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._files = FileWatcher(lambda: _files(folder), _read)

    def current(self) -> KeySet:
        """The keys as of the last look, the same object until a file changes."""
        return self._files.get()

    def look(self) -> None:
        """Take over what has changed; call it every second, beside the event loop."""
        self._files.look()

    async def look_soon(self) -> None:
        """Look where a key is missing: another replica may have signed with one that came a moment ago."""
        await self._files.look_soon()

    def signing(self) -> TokenKey:
        """The key to sign with."""
        keys, before = self.current().keys, self._clock() - SETTLING
        return next((key for key in keys if key.created_at <= before), keys[0])

    def verifying(self, id: str) -> TokenKey | None:  # noqa: A002 - the word of RFC 7515
        """The key with this ``kid``; this is the only place where one is looked up."""
        return self.current().by_id.get(id)


def load_or_create(folder: Path, clock: Callable[[], float] = time.time) -> KeyRing:
    """The keys of a folder, with a first one made where there is none.

    Raises:
        BrokenFile: a key cannot be used, or not be made.
    """
    if not _files(folder):
        with contextlib.suppress(FileExistsError):
            _create(folder, 1)
    return KeyRing(folder, clock)


def try_to_load(folder: Path) -> None:
    """See whether `load_or_create` would do; nothing is made. Raises like that."""
    if files := _files(folder):
        _read(files)
        return
    with _explaining(_path(folder, 1)):
        try_folder(folder)


def rotate(folder: Path, now: float) -> tuple[Path, Sequence[Path]]:
    """Make a newer key and remove those that cannot have signed any token that is still good.

    Returns:
        The new file, and those that are gone.

    Raises:
        BrokenFile: a key cannot be used, or not be made.
    """
    keys = _read(files).keys if (files := _files(folder)) else ()
    created = _create(folder, _number(files[0]) + 1 if files else 1)
    # A key stops signing when its successor has settled; what it signed last has gone a token's life later.
    before = now - LONGEST_TOKEN_LIFE - SETTLING - _SLACK
    gone = [old.path for newer, old in itertools.pairwise(keys) if newer.created_at < before]
    for path in gone:
        path.unlink(missing_ok=True)
    return created, gone


def thumbprint(public: Ed25519PublicKey) -> str:
    """The key's identifier: RFC 7638, with the members that RFC 8037 names."""
    x = _base64url(public.public_bytes_raw())
    return _base64url(hashlib.sha256(b'{"crv":"Ed25519","kty":"OKP","x":"%b"}' % x.encode()).digest())


def _base64url(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def _number(path: Path) -> int:
    name = _NAME.fullmatch(path.name)
    return int(name[1]) if name else 0


def _files(folder: Path) -> Sequence[Path]:
    """The files of keys, the newest first."""
    try:
        found = [path for path in folder.iterdir() if _NAME.fullmatch(path.name)]
    except OSError:
        found = []
    return sorted(found, key=_number, reverse=True)


def _read(paths: Sequence[Path]) -> KeySet:
    if not paths:
        raise BrokenFile("there is no key to sign tokens with; make one with `trow keys rotate`")
    if len(paths) > _MOST_KEYS:
        raise BrokenFile(f"there are more than {_MOST_KEYS} keys in {paths[0].parent}; remove the oldest ones")
    keys: list[TokenKey] = []
    for path in paths:
        private = load_key(path, "make one with `trow keys rotate`")
        try:
            created_at = path.stat().st_mtime
        except OSError as error:
            raise BrokenFile(f"{path} cannot be read ({error.strerror}); check the path and its permissions") from None
        public = private.public_key()
        keys.append(TokenKey(thumbprint(public), path, private, public, created_at))
    return KeySet(tuple(keys), {key.id: key for key in keys})


def _create(folder: Path, number: int) -> Path:
    """Make a key file: all of it or none, and never over another."""
    path = _path(folder, number)
    with _explaining(path):
        make_key(path)
    return path


def _path(folder: Path, number: int) -> Path:
    return folder / f"token-{number:04}.pem"


@contextlib.contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Say what keeps a key from being made; FileExistsError is for whoever makes it."""
    if path.parent.exists() and not path.parent.is_dir():
        raise BrokenFile(f"{path.parent} is not a folder; keys need one, so move it away or set tokens.keys")
    try:
        yield
    except FileExistsError:
        raise
    except OSError as error:
        raise BrokenFile(f"{path} cannot be written ({error.strerror}); check the folder's permissions") from None
