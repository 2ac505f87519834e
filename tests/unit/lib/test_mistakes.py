from __future__ import annotations

import msgspec
import pytest

from trow.lib.mistakes import reword


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    sizes: list[int] | None = None
    when: bool = False


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"name": ["a"]}, "is a list and has to be text"),
        ({"name": "a", "sizes": "1"}, "is text and has to be a list"),
        ({"name": "a", "sizes": [1.5]}, "is a number and has to be a whole number"),
        ({"name": "a", "when": 1}, "is a whole number and has to be true or false"),
        ({"name": "a", "names": "b"}, "has an unknown 'names' (did you mean name?)"),
        ({"sizes": []}, "lacks 'name'"),
        ([], "is a list and has to be a mapping"),
    ],
)
def test_what_is_wrong_is_said_in_words_of_yaml(value: object, words: str) -> None:
    with pytest.raises(msgspec.ValidationError) as refused:
        msgspec.convert(value, Shape)
    assert reword(str(refused.value).partition(" - at ")[0], Shape.__struct_fields__) == words


def test_what_is_unlike_all_that_is_known_is_said_as_it_is() -> None:
    assert reword("Something else") == "Something else"
