"""`trow serve`: run the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.cli import options
from trow.cli.banner import banner
from trow.cli.parser import command
from trow.lib.memory import configure_server_memory

if TYPE_CHECKING:
    import argparse

    from trow.cli.parser import Commands
    from trow.config import Config

_EXAMPLES = """\
examples:
  trow serve                                   on http://127.0.0.1:8000, data in ./data
  trow serve --bind '[::]:8000'                on every address, IPv4 and IPv6
  trow serve --bind '[::]:8443' --tls cert.pem,key.pem --user admin --password-file password.txt
  trow serve --config trow.yaml --dry-run      would it start, and what would it serve?
"""


def add(commands: Commands) -> None:
    description = "Run the registry until SIGTERM or SIGINT."
    parser = command(commands, "serve", "run the registry", run, description, _EXAMPLES)
    options.add_config(parser)
    parser.add_argument(
        "--new-database",
        action="store_true",
        help="start with an empty database where the one in the data directory is lost",
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="check what a start needs, change nothing, print what would be served",
    )
    options.add_settings(parser)


def run(args: argparse.Namespace) -> int:
    config = options.resolved(args).config
    if args.dry_run:
        return _dry_run(config, new_database=args.new_database)
    configure_server_memory()
    # The server and its engines are loaded only when they are needed: the other commands answer at once.
    from trow.app import serve  # noqa: PLC0415

    return serve(
        config,
        announce=lambda *addresses: print(banner(config, *addresses), flush=True),
        new_database=args.new_database,
    )


def _dry_run(config: Config, *, new_database: bool) -> int:
    from trow.app.dry_run import try_start  # noqa: PLC0415 - see above

    notes = try_start(config, new_database=new_database)
    webhooks = [config.admission.bind] if config.admission.bind else []
    probes = [config.listen.probes] if config.listen.probes else []
    certified = [config.listen.client_tls.bind] if config.listen.client_tls else []
    print(banner(config, config.listen.bind, webhooks, probes, certified))
    for note in notes:
        print(f"WARNING: {note}.")
    print("A start would succeed. Nothing was changed, and nothing is served.")
    return 0
