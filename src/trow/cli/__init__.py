"""The command line: one module per command group. `main` is the program `trow`."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import TYPE_CHECKING

from trow.cli import (
    access,
    audit,
    completion,
    config,
    doctor,
    explain,
    fsck,
    keys,
    nodes,
    policy,
    quick_install,
    recover,
    serve,
    token,
    user,
    version,
)
from trow.cli.parser import Parser, commands_of
from trow.cli.printing import EXIT_NO, failed
from trow.config import ConfigError
from trow.lib.errors import StartError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# As a shell tells of the signals that would have ended it.
EXIT_INTERRUPTED = 128 + signal.SIGINT
EXIT_UNHEARD = 128 + signal.SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return the exit code of the process."""
    args = command_line().parse_args(argv)
    try:
        with _for_this_user_alone():
            code = int(args.run(args))
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read, such as `head`, has seen enough. What is still to be written at the end goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return EXIT_UNHEARD
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except ConfigError as error:
        return failed(error)
    except PermissionError as error:
        return failed(f"{error.filename}: {error.strerror}; run this as the user that trow runs as")
    except StartError as error:
        return failed(error, EXIT_NO)
    return code


@contextlib.contextmanager
def _for_this_user_alone() -> Iterator[None]:
    """Nobody else may read what is written, by Trow or by a library that it uses."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def command_line() -> Parser:
    """The whole command line."""
    top = Parser(
        prog="trow",
        description="Image management for Kubernetes: an OCI registry that is small, durable and fast.",
        epilog="`trow COMMAND --help` explains one command. `trow serve` needs no configuration.",
    )
    top.add_argument("-v", "--version", action="version", version=version.summary(), help="print versions and exit")
    commands = commands_of(top)
    modules = (
        serve, config, access, policy, user, token, keys, audit, nodes, fsck, recover, quick_install, doctor, version
    )  # fmt: skip
    for module in modules:
        module.add(commands)
    completion.add(commands, command_line)
    explain.add(commands, command_line)
    return top
