"""`trow recover`: a new database with what a damaged one still tells."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.cli import options

if TYPE_CHECKING:
    import argparse

    from trow.cli.parser import Commands

EXIT_WHOLE = 0
EXIT_LOSSES = 1

_EXAMPLES = """\
Stop the server first. The damaged database is kept in DIR/quarantine. Then run trow fsck --quarantine, which tells what
is missing, and push that again. A backup, where there is one, is the better way.

exit code: 0 every row was copied, 1 some could not be read (or the command could not run)

example:
  trow recover --data-dir ./data
"""


def add(commands: Commands) -> None:
    parser = commands.add_parser(
        "recover",
        help="make a new database of what a damaged one still tells",
        description="Copy what can still be read of a damaged database into a new one, and put that in its place.",
        epilog=_EXAMPLES,
    )
    options.add_config(parser)
    options.add_data_dir(parser)
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    config = options.resolved(args).config
    from trow.app import recover  # noqa: PLC0415 (the engines are loaded only when they are needed)

    tables, kept = recover(config)
    for table in tables:
        print(f"{table.table}: {table.rows} rows copied{'' if table.whole else '; others cannot be read'}")
    print(f"the damaged database is in {kept}; now run trow fsck --quarantine")
    return EXIT_WHOLE if all(table.whole for table in tables) else EXIT_LOSSES
