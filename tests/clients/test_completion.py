"""`trow completion`, in the shells that it is for."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Final

import pytest

from tools.find import tool

SECONDS: Final = 30
TROW: Final = Path(sys.executable).with_name("trow")


@pytest.fixture
def scripts(tmp_path: Path) -> dict[str, Path]:
    """The file that each shell reads."""
    found = {shell: tmp_path / f"trow.{shell}" for shell in ("bash", "zsh", "fish")}
    for shell, path in found.items():
        path.write_bytes(subprocess.run([TROW, "completion", shell], capture_output=True, check=True).stdout)
    return found


def said(*argv: str | Path) -> list[str]:
    done = subprocess.run(argv, capture_output=True, encoding="utf-8", check=True, timeout=SECONDS)
    return [line.split("\t")[0] for line in done.stdout.splitlines()]


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("com", "completion"), ("policy exp", "explain"), ("serve --data", "--data-dir"), ("completion z", "zsh")],
)
def test_bash_completes(scripts: dict[str, Path], words: str, wanted: str) -> None:
    script = f"""
        source {scripts["bash"]}
        COMP_WORDS=(trow {words}); COMP_CWORD=$((${{#COMP_WORDS[@]}} - 1)); COMP_LINE="trow {words}"
        $(complete -p trow | grep -o '[-]F [^ ]*' | cut -c4-)
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    assert wanted in said("bash", "-c", script)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [("com", "completion"), ("policy exp", "explain"), ("serve --data", "--data-dir"), ("completion z", "zsh")],
)
def test_fish_completes(scripts: dict[str, Path], words: str, wanted: str) -> None:
    script = f"source {scripts['fish']}; complete --do-complete 'trow {words}'"
    assert wanted in said(tool("fish"), "--no-config", "--command", script)


@pytest.mark.parametrize(("words", "wanted"), [("compl", "completion"), ("policy expl", "explain")])
def test_zsh_completes(scripts: dict[str, Path], tmp_path: Path, words: str, wanted: str) -> None:
    """In a terminal, as zsh completes nowhere else."""
    process, terminal = pty.fork()
    if process == 0:
        os.chdir(tmp_path)
        os.execve(tool("zsh"), ["zsh", "-f", "-i"], {"TERM": "dumb", "PATH": os.defpath, "HOME": str(tmp_path)})
    try:
        scripts["zsh"].rename(tmp_path / "_trow")  # where zsh looks for what completes `trow`
        lines = "fpath=($HOME $fpath); autoload -U compinit; compinit -u -d dump; PS1=; print read''y\n"
        os.write(terminal, lines.encode())
        wait_for(terminal, b"ready")
        os.write(terminal, f"trow {words}\t".encode())
        wait_for(terminal, wanted.encode())
    finally:
        os.kill(process, 9)
        os.waitpid(process, 0)
        os.close(terminal)


def wait_for(terminal: int, text: bytes) -> None:
    shown = b""
    end = time.monotonic() + SECONDS
    while text not in shown:
        left = end - time.monotonic()
        assert left > 0, shown
        if select.select([terminal], [], [], left)[0]:
            shown += os.read(terminal, 65536)
