"""Typical mistakes with each command: what is wrong, where, and what to do; no traceback and no bare error number."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from trow.cli import main

if TYPE_CHECKING:
    from collections.abc import Sequence

POLICY: Final = """\
apiVersion: policy.trow.io/v1alpha1
kind: ClusterImagePolicy
metadata: {name: ours}
spec: {default: Deny}
"""
# Somebody is told to do something, asked whether they meant something, or shown what there is.
FIX: Final = re.compile(
    r"(?:;|:|, or) (?:give|write|choose from|name|check|correct|use|add|did you mean|leave|make|set|pipe)\b|"
    r"\bTry 'trow [a-z -]+'"
)
MISTAKES: Final = [
    ["serve", "--dry-run", "--config", "missing"], ["serve", "--dry-run", "--data-dir", "file"],
    ["serve", "--dry-run", "--users-file", "folder"], ["serve", "--dry-run", "--tls", "a,b"],
    ["config"], ["config", "shw"],
    ["config", "check", "--config", "folder"], ["config", "show", "--config", "bad.yaml"],
    ["access", "can-i", "fly"], ["access", "can-i", "pull", "A B"],
    ["access", "can-i", "--as", "robot:x", "pull", "b"],
    ["access", "can-i", "--as", "a:x", "--issuer", "a", "pull", "a"],
    ["access", "can-i", "--as", "system:serviceaccount:x", "pull", "a"],
    ["policy", "test"], ["policy", "test", "-f", "missing", "file"], ["policy", "test", "-f", "policy.yaml", "missing"],
    ["policy", "test", "-f", "policy.yaml", "-"], ["policy", "test", "-f", "policy.yaml", "random"],
    ["policy", "test", "-f", "policy.yaml", "folder"], ["policy", "test", "-f", "bad.yaml", "file"],
    ["policy", "explain", "-f", "missing", "nginx"], ["policy", "explain", "-f", "policy.yaml", "a b"],
    ["policy", "simulate", "-f", "policy.yaml", "--from", "missing"],
    ["policy", "simulate", "-f", "policy.yaml", "--from", "random"],
    ["policy", "simulate", "-f", "policy.yaml", "--kubeconfig", "missing"],
    ["policy", "import", "missing"], ["policy", "import", "random"], ["policy", "import", "folder"],
    ["policy", "export", "-f", "missing"], ["policy", "export", "-f", "random"],
    ["user", "hash", "a:b"], ["user", "set", "bob", "--file", "folder"], ["user", "set", "bob", "--file", "nope/users"],
    ["user", "remove", "bob", "--file", "missing"], ["user", "delete"],
    ["token", "create", "--name", "x", "--repository", "a", "--action", "fly"],
    ["token", "create", "--name", "x", "--repository", "a", "--action", "pull"],
    ["token", "create", "--name", "x", "--repository", "a", "--action", "pull", "--expires", "soon"],
    ["token", "list"], ["token", "revoke", "zzz"], ["token", "revoke", "aaaaaaaaaaaa"],
    ["keys"], ["keys", "list"], ["keys", "rotate"],
    ["audit", "search"], ["audit", "search", "--since", "x"], ["audit", "search", "--limit", "0"],
    ["audit", "verify"], ["audit", "verify", "--file", "missing"], ["audit", "verify", "--public-key", "missing"],
    ["audit", "verify", "--anchor", "x"], ["audit", "who-runs", "x"], ["audit", "anchor"],
    ["fsck"], ["fsck", "--data-dir", "file"], ["recover"], ["recover", "--data-dir", "folder"],
    ["doctor", "--ca-file", "missing"], ["doctor", "--config", "bad.yaml"], ["nodes", "--kubeconfig", "missing"],
    ["quick-install", "now"], ["quick-install", "--imag", "x"],
    ["completion"], ["completion", "ksh"], ["version", "x"], ["help", "x"], ["help", "--x"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def shelf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with files that are not what somebody takes them for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    Path("folder").mkdir()
    Path("file").touch()
    Path("random").write_bytes(bytes(range(256)))
    Path("bad.yaml").write_text("x: [", "utf-8")
    Path("policy.yaml").write_text(POLICY, "utf-8")
    return tmp_path


@pytest.mark.parametrize("argv", MISTAKES, ids=" ".join)
def test_a_mistake_is_told_with_what_to_do(argv: Sequence[str], capsys: pytest.CaptureFixture[str]) -> None:
    if argv[:2] == ["user", "set"]:
        type_password()
    code = ended(argv)
    shown = capsys.readouterr()
    said = shown.err + shown.out
    assert code in {1, 2}
    assert FIX.search(said), said
    assert not re.search(r"Traceback|Errno \d|object at 0x", said)


def type_password() -> None:
    import sys  # noqa: PLC0415 - what the fixture has put there

    assert isinstance(sys.stdin, io.TextIOWrapper)
    sys.stdin.buffer.write(b"a password\n")
    sys.stdin.seek(0)


def ended(argv: Sequence[str]) -> int:
    try:
        return main(argv)
    except SystemExit as error:
        return int(error.code or 0)


def test_every_command_has_a_mistake_here_and_explains_itself(capsys: pytest.CaptureFixture[str]) -> None:
    assert ended(["zzz"]) == 2
    commands = capsys.readouterr().err.partition("choose from ")[2].partition("\n")[0].split(", ")
    assert set(commands) == {argv[0] for argv in MISTAKES}
    for command in commands:
        assert ended([command, "--help"]) == 0
        assert capsys.readouterr().out.startswith(f"usage: trow {command}")
