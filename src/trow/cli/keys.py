"""`trow keys`: the keys that sign registry tokens."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from trow.cli import options
from trow.cli.parser import command, group
from trow.cli.printing import EXIT_OK, aligned, failed, say
from trow.lib.datadir import DataDirectoryError, require_registry
from trow.lib.times import rfc3339

if TYPE_CHECKING:
    import argparse
    from pathlib import Path

    from trow.cli.parser import Commands

_ROTATE = """\
Registry tokens live for minutes, so nobody has to log in again. Rotate keys from time to time, and at once when a key
may have leaked; then remove the older files too.

example:
  trow keys rotate --data-dir ./data
"""


def add(commands: Commands) -> None:
    actions = group(commands, "keys", "list and rotate the keys of registry tokens")
    description = "Make a new key, which signs after two minutes. Older keys that no token needs are removed."
    rotate = command(actions, "rotate", "make a new key", run_rotate, description, _ROTATE)
    listing = command(actions, "list", "list the keys", run_list, "List the keys, the newest first.")
    for parser in (rotate, listing):
        options.add_data_dir(parser)


def run_rotate(args: argparse.Namespace) -> int:
    from trow.identity import keys  # noqa: PLC0415 (loaded only when it is needed)
    from trow.lib.files import BrokenFile  # noqa: PLC0415

    try:
        created, gone = keys.rotate(_folder(args), time.time())
    except (BrokenFile, DataDirectoryError, OSError) as error:
        return failed(error)
    say(f"created: {created}", *(f"removed: {path}" for path in gone))
    return EXIT_OK


def run_list(args: argparse.Namespace) -> int:
    from trow.identity import keys  # noqa: PLC0415 (loaded only when it is needed)
    from trow.lib.files import BrokenFile  # noqa: PLC0415

    try:
        ring = keys.KeyRing(_folder(args))
    except (BrokenFile, DataDirectoryError) as error:
        return failed(error)
    signing = ring.signing()
    rows = [
        (key.path.name, key.id, rfc3339(key.created_at), "signs" if key is signing else "verifies")
        for key in ring.current().keys
    ]
    say(*aligned(rows))
    return EXIT_OK


def _folder(args: argparse.Namespace) -> Path:
    config = options.resolved(args).config
    if config.tokens.keys is None:
        require_registry(config.data_dir, embedded=False)
    return config.keys_folder
