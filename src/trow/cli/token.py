"""`trow token`: credentials for programs, each good for some repositories and actions."""

from __future__ import annotations

import argparse
import getpass
import os
import socket
import time
from typing import TYPE_CHECKING, Final

import msgspec

from trow.access.identity import Grant
from trow.access.permissions import ACTIONS, Permission, expand
from trow.cli import options
from trow.cli.parser import command, group
from trow.cli.printing import EXIT_NO, EXIT_OK, aligned, failed, note, say, say_json
from trow.identity import robots
from trow.lib.errors import StartError
from trow.lib.globs import RepositoryGlob
from trow.lib.times import UNITS, parse_duration, rfc3339

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trow.access.ports import RobotToken
    from trow.cli.parser import Commands, Parser

_DEFAULT_DAYS: Final = 90
_LONGEST: Final = 10 * 366 * 86400
_NEVER: Final = "never"
_CREATE: Final = """\
The token is printed once and stored only as a hash. Use it as the password; any user name will do.

example:
  trow token create --name ci --repository 'team-a/**' --action pull,push --expires 30d
"""


def add(commands: Commands) -> None:
    actions = group(commands, "token", "create, list and revoke tokens for programs")
    create = command(actions, "create", "create a token", run_create, "Create a token for a program.", _CREATE)
    _add_create(create)
    listing = command(actions, "list", "list the tokens", run_list, "List the tokens, without their secrets.")
    listing.add_argument("--json", action="store_true", help="print them as one JSON list")
    revoke = command(actions, "revoke", "revoke a token", run_revoke, "Revoke a token. It is refused from now on.")
    revoke.add_argument("id", metavar="ID", type=_id, help="the token's id, as `trow token list` shows it")
    for parser in (create, listing, revoke):
        options.add_data_dir(parser)


def _add_create(parser: Parser) -> None:
    words = ", ".join(action.value for action in ACTIONS)
    parser.add_argument("--name", required=True, help="what the token is for, such as ci")
    parser.add_argument(
        "--repository", metavar="GLOB", required=True, action="append", type=_glob, help="such as team-a/**; repeatable"
    )
    parser.add_argument(
        "--action",
        metavar="ACTIONS",
        required=True,
        action="extend",
        type=_actions,
        help=f"separated by commas: {words}",
    )
    parser.add_argument(
        "--expires",
        metavar="WHEN",
        type=_seconds,
        default=_DEFAULT_DAYS * UNITS["d"],
        help=f"such as 30m, 12h, 30d or 8w, or never (default {_DEFAULT_DAYS}d)",
    )
    parser.add_argument("--json", action="store_true", help="print the token and its properties as one JSON object")


def run_create(args: argparse.Namespace) -> int:
    config = options.resolved(args).config
    from trow.app import offline_metadata  # noqa: PLC0415 (the engines are loaded only when they are needed)
    from trow.identity.robots import new_token  # noqa: PLC0415

    now = time.time()
    grants = [Grant(glob, expand(args.action)) for glob in args.repository]
    try:
        text, token = new_token(args.name, grants, None if args.expires is None else now + args.expires, _me(), now)
        with offline_metadata(config) as metadata:
            metadata.add_robot_token(token)
    except (ValueError, StartError) as error:
        return failed(error)
    if args.json:
        say_json(_json({"token": text, **_facts(token, now)}))
    else:
        print(text)
        note(f"This is shown only once. `trow token revoke {token.id}` revokes it.")
        place = str(config.postgres.url or config.data_dir.absolute())
        note(f"The token is for the registry with its data in {place}.")
    return EXIT_OK


def run_list(args: argparse.Namespace) -> int:
    config = options.resolved(args).config
    from trow.app import offline_metadata  # noqa: PLC0415 (the engines are loaded only when they are needed)

    try:
        with offline_metadata(config) as metadata:
            tokens = sorted(metadata.robot_tokens(), key=lambda token: token.created_at)
    except StartError as error:
        return failed(error)
    now = time.time()
    if args.json:
        say_json(_json([_facts(token, now) for token in tokens]))
    else:
        rows = [
            (token.id, token.name, _state(token, now), (_time(token.expires_at) or _NEVER)[:10], _may(token))
            for token in tokens
        ]
        say(*aligned([("ID", "NAME", "STATE", "EXPIRES", "MAY"), *rows]))
    return EXIT_OK


def run_revoke(args: argparse.Namespace) -> int:
    config = options.resolved(args).config
    from trow.app import offline_metadata  # noqa: PLC0415 (the engines are loaded only when they are needed)

    try:
        with offline_metadata(config) as metadata:
            found = metadata.revoke_robot_token(args.id, time.time(), _me())
    except StartError as error:
        return failed(error)
    if not found:
        return failed(f"there is no token {args.id} to revoke; see `trow token list`", EXIT_NO)
    say(f"revoked: {args.id}")
    return EXIT_OK


def _me() -> str:
    try:
        name = getpass.getuser()
    except (KeyError, OSError):
        # A container's user often has none.
        name = str(os.getuid())
    return f"{name}@{socket.gethostname()}"


def _id(text: str) -> str:
    if not robots.ID.fullmatch(text):
        # What was given is not repeated: it may be the whole token.
        raise argparse.ArgumentTypeError("is not an id: write only the 12 characters after 'trow_'")
    return text


def _glob(text: str) -> RepositoryGlob:
    try:
        return RepositoryGlob.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _actions(text: str) -> Sequence[Permission]:
    known = {action.value: action for action in ACTIONS}
    words = text.split(",")
    if unknown := [word for word in words if word not in known]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is not an action; write some of {', '.join(known)}")
    return [known[word] for word in words]


def _seconds(text: str) -> int | None:
    if text == _NEVER:
        return None
    try:
        seconds = parse_duration(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a duration: write one such as 30m, 12h, 30d or 8w, up to ten years, or never"
        )
    return seconds


def _facts(token: RobotToken, now: float) -> dict[str, object]:
    return {
        "id": token.id,
        "name": token.name,
        "state": _state(token, now),
        "grants": [
            {"repositories": str(grant.repositories), "actions": sorted(each.value for each in grant.permissions)}
            for grant in token.grants
        ],
        "created_at": _time(token.created_at),
        "created_by": token.created_by,
        "expires_at": _time(token.expires_at),
        "revoked_at": _time(token.revoked_at),
    }


def _state(token: RobotToken, now: float) -> str:
    if token.revoked_at is not None:
        return "revoked"
    return "expired" if token.expires_at is not None and token.expires_at <= now else "good"


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(seconds)


def _may(token: RobotToken) -> str:
    return "; ".join(
        f"{','.join(sorted(each.value for each in grant.permissions))} {grant.repositories}" for grant in token.grants
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
