"""`trow recover`: a new database from what a damaged one still holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from trow.cli import options
from trow.cli.parser import command
from trow.cli.printing import EXIT_NO, EXIT_OK, failed, say
from trow.lib.errors import StartError

if TYPE_CHECKING:
    import argparse

    from trow.cli.parser import Commands

_EXAMPLES = """\
Stop the server first. The damaged database is kept in DIR/quarantine. Then run trow fsck --quarantine, which lists
what is missing, and push that again. If there is a backup, restore that instead.

exit code: 0 every row was copied, 1 some could not be read, 2 the command could not run

example:
  trow recover --data-dir ./data
"""


def add(commands: Commands) -> None:
    description = "Copy what can still be read from a damaged database into a new one, and put that in its place."
    summary = "make a new database from what a damaged one still holds"
    options.add_data_dir(command(commands, "recover", summary, run, description, _EXAMPLES))


def run(args: argparse.Namespace) -> int:
    config = options.resolved(args).config
    from trow.app import recover  # noqa: PLC0415 (the engines are loaded only when they are needed)

    try:
        tables, kept = recover(config.data_dir)
    except StartError as error:
        return failed(error)
    for table in tables:
        say(f"{table.table}: {table.rows} rows copied{'' if table.whole else '; others cannot be read'}")
    say(f"the damaged database is in {kept}; now run trow fsck --quarantine")
    return EXIT_OK if all(table.whole for table in tables) else EXIT_NO
