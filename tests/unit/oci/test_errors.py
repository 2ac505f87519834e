from __future__ import annotations

from trow.oci import errors
from trow.oci.errors import ChunkOutOfOrder, MethodUnsupported, OciError, RangeNotSatisfiable, TooManyRequests


def test_family_tree_in_the_docstring_is_the_family() -> None:
    assert errors.__doc__ is not None
    drawing = errors.__doc__.partition("Use cases raise them")[0]
    drawn = {word for word in drawing.replace("·", " ").split() if word.isidentifier() and hasattr(errors, word)}
    family = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, OciError)}
    assert drawn == family


def test_detail_of_errors_that_carry_facts() -> None:
    assert ChunkOutOfOrder("m", offset=7).detail == {"offset": 7}
    assert RangeNotSatisfiable("m", size=7).detail == {"size": 7}
    assert MethodUnsupported("m", allowed=("GET", "HEAD")).detail == {"allowed": ["GET", "HEAD"]}
    assert TooManyRequests("m", retry_after=7).detail is None


def test_message_is_what_the_exception_says() -> None:
    error = OciError("wrong", {"a": 1}, (OciError("too"),))
    assert (str(error), error.message, error.detail) == ("wrong", "wrong", {"a": 1})
    assert [other.message for other in error.others] == ["too"]
