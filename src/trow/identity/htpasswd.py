"""The users file: ``name:hash`` or ``name:hash:group,group`` on each line, ``#`` starts a comment line.

Only bcrypt and argon2 are accepted: other hashes in such files can be guessed too fast. A hash that costs seconds or
gigabytes is refused too, because each login would pay for it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Final

import argon2.low_level
import bcrypt
from argon2.exceptions import VerificationError

from trow.lib.files import BrokenFile

LONGEST_USERS_FILE: Final = 1024 * 1024
LONGEST_NAME: Final = 128
_LONGEST_LINE: Final = 4096
_MOST_GROUPS: Final = 100
# bcrypt knows no more; bcrypt 5 refuses longer ones instead of cutting them.
_BCRYPT_BYTES: Final = 72
_BCRYPT_COSTS: Final = range(4, 17)
_MOST_MEMORY: Final = 1024 * 1024  # KiB
_MOST_WORK: Final = 4 * 1024 * 1024  # KiB times passes
_MOST_LANES: Final = 16
# The last character of the salt has two bits that count; bcrypt refuses others only when somebody logs in.
_BCRYPT: Final = re.compile(r"\$2[aby]\$([0-9]{2})\$[./A-Za-z0-9]{21}[.Oeu][./A-Za-z0-9]{31}")
_ARGON2: Final = re.compile(
    r"\$argon2(id|i|d)(?:\$v=(?:16|19))?\$m=([1-9][0-9]{0,9}),t=([1-9][0-9]{0,9}),p=([1-9][0-9]{0,9})"
    r"\$[A-Za-z0-9+/]{11,86}\$[A-Za-z0-9+/]{22,86}"
)
_TYPES: Final = {"id": argon2.Type.ID, "i": argon2.Type.I, "d": argon2.Type.D}
# OWASP, "Password Storage Cheat Sheet": the weakest of its settings of equal strength that is kind to small machines;
# four logins at once take 76 MiB.
_MEMORY, _PASSES, _LANES = 19 * 1024, 2, 1
_FIX: Final = "write the line with `trow user hash`"


@dataclass(frozen=True, slots=True)
class PasswordUser:
    """A line of the file."""

    name: str
    hash: str = field(repr=False)
    groups: tuple[str, ...] = ()

    def line(self) -> str:
        """The user as the file has it."""
        return ":".join((self.name, self.hash, *([",".join(self.groups)] if self.groups else [])))


def parse(content: bytes, source: str) -> dict[str, PasswordUser]:
    """Read the file's users.

    Raises:
        BrokenFile: a line is wrong; the message names ``source``, the line and the fix.
    """
    users: dict[str, PasswordUser] = {}
    for number, line in enumerate(_text(content, source).splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        try:
            user = _user(line.strip())
        except ValueError as error:
            raise BrokenFile(f"{source}:{number}: {error}") from None
        if user.name in users:
            raise BrokenFile(f"{source}:{number}: the user {user.name!r} is listed a second time; remove a line")
        users[user.name] = user
    return users


def check_name(name: str) -> str:
    """The name of a user, as it is.

    Raises:
        ValueError: the name is not allowed.
    """
    # A colon would let a user take the name of a robot, a ServiceAccount or a certificate; * is everybody in rules.
    if not name or name == "*" or len(name) > LONGEST_NAME or ":" in name or not name.isprintable():
        raise ValueError(f"a user's name has 1 to {LONGEST_NAME} printable characters, no ':', and is not '*'")
    if name != name.strip() or name.startswith("#"):
        raise ValueError("a user's name does not begin with '#', nor begin or end with a space")
    return name


def check_group(name: str) -> str:
    """The name of a group, as it is.

    Raises:
        ValueError: the name is not allowed.
    """
    if not re.fullmatch(r"[^\s:,*]+", name) or len(name) > LONGEST_NAME or not name.isprintable():
        raise ValueError(f"a group's name has 1 to {LONGEST_NAME} printable characters without space, ':', ',' and '*'")
    return name


def hash_password(secret: str) -> str:
    """An argon2id hash with a salt of its own."""
    return argon2.PasswordHasher(_PASSES, _MEMORY, _LANES).hash(secret)


def verify_password(hashed: str, secret: str) -> bool:
    """Whether the hash is that of the password; takes long, on purpose."""
    given = secret.encode("utf-8", "surrogatepass")
    if hashed.startswith("$2"):
        # The comparison is made for a longer one too, so that it takes as long as another wrong one.
        same = bcrypt.checkpw(given[:_BCRYPT_BYTES], hashed.encode())
        return same and len(given) <= _BCRYPT_BYTES
    kind = _TYPES[hashed.removeprefix("$argon2").partition("$")[0]]
    try:
        return argon2.low_level.verify_secret(hashed.encode(), given, kind)
    except VerificationError:
        return False


def with_user(content: bytes, user: PasswordUser, source: str) -> bytes:
    """The file with this user's line, in the place of the one that was there; all else stays as it is."""
    *before, last = _text(content, source).splitlines(keepends=True) or [""]
    lines = [*before, last if last.endswith("\n") or not last else f"{last}\n"]
    places = [place for place, line in enumerate(lines) if _names(line, user.name)]
    if places:
        lines[places[0]] = f"{user.line()}\n"
    else:
        lines.append(f"{user.line()}\n")
    return "".join(lines).encode()


def without_user(content: bytes, name: str, source: str) -> bytes:
    """The file without this user's line."""
    lines = _text(content, source).splitlines(keepends=True)
    return "".join(line for line in lines if not _names(line, name)).encode()


def _names(line: str, user: str) -> bool:
    name, colon, _ = line.strip().partition(":")
    return bool(colon) and name == user


def _text(content: bytes, source: str) -> str:
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise BrokenFile(f"{source} is not UTF-8; is this the right file?") from None


def _user(line: str) -> PasswordUser:
    if len(line) > _LONGEST_LINE:
        raise ValueError(f"the line is longer than {_LONGEST_LINE} characters; name fewer groups")
    name, colon, rest = line.partition(":")
    if not colon:
        raise ValueError(f"the line has no ':' after a user's name; {_FIX}")
    hashed, colon, groups = rest.partition(":")
    names = groups.split(",") if colon else []
    if len(names) > _MOST_GROUPS:
        raise ValueError(f"the user has more than {_MOST_GROUPS} groups; remove some")
    check_name(name)
    _check_hash(hashed)
    return PasswordUser(name, hashed, tuple(check_group(group) for group in names))


def _check_hash(hashed: str) -> None:
    if found := _BCRYPT.fullmatch(hashed):
        if int(found[1]) not in _BCRYPT_COSTS:
            raise ValueError(f"the bcrypt cost is not between 4 and 16; {_FIX}")
    elif found := _ARGON2.fullmatch(hashed):
        memory, passes, lanes = map(int, found.groups()[1:])
        if memory > _MOST_MEMORY or memory * passes > _MOST_WORK:
            raise ValueError(f"the argon2 hash takes more than 1 GiB of memory, or too many passes; {_FIX}")
        if lanes > _MOST_LANES or memory < 8 * lanes:
            raise ValueError(
                f"the argon2 hash has more than {_MOST_LANES} lanes, or too little memory for them; {_FIX}"
            )
    else:
        # This may be a password in clear text, so it is never repeated.
        raise ValueError(f"the password is {_kind(hashed)}, and only bcrypt and argon2 are accepted; {_FIX}")


def _kind(hashed: str) -> str:
    if hashed.startswith("{SHA}"):
        return "a SHA-1 hash without salt"
    if hashed.startswith("$apr1$"):
        return "an MD5 hash (apr1)"
    if hashed.startswith(("$2", "$argon2")):
        return "a malformed hash"
    return "hashed by crypt(3)" if hashed.startswith(("$", "_")) else "in clear or hashed by crypt(3)"
