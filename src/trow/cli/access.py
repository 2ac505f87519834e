"""`trow access`: who may do what, and which rule says so."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.access.permissions import ACTIONS, Permission
from trow.cli import options
from trow.cli.parser import command, group
from trow.cli.printing import EXIT_NO, EXIT_OK, failed, say
from trow.lib.errors import StartError
from trow.oci.errors import NameInvalid
from trow.oci.names import Repository

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping, Sequence

    from trow.cli.parser import Commands

_EXAMPLES = """\
exit code: 0 allowed, 1 denied, 2 not decided

examples:
  trow access can-i --config trow.yaml --as alice pull team-a/app
  trow access can-i --config trow.yaml --as bob --group dev push team-a/app
  trow access can-i --config trow.yaml --as robot:ci push team-a/app
  trow access can-i --config trow.yaml --as system:serviceaccount:team-a:default pull team-b/app
  trow access can-i --config trow.yaml --as github:acme --issuer github --claim ref=refs/heads/main push a/b
  trow access can-i --config trow.yaml pull team-a/app          without credentials
"""


def add(commands: Commands) -> None:
    actions = group(commands, "access", "explain who may do what")
    summary = "say whether somebody may do something, and which rule or RBAC object says so"
    parser = command(actions, "can-i", summary, run, epilog=_EXAMPLES)
    options.add_config(parser)
    options.add_settings(parser)
    parser.add_argument(
        "--as", dest="user", metavar="USER", default="", help="the user name; without it, a client without credentials"
    )
    parser.add_argument("--group", metavar="G", action="append", default=[], help="a further group of the user")
    parser.add_argument(
        "--issuer", metavar="NAME", default="", help="the OIDC issuer of the token (default: by the prefix)"
    )
    parser.add_argument("--claim", metavar="NAME=VALUE", action="append", default=[], help="a claim of that token")
    parser.add_argument("action", choices=[action.value for action in ACTIONS], help="the action")
    parser.add_argument("repository", nargs="?", default="", help="the repository; list, audit and admin need none")


def run(args: argparse.Namespace) -> int:
    config = options.resolved(args).config
    from trow.app import Impersonated, can_i  # noqa: PLC0415 (the engines are loaded only when they are needed)

    try:
        repository = Repository.parse(args.repository) if args.repository else Repository("")
        permission = Permission(args.action)
        if not repository and permission not in (Permission.LIST, Permission.AUDIT, Permission.ADMIN):
            return failed(f"{permission.value} concerns a repository; name one")
        who = Impersonated(args.user, tuple(args.group), args.issuer, _claims(args.claim))
        decision = can_i(config, who, permission, repository)
    except (StartError, NameInvalid) as error:
        return failed(error)
    say(f"{'yes' if decision.allowed else 'no'}: {decision.reason}")
    if decision.fix:
        say(f"to allow it: {decision.fix}")
    return EXIT_OK if decision.allowed else EXIT_NO


def _claims(texts: Sequence[str]) -> Mapping[str, Sequence[str]]:
    claims: dict[str, list[str]] = {}
    for text in texts:
        name, _, value = text.partition("=")
        claims.setdefault(name, []).append(value)
    return claims
