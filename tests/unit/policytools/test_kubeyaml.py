"""YAML as kubectl reads it; `tests/clients/test_kubectl.py` holds it against kubectl itself."""

from __future__ import annotations

import pytest

from trow.policytools.kubeyaml import NotAsKubectl, TooDeep, documents_of


def values(stream: str) -> list[object]:
    return [chunk.value() for chunk in documents_of(stream)]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("y", True),
        ("Off", False),
        ("yEs", "yEs"),
        ("~", None),
        ("", None),
        ("nULL", "nULL"),
        ("010", 8),
        ("0o10", 8),
        ("09", 9.0),
        ("0b11", 3),
        ("0x1F", 31),
        ("1_000", 1000),
        ("1:30", "1:30"),
        ("190:20:30.15", "190:20:30.15"),
        ("1e3", 1000.0),
        ("5.", 5.0),
        (".5", 0.5),
        (".5_0", 0.5),
        ("._5", "._5"),
        ("1e999", "1e999"),
        ("2001-01-01", "2001-01-01"),
        ("18446744073709551615", 2**64 - 1),
        ("=", "="),
        ("<<", "<<"),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!int 1", 1),
        ("!!float 1", 1),
        ("!!bool yes", True),
        ("|\n  x", "x\n"),
    ],
)
def test_what_is_written_without_quotes(text: str, value: object) -> None:
    (found,) = values(f"a: {text}")
    assert found == {"a": value}
    assert isinstance(found, dict)
    assert isinstance(found["a"], bool) is isinstance(value, bool)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1: a", {"1": "a"}),
        ("0x10: a", {"16": "a"}),
        ("on: a", {"true": "a"}),
        ("'on': a", {"on": "a"}),
        ("a: &x {b: 1}\nc: {<<: *x, d: 2}", {"a": {"b": 1}, "c": {"b": 1, "d": 2}}),
        ("<<: {image: a}\nimage: b", {"image": "b"}),
        ("image: a\n<<: {image: a}", {"image": "a"}),
        ("<<: [{image: a}, {image: b, c: d}]", {"image": "a", "c": "d"}),
        ("<<: {<<: {a: 1, b: 1}, b: 2}\nc: 3", {"a": 1, "b": 2, "c": 3}),
        ("'<<': {a: 1}", {"<<": {"a": 1}}),
        ("!!merge <<: {a: 1}", {"a": 1}),
    ],
)
def test_keys_and_merges(text: str, value: object) -> None:
    assert values(text) == [value]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: c\nimage: a\n<<: {image: b}", "line 3: << sets 'image' to another value than above"),
        ("<<: {a: 1}\n<<: {b: 1}", "line 2: key '<<' is written twice"),
        ("<<: 1", "line 1: << needs a mapping"),
        ("<<: [[{a: 1}]]", "line 1: << needs a mapping"),
        ("on: a\n'true': b", "line 2: key 'true' is written twice"),
        ("<<: {1: a}\n'1': b", "line 2: key '1' is written twice"),
        ("~: a", "line 1: a key is not a text"),
        ("1.5: a", "line 1: a key is not a text"),
        ("a: ! x", "line 1: the tag ! has no meaning here"),
        ("a: !!int x", "line 1: 'x' does not match its tag"),
        ("a: !!binary aGk=", "line 1: the tag !!binary has no meaning here"),
        ("a: !!set {b}", "line 1: the tag !!set has no meaning here"),
        ("a: .inf", "line 1: .inf is not a JSON value"),
        ("a: 0b+1", "line 1: 0b+1 is not a JSON value"),
        ("a: 1\n...\nb: 2", "line 3: did not find expected <document start>"),
        ("a: 1\r---\rb: 2", "line 2: something follows the end of the document"),
        ("a: 1\n--- {b: 2}", "line 2: '{b: 2}' follows --- on the same line"),
        ("a: 1\n---b: 2", "line 2: 'b: 2' follows ---"),
        ("a: 1\n\ufeffb: 2", "line 2: there is a byte order mark"),
        ("a: 1\n\ufeff---\nb: 2", "line 2: there is a byte order mark"),
        ("a: 1\n---\nb: 2\nb: 3", "line 4: key 'b' is written twice"),
        ("%YAML 1.1\n---\na: 1", "line 2: did not find expected <document start>"),
        ("a: *x", "line 1: found undefined alias"),
    ],
)
def test_what_not_everybody_reads_alike_is_refused(text: str, message: str) -> None:
    with pytest.raises(NotAsKubectl) as refused:
        values(text)
    assert str(refused.value).startswith(message)


def test_too_many_levels_are_refused() -> None:
    with pytest.raises(TooDeep):
        values("[" * 300)
