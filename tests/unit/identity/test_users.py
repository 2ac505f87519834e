from __future__ import annotations

import asyncio
import contextlib
import hmac
import logging
import os
import threading
import time
from typing import TYPE_CHECKING

import argon2
import bcrypt
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from support.clock import Clock
from support.loop import run
from support.waiting import eventually
from trow.access.identity import Identity, Method
from trow.identity import htpasswd, users
from trow.identity.attempts import Attempt
from trow.identity.htpasswd import PasswordUser
from trow.identity.users import AnyPasswords, SingleUser, UsersFile
from trow.lib.file_watch import keep_fresh
from trow.lib.files import BrokenFile
from trow.oci.errors import TooManyRequests

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "correct: horse"
LETTERS = st.characters(exclude_categories=["Cs"])
# A fixed one, so that the names of tests are the same in every process.
HASH_OF_X = "$argon2id$v=19$m=8,t=1,p=1$FAuHJ2D1Fo5kGnnior8CGw$xpUaU3914mWHB+uQRGhQ8LuMtNG9ykbdWePSrV5pFb4"


def cheap(secret: str, kind: str = "2b") -> str:
    """A hash that is quickly compared."""
    if kind.startswith("2"):
        salt = b"$2b$04$" + b"abcdefghijklmnopqrstuO"  # the same in every process, so that the names of tests are
        return bcrypt.hashpw(secret.encode(), salt).decode().replace("$2b", f"${kind}")
    return argon2.low_level.hash_secret(secret.encode(), b"s" * 16, 1, 8, 1, 32, htpasswd._TYPES[kind]).decode()  # noqa: SLF001


ALICE = cheap(SECRET)


@pytest.fixture
def clock() -> Clock:
    return Clock(1000.0)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "users"


@pytest.fixture
def compared(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The hashes that were compared, in turn."""
    hashes: list[str] = []
    really = htpasswd.verify_password

    def verify_password(hashed: str, secret: str) -> bool:
        hashes.append(hashed)
        return really(hashed, secret)

    monkeypatch.setattr(htpasswd, "verify_password", verify_password)
    return hashes


def write(path: Path, *lines: str) -> None:
    new = path.with_name("new")
    new.write_text("\n".join([*lines, ""]), "utf-8")
    new.replace(path)


def remove(path: Path) -> None:
    path.unlink()


# the file


@pytest.mark.parametrize("kind", ["2a", "2b", "2y", "id", "i", "d"])
async def test_hashes_that_are_taken(path: Path, kind: str) -> None:
    write(path, "# people", "", f"alice:{cheap(SECRET, kind)}:dev,ops", f"  bob:{cheap('x')}  ")
    file = UsersFile(path)
    assert await file.verify("alice", SECRET) == Identity("alice", Method.PASSWORD, groups=("dev", "ops"))
    assert await file.verify("bob", "x") == Identity("bob", Method.PASSWORD)
    for user, secret in (("alice", "x"), ("alice", ""), ("Alice", SECRET), ("", ""), ("*", "x"), ("carol", SECRET)):
        assert await file.verify(user, secret) is None


@pytest.mark.parametrize(
    ("hashed", "reason"),
    [
        ("horse", "in clear or hashed by crypt"),
        ("", "in clear"),
        ("{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=", "SHA-1"),
        ("$apr1$mYsalt$horse", "MD5"),
        ("$1$salt$horse", "crypt"),
        ("$6$salt$horse", "crypt"),
        ("rqXexS6ZhobKA", "crypt"),
        ("$2x" + ALICE[3:], "malformed"),
        (ALICE[:-1], "malformed"),
        (ALICE[:28] + "A" + ALICE[29:], "malformed"),
        (ALICE.replace("$04$", "$03$"), "cost is not between 4 and 16"),
        (ALICE.replace("$04$", "$17$"), "cost is not between 4 and 16"),
        (ALICE.replace("$04$", "$31$"), "cost is not between 4 and 16"),
        (HASH_OF_X.replace("m=8,", "m=1048577,"), "1 GiB"),
        (HASH_OF_X.replace("m=8,t=1", "m=1048576,t=5"), "too many passes"),
        (HASH_OF_X.replace("t=1", "t=1000000"), "too many passes"),
        (HASH_OF_X.replace("m=8,t=1,p=1", "m=1024,t=1,p=17"), "lanes"),
        (HASH_OF_X.replace("p=1", "p=2"), "too little memory"),
        (HASH_OF_X.replace("v=19", "v=18"), "malformed"),
        (HASH_OF_X[:-30], "malformed"),
    ],
)
def test_other_hashes_are_refused_with_file_line_and_fix(path: Path, hashed: str, reason: str) -> None:
    write(path, "# people", f"alice:{ALICE}", f"bob:{hashed}")
    with pytest.raises(BrokenFile) as caught:
        UsersFile(path)
    said = str(caught.value)
    assert said.startswith(f"{path}:3: ")
    assert reason in said
    assert said.endswith("`trow user hash`")
    assert "horse" not in said


@pytest.mark.parametrize(
    "line",
    [
        "no colon",
        f":{ALICE}",
        f"*:{ALICE}",
        f"system:serviceaccount:a:b:{ALICE}",
        f"robot:ci:{ALICE}",
        f"a\tb:{ALICE}",
        f"{'a' * 129}:{ALICE}",
        f"bob :{ALICE}",
        f"bob:{ALICE}:",
        f"bob:{ALICE}:a,,b",
        f"bob:{ALICE}:system:masters",
        f"bob:{ALICE}:*",
        f"bob:{ALICE}:a b",
        f"bob:{ALICE}:{','.join('g' * 101)}",
        f"bob:{ALICE}:{'g' * 5000}",
        f"alice:{ALICE}",
    ],
    ids=lambda line: line.replace(ALICE, "HASH")[:40],  # salts differ from one process to the next
)
def test_lines_and_names_that_are_refused(path: Path, line: str) -> None:
    write(path, f"alice:{ALICE}", line)
    with pytest.raises(BrokenFile, match=f"^{path}:2: ") as caught:
        UsersFile(path)
    assert ALICE not in str(caught.value)


def test_files_that_are_refused(path: Path) -> None:
    with pytest.raises(BrokenFile, match="cannot be read"):
        UsersFile(path)
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(BrokenFile, match="UTF-8"):
        UsersFile(path)
    path.write_bytes(b"#" * (1024 * 1024 + 1))
    with pytest.raises(BrokenFile, match="larger than 1024 KiB"):
        UsersFile(path)


async def test_nobody_is_in_an_empty_file(path: Path, compared: list[str]) -> None:
    write(path, "# nobody yet")
    assert await UsersFile(path).verify("alice", SECRET) is None
    assert not compared


async def test_a_changed_file_is_read_again_at_the_next_look(path: Path) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    assert await file.verify("alice", SECRET)
    write(path, f"alice:{cheap('new')}:ops", f"bob:{cheap('x')}")
    assert await file.verify("bob", "x") is None  # nobody has looked
    await asyncio.to_thread(file.look)
    assert await file.verify("bob", "x")
    assert await file.verify("alice", SECRET) is None  # it is forgotten with the file that it was in
    assert await file.verify("alice", "new") == Identity("alice", Method.PASSWORD, groups=("ops",))
    write(path, f"bob:{cheap('x')}")
    await asyncio.to_thread(file.look)
    assert await file.verify("alice", "new") is None


async def test_cve_2025_23208_groups_are_replaced(path: Path) -> None:
    write(path, f"alice:{ALICE}:dev,admin")
    file = UsersFile(path)
    assert (await file.verify("alice", SECRET) or Identity("")).groups == ("dev", "admin")
    write(path, f"alice:{ALICE}:dev")
    await asyncio.to_thread(file.look)
    assert (await file.verify("alice", SECRET) or Identity("")).groups == ("dev",)


async def test_a_broken_version_is_told_of_once_and_not_used(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    with caplog.at_level(logging.INFO):
        write(path, "alice:horse")
        for _ in range(5):
            await asyncio.to_thread(file.look)
            assert await file.verify("alice", SECRET)
        (record,) = caplog.records
        assert "horse" not in f"{vars(record)}"
        assert f"{path}:1: " in vars(record)["reason"]
        remove(path)
        for _ in range(5):
            await asyncio.to_thread(file.look)
            assert await file.verify("alice", SECRET)
        assert len(caplog.records) == 2
        write(path, f"bob:{ALICE}")
        await asyncio.to_thread(file.look)
        assert await file.verify("alice", SECRET) is None
        assert caplog.records[-1].levelno == logging.INFO


def test_a_change_that_keeps_size_and_time_is_seen_by_its_inode(path: Path) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    before = path.stat()
    write(path, f"carol:{ALICE}")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    file.look()
    assert run(file.verify("carol", SECRET))


async def test_a_change_is_taken_over_while_the_server_runs(path: Path) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    looking = asyncio.create_task(keep_fresh(file.look))
    write(path, f"bob:{ALICE}")
    await eventually(lambda: file.find("bob"))
    assert file.find("alice") is None
    looking.cancel()


async def test_a_disk_that_does_not_answer_keeps_nobody_waiting(path: Path) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    remove(path)
    os.mkfifo(path)  # whoever reads this waits for whoever writes it
    looking = asyncio.create_task(keep_fresh(file.look))
    writing = await writer(path)
    assert await file.verify("alice", SECRET)
    os.write(writing, f"bob:{ALICE}\n".encode())
    os.close(writing)
    await eventually(lambda: file.find("bob"))
    remove(path)
    looking.cancel()


async def writer(fifo: Path) -> int:
    """The other end, once somebody reads."""
    found: list[int] = []

    def opened() -> bool:
        with contextlib.suppress(OSError):
            found.append(os.open(fifo, os.O_WRONLY | os.O_NONBLOCK))
        return bool(found)

    await eventually(opened)
    return found[0]


# verification


async def test_a_right_password_is_compared_once_in_five_minutes(path: Path, clock: Clock, compared: list[str]) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path, clock)
    for _ in range(3):
        assert await file.verify("alice", SECRET)
    assert len(compared) == 1
    clock.now += 299
    assert await file.verify("alice", SECRET)
    assert len(compared) == 1
    clock.now += 1
    assert await file.verify("alice", SECRET)
    assert len(compared) == 2


async def test_the_same_wrong_password_again_costs_nothing(path: Path, compared: list[str]) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    for user in ("alice", "alice", "nobody", "nobody"):
        assert await file.verify(user, "x") is None
    assert len(compared) == 2


async def test_memory_of_passwords_is_bounded(path: Path, monkeypatch: pytest.MonkeyPatch, compared: list[str]) -> None:
    monkeypatch.setattr(users, "_MOST_REMEMBERED", 1)
    write(path, f"alice:{ALICE}", f"bob:{ALICE}")
    file = UsersFile(path)
    for user in ("alice", "bob", "bob", "alice"):
        assert await file.verify(user, SECRET)
    assert len(compared) == 3


async def test_parallel_requests_with_one_password_are_one_comparison(path: Path, compared: list[str]) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    assert all(await asyncio.gather(*(file.verify("alice", SECRET) for _ in range(100))))
    assert len(compared) == 1


async def test_an_unknown_user_costs_what_a_known_one_does(path: Path, compared: list[str]) -> None:
    hashes = [cheap("a"), cheap("b"), cheap("c", "id")]
    write(path, *(f"user{number}:{hashed}" for number, hashed in enumerate(hashes)))
    file = UsersFile(path)
    for number in range(60):
        assert await file.verify(f"stranger{number}", "a") is None
    assert len(compared) == 60
    assert set(compared) == set(hashes)
    del compared[:]
    for secret in "abcdef":
        assert await file.verify("stranger", secret) is None
    assert len(compared) == 6
    assert len(set(compared)) == 1  # else asking often would tell who is unknown


async def test_the_password_of_another_does_not_open_an_unknown_name(path: Path) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    assert await file.verify("stranger", SECRET) is None
    assert await file.verify("stranger", SECRET) is None


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Comparisons that take a while; how many ran at the same time."""
    lock = threading.Lock()
    running = 0
    most: list[int] = []

    def verify_password(hashed: str, secret: str) -> bool:
        nonlocal running
        with lock:
            running += 1
            most.append(running)
        time.sleep(0.02)
        with lock:
            running -= 1
        return secret == SECRET

    monkeypatch.setattr(htpasswd, "verify_password", verify_password)
    return most


async def test_two_passwords_are_compared_at_a_time(path: Path, held: list[int]) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    await asyncio.gather(*(file.verify("alice", f"{number}") for number in range(10)))
    assert len(held) == 10
    assert max(held) == 2


@pytest.mark.slow
async def test_the_queue_of_passwords_is_bounded_for_each_source(path: Path, held: list[int]) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    found = await asyncio.gather(
        *(file.verify("alice", f"{n}", Attempt("10.0.0.1")) for n in range(200)), return_exceptions=True
    )
    assert sum(isinstance(each, TooManyRequests) for each in found) == 200 - 128 - 2
    assert len(held) == 128 + 2
    assert await file.verify("alice", SECRET)  # and it empties


async def test_a_password_waits_for_one_of_each_other_source_and_not_for_all_of_them(
    path: Path, held: list[int]
) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    attack = [
        asyncio.ensure_future(file.verify("alice", f"{source}-{n}", Attempt(f"10.0.0.{source}")))
        for source in range(4)
        for n in range(100)
    ]
    await eventually(lambda: held)
    assert await file.verify("alice", SECRET, Attempt("192.0.2.1"))
    assert len(held) <= 12  # those at work, one of each other source, and what has begun since
    for each in attack:
        each.cancel()
    await asyncio.gather(*attack, return_exceptions=True)


async def test_a_password_that_was_right_before_waits_for_no_stranger(path: Path, held: list[int]) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    attack = [asyncio.ensure_future(file.verify("alice", f"{n}", Attempt("10.0.0.1"))) for n in range(100)]
    await eventually(lambda: held)
    assert await file.verify("alice", SECRET, Attempt("10.0.0.1", known=True))
    assert len(held) <= 8
    for each in attack:
        each.cancel()
    await asyncio.gather(*attack, return_exceptions=True)


async def test_who_hangs_up_does_not_take_the_answer_from_others(path: Path, held: list[int]) -> None:
    write(path, f"alice:{ALICE}")
    file = UsersFile(path)
    first = asyncio.ensure_future(file.verify("alice", SECRET))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(file.verify("alice", SECRET))
    await asyncio.sleep(0)
    first.cancel()
    assert await second
    assert len(held) == 1


@pytest.mark.parametrize("secret", ["x" * 73, "x" * 10_000, "ä" * 37])
async def test_a_password_longer_than_bcrypt_knows_is_wrong(path: Path, secret: str, compared: list[str]) -> None:
    short = secret.encode()[:72]
    hashed = bcrypt.hashpw(short, bcrypt.gensalt(4)).decode()
    write(path, f"alice:{hashed}", f"bob:{cheap(secret, 'id')}")
    file = UsersFile(path)
    assert await file.verify("alice", secret) is None
    assert compared == [hashed]  # and costs as much
    assert await file.verify("alice", short.decode())
    assert await file.verify("bob", secret)


@pytest.mark.parametrize("kind", ["2b", "id"])
@pytest.mark.parametrize("secret", ["\0", "a\0b", "\ud800", "\uffff", ""])
async def test_no_password_is_too_strange(path: Path, kind: str, secret: str) -> None:
    write(path, f"alice:{cheap('a', kind)}")
    assert await UsersFile(path).verify("alice", secret) is None
    assert await UsersFile(path).verify(secret, "a") is None


def test_hash_password_makes_what_the_file_takes() -> None:
    hashed = htpasswd.hash_password(SECRET)
    assert hashed.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert hashed != htpasswd.hash_password(SECRET)
    assert htpasswd.parse(PasswordUser("alice", hashed, ("dev",)).line().encode(), "users")["alice"].groups == ("dev",)
    assert htpasswd.verify_password(hashed, SECRET)
    assert not htpasswd.verify_password(hashed, SECRET + "x")


def test_a_user_does_not_show_its_hash() -> None:
    assert ALICE not in repr(PasswordUser("alice", ALICE))


@given(st.binary(max_size=200))
def test_any_content_is_users_or_a_broken_file(content: bytes) -> None:
    for each in (content, b"alice:" + content, f"alice:{ALICE}:".encode() + content):
        try:
            found = htpasswd.parse(each, "users")
        except BrokenFile:
            continue
        assert all(user.hash == ALICE for user in found.values())


# one user


async def test_the_single_user_and_nobody_else() -> None:
    single = SingleUser("alice", SECRET)
    assert await single.verify("alice", SECRET) == Identity("alice", Method.PASSWORD)
    wrong = [("alice", ""), ("", SECRET), ("alice", SECRET + "x"), ("alice", SECRET[:-1]), ("Alice", SECRET), ("", "")]
    for user, secret in [*wrong, ("alice:correct", " horse"), ("alic", "e:" + SECRET), ("alice", "\ud800")]:
        assert await single.verify(user, secret) is None
    assert await SingleUser("ålice", "pässword").verify("ålice", "pässword")


@pytest.mark.parametrize("name", ["", "*", "system:admin", "robot:x", " a", "a\n"])
def test_names_that_the_single_user_cannot_have(name: str) -> None:
    with pytest.raises(ValueError, match="a user's name"):
        SingleUser(name, SECRET)


@given(st.text(LETTERS, min_size=1), st.text(LETTERS, min_size=1))
@example("alice", "secre")
@example("alice:secret", "x")
@example("alice", "secret")
def test_only_the_right_pair_is_alice(user: str, password: str) -> None:
    found = run(SingleUser("alice", "secret").verify(user, password))
    assert (found is not None) == ((user, password) == ("alice", "secret"))


async def test_comparison_tells_nothing_by_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    single = SingleUser("alice", SECRET)
    compared: list[tuple[bytes, bytes]] = []
    really = hmac.compare_digest

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((one, other))
        return really(one, other)

    monkeypatch.setattr("trow.identity.users.hmac.compare_digest", compare)
    for password in ("", "x", "x" * 1000, SECRET[:-1]):
        assert await single.verify("alice", password) is None
    assert len(compared) == 4
    assert {len(side) for pair in compared for side in pair} == {64}
    assert all(SECRET.encode() not in side for pair in compared for side in pair)


async def test_sources_combine(path: Path) -> None:
    write(path, f"bob:{ALICE}")
    both = AnyPasswords(SingleUser("alice", "x"), UsersFile(path))
    assert (await both.verify("alice", "x") or Identity("")).name == "alice"
    assert (await both.verify("bob", SECRET) or Identity("")).name == "bob"
    assert await both.verify("alice", SECRET) is None
    assert await AnyPasswords().verify("alice", "x") is None
