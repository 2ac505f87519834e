from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from trow.lib.globs import matches
from trow.policy import images
from trow.policytools.importing.globs import MatchesNothing, NameForm, NotTranslatable, translation_of
from trow.policytools.importing.precedence import overlaps
from trow.policytools.importing.prefixes import translation_of_prefix

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from trow.policytools.importing.globs import Translation

DIGEST = "sha256:" + "a" * 64
WRITTEN, HOSTED, FULL = NameForm.WRITTEN, NameForm.HOSTED, NameForm.FULL

ALONE = "named by a digest only"
BESIDE = "a tag and a digest"
HUB = "is Docker Hub"
HERE = "only, no longer registries"
STAR = "a star in a registry"
PORT = "on every port"
PART = "a part of a digest"
WHOLE = "no longer registries whose names begin with that"
ENDS = "ends where a component of the name ends"
TAG = "covers only the tag"


def shown(translation: Translation) -> list[str]:
    return [str(pattern) for pattern in translation.patterns]


def check(made: Callable[[], Translation], patterns: Sequence[str], *remarks: str) -> None:
    if not patterns:
        with pytest.raises(NotTranslatable, match=remarks[0] if remarks else ""):
            made()
        return
    translation = made()
    assert shown(translation) == list(patterns)
    assert len(translation.remarks) == len(remarks)
    assert all(part in text for part, text in zip(remarks, translation.remarks, strict=True))


@pytest.mark.parametrize(
    ("glob", "form", "patterns", "remarks"),
    [
        ("*", FULL, ["*/**"], []),
        ("*:*", FULL, ["*/**"], []),
        ("*:latest", WRITTEN, ["*/**:latest"], []),
        ("*@*", FULL, [], ["requires a digest"]),
        ("quay.io/*", FULL, ["quay.io/**"], []),
        ("quay.io/**", FULL, ["quay.io/**"], []),
        ("quay.io/org*", WRITTEN, ["quay.io/org*", "quay.io/org*/**"], []),
        ("quay.io/org/*:*", FULL, ["quay.io/org/**"], []),
        ("quay.io/*/app:v1", FULL, ["quay.io/*/**/app:v1"], []),
        ("quay.io/a*b:*", FULL, ["quay.io/a*b", "quay.io/a*/**/*b"], [ALONE]),
        ("quay.io/*-app:1", FULL, ["quay.io/**/*-app:1"], []),
        ("quay.io/app:v*", FULL, ["quay.io/app:v*"], [BESIDE]),
        ("quay.io/app:v*", HOSTED, ["quay.io/app:v*"], []),
        (f"quay.io/app@{DIGEST}", FULL, [f"quay.io/app@{DIGEST}"], []),
        (f"quay.io/app:1@{DIGEST}", FULL, [f"quay.io/app@{DIGEST}"], []),
        ("quay.io/app@sha256:aa", FULL, [], ["requires a digest"]),
        ("quay.io/app", FULL, [], ["has no tag"]),
        ("quay.io/app", WRITTEN, ["quay.io/app:latest"], []),
        ("quay.io/App:*", FULL, [], ["not a glob of repositories"]),
        ("*/nginx:1", FULL, ["*/**/nginx:1"], []),
        ("*nginx:1", FULL, ["*/**/*nginx:1"], []),
        ("*.b.io/x:1", FULL, ["*.b.io/x:1", "*.*.b.io/x:1", "*.*.*.b.io/x:1", "*.*.*.*.b.io/x:1"], [STAR]),
        ("localhost:5000/*", WRITTEN, ["localhost:5000/**"], []),
        ("localhost:5000*", WRITTEN, ["localhost:5000/**"], [HERE]),
        ("gcr.io*", FULL, ["gcr.io/**"], [HERE]),
        ("gcr*", FULL, [], ["whoever owns it"]),
        ("nginx", WRITTEN, ["docker.io/library/nginx:latest"], []),
        ("nginx", FULL, [], ["does not begin with a registry"]),
        ("nginx*", WRITTEN, ["docker.io/library/nginx*", "docker.io/nginx*/**"], [HERE]),
        ("nginx:1.*", WRITTEN, ["docker.io/library/nginx:1.*"], [BESIDE]),
        ("ubuntu:20", WRITTEN, ["docker.io/library/ubuntu:20"], []),
        ("acme/*", WRITTEN, ["docker.io/acme/**"], []),
        ("acme/*", FULL, [], ["does not begin with a registry"]),
        ("docker.io/nginx:1", HOSTED, ["docker.io/library/nginx:1"], []),
        ("docker.io/nginx:1", FULL, [], ["matches no image's name"]),
        ("docker.io/lib*", FULL, ["docker.io/lib*/**"], []),
        ("index.docker.io/acme/*", FULL, ["docker.io/acme/**"], [HUB]),
        ("index.docker.io/acme/*", WRITTEN, ["docker.io/acme/**"], []),
        ("quay.io/a?", FULL, [], ["which a pattern here cannot express"]),
        ("{{ element.image }}", WRITTEN, [], ["which a pattern here cannot express"]),
        ("quay.io/a*b*c*d/e*f*g*h*i:1", FULL, [], ["it would need 128 patterns"]),
    ],
)
def test_globs_that_allow(glob: str, form: NameForm, patterns: list[str], remarks: list[str]) -> None:
    check(lambda: translation_of(glob, form, for_allow=True), patterns, *remarks)


@pytest.mark.parametrize(
    ("entry", "form", "patterns", "remarks"),
    [
        ("", FULL, ["*/**"], []),
        ("docker.io", FULL, ["docker.io/**"], [WHOLE]),
        ("docker.io/", FULL, ["docker.io/**"], []),
        ("127.0.0.1", FULL, ["127.0.0.1:*/**"], [WHOLE]),
        ("localhost", WRITTEN, ["localhost:*/**"], [WHOLE]),
        ("127.0.0.1:31000", FULL, ["127.0.0.1:31000/**"], [WHOLE]),
        ("localhost:8000/", FULL, ["localhost:8000/**"], []),
        ("quay.io/org", FULL, ["quay.io/org", "quay.io/org/**"], [ENDS]),
        ("quay.io/org/", FULL, ["quay.io/org/**"], []),
        ("quay.io/org/app-", FULL, ["quay.io/org/app-*", "quay.io/org/app-*/**"], []),
        ("quay.io/org/app:1.2", FULL, ["quay.io/org/app:1.2"], [TAG]),
        ("quay.io/org/app:v1.", FULL, ["quay.io/org/app:v1.*"], [BESIDE]),
        ("quay.io/org/app:", FULL, ["quay.io/org/app"], [ALONE]),
        (f"quay.io/app@{DIGEST}", FULL, [f"quay.io/app@{DIGEST}"], []),
        ("quay.io/app@sha256:ab", FULL, [], ["the beginning of a digest"]),
        ("registry-1.docker.io/library/", FULL, ["docker.io/library/**"], [HUB]),
        ("docker.io/nginx", FULL, ["docker.io/nginx/**"], [ENDS]),
        ("docker.io/nginx", WRITTEN, ["docker.io/library/nginx", "docker.io/nginx/**"], [ENDS]),
        ("nginx", FULL, [], ["docker.io/library/nginx"]),
        ("nginx", WRITTEN, ["docker.io/library/nginx", "docker.io/nginx/**"], [ENDS]),
        ("ubuntu:20", WRITTEN, ["docker.io/library/ubuntu:20"], [TAG]),
        ("acme/app", FULL, [], ["matches no image's name"]),
        ("acme/", WRITTEN, ["docker.io/acme/**"], []),
        ("gcr.io/*", WRITTEN, [], ["has a star"]),
        ("https://quay.io/", FULL, [], ["does not begin with a registry"]),
    ],
)
def test_prefixes_that_allow(entry: str, form: NameForm, patterns: list[str], remarks: list[str]) -> None:
    check(lambda: translation_of_prefix(entry, form, for_allow=True), patterns, *remarks)


@pytest.mark.parametrize(
    ("entry", "form", "patterns", "remarks"),
    [
        ("docker.io/", WRITTEN, ["docker.io/**"], []),
        ("gcr.io", FULL, ["gcr.io*:*/**", "gcr.io*.*:*/**", "gcr.io*.*.*:*/**", "gcr.io*.*.*.*:*/**"], [STAR]),
        ("localhost:50", FULL, ["localhost:*/**"], [PORT]),
        ("quay.io/org", FULL, ["quay.io/org*", "quay.io/org*/**"], []),
        ("quay.io/org/app:1.2", FULL, ["quay.io/org/app:1.2*"], []),
        ("docker.io/acme", FULL, ["docker.io/acme*/**"], []),
        ("docker.io/acme", WRITTEN, ["docker.io/library/acme*", "docker.io/acme*/**"], []),
        ("ubuntu:20", WRITTEN, ["docker.io/library/ubuntu:20*", "ubuntu:*/**"], [PORT]),
        ("quay.io/app@sha256:ab", FULL, ["quay.io/app"], ["denies the whole repository"]),
        (f"quay.io/app@{DIGEST}", FULL, [f"quay.io/app@{DIGEST}"], []),
        ("nginx/x", FULL, [], ["does not begin with a registry"]),
    ],
)
def test_prefixes_that_deny_stay_as_wide(entry: str, form: NameForm, patterns: list[str], remarks: list[str]) -> None:
    check(lambda: translation_of_prefix(entry, form, for_allow=False), patterns, *remarks)


# Every glob against every image: nothing is allowed that was not, nothing is let through that was denied.

HOSTS = ("docker.io", "quay.io", "a.b", "x.b", "y.x.b", "localhost:5000", "localhost")
PARTS = ("a", "b", "ab", "aab", "library", "lib")
TAGS = ("v1", "v10", "latest")
names = st.builds("/".join, st.lists(st.sampled_from(PARTS), min_size=1, max_size=3))
pictures = st.builds(
    lambda host, name, tag, digest: images.parse(f"{host}/{name}{tag}{digest}"),
    st.sampled_from(HOSTS),
    names,
    st.sampled_from([f":{tag}" for tag in TAGS]),
    st.sampled_from(["", "", "", f"@{DIGEST}"]),
)
host_globs = st.sampled_from([*HOSTS, "*", "*.b", "quay*", "*b", "x*.b"])
part_globs = st.sampled_from([*PARTS, "*", "a*", "*b", "a*b", "*a*", "lib*"])
path_globs = st.builds("/".join, st.lists(part_globs, min_size=1, max_size=3))
versions = st.sampled_from(["", ":*", ":v1", ":v*", ":latest", f"@{DIGEST}"])
texts = st.one_of(
    st.builds("{}/{}{}".format, host_globs, path_globs, versions),
    st.builds("{}{}".format, path_globs, versions),
    st.sampled_from(["*", "quay.io*", "a*", "localhost:50*", "localhost*", "*:v1"]),
)
prefixes = st.one_of(
    st.builds("{}/{}{}".format, st.sampled_from(HOSTS), names, st.sampled_from(["", "/", ":", ":v1", ":v"])),
    st.builds("{}{}".format, names, st.sampled_from(["", "/", ":", ":v1", ":v"])),
    st.sampled_from([*HOSTS, "quay", "loc", "localhost:50", "a", ""]),
)
forms = st.sampled_from(list(NameForm))


def spellings(image: images.ImageReference, form: NameForm) -> set[str]:
    """All texts that name the image, as the form has them."""
    tag, digest = f":{image.tag}", f"@{image.digest}" if image.digest else ""
    if form is FULL:
        return {f"{image.registry}/{image.repository}{tag}{digest}"}
    paths = {f"{image.registry}/{image.repository}"}
    if image.registry == images.DOCKER_HUB:
        bare = {str(image.repository), *re.findall(r"^library/([^/]+)$", image.repository)}
        paths |= {f"docker.io/{path}" for path in bare}
        # Without a registry, what begins like one would be one.
        paths |= bare if form is WRITTEN else set()
    if form is HOSTED:
        return {f"{path}{digest or tag}" for path in paths}
    shortest = {"", tag} if image.tag == "latest" and not digest else {tag}
    return {f"{path}{end}{digest}" for path in paths for end in shortest}


def like(glob: str, image: images.ImageReference, form: NameForm) -> bool:
    return any(matches(glob, text) for text in spellings(image, form))


def meaning_or_skip(made: Callable[[], Translation]) -> Translation:
    try:
        return made()
    except NotTranslatable:
        assume(False)
        raise


@pytest.mark.slow
@settings(max_examples=300)
@given(glob=texts, image=pictures, form=forms)
def test_a_glob_never_allows_more(glob: str, image: images.ImageReference, form: NameForm) -> None:
    translation = meaning_or_skip(lambda: translation_of(glob, form, for_allow=True))
    covered = any(pattern.covers(image, ignore_tag=True) for pattern in translation.patterns)
    if covered and not any(ALONE in remark for remark in translation.remarks):
        # A digest is the same whatever tag stands beside it.
        assert like(glob, image, form) or glob.endswith(DIGEST)
    if not translation.remarks and image.digest is None:
        assert covered == like(glob, image, form)


@pytest.mark.slow
@settings(max_examples=300)
@given(glob=texts, image=pictures, form=forms)
def test_a_glob_never_denies_less(glob: str, image: images.ImageReference, form: NameForm) -> None:
    translation = meaning_or_skip(lambda: translation_of(glob, form, for_allow=False))
    covered = any(pattern.covers(image, ignore_tag=False) for pattern in translation.patterns)
    if like(glob, image, form) and not (image.digest and any(PART in remark for remark in translation.remarks)):
        assert covered
    if not translation.remarks and image.digest is None:
        assert covered == like(glob, image, form)


@pytest.mark.slow
@settings(max_examples=300)
@given(entry=prefixes, image=pictures, form=st.sampled_from([WRITTEN, FULL]))
def test_a_prefix_never_allows_more_nor_denies_less(entry: str, image: images.ImageReference, form: NameForm) -> None:
    raw = like(f"{entry}*", image, form)
    allowing = meaning_or_skip(lambda: translation_of_prefix(entry, form, for_allow=True))
    covered = any(pattern.covers(image, ignore_tag=True) for pattern in allowing.patterns)
    if covered and not any(ALONE in remark for remark in allowing.remarks):
        assert raw
    denying = meaning_or_skip(lambda: translation_of_prefix(entry, form, for_allow=False))
    if raw:
        assert any(pattern.covers(image, ignore_tag=False) for pattern in denying.patterns)


@given(glob=texts, image=pictures, form=forms)
def test_what_is_left_out_as_meaningless_was_like_no_image(
    glob: str, image: images.ImageReference, form: NameForm
) -> None:
    try:
        translation_of(glob, form, for_allow=True)
    except MatchesNothing:
        assert not like(glob, image, form)
    except NotTranslatable:
        pass


# Whether two entries can meet


@given(one=st.text("ab*", max_size=5), other=st.text("ab*", max_size=5), text=st.text("ab", max_size=6))
def test_globs_meet_where_a_text_is_like_both(one: str, other: str, text: str) -> None:
    if matches(one, text) and matches(other, text):
        assert overlaps(one, other)
    assert overlaps(one, other) == overlaps(other, one)


@pytest.mark.parametrize(
    ("one", "other", "met"),
    [("a*", "ab*", True), ("a*", "b*", False), ("*a", "b*", True), ("a*b", "ac", False), ("", "*", True)],
)
def test_globs_that_meet(one: str, other: str, met: bool) -> None:  # noqa: FBT001
    assert overlaps(one, other) is met
