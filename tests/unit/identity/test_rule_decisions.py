"""What is remembered of the decisions that rules make, and how little of those whom they are about."""

from __future__ import annotations

import random
import tracemalloc
from dataclasses import replace
from typing import TYPE_CHECKING, Final

import pytest

from trow.access import rules as access
from trow.access.identity import ANONYMOUS, Identity, Method
from trow.access.permissions import ACTIONS, Permission, expand
from trow.access.rules import PermissionRule, Subjects
from trow.identity import rule_decisions
from trow.identity.rule_decisions import RuleDecisions
from trow.lib.globs import RepositoryGlob
from trow.oci.names import Repository

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.rules import Decision

APP: Final = Repository.parse("team-a/app")
GITHUB: Final = (("repository", "acme/*"), ("ref", "refs/heads/main"))


def rule(subjects: Subjects, repositories: str, *permissions: Permission) -> PermissionRule:
    return PermissionRule(
        f"rule of {repositories}", subjects, (RepositoryGlob.parse(repositories),), expand(permissions)
    )


RULES: Final = (
    rule(Subjects(users=frozenset({"alice"})), "team-a/**", Permission.PUSH),
    rule(Subjects(groups=frozenset({"dev", "ops"})), "team-b/**", Permission.PULL),
    rule(Subjects(issuer="github", claims=GITHUB), "acme/**", Permission.PUSH),
    rule(Subjects(groups=frozenset({"dev"}), issuer="github", claims=GITHUB[:1]), "**", Permission.DELETE),
    rule(Subjects(anonymous=True), "public/**", Permission.PULL),
    rule(Subjects(users=frozenset({"*"})), "all/**", Permission.PULL),
)


def anybody(number: random.Random) -> Identity:
    """One of many, some of whom differ in nothing that rules ask about."""
    claims = {
        "issuer": number.choice(["github", "gitlab"]),
        "repository": number.choice(["acme/app", "other/app", ""]),
        "ref": number.choice(["refs/heads/main", "refs/heads/x"]),
        "run": str(number.random()),
    }
    return Identity(
        number.choice(["", "alice", "bob", "['dev']"]),
        number.choice([Method.OIDC, Method.PASSWORD]),
        groups=tuple(number.sample(["dev", "ops", "others", "'dev', 'ops'"], 2)),
        extra=tuple((key, (value,)) for key, value in sorted(claims.items())),
    )


@pytest.mark.parametrize("seed", range(20))
def test_what_is_remembered_is_what_the_rules_say(seed: int) -> None:
    number, decisions = random.Random(seed), RuleDecisions(RULES)
    for _ in range(500):
        who, what = anybody(number), number.choice(ACTIONS)
        where = Repository.parse(number.choice(["team-a/x", "team-b/x", "acme/x", "public/x", "all/x"]))
        assert decisions.decide(who, what, where) == access.decide(RULES, who, what, where), who
    assert decisions.decide(ANONYMOUS, Permission.PULL, Repository.parse("public/x")).allowed


def test_rules_are_asked_once_for_all_whom_they_do_not_tell_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Identity] = []
    decide = access.decide

    def counted(rules: Sequence[PermissionRule], who: Identity, what: Permission, where: Repository) -> Decision:
        asked.append(who)
        return decide(rules, who, what, where)

    monkeypatch.setattr(access, "decide", counted)
    decisions = RuleDecisions(RULES)
    for number in range(100):
        decisions.decide(Identity(f"user-{number}", Method.PASSWORD, groups=("x",)), Permission.PULL, APP)
    assert len(asked) == 1


@pytest.mark.slow
def test_those_with_long_names_groups_and_claims_take_little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some times as many as are remembered, each with 64 KiB of what its issuer has signed."""
    monkeypatch.setattr(rule_decisions, "MOST_DECISIONS", 512)
    decisions = RuleDecisions(RULES)
    tracemalloc.start()
    try:
        for number in range(2_000):
            groups = ("dev", *(f"{number:010}{each:0246}" for each in range(120)))
            claims = (("issuer", ("github",)), ("repository", ("acme/" + "x" * 1000 + str(number),)))
            who = Identity(f"{number:0256}", Method.OIDC, groups=groups, extra=claims)
            where = Repository.parse("/".join(["x" * 120, f"{number:0120}"]))
            decisions.decide(replace(who), Permission.PUSH, where)
            del who, groups, claims
        assert tracemalloc.get_traced_memory()[0] < 512 * 1024
    finally:
        tracemalloc.stop()
