"""`trow config`: look at the configuration without serving."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from trow.cli import options
from trow.cli.parser import command, group
from trow.cli.printing import EXIT_NO, EXIT_OK, say
from trow.config import DEFAULT, SETTINGS, ConfigError, Resolved, yaml_text

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from trow.cli.parser import Commands


def add(commands: Commands) -> None:
    actions = group(commands, "config", "check or show the configuration")
    check = command(
        actions,
        "check",
        "say whether `trow serve` would accept the configuration",
        run_check,
        "Say whether `trow serve` would accept the configuration; exit code 0 if so, 1 if not.",
        "example:\n  trow config check --config trow.yaml\n",
    )
    show = command(
        actions,
        "show",
        "print every setting and where its value comes from",
        run_show,
        "Print every setting and where its value comes from. The output is a valid configuration file.",
        "example:\n  TROW_LOG_LEVEL=debug trow config show --config trow.yaml\n",
    )
    for parser in (check, show):
        options.add_config(parser)
        options.add_settings(parser)


def run_check(args: argparse.Namespace) -> int:
    try:
        resolved = options.resolved(args)
    except ConfigError as error:
        say(*str(error).splitlines())
        return EXIT_NO
    written = sum(source != DEFAULT for source in resolved.sources.values())
    say(f"ok: {written} of {len(SETTINGS)} settings are set, the others have their defaults")
    return EXIT_OK


def run_show(args: argparse.Namespace) -> int:
    say(*_lines(options.resolved(args)))
    return EXIT_OK


def _lines(resolved: Resolved) -> Iterator[str]:
    """YAML with the source of each value as comment; a password is never in a Config, only the name of its file."""
    shown = ""
    for key in SETTINGS:
        section, _, name = key.rpartition(".")
        if section not in ("", shown):
            yield f"{section}:"
        shown = section
        value = yaml_text(operator.attrgetter(key)(resolved.config))
        yield f"{'  ' if section else ''}{name}: {value}  # {resolved.sources[key]}"
