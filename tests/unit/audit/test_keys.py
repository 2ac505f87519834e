"""The key of the checkpoints."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from trow.audit.errors import AuditError
from trow.audit.keys import PublicKey, SigningKey

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "audit.pem"


def test_key_is_made_once_and_is_nobody_elses(path: Path) -> None:
    made = SigningKey.load_or_make(path)
    assert SigningKey.load_or_make(path).id == SigningKey.load(path).id == made.id
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [file.name for file in path.parent.iterdir()] == ["audit.pem"]


def test_those_who_make_one_at_the_same_time_have_the_same(path: Path) -> None:
    found: list[str] = []
    threads = [threading.Thread(target=lambda: found.append(SigningKey.load_or_make(path).id)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert set(found) == {SigningKey.load(path).id}


def test_public_key_is_passed_on_as_pem(path: Path, tmp_path: Path) -> None:
    key = SigningKey.load_or_make(path)
    file = tmp_path / "audit.pub"
    file.write_text(key.public.pem)
    public = PublicKey.load(file)
    raw = serialization.load_pem_public_key(file.read_bytes()).public_bytes(
        serialization.Encoding.Raw, serialization.PublicFormat.Raw
    )
    assert public.id == key.id == hashlib.sha256(raw).hexdigest()[:16]
    assert public.verifies(key.sign(b"message"), b"message")
    assert not public.verifies(key.sign(b"message"), b"massage")
    assert not public.verifies(b"", b"message")


def rsa() -> bytes:
    form = serialization.PrivateFormat.PKCS8
    key = generate_private_key(65537, 2048)
    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())


@pytest.mark.parametrize(
    "content",
    [b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\n", rsa()],
    ids=["nothing", "nonsense", "half a key", "a key of another kind"],
)
def test_file_without_such_a_key_is_named(path: Path, content: bytes) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    with pytest.raises(AuditError, match=r"audit\.pem is not an unencrypted Ed25519 private key"):
        SigningKey.load_or_make(path)
    with pytest.raises(AuditError, match=r"audit\.pem is not an Ed25519 public key"):
        PublicKey.load(path)
    assert path.read_bytes() == content


def test_file_that_cannot_be_read_or_written_is_named(path: Path, tmp_path: Path) -> None:
    path.mkdir(parents=True)
    with pytest.raises(AuditError, match=r"audit\.pem cannot be read \(Is a directory\)"):
        SigningKey.load_or_make(path)
    (tmp_path / "file").touch()
    with pytest.raises(AuditError, match="cannot write the audit key"):
        SigningKey.load_or_make(tmp_path / "file" / "keys" / "audit.pem")
