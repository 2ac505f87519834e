from __future__ import annotations

import hashlib
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trow.oci.digest import ALGORITHMS, Digest, parse_algorithm
from trow.oci.errors import DigestInvalid, DigestUnsupported

EMPTY = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
LENGTHS = {"sha256": 64, "sha512": 128}


@pytest.mark.parametrize("text", [EMPTY, "sha512:" + "0f" * 64])
def test_supported_digest_is_read(text: str) -> None:
    digest = Digest.parse(text)
    assert (digest, f"{digest.algorithm}:{digest.encoded}") == (text, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":",
        "sha256",
        "sha256:",
        EMPTY[:-1],
        EMPTY + "0",
        EMPTY.upper(),
        EMPTY.replace("e3", "E3"),
        EMPTY.replace("e3", "g3"),
        EMPTY + "\n",
        " " + EMPTY,
        "sha512:" + "0" * 64,
        "sha512:" + "0" * 127,
        "sha512:" + "0" * 129,
        "sha256:" + "0" * 128,
        "sha256:" + "../" * 21 + "a",
        "sha256:" + "٣" * 64,  # digits, though none of ASCII
        "SHA256:" + "0" * 64,
        "sha384/" + "0" * 96,
        "blake3:" + "0" * 100_000,
    ],
)
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(DigestInvalid) as caught:
        Digest.parse(text)
    assert type(caught.value) is DigestInvalid


@pytest.mark.parametrize("text", ["md5:d41d8cd98f00b204e9800998ecf8427e", "blake3:" + "0" * 64, "a+b.c:Zz=_-"])
def test_other_algorithm_is_named_as_the_reason(text: str) -> None:
    with pytest.raises(DigestUnsupported, match="sha256, sha512"):
        Digest.parse(text)


@given(st.text(st.sampled_from(string.hexdigits + ":sha-/."), max_size=140) | st.text(max_size=140))
def test_only_the_registered_forms_are_accepted(text: str) -> None:
    algorithm, _, encoded = text.partition(":")
    expected = LENGTHS.get(algorithm) == len(encoded) and set(encoded) <= set("0123456789abcdef")
    try:
        assert Digest.parse(text) == text
    except DigestInvalid:
        assert not expected
    else:
        assert expected


@given(st.binary(), st.sampled_from(ALGORITHMS))
def test_digest_of_content_is_that_of_its_stream(content: bytes, algorithm: str) -> None:
    hasher = hashlib.new(algorithm)
    for byte in content:
        hasher.update(bytes([byte]))
    digest = Digest.of(content, algorithm)
    assert digest == Digest.from_hash(hasher) == Digest.parse(f"{algorithm}:{hasher.hexdigest()}")
    assert (digest.algorithm, digest.encoded) == (algorithm, hasher.hexdigest())


def test_empty_content_has_the_known_digest() -> None:
    assert Digest.of(b"") == EMPTY


def test_algorithms_of_uploads() -> None:
    assert [parse_algorithm(name) for name in ("sha256", "sha512")] == ["sha256", "sha512"]


@pytest.mark.parametrize("text", ["", "sha384", "SHA256", "md5", "sha256 ", "sha256:00"])
def test_algorithm_that_is_not_supported(text: str) -> None:
    with pytest.raises(DigestUnsupported):
        parse_algorithm(text)
