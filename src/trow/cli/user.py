"""`trow user`: the lines of a users file."""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import getpass
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

from trow.cli.parser import command, group
from trow.cli.printing import EXIT_NO, EXIT_OK, failed, note, say
from trow.lib.files import BrokenFile, read_bounded, replace_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from trow.cli.parser import Commands

_LONGEST_PASSWORD: Final = 1024
_SET: Final = """\
A running `trow serve` reads the file again within seconds.

examples:
  trow user set alice --file users --group dev
  trow user set ci --file users < password.txt
"""


class _Refused(Exception):
    """The command cannot do what was asked; the message says why and what to do."""


def add(commands: Commands) -> None:
    actions = group(commands, "user", "edit a file of users and hash passwords")
    asks = "It asks for the password, or reads it from standard input."
    hashing = command(
        actions,
        "hash",
        "print a line for a users file",
        _reported(run_hash),
        f"Print a line for a users file. {asks}",
        "example:\n  trow user hash alice >> users\n",
    )
    setting = command(
        actions,
        "set",
        "add a user to a file, or change a password",
        _reported(run_set),
        f"Add a user, or change a password. {asks}",
        _SET,
    )
    remove = command(actions, "remove", "remove a user from a file", _reported(run_remove))
    for parser in (hashing, setting, remove):
        parser.add_argument("name", metavar="NAME", type=_name, help="the user")
    for parser in (hashing, setting):
        parser.add_argument(
            "--group", action="append", type=_group, help="a group of the user; repeatable (default: those it has)"
        )
    for parser in (setting, remove):
        parser.add_argument("--file", metavar="FILE", type=Path, required=True, help="the users file")


def _reported(run: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    def reporting(args: argparse.Namespace) -> int:
        try:
            return run(args)
        except (_Refused, BrokenFile) as error:
            return failed(error)
        except OSError as error:
            fix = "give a file in a folder that is there and that you may write to"
            return failed(f"{error.filename}: {error.strerror}; {fix}")

    return reporting


def run_hash(args: argparse.Namespace) -> int:
    from trow.identity import htpasswd  # noqa: PLC0415 (loaded only when it is needed)

    print(htpasswd.PasswordUser(args.name, htpasswd.hash_password(_password()), tuple(args.group or ())).line())
    return EXIT_OK


def run_set(args: argparse.Namespace) -> int:
    from trow.identity import htpasswd  # noqa: PLC0415 (loaded only when it is needed)

    hashed = htpasswd.hash_password(_password())
    new = not args.file.exists()
    with _editing(args.file, create=True) as (content, write):
        old = htpasswd.parse(content, str(args.file)).get(args.name)
        groups = args.group if args.group is not None else old.groups if old else ()
        changed = htpasswd.with_user(content, htpasswd.PasswordUser(args.name, hashed, tuple(groups)), str(args.file))
        htpasswd.parse(changed, str(args.file))
        write(changed)
    say(f"{'changed' if old else 'added'}: {args.name}")
    if new:
        note(f"created: {args.file.absolute()}; set auth.users_file to it")
    return EXIT_OK


def run_remove(args: argparse.Namespace) -> int:
    from trow.identity import htpasswd  # noqa: PLC0415 (loaded only when it is needed)

    with _editing(args.file, create=False) as (content, write):
        found = args.name in htpasswd.parse(content, str(args.file))
        if found:
            write(htpasswd.without_user(content, args.name, str(args.file)))
    if not found:
        return failed(f"{args.file} has no user {args.name!r}", EXIT_NO)
    say(f"removed: {args.name}")
    return EXIT_OK


def _name(text: str) -> str:
    from trow.identity.htpasswd import check_name  # noqa: PLC0415 (loaded only when it is needed)

    return _checked(check_name, text)


def _group(text: str) -> str:
    from trow.identity.htpasswd import check_group  # noqa: PLC0415 (loaded only when it is needed)

    return _checked(check_group, text)


def _checked(check: Callable[[str], str], text: str) -> str:
    try:
        return check(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _password() -> str:
    password = _asked() if sys.stdin.isatty() else _piped()
    if not password:
        raise _Refused("the password is empty; write it to standard input, on one line")
    if len(password) > _LONGEST_PASSWORD or not password.isprintable():
        raise _Refused(
            f"the password is longer than {_LONGEST_PASSWORD} characters or has control characters; give another one"
        )
    return password


def _asked() -> str:
    try:
        password = getpass.getpass("Password: ")
        again = getpass.getpass("Repeat the password: ")
    except EOFError:
        return ""
    if password != again:
        raise _Refused("the two passwords differ and nothing was changed; give the same one twice")
    return password


def _piped() -> str:
    try:
        # One character more than is allowed, and one line break, which is not part of it.
        text = sys.stdin.read(_LONGEST_PASSWORD + 3)
    except UnicodeDecodeError:
        raise _Refused("the password is not UTF-8; write it in UTF-8") from None
    return text.removesuffix("\n").removesuffix("\r")


@contextlib.contextmanager
def _editing(path: Path, *, create: bool) -> Iterator[tuple[bytes, Callable[[bytes], None]]]:
    """The file's content, and what replaces all of it at once; two editors wait for each other."""
    from trow.identity.htpasswd import LONGEST_USERS_FILE  # noqa: PLC0415 (loaded only when it is needed)

    # Behind a symbolic link the file is replaced, not the link.
    file = path.resolve()
    with _locked(file.parent):
        content = b"" if create and not file.exists() else read_bounded(file, LONGEST_USERS_FILE)
        yield content, lambda changed: replace_file(file, changed)


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
