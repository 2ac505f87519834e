from __future__ import annotations

import contextlib
import io
import json
import os
import re
import stat
import sys
import threading
import types
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support.loop import run as run_async
from support.metadata import EmbeddedMetadata
from trow.access.permissions import Permission, expand
from trow.cli import keys, token, user
from trow.cli.parser import Parser
from trow.identity.robots import RobotVerifier
from trow.identity.users import UsersFile
from trow.lib.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.access.ports import RobotToken

TEXT = re.compile(r"trow_([a-z2-7]{12})_[A-Za-z0-9_-]{43}\n")


class Store:
    """Where `trow.app` keeps tokens."""

    def __init__(self) -> None:
        self.tokens: dict[str, RobotToken] = {}
        self.error: Exception | None = None

    def add_robot_token(self, token: RobotToken) -> None:
        if self.error:
            raise self.error
        self.tokens[token.id] = token

    def robot_tokens(self) -> Sequence[RobotToken]:
        return list(self.tokens.values())

    def revoke_robot_token(self, id: str, at: float, by: str) -> bool:  # noqa: A002
        from dataclasses import replace  # noqa: PLC0415

        if found := id in self.tokens:
            self.tokens[id] = replace(self.tokens[id], revoked_at=at)
        return found

    async def robot_token(self, id: str) -> RobotToken | None:  # noqa: A002
        return self.tokens.get(id)


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TROW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Store:
    made = Store()
    app = types.ModuleType("trow.app")
    vars(app)["offline_metadata"] = lambda _: contextlib.nullcontext(made)
    monkeypatch.setitem(sys.modules, "trow.app", app)
    return made


def trow(*argv: str) -> int:
    top = Parser(prog="trow")
    commands = top.add_subparsers(required=True)
    for group in (token, user, keys):
        group.add(commands)
    args = top.parse_args(argv)
    return int(args.run(args))


def piped(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))


def refused(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stopped:
        trow(*argv)
    assert stopped.value.code == 2
    return capsys.readouterr().err


# trow token

CREATE = ("token", "create", "--name", "ci", "--repository", "team-a/**")


def test_a_token_is_printed_once_and_works(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert trow(*CREATE, "--repository", "team-b/*", "--action", "pull,push", "--action", "list") == 0
    output = capsys.readouterr()
    found = TEXT.fullmatch(output.out)
    assert found
    assert f"trow token revoke {found[1]}" in output.err
    identity = run_async(RobotVerifier(store).verify(output.out.strip()))
    assert identity.name == "robot:ci"
    assert identity.grants is not None
    assert [grant.repositories for grant in identity.grants] == ["team-a/**", "team-b/*"]
    assert {grant.permissions for grant in identity.grants} == {
        expand([Permission.PULL, Permission.PUSH, Permission.LIST])
    }
    (stored,) = store.tokens.values()
    assert "@" in stored.created_by
    assert stored.expires_at is not None
    assert stored.expires_at - stored.created_at == 90 * 86400
    assert trow("token", "list") == 0
    assert output.out.strip()[-43:] not in capsys.readouterr().out


@pytest.mark.parametrize(("when", "seconds"), [("12h", 43200), ("30d", 2592000), ("8w", 4838400), ("never", None)])
def test_when_a_token_expires(store: Store, when: str, seconds: int | None) -> None:
    assert trow(*CREATE, "--action", "pull", "--expires", when) == 0
    (stored,) = store.tokens.values()
    assert (stored.expires_at and stored.expires_at - stored.created_at) == seconds


def test_a_token_as_json(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    assert trow(*CREATE, "--action", "push", "--expires", "never", "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert TEXT.fullmatch(said.pop("token") + "\n")
    assert said["grants"] == [{"repositories": "team-a/**", "actions": ["attach", "push"]}]
    assert (said["name"], said["state"], said["expires_at"]) == ("ci", "good", None)
    assert trow("token", "list", "--json") == 0
    assert json.loads(capsys.readouterr().out) == [said]


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ((*CREATE, "--action", "pull,fly"), "'fly' is not an action"),
        ((*CREATE, "--action", ""), "'' is not an action"),
        ((*CREATE, "--action", "ping"), "'ping' is not an action"),
        ((*CREATE, "--action", "pull", "--repository", "A/*"), "is not a glob"),
        ((*CREATE, "--action", "pull", "--expires", "90"), "is not a duration"),
        ((*CREATE, "--action", "pull", "--expires", "0d"), "is not a duration"),
        ((*CREATE, "--action", "pull", "--expires", "9999w"), "is not a duration"),
        (CREATE, "--action is missing"),
        (("token", "revoke", "trow_abcdefghijkl_" + "horse" * 9), "is not an id"),
    ],
)
def test_wrong_tokens_are_not_made(
    store: Store, capsys: pytest.CaptureFixture[str], argv: Sequence[str], message: str
) -> None:
    said = refused(capsys, *argv)
    assert message in said
    assert "horse" not in said
    assert not store.tokens


@pytest.mark.parametrize(
    ("argv", "message"), [(("--name", "CI"), "a token's name"), (("--action", "admin"), "grant them on '**' alone")]
)
def test_what_the_token_itself_refuses(
    store: Store, capsys: pytest.CaptureFixture[str], argv: Sequence[str], message: str
) -> None:
    assert trow(*CREATE, "--action", "pull", *argv) == 2
    assert message in capsys.readouterr().err
    assert not store.tokens


def test_a_token_that_cannot_be_stored_is_not_printed(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store.error = StartError("disk on fire")
    assert trow(*CREATE, "--action", "pull") == 2
    output = capsys.readouterr()
    assert (output.out, output.err) == ("", "trow: error: disk on fire\n")


def test_list_and_revoke(store: Store, capsys: pytest.CaptureFixture[str]) -> None:
    trow(*CREATE, "--action", "pull", "--expires", "never")
    id, stored = next(iter(store.tokens.items()))  # noqa: A001
    assert trow("token", "revoke", id) == 0
    assert store.tokens[id].revoked_at is not None
    assert trow("token", "revoke", "a" * 12) == 1
    capsys.readouterr()
    assert trow("token", "list") == 0
    header, line = capsys.readouterr().out.splitlines()
    assert header.split() == ["ID", "NAME", "STATE", "EXPIRES", "MAY"]
    assert line.split() == [id, stored.name, "revoked", "never", "pull", "team-a/**"]


# trow user


@pytest.fixture
def users() -> Path:
    return Path("users")


def knows(path: Path, name: str, password: str) -> tuple[str, ...] | None:
    identity = run_async(UsersFile(path).verify(name, password))
    return None if identity is None else identity.groups


@pytest.mark.parametrize("text", ["correct: horse", "correct: horse\n", "correct: horse\r\n"])
def test_hash_prints_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], users: Path, text: str
) -> None:
    piped(monkeypatch, text)
    assert trow("user", "hash", "alice", "--group", "dev", "--group", "ops") == 0
    line = capsys.readouterr().out
    assert line.startswith("alice:$argon2id$")
    assert line.endswith(":dev,ops\n")
    users.write_text(line)
    assert knows(users, "alice", "correct: horse") == ("dev", "ops")


def test_a_terminal_is_asked_twice(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], users: Path
) -> None:
    answers: Iterator[str] = iter(["horse", "horse", "horse", "house"])
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True, raising=False)
    monkeypatch.setattr("getpass.getpass", lambda _: next(answers))
    assert trow("user", "hash", "alice") == 0
    users.write_text(capsys.readouterr().out)
    assert knows(users, "alice", "horse") == ()
    assert trow("user", "set", "alice", "--file", "other") == 2
    assert "differ" in capsys.readouterr().err
    assert not Path("other").exists()


def test_set_adds_and_changes_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], users: Path
) -> None:
    piped(monkeypatch, "one")
    assert trow("user", "set", "alice", "--file", "users", "--group", "dev") == 0
    assert stat.S_IMODE(users.stat().st_mode) == 0o600
    users.write_text(f"# people\n\n{users.read_text()}# end")
    users.chmod(0o640)
    piped(monkeypatch, "two")
    assert trow("user", "set", "bob", "--file", "users") == 0
    piped(monkeypatch, "three\n")
    assert trow("user", "set", "alice", "--file", "users") == 0
    assert capsys.readouterr().out == "added: alice\nadded: bob\nchanged: alice\n"
    lines = users.read_text().splitlines()
    assert [line.partition(":")[0] for line in lines] == ["# people", "", "alice", "# end", "bob"]
    assert stat.S_IMODE(users.stat().st_mode) == 0o640
    assert knows(users, "alice", "one") is None
    assert knows(users, "alice", "three") == ("dev",)  # another password, the same groups
    assert knows(users, "bob", "two") == ()
    piped(monkeypatch, "three")
    assert trow("user", "set", "alice", "--file", "users", "--group", "ops") == 0
    assert knows(users, "alice", "three") == ("ops",)
    assert [path.name for path in Path().iterdir()] == ["users"]


def test_a_link_stays_a_link(monkeypatch: pytest.MonkeyPatch, users: Path) -> None:
    Path("real").touch()
    users.symlink_to("real")
    piped(monkeypatch, "x")
    assert trow("user", "set", "alice", "--file", "users") == 0
    assert users.is_symlink()
    assert knows(Path("real"), "alice", "x") == ()


def test_remove_takes_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], users: Path
) -> None:
    for name in ("alice", "bob"):
        piped(monkeypatch, "x")
        trow("user", "set", name, "--file", "users")
    assert trow("user", "remove", "alice", "--file", "users") == 0
    assert knows(users, "alice", "x") is None
    assert knows(users, "bob", "x") == ()
    assert trow("user", "remove", "alice", "--file", "users") == 1
    assert "no user 'alice'" in capsys.readouterr().err
    assert trow("user", "remove", "alice", "--file", "missing") == 2


@pytest.mark.parametrize("text", ["", "\n", "a\nb\n", "x" * 1025, "a\tb"])
def test_passwords_that_are_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], users: Path, text: str
) -> None:
    piped(monkeypatch, text)
    assert trow("user", "set", "alice", "--file", "users") == 2
    assert "the password" in capsys.readouterr().err
    assert not users.exists()


@pytest.mark.parametrize("name", ["", "*", "system:admin", "#alice", "a" * 129])
def test_names_that_are_refused(capsys: pytest.CaptureFixture[str], name: str) -> None:
    assert "a user's name" in refused(capsys, "user", "hash", name)
    assert "a group's name" in refused(capsys, "user", "hash", "alice", "--group", "a b")


def test_a_broken_file_is_not_touched(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], users: Path
) -> None:
    users.write_text("bob:horse\n")
    piped(monkeypatch, "x")
    assert trow("user", "set", "alice", "--file", "users") == 2
    assert "users:1: the password is in clear" in capsys.readouterr().err
    assert users.read_text() == "bob:horse\n"
    piped(monkeypatch, "x")
    assert trow("user", "set", "alice", "--file", "missing/users") == 2
    assert "No such file" in capsys.readouterr().err


def test_two_editors_wait_for_each_other(users: Path) -> None:
    users.touch()

    def edit(name: str) -> None:
        with user._editing(users, create=True) as (content, write):  # noqa: SLF001
            write(content + f"# {name}\n".encode())

    threads = [threading.Thread(target=edit, args=(f"{number}",)) for number in range(20)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert len(users.read_text().splitlines()) == 20


# trow keys


def registry() -> None:
    """What `trow serve` has made here before."""
    Path("data").mkdir()
    EmbeddedMetadata(Path("data/trow.db")).close()


def test_rotate_and_list(capsys: pytest.CaptureFixture[str]) -> None:
    registry()
    assert trow("keys", "list", "-d", "data") == 2
    assert "trow keys rotate" in capsys.readouterr().err
    assert trow("keys", "rotate", "-d", "data") == 0
    assert capsys.readouterr().out == "created: data/keys/token-0001.pem\n"
    os.utime("data/keys/token-0001.pem", (0, 0))
    assert trow("keys", "rotate", "-d", "data") == 0
    capsys.readouterr()
    assert trow("keys", "list", "-d", "data") == 0
    newest, oldest = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert (newest[0], newest[-1]) == ("token-0002.pem", "verifies")
    assert (oldest[0], oldest[-1]) == ("token-0001.pem", "signs")
    os.utime("data/keys/token-0002.pem", (1, 1))
    assert trow("keys", "rotate", "-d", "data") == 0
    assert "removed: data/keys/token-0001.pem\n" in capsys.readouterr().out


def test_keys_that_cannot_be_used(capsys: pytest.CaptureFixture[str]) -> None:
    registry()
    Path("data/keys").mkdir()
    Path("data/keys/token-0001.pem").write_text("horse")
    assert trow("keys", "rotate", "-d", "data") == 2
    said = capsys.readouterr().err
    assert "token-0001.pem is not an unencrypted Ed25519 private key" in said
    assert "horse" not in said
