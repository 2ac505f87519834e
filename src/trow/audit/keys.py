"""The key that signs checkpoints: Ed25519 in a PEM file of its own, made at the first start."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from trow.audit.errors import AuditError
from trow.lib.private import try_folder

if TYPE_CHECKING:
    from pathlib import Path

_ID_LENGTH: Final = 16
_LARGEST_FILE: Final = 16 * 1024


class PublicKey:
    """Verifies checkpoints."""

    def __init__(self, key: Ed25519PublicKey) -> None:
        self._key = key
        self.id = hashlib.sha256(key.public_bytes_raw()).hexdigest()[:_ID_LENGTH]

    @property
    def pem(self) -> str:
        """The key as people pass it on."""
        form = serialization.PublicFormat.SubjectPublicKeyInfo
        return self._key.public_bytes(serialization.Encoding.PEM, form).decode("ascii")

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether the key's holder signed this message."""
        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a public key from a PEM file.

        Raises:
            AuditError: there is none.
        """
        try:
            key = serialization.load_pem_public_key(_content(path))
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise AuditError(f"{path} holds no Ed25519 public key in PEM; give the one that trow audit anchor printed")
        return cls(key)


class SigningKey:
    """Signs checkpoints."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key())
        self.id = self.public.id

    def sign(self, message: bytes) -> bytes:
        """The signature of the message."""
        return self._key.sign(message)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read the key.

        Raises:
            AuditError: the file cannot be read or holds no such key.
        """
        try:
            key = serialization.load_pem_private_key(_content(path), password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PrivateKey):
            raise AuditError(
                f"{path} holds no Ed25519 key in PEM; put the right file back, or move it away to have a new key made"
            )
        return cls(key)

    @classmethod
    def load_or_make(cls, path: Path) -> Self:
        """Read the key, or make one where there is no file yet.

        Raises:
            AuditError: neither can be done.
        """
        if not path.exists():
            _make(path)
        return cls.load(path)

    @classmethod
    def try_to_load(cls, path: Path) -> None:
        """See whether `load_or_make` would do; nothing is made. Raises like that."""
        if path.exists():
            cls.load(path)
            return
        try:
            try_folder(path.parent)
        except OSError as error:
            raise _unwritable(path, error) from None


def _unwritable(path: Path, error: OSError) -> AuditError:
    return AuditError(f"cannot write the audit key {path}: {error.strerror}; check its folder's permissions")


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(_LARGEST_FILE)
    except OSError as error:
        raise AuditError(f"cannot read {path}: {error.strerror}; check the path and its permissions") from None


def _make(path: Path) -> None:
    pem = Ed25519PrivateKey.generate().private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    new = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            _write(new, pem)
            # Unlike a rename, a link never takes the place of a key that another process made meanwhile.
            with contextlib.suppress(FileExistsError):
                os.link(new, path)
            _flush_directory(path.parent)
        finally:
            new.unlink(missing_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from None


def _write(path: Path, content: bytes) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(fd)


def _flush_directory(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
