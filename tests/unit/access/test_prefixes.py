from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trow.access.prefixes import merged, shared
from trow.lib.globs import RepositoryGlob
from trow.oci.names import Repository
from trow.oci.page import NameRange

TEXTS = st.lists(st.text("ab/", max_size=4), max_size=6)


def meant(beginnings: list[str], name: str) -> bool:
    return any(name.startswith(each) for each in beginnings)


@given(TEXTS, st.text("ab/", max_size=5))
def test_merged_beginnings_mean_the_same_names(beginnings: list[str], name: str) -> None:
    found = [*merged(beginnings)]
    assert meant(found, name) == meant(beginnings, name)
    assert found == sorted(found)
    assert not any(one != other and one.startswith(other) for one in found for other in found)


@given(TEXTS, TEXTS, st.text("ab/", max_size=5))
def test_shared_beginnings_mean_what_both_mean(first: list[str], second: list[str], name: str) -> None:
    found = [*shared(merged(first), merged(second))]
    assert meant(found, name) == (meant(first, name) and meant(second, name))
    assert found == [*merged(found)]


@pytest.mark.parametrize(
    ("glob", "beginning"),
    [("**", ""), ("team-a/**", "team-a/"), ("team-*/app", "team-"), ("a/**/b", "a/"), ("a/b", "a/b"), ("*/x", "")],
)
def test_beginning_of_a_glob(glob: str, beginning: str) -> None:
    assert RepositoryGlob.parse(glob).beginning == beginning


@given(
    st.from_regex(r"(?:\*\*|[ab*]{1,3})(?:/(?:\*\*|[ab*]{1,3})){0,2}", fullmatch=True),
    st.from_regex(r"[ab]{1,2}(?:/[ab]{1,2}){0,3}", fullmatch=True),
)
def test_whatever_a_glob_covers_begins_as_it_does(text: str, name: str) -> None:
    try:
        glob = RepositoryGlob.parse(text)
    except ValueError:
        return
    if glob.covers(Repository.parse(name)):
        assert name.startswith(glob.beginning)


@given(st.text("a-b./_0z", max_size=4), st.from_regex(r"[a-z0-9._/-]{1,6}", fullmatch=True))
def test_range_has_the_names_with_a_beginning_and_no_others(beginning: str, name: str) -> None:
    after, before = NameRange.beginning_with(beginning)
    assert (after < name < before) == name.startswith(beginning)
