from __future__ import annotations

import json

import msgspec
import pytest

from trow.oci.errors import ManifestInvalid
from trow.oci.manifest import LARGE, MOST_MEMBERS, parse
from trow.oci.media import OCI_INDEX
from trow.oci.numbers import finite

DECODER = msgspec.json.Decoder(float_hook=finite)


@pytest.mark.parametrize("text", ["0.5", "1e300", "0.77777e300", "5e-324", "-1.7976931348623157e308", "1e-400", "-0.0"])
def test_a_number_is_what_it_was_without_the_hook(text: str) -> None:
    assert DECODER.decode(text) == json.loads(text) == msgspec.json.decode(text)


@pytest.mark.parametrize(
    "text", ["1e400", "-1e400", "[1, 1e309]", "1e", "1.", ".5", "0x1p3", "1_0.5", "NaN", "Infinity"]
)
def test_what_is_no_number_stays_none(text: str) -> None:
    with pytest.raises(msgspec.DecodeError):
        DECODER.decode(text)


def index(members: str) -> bytes:
    return f'{{"schemaVersion":2,"mediaType":"{OCI_INDEX}","manifests":[],"x":[{members}]}}'.encode()


def test_members_of_a_large_manifest_are_counted_before_any_is_made() -> None:
    raw = index("[]," * (MOST_MEMBERS // 2 - 10) + "[]")
    assert len(raw) > LARGE
    assert parse(raw, OCI_INDEX).raw == raw
    with pytest.raises(ManifestInvalid, match=f"more than {MOST_MEMBERS} members"):
        parse(index("[]," * (MOST_MEMBERS // 2) + "["), OCI_INDEX)
