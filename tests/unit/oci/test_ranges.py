from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trow.oci.errors import ChunkOutOfOrder, RangeNotSatisfiable, SizeInvalid, UploadInvalid
from trow.oci.ranges import ByteRange, check_chunk, parse_chunk, parse_range

SMALL = st.integers(0, 40)


@pytest.mark.parametrize(
    ("header", "start", "end"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=0-9", 0, 10),
        ("bytes=3-5", 3, 6),
        ("bytes=9-9", 9, 10),
        ("bytes=4-", 4, 10),
        ("bytes=4-999999", 4, 10),
        ("bytes=-1", 9, 10),
        ("bytes=-10", 0, 10),
        ("bytes=-999", 0, 10),
        ("bytes=0-9999999999999999999", 0, 10),
        ("BYTES=1-2", 1, 3),
        ("bytes= 1 - 2 ", 1, 3),
    ],
)
def test_range_within_ten_bytes(header: str, start: int, end: int) -> None:
    assert parse_range(header, 10) == ByteRange(start, end)


@pytest.mark.parametrize("header", ["bytes=10-", "bytes=10-12", "bytes=5-4", "bytes=-0", "bytes=9999999999999999999-"])
def test_range_outside_ten_bytes_is_refused(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable) as caught:
        parse_range(header, 10)
    assert caught.value.size == 10


@pytest.mark.parametrize("header", ["bytes=0-0", "bytes=0-", "bytes=-1"])
def test_nothing_has_no_range(header: str) -> None:
    with pytest.raises(RangeNotSatisfiable):
        parse_range(header, 0)


@pytest.mark.parametrize(
    "header",
    [
        "",
        "bytes",
        "bytes=",
        "bytes=-",
        "bytes=a-b",
        "bytes=0x1-2",
        "bytes=1-2,4-5",
        "bytes=1-2,",
        "bytes=--1",
        "bytes=+1-2",
        "bytes=1.0-2",
        "items=0-1",
        "bytes=٣-٤",
        "bytes=0-" + "9" * 20,
        "bytes=" + "0" * 100_000 + "-",
        "bytes=" + " " * 100_000,
        "bytes=" + " " * 100_000 + "0-1",
        "bytes=0" + "\t" * 100_000 + "-",
        "bytes=\v0-1",
    ],
)
def test_what_is_not_one_range_is_ignored(header: str) -> None:
    assert parse_range(header, 10) is None


@given(SMALL, SMALL, SMALL)
def test_range_selects_what_its_numbers_say(first: int, last: int, size: int) -> None:
    cases = {
        f"bytes={first}-{last}": [at for at in range(size) if first <= at <= last],
        f"bytes={first}-": [at for at in range(size) if first <= at],
        f"bytes=-{last}": [at for at in range(size) if at >= size - last],
    }
    for header, selected in cases.items():
        if selected:
            found = parse_range(header, size)
            assert found is not None
            assert list(range(found.start, found.end)) == selected
            assert found.length == len(selected)
        else:
            with pytest.raises(RangeNotSatisfiable):
                parse_range(header, size)


@given(st.text(), SMALL)
def test_no_header_breaks_the_parser(header: str, size: int) -> None:
    for text in (header, f"bytes={header}"):
        try:
            found = parse_range(text, size)
        except RangeNotSatisfiable:
            continue
        assert found is None or 0 <= found.start < found.end <= size


@pytest.mark.parametrize(
    ("header", "chunk"),
    [
        ("0-0", ByteRange(0, 1)),
        ("5-9", ByteRange(5, 10)),
        (" 5-9 ", ByteRange(5, 10)),
        ("bytes 5-9/10", ByteRange(5, 10)),
        ("bytes 5-9/*", ByteRange(5, 10)),
        ("bytes=5-9", ByteRange(5, 10)),
        ("Bytes 5-9/10", ByteRange(5, 10)),
        ("BYTES=5-9", ByteRange(5, 10)),
    ],
)
def test_chunk(header: str, chunk: ByteRange) -> None:
    assert parse_chunk(header) == chunk


@pytest.mark.parametrize(
    "header",
    [
        "",
        "-",
        "5",
        "5-",
        "-5",
        "9-5",
        "a-b",
        "5-9,10-12",
        "5 - 9",
        "٣-٤",
        "items 0-1",
        "0-" + "9" * 20,
        " " * 200 + "0-1",
    ],
)
def test_what_is_no_chunk(header: str) -> None:
    with pytest.raises(UploadInvalid, match="both included"):
        parse_chunk(header)


@given(SMALL, st.integers(1, 40))
def test_chunk_round_trip(start: int, length: int) -> None:
    chunk = ByteRange(start, start + length)
    assert parse_chunk(f"{chunk.start}-{chunk.end - 1}") == chunk
    check_chunk(chunk, start, length)
    check_chunk(chunk, start, None)


def test_chunk_has_to_start_where_the_last_one_ended() -> None:
    for start in (4, 6):
        with pytest.raises(ChunkOutOfOrder) as caught:
            check_chunk(ByteRange(start, 10), 5, None)
        assert caught.value.offset == 5


def test_chunk_has_to_be_as_long_as_announced() -> None:
    with pytest.raises(SizeInvalid):
        check_chunk(ByteRange(5, 10), 5, 6)
