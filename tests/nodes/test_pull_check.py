"""The image by which nodes show that they can pull: its program runs on each machine, and ends when it is told to."""

from __future__ import annotations

import io
import json
import platform
import signal
import subprocess
import tarfile
from typing import TYPE_CHECKING, Final

import pytest
from deploy.image.build import MACHINES

from support.waiting import until
from tools.find import tool
from trow.oci.digest import Digest
from trow.oci.pull_check import SECONDS, program, pull_check_image

if TYPE_CHECKING:
    from pathlib import Path

OWN: Final = next(name for name, machine in MACHINES.items() if machine == platform.machine())
# Another one is another image on every node: it is changed on purpose only.
DIGEST: Final = "sha256:fe187994f9119d1fde8afcf07554a0ca89b67c66a086b5d2072d85628a623cee"
MNEMONICS: Final = {
    "amd64": [
        *("movl", "xorl", "movl", "xorl", "movl", "syscall"),
        *("movl", "movl", "xorl", "movl", "movl", "syscall"),
        *("movl", "xorl", "syscall"),
    ],
    "arm64": ["mov", "mov", "adr", "mov", "mov", "svc", "mov", "adr", "mov", "adr", "mov", "svc", "mov", "mov", "svc"],
}
CODE: Final = 64 + 56
DATA: Final = 24


def run(folder: Path, seconds: int, *before: str) -> subprocess.Popen[bytes]:
    file = folder / "pull-check"
    file.write_bytes(program(OWN, seconds))
    file.chmod(0o755)
    return subprocess.Popen([*before, str(file)])


def test_every_trow_makes_the_same_image() -> None:
    image = pull_check_image()
    assert image.digest == DIGEST
    assert sum(map(len, (*image.blobs, *image.manifests, image.index))) < 8192


@pytest.mark.parametrize("architecture", MACHINES)
def test_a_layer_has_the_program_and_nothing_else(architecture: str) -> None:
    image = pull_check_image()
    blobs = {Digest.of(blob): blob for blob in (*image.blobs, *image.manifests)}
    listed = json.loads(image.index)["manifests"]
    manifest = json.loads(
        blobs[next(one["digest"] for one in listed if one["platform"]["architecture"] == architecture)]
    )
    config = json.loads(blobs[manifest["config"]["digest"]])
    layer = blobs[manifest["layers"][0]["digest"]]
    assert config["rootfs"]["diff_ids"] == [Digest.of(layer)]
    with tarfile.open(fileobj=io.BytesIO(layer)) as archive:
        (member,) = archive.getmembers()
        content = archive.extractfile(member)
        assert content is not None
        assert (member.name, member.mode, content.read()) == ("pull-check", 0o755, program(architecture))
    assert config["config"]["Entrypoint"] == ["/pull-check"]


@pytest.mark.parametrize("architecture", MACHINES)
def test_the_instructions_are_those_that_are_meant(architecture: str) -> None:
    """As LLVM reads them, for whichever machine."""
    code = program(architecture)[CODE:-DATA]
    text = " ".join(f"0x{byte:02x}" for byte in code)
    argv = [str(tool("llvm-mc")), "--disassemble", f"--triple={MACHINES[architecture]}-linux"]
    done = subprocess.run(argv, input=text, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("\t") and not line.startswith("\t.")]
    assert [line[0] for line in lines] == MNEMONICS[architecture]
    if architecture == "arm64":  # the data begins right behind the code
        places = [(4 * at, int(line[2].lstrip("#"))) for at, line in enumerate(lines) if line[0] == "adr"]
        assert [at + offset - len(code) for at, offset in places] == [0, 0, 8]


def test_it_ends_well_after_its_time(tmp_path: Path) -> None:
    assert SECONDS > 2 * 300  # the longest pause of a kubelet
    assert run(tmp_path, 0).wait(30) == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_as_process_1_it_ends_when_it_is_told_to(tmp_path: Path, number: signal.Signals) -> None:
    """A kernel keeps signals without a handler from process 1."""
    with run(tmp_path, 1000, str(tool("unshare")), "--pid", "--fork", "--kill-child") as outside:
        inside = until(lambda: children(outside.pid))
        until(lambda: "rt_sigtimedwait" in waits(inside))
        subprocess.run(["kill", f"-{number.value}", inside], check=True)
        assert outside.wait(30) == 0


def children(pid: int) -> str:
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def waits(pid: str) -> str:
    """The name of the system call that a process is in."""
    with open(f"/proc/{pid}/syscall", encoding="ascii") as file:  # noqa: PTH123
        number = file.read().split()[0]
    return {"128": "rt_sigtimedwait", "137": "rt_sigtimedwait"}.get(number, number)
