"""Ed25519 private keys, each in a PEM file of its own (RFC 8410) that only its owner can read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from trow.lib.files import BrokenFile, create_file, make_folder, read_bounded

if TYPE_CHECKING:
    from pathlib import Path

LONGEST_KEY_FILE: Final = 16 * 1024


def load_key(path: Path, fix: str) -> Ed25519PrivateKey:
    """Read a key.

    Raises:
        BrokenFile: the file cannot be read or holds no such key; the message ends with ``fix``.
    """
    try:
        key = serialization.load_pem_private_key(read_bounded(path, LONGEST_KEY_FILE), password=None)
    except BrokenFile:
        raise
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise BrokenFile(f"{path} is not an unencrypted Ed25519 private key in PEM; {fix}")
    return key


def make_key(path: Path) -> None:
    """Make a key in a durable file, and its folder where there is none.

    Raises:
        FileExistsError: there is a file already; it stays as it is.
        OSError: it cannot be written.
    """
    make_folder(path.parent)
    form = serialization.PrivateFormat.PKCS8
    pem = Ed25519PrivateKey.generate().private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
    create_file(path, pem)
