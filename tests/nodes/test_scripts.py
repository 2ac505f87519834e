"""The programs for nodes are POSIX sh, whichever shell a node has."""

from __future__ import annotations

import subprocess

from nodes.scratch import SCRIPTS
from tools.find import tool


def test_shellcheck_finds_nothing() -> None:
    argv = [
        str(tool("shellcheck")),
        "-x",
        "-a",
        "-P",
        str(SCRIPTS.parents[1]),
        "trow-node-agent",
        "trow-credential-provider",
    ]
    done = subprocess.run(argv, cwd=SCRIPTS, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr
