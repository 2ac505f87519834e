"""A run of the tests that is killed leaves no processes and no mounts."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from support.makefile import recipe
from support.waiting import until
from tools import alone

ROOT: Final = Path(__file__).parents[2]
ALONE: Final = (sys.executable, "-m", "tests.tools.alone")
# One process that has lost its parent, one that is waited for, and a mount.
BUSY: Final = 'mount -t tmpfs tmpfs "$1" && (sleep 1000.25 &) && echo up && sleep 1000.75'


def alive(folder: Path) -> list[str]:
    """Programs that work in a folder."""
    found = []
    for each in Path("/proc").glob("[0-9]*"):
        try:
            if (each / "cwd").readlink() == folder:
                found.append((each / "cmdline").read_text("utf-8"))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left(number: signal.Signals, tmp_path: Path) -> None:
    place = tmp_path / "mounted"
    place.mkdir()
    argv = [*ALONE, "env", "--chdir", str(tmp_path), "sh", "-c", BUSY, "sh", str(place)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "up\n"
        assert len(alive(tmp_path)) >= 2
        running.send_signal(number)
    until(lambda: not alive(tmp_path))
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text("utf-8")


def test_what_runs_can_be_interrupted_though_its_starter_cannot() -> None:
    """As in the background of a shell. SIGINT is the second bit of the mask of signals that are ignored."""
    argv = ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *ALONE, "grep", "SigIgn", "/proc/self/status"]
    said = subprocess.run(argv, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert not int(said.split()[1], 16) & 1 << signal.SIGINT - 1


def test_nothing_is_left_when_what_started_it_is_killed(tmp_path: Path) -> None:
    """As when `make` is."""
    (tmp_path / "mounted").mkdir()
    argv = [*ALONE, "env", "--chdir", str(tmp_path), "sh", "-c", BUSY, "sh", str(tmp_path / "mounted")]
    with subprocess.Popen(["sh", "-c", '"$@"; :', "sh", *argv], cwd=ROOT, stdout=subprocess.PIPE, text=True) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == "up\n"
        starter.kill()
    until(lambda: not alive(tmp_path))


def test_it_ends_as_the_program_does() -> None:
    done = subprocess.run([*ALONE, "sh", "-c", "exit 3"], cwd=ROOT, check=False)
    assert done.returncode == 3


def test_ended_processes_are_not_kept() -> None:
    """What has lost its parent is waited for by the first process."""
    script = "(sh -c 'echo $$' &) | { read -r pid; while kill -0 $pid 2>/dev/null; do :; done; }"
    subprocess.run([*ALONE, "sh", "-c", script], cwd=ROOT, check=True, timeout=100)


def test_a_machine_without_namespaces_runs_it_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    assert alone.command(["true"])[:1] == ["unshare"]
    for refusing in ("false", "no-such-program"):
        monkeypatch.setattr(alone, "SPACES", (refusing,))
        assert alone.command(["true"]) == ["true"]


def test_make_test_uses_it() -> None:
    assert [line for line in recipe("test") if "/pytest " in line and "-m tests.tools.alone" in line]
    assert os.geteuid() == 0, "the tests of nodes and volumes need root, too"
