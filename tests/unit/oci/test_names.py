from __future__ import annotations

import string
from itertools import groupby

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from trow.oci.digest import Digest
from trow.oci.errors import DigestInvalid, NameInvalid, TagInvalid, UploadUnknown
from trow.oci.names import Repository, Tag, UploadId, parse_reference

WORD = set(string.ascii_lowercase + string.digits)
HEX = set("0123456789abcdef")
DIGEST = "sha256:" + "a" * 64


def is_repository(text: str) -> bool:
    """The grammar of the specification, read once more without a regular expression."""
    return 0 < len(text) <= 255 and all(map(is_part, text.split("/")))


def is_part(part: str) -> bool:
    runs = ["".join(run) for _, run in groupby(part, key=lambda letter: letter not in WORD)]
    words, separators = runs[::2], runs[1::2]
    return (
        bool(runs)
        and len(words) == len(separators) + 1
        and all(set(word) <= WORD for word in words)
        and all(separator in {".", "_", "__"} or set(separator) == {"-"} for separator in separators)
    )


def is_tag(text: str) -> bool:
    letters = set(string.ascii_letters + string.digits + "_")
    return 0 < len(text) <= 128 and text[0] in letters and set(text) <= letters | set(".-")


@pytest.mark.parametrize(
    "name",
    ["a", "0", "library/alpine", "a.b_c__d-e---f/g", "1/2/3/4/5/6/7/8/9", "manifests", "blobs/uploads", "x" * 255],
)
def test_repository_within_the_grammar(name: str) -> None:
    assert Repository.parse(name) == name


@pytest.mark.parametrize(
    "name",
    [
        "",
        "/",
        "/a",
        "a/",
        "a//b",
        "A",
        "a/B",
        "a..b",
        "a___b",
        "a._b",
        "a-_b",
        "-a",
        "a-",
        ".a",
        "a.",
        "_a",
        "..",
        "a/../b",
        "a b",
        "a\n",
        "a\0",
        "é",
        "a:b",
        "a@b",
        "a\\b",
        "x" * 256,
        "_catalog",
    ],
)
def test_repository_outside_the_grammar(name: str) -> None:
    with pytest.raises(NameInvalid, match="at most 255"):
        Repository.parse(name)


@given(st.text(st.sampled_from("ab0._-/"), max_size=12) | st.text(st.sampled_from("a0.-_/A :\né"), max_size=300))
@example("a/" * 127 + "a")
@example("a/" * 127 + "aa")
def test_repository_is_accepted_exactly_by_the_grammar(text: str) -> None:
    try:
        assert Repository.parse(text) == text
    except NameInvalid:
        assert not is_repository(text)
    else:
        assert is_repository(text)


@pytest.mark.parametrize("name", ["latest", "V1.0-rc.1_x", "_", "0", "a" * 128, "sha256-" + "a" * 64])
def test_tag_within_the_grammar(name: str) -> None:
    assert Tag.parse(name) == parse_reference(name) == name


@pytest.mark.parametrize("name", ["", ".", "..", "-a", ".a", "a/b", "a b", "a+b", "a\n", "a\0", "é", "٣", "a" * 129])
def test_tag_outside_the_grammar(name: str) -> None:
    with pytest.raises(TagInvalid, match="at most 128"):
        Tag.parse(name)


@given(st.text(st.sampled_from(string.ascii_letters + "0_.-"), max_size=140) | st.text(max_size=5))
def test_tag_is_accepted_exactly_by_the_grammar(text: str) -> None:
    try:
        assert Tag.parse(text) == text
    except TagInvalid:
        assert not is_tag(text)
    else:
        assert is_tag(text)


def test_reference_with_a_colon_is_a_digest() -> None:
    assert isinstance(parse_reference(DIGEST), Digest)
    assert isinstance(parse_reference("a" * 64), Tag)
    with pytest.raises(DigestInvalid):
        parse_reference("latest:1")


def test_upload_names_are_drawn_from_many() -> None:
    names = {UploadId.new() for _ in range(1000)}
    assert len(names) == 1000
    assert all(UploadId.parse(name) == name for name in names)


@given(st.text(st.sampled_from("0123456789abcdefAg./-"), min_size=31, max_size=33) | st.text())
def test_upload_name_is_32_hexadecimal_digits(text: str) -> None:
    try:
        assert UploadId.parse(text) == text
    except UploadUnknown:
        assert len(text) != 32 or not set(text) <= HEX
    else:
        assert len(text) == 32
        assert set(text) <= HEX
