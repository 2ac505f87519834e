from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from trow.identity import keys
from trow.identity.keys import LONGEST_TOKEN_LIFE, SETTLING, KeyRing, load_or_create, rotate, thumbprint
from trow.lib.files import BrokenFile

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
CLEAR = serialization.NoEncryption()
LONG = LONGEST_TOKEN_LIFE + 1000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "data" / "keys"


def names(folder: Path) -> Sequence[str]:
    return sorted(path.name for path in folder.iterdir())


def made_at(path: Path, at: float) -> None:
    os.utime(path, (at, at))


def test_rfc_8037_thumbprint() -> None:
    public = jwt.PyJWK(
        {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"}, algorithm="EdDSA"
    ).key
    assert isinstance(public, Ed25519PublicKey)
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"  # appendix A.3


def test_a_first_key_is_made_for_its_owner_alone(folder: Path) -> None:
    ring = load_or_create(folder)
    assert names(folder) == ["token-0001.pem"]
    assert stat.S_IMODE((folder / "token-0001.pem").stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    key = ring.signing()
    assert ring.verifying(key.id) is key
    assert ring.verifying("") is None
    assert load_or_create(folder).signing().id == key.id
    assert "Ed25519PrivateKey" not in repr(key)


def test_no_key_is_ever_written_over(folder: Path) -> None:
    load_or_create(folder)
    with pytest.raises(FileExistsError):
        keys._create(folder, 1)  # noqa: SLF001
    assert names(folder) == ["token-0001.pem"]


def test_who_is_slower_takes_the_key_of_the_faster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    really = keys._create  # noqa: SLF001

    def create(folder: Path, number: int) -> Path:
        really(folder, number)
        return really(folder, number)

    monkeypatch.setattr(keys, "_create", create)
    assert load_or_create(folder).signing().path.name == "token-0001.pem"


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text("no folder")
    with pytest.raises(BrokenFile, match="is not a folder"):
        load_or_create(tmp_path / "keys")


def test_a_new_key_signs_when_the_replicas_have_seen_it(folder: Path) -> None:
    now = 100_000.0
    ring = load_or_create(folder, lambda: now)
    old = ring.signing()
    assert rotate(folder, now)[0].name == "token-0002.pem"
    made_at(folder / "token-0001.pem", now - 5000)
    made_at(folder / "token-0002.pem", now)
    ring.look()
    assert ring.signing().id == old.id
    now += SETTLING
    new = ring.signing()
    assert new.path.name == "token-0002.pem"
    assert ring.verifying(old.id)
    (folder / "token-0001.pem").unlink()
    ring.look()
    assert ring.verifying(old.id) is None


def test_rotate_removes_what_no_living_token_needs(folder: Path) -> None:
    now = 1_000_000.0
    load_or_create(folder)
    made_at(folder / "token-0001.pem", now - 10 * LONG)
    created, gone = rotate(folder, now)
    assert (created.name, gone) == ("token-0002.pem", [])  # the first one has signed until now
    made_at(created, now - LONGEST_TOKEN_LIFE)
    created, gone = rotate(folder, now)
    assert (created.name, gone) == ("token-0003.pem", [])
    made_at(folder / "token-0002.pem", now - LONG)
    created, gone = rotate(folder, now)
    assert [path.name for path in gone] == ["token-0001.pem"]
    assert names(folder) == ["token-0002.pem", "token-0003.pem", "token-0004.pem"]


def test_rotate_makes_a_first_key(folder: Path) -> None:
    assert rotate(folder, 0)[0].name == "token-0001.pem"


def test_numbers_order_keys_and_other_files_are_left_alone(folder: Path) -> None:
    load_or_create(folder)
    (folder / "token-0001.pem").rename(folder / "token-9999.pem")
    (folder / "token-1.pem").write_text("not one")
    assert rotate(folder, 0)[0].name == "token-10000.pem"
    assert [key.path.name for key in KeyRing(folder).current().keys] == ["token-10000.pem", "token-9999.pem"]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"horse",
        rsa.generate_private_key(65537, 1024).private_bytes(PEM, PKCS8, CLEAR),
        ec.generate_private_key(ec.SECP256R1()).private_bytes(PEM, PKCS8, CLEAR),
        Ed25519PrivateKey.generate().private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")),
        Ed25519PrivateKey.generate().public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        b"-----BEGIN PRIVATE KEY-----\nhorse\n-----END PRIVATE KEY-----\n",
        b"A" * 20_000,
    ],
    ids=["empty", "text", "rsa", "ec", "encrypted", "public", "garbage", "large"],  # keys are random
)
def test_files_that_are_no_keys(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "token-0001.pem"
    path.write_bytes(content)
    with pytest.raises(BrokenFile) as caught:
        KeyRing(tmp_path)
    assert str(caught.value).startswith(str(path))
    assert "horse" not in str(caught.value)


def test_no_key_at_all(folder: Path) -> None:
    with pytest.raises(BrokenFile, match="trow keys rotate"):
        KeyRing(folder)


def test_too_many_keys(folder: Path) -> None:
    for _ in range(33):
        rotate(folder, 0)
    with pytest.raises(BrokenFile, match="more than 32"):
        KeyRing(folder)


def test_a_broken_new_key_leaves_the_old_ones_in_force(folder: Path) -> None:
    ring = load_or_create(folder)
    before = ring.current()
    (folder / "token-0002.pem").write_text("half a ke")
    ring.look()
    assert ring.current() is before
    (folder / "token-0002.pem").unlink()
    ring.look()
    assert ring.signing().id == before.keys[0].id
