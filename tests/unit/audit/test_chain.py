"""Hashes, checkpoints and trim marks."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import pytest

from support.trails import KEY, OTHER_KEY, full
from trow.audit import chain
from trow.audit import record as records
from trow.audit.chain import UNSEALED, Checkpoint, Head, Trim
from trow.registry.events import Action, Event

if TYPE_CHECKING:
    from trow.audit.record import Record

TIME = "2026-01-31T08:00:00.000000Z"
HEAD = Head("0a1b2c3d", 7, "ab" * 32)


def sealed(event: Event, prev: str = "cd" * 32) -> tuple[Record, bytes]:
    text, digest = chain.seal(records.compose(event, "0a1b2c3d", 7, 1, prev, UNSEALED))
    record = records.decode(text)
    assert record.hash == digest
    return record, text


def test_hash_is_over_the_one_before_and_the_record_without_it() -> None:
    record, text = sealed(full(1))
    document = msgspec.json.decode(text)
    del document["hash"]
    content = msgspec.json.encode(document, order="sorted")
    assert record.hash == hashlib.sha256(bytes.fromhex("cd" * 32) + content).hexdigest()
    assert chain.is_sealed(record)


def test_first_record_has_nothing_before_it() -> None:
    record, text = sealed(Event(Action.PULL), prev="")
    assert b"prev" not in text
    assert chain.is_sealed(record)


def test_text_that_looks_like_the_hash_does_not_confuse() -> None:
    trick = f'"hash":"{UNSEALED}",'
    record, _ = sealed(Event(Action.PULL, repository=trick, detail=f"{{{trick}}}", reason=UNSEALED))
    assert record.repository == trick
    assert chain.is_sealed(record)


@pytest.mark.parametrize(
    "change", [{"hash": ""}, {"hash": "AB" * 32}, {"hash": "x"}, {"prev": ""}, {"prev": "CD" * 32}]
)
def test_record_with_another_hash_is_not_sealed(change: dict[str, str]) -> None:
    record, _ = sealed(full(1))
    assert not chain.is_sealed(msgspec.structs.replace(record, **change))


@pytest.mark.parametrize("mark", [chain.checkpoint(HEAD, TIME, KEY), chain.trim(HEAD, TIME, KEY)])
def test_no_member_of_a_signed_mark_can_be_changed(mark: Checkpoint | Trim) -> None:
    assert chain.is_signed(mark, KEY.public)
    assert not chain.is_signed(mark, OTHER_KEY.public)
    for name in mark.__struct_fields__:
        value = getattr(mark, name)
        changes = [value + 1] if isinstance(value, int) else ["", value[:-1], value.upper(), "0" + value[1:]]
        for change in changes:
            if change != value:
                assert not chain.is_signed(msgspec.structs.replace(mark, **{name: change}), KEY.public), name


def test_one_kind_of_mark_is_not_taken_for_another() -> None:
    checkpoint = chain.checkpoint(HEAD, TIME, KEY)
    trim = Trim("0a1b2c3d", 7, checkpoint.hash, TIME, KEY.id, checkpoint.signature)
    assert not chain.is_signed(trim, KEY.public)


def test_trim_mark_names_the_first_record_that_stays() -> None:
    assert chain.trim(HEAD, TIME, KEY).sequence == 8
    assert chain.trim(HEAD, TIME, KEY).prev == HEAD.hash


def test_anchor_is_read_as_it_is_written() -> None:
    assert Head.parse(str(HEAD)) == HEAD


@pytest.mark.parametrize(
    "text",
    ["", "0a1b2c3d", "0a1b2c3d:7", f"0a1b2c3d:0:{'ab' * 32}", f"0a1b2c3d:-7:{'ab' * 32}", f"0a1b2c3d:7:{'AB' * 32}",
     f"0A1B2C3D:7:{'ab' * 32}", f"0a1b2c3d:7:{'ab' * 32}:",
     f"0a1b2c3d:\N{ARABIC-INDIC DIGIT SEVEN}:{'ab' * 32}", f"0a1b2c3d:{'7' * 20}:{'ab' * 32}"],
)  # fmt: skip
def test_other_texts_are_no_anchors(text: str) -> None:
    with pytest.raises(ValueError, match="trow audit anchor"):
        Head.parse(text)
