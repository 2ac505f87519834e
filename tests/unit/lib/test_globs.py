from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from trow.lib.globs import RepositoryGlob
from trow.oci.names import Repository

COMPONENT = st.from_regex(r"[a-z0-9]{1,4}", fullmatch=True)
NAMES = st.lists(COMPONENT, min_size=1, max_size=5).map("/".join)
PARTS = st.one_of(COMPONENT, st.just("*"), st.from_regex(r"[a-z0-9]?\*[a-z0-9]?", fullmatch=True))
GLOBS = st.lists(st.one_of(PARTS, st.just("**")), min_size=1, max_size=5).map("/".join)


def covers(glob: str, name: str) -> bool:
    return RepositoryGlob.parse(glob).covers(Repository.parse(name))


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("app", "app", True),
        ("app", "app2", False),
        ("app", "team/app", False),
        ("*", "app", True),
        ("*", "team/app", False),
        ("team-a/*", "team-a/app", True),
        ("team-a/*", "team-a", False),
        ("team-a/*", "team-a/x/y", False),
        ("team-a/**", "team-a/x", True),
        ("team-a/**", "team-a/x/y/z", True),
        ("team-a/**", "team-a", False),
        ("team-a/**", "team-abc/x", False),
        ("team-a/**", "x/team-a/y", False),
        ("team-*/app", "team-b/app", True),
        ("team-*/app", "team-/x/app".replace("-/", "-b/"), False),
        ("*-ci", "team-ci", True),
        ("a*c", "abc", True),
        ("a*c", "ac", True),
        ("a*c", "abcd", False),
        ("**", "app", True),
        ("**", "a/b/c", True),
        ("**/app", "app", True),
        ("**/app", "a/b/app", True),
        ("**/app", "a/b/myapp", False),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("a/**/z", "a/b/cz", False),
        ("a/**/**/z", "a/z", True),
        ("**/**", "a", True),
        ("a.b", "a.b", True),
        ("a.b", "axb", False),
    ],
)
def test_what_globs_cover(glob: str, name: str, expected: bool) -> None:  # noqa: FBT001
    assert covers(glob, name) is expected


@pytest.mark.parametrize(
    "glob",
    ["", "/", "a/", "/a", "a//b", "A", "a b", "a/***", "a**", "a/**b", "a?", "[a]", "a\n", "é", "a:b", "a" * 256],
)
def test_globs_that_no_name_could_match_are_refused(glob: str) -> None:
    with pytest.raises(ValueError, match=r"glob|mixes"):
        RepositoryGlob.parse(glob)


@given(st.lists(PARTS, min_size=1, max_size=5).map("/".join), NAMES)
def test_a_star_never_crosses_a_slash(glob: str, name: str) -> None:
    if covers(glob, name):
        assert glob.count("/") == name.count("/")


@given(NAMES, NAMES, COMPONENT)
def test_a_prefix_never_covers_look_alikes(prefix: str, rest: str, more: str) -> None:
    glob = f"{prefix}/**"
    assert covers(glob, f"{prefix}/{rest}")
    assert not covers(glob, prefix)
    assert not covers(glob, f"{prefix}{more}/{rest}")
    assert not covers(glob, f"{prefix}-{more}/{rest}")
    assume(not f"{more}/{prefix}/{rest}".startswith(f"{prefix}/"))
    assert not covers(glob, f"{more}/{prefix}/{rest}")


@given(NAMES)
def test_a_glob_without_stars_is_the_name(name: str) -> None:
    assert covers(name, name)
    assert covers("**", name)


def reference(glob: list[str], name: list[str]) -> bool:
    """The same by components, written another way."""
    if not glob:
        return not name
    if glob[0] == "**":
        if len(glob) == 1:
            return bool(name)
        return any(reference(glob[1:], name[skipped:]) for skipped in range(len(name) + 1))
    if not name:
        return False
    before, star, after = glob[0].partition("*")
    here = name[0]
    fits = (
        here.startswith(before) and here.endswith(after) and len(here) >= len(before) + len(after)
        if star
        else here == before
    )
    return fits and reference(glob[1:], name[1:])


@given(GLOBS, NAMES)
def test_globs_are_what_they_say(glob: str, name: str) -> None:
    parts = glob.split("/")
    # At the end ** stands for at least one component, and several in a row are one.
    parts = [part for place, part in enumerate(parts) if part != "**" or parts[place + 1 : place + 2] != ["**"]]
    assert covers(glob, name) == reference(parts, name.split("/"))
