from __future__ import annotations

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tools import find, install
from tools.versions import GO_TOOLS, TOOLS, WHEEL_TOOLS, GoTool, WheelTool, WrappedTool

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

ROOT = Path(__file__).parents[2]
NEEDED = [tool.name for tool in TOOLS if not tool.bench]
WRAPPED = [tool for tool in GO_TOOLS if isinstance(tool, WrappedTool)]


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TEST_TOOLS_CACHE", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", NEEDED)
def test_every_tool_is_there(name: str) -> None:
    assert find.tool(name).exists()


def test_an_unknown_tool_is_a_mistake_in_the_test() -> None:
    with pytest.raises(LookupError, match=r"versions\.py"):
        find.tool("no-such-tool")


def test_a_missing_tool_says_how_to_get_it(empty_cache: Path) -> None:
    with pytest.raises(find.ToolMissingError, match=r"python -m tests\.tools\.install"):
        find.tool("crane")


@pytest.mark.parametrize("wrapped", WRAPPED, ids=lambda wrapped: wrapped.name)
def test_a_wrapped_tool_has_the_version_of_its_module(wrapped: WrappedTool) -> None:
    required = re.findall(r"^\t(\S+) (v\S+)$", (install.WRAPPER / "go.mod").read_text("utf-8"), re.MULTILINE)
    versions = [version for module, version in required if f"{wrapped.package}/".startswith(f"{module}/")]
    assert versions == [wrapped.version]


@pytest.mark.parametrize("wrapped", WRAPPED, ids=lambda wrapped: wrapped.name)
def test_a_wrapped_tool_knows_its_version(wrapped: WrappedTool) -> None:
    asked = ("version", "--client") if wrapped.name == "kubectl" else ("--version",)
    done = subprocess.run([find.tool(wrapped.name), *asked], capture_output=True, encoding="utf-8", check=True)
    assert re.search(rf"\bv?{re.escape(wrapped.version.removeprefix('v'))}$", done.stdout, re.MULTILINE)


@pytest.mark.parametrize("carried", WHEEL_TOOLS, ids=lambda carried: carried.name)
def test_a_tool_from_a_wheel_has_the_version_that_it_is_called_by(carried: WheelTool) -> None:
    done = subprocess.run([find.tool(carried.name), "version"], capture_output=True, encoding="utf-8", check=False)
    assert carried.version in done.stdout


def test_what_is_installed_is_said_before_it_is(empty_cache: Path) -> None:
    said = install.announcement(bench=False)
    assert str(empty_cache) in said
    assert all(tool.name in said for tool in WHEEL_TOOLS)
    assert all(tool.name in said for tool in GO_TOOLS if not tool.bench)
    assert "minutes" in said


def test_a_long_step_shows_that_it_goes_on(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "DOT_SECONDS", 0.001)
    shown = ""
    with install.step("building"):
        while ".." not in shown:
            shown += capsys.readouterr().out
    assert shown.startswith("  building")


def test_two_programs_are_built_at_a_time(
    empty_cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    both = threading.Barrier(2)

    def build(_argv: Sequence[str], env: Mapping[str, str]) -> str:
        both.wait(20)
        program = Path(env["GOBIN"]) / "program"
        program.parent.mkdir()
        program.write_text("built", encoding="utf-8")
        return ""

    monkeypatch.setattr(install, "go_command", lambda: "go")
    monkeypatch.setattr(install, "run", build)
    tools = [GoTool(f"tool{number}", "example.com/program", "v1.0.0") for number in range(4)]
    install.install_go(tools)
    assert {path.name for path in empty_cache.glob("*/bin/*")} == {tool.name for tool in tools}
    assert set(capsys.readouterr().out.split()) >= {tool.name for tool in tools}


def test_a_program_that_cannot_be_built_is_told(empty_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(argv: Sequence[str], env: Mapping[str, str]) -> str:
        raise install.InstallError(f"{argv[-1]} cannot be built in {env['GOBIN']}")

    monkeypatch.setattr(install, "go_command", lambda: "go")
    monkeypatch.setattr(install, "run", fail)
    tools = [GoTool(f"tool{number}", "example.com/program", "v1.0.0") for number in range(4)]
    with pytest.raises(install.InstallError, match=r"program@v1.* cannot be built"):
        install.install_go(tools)
    assert list(empty_cache.iterdir()) == []


def test_a_failed_build_leaves_nothing(empty_cache: Path) -> None:
    def build() -> None:
        with install.staged(empty_cache / "tool@1") as staging:
            (staging / "half").write_text("a tool", encoding="utf-8")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        build()
    assert list(empty_cache.iterdir()) == []


def test_what_a_killed_build_left_is_swept(empty_cache: Path) -> None:
    (empty_cache / f"{install.STAGING}left" / "bin").mkdir(parents=True)
    (empty_cache / "tool@1").mkdir()
    install.sweep()
    assert [folder.name for folder in empty_cache.iterdir()] == ["tool@1"]


def test_a_machine_that_has_everything_is_left_alone() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.tools.install"], cwd=ROOT, capture_output=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize(
    ("said", "version"),
    [
        ("go version go1.26.8 linux/amd64", (1, 26, 8)),
        ("go version go1.27 linux/arm64", (1, 27, 0)),
        ("go version devel", ()),
    ],
)
def test_the_version_of_go_is_read(said: str, version: tuple[int, ...], tmp_path: Path) -> None:
    go = tmp_path / "go"
    go.write_text(f"#!/bin/sh\necho '{said}'\n", encoding="utf-8")
    go.chmod(0o755)
    assert install.go_version(str(go)) == version
