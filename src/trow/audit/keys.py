"""The key that signs checkpoints: Ed25519 in a PEM file of its own, made at the first start."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Final, Self

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from trow.audit.errors import AuditError
from trow.lib.files import BrokenFile, read_bounded, try_folder
from trow.lib.key_files import LONGEST_KEY_FILE, load_key, make_key

if TYPE_CHECKING:
    from pathlib import Path

    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

# Below the data directory.
KEY_FILE: Final = "keys/audit.pem"
_ID_LENGTH: Final = 16


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
            AuditError: it is not one.
        """
        try:
            key = serialization.load_pem_public_key(read_bounded(path, LONGEST_KEY_FILE))
        except BrokenFile as error:
            raise AuditError(str(error)) from None
        except (ValueError, UnsupportedAlgorithm):
            key = None
        if not isinstance(key, Ed25519PublicKey):
            raise AuditError(f"{path} is not an Ed25519 public key in PEM; give the one that trow audit anchor printed")
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
            return cls(load_key(path, "put the right file back, or move it away to have a new key made"))
        except BrokenFile as error:
            raise AuditError(str(error)) from None

    @classmethod
    def load_or_make(cls, path: Path) -> Self:
        """Read the key, or make one where there is no file yet.

        Raises:
            AuditError: neither can be done.
        """
        if not path.exists():
            try:
                make_key(path)
            except OSError as error:
                if not path.exists():  # else another process was faster, and its key is as good
                    raise _unwritable(path, error) from None
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
