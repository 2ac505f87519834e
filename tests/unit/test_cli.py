from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apsw
import pytest

import trow
from support.metadata import EmbeddedMetadata
from trow.cli import main
from trow.cli.banner import banner
from trow.config import SETTINGS, Bind, Config, load
from trow.config.schema import Admission, ImageValidation
from trow.oci.digest import Digest
from trow.storage.filesystem import FilesystemBlobs

if TYPE_CHECKING:
    from collections.abc import Sequence


@pytest.fixture(autouse=True)
def empty_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in os.environ if name.startswith("TROW_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def shown(capsys: pytest.CaptureFixture[str], *flags: str) -> dict[str, str]:
    """The lines of `trow config show`, by the key of the setting."""
    assert main(["config", "show", *flags]) == 0
    found, section = {}, ""
    for line in capsys.readouterr().out.splitlines():
        name, _, value = line.strip().partition(": ")
        if line.endswith(":"):
            section = line.removesuffix(":")
        else:
            found[f"{section}.{name}" if line.startswith(" ") else name] = value
    return found


# trow config


@pytest.mark.parametrize(
    ("flags", "key", "line"),
    [
        ([], "listen.bind", "['127.0.0.1:8000']  # default"),
        (["--bind", "[::1]:80", "--bind", "127.0.0.2"], "listen.bind", "['[::1]:80', '127.0.0.2:8000']  # flag --bind"),
        (["--host", "::1", "--host", "localhost"], "listen.bind", "['[::1]:8000', 'localhost:8000']  # flag --host"),
        (["--host", "[::1]", "--port", "0"], "listen.bind", "['[::1]:0']  # flag --host"),
        (["--port", "81"], "listen.bind", "['127.0.0.1:81']  # flag --port"),
        (["--public-url", "https://r.example/"], "listen.public_url", "https://r.example  # flag --public-url"),
        (
            ["--trusted-proxies", "10.0.0.0/8,fd00::/8"],
            "listen.trusted_proxies",
            "[10.0.0.0/8, 'fd00::/8']  # flag --trusted-proxies",
        ),
        (
            ["--cors", "https://a.example,https://b.example"],
            "listen.cors",
            "['https://a.example', 'https://b.example']",
        ),
        (["-d", "/srv"], "data_dir", "/srv  # flag --data-dir"),
        (["--max-manifest-size", "8"], "registry.max_manifest_size", "8MiB  # flag --max-manifest-size"),
        (["--max-blob-size", "8192"], "registry.max_blob_size", "8GiB  # flag --max-blob-size"),
        (["--max-blob-size", "10GB"], "registry.max_blob_size", "10GB"),
        (["--anonymous", "pull"], "auth.anonymous", "pull  # flag --anonymous"),
        (["--allow-anonymous-push"], "auth.allow_anonymous_push", "true  # flag --allow-anonymous-push"),
        (["--challenge", "basic"], "auth.challenge", "basic  # flag --challenge"),
        (["--kubernetes-audiences", "a,b"], "kubernetes.audiences", "[a, b]  # flag --kubernetes-audiences"),
        (["--kubernetes-authorization"], "kubernetes.authorization", "true  # flag --kubernetes-authorization"),
        (["--no-audit"], "audit.enabled", "false  # flag --no-audit"),
        (["--log-level", "error"], "log.level", "error  # flag --log-level"),
        (["--no-access-log"], "log.access", "false  # flag --no-access-log"),
    ],
)
def test_flags_give_settings(capsys: pytest.CaptureFixture[str], flags: list[str], key: str, line: str) -> None:
    assert shown(capsys, *flags)[key].startswith(line)


def test_every_flag_that_a_setting_names_is_one_of_trow_serve(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["serve", "--help"])
    offered = set(re.findall(r"--[a-z-]+", capsys.readouterr().out))
    assert {each.flag for each in SETTINGS.values() if each.flag} <= offered


def test_flag_gives_the_users_file(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Path("users").touch()
    monkeypatch.setenv("TROW_ACCESS_RULES", "[{users: ['*'], actions: [pull]}]")
    assert shown(capsys, "--users-file", "users")["auth.users_file"] == "users  # flag --users-file"


def test_show_names_each_source_and_reads_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("trow.yaml").write_text("limits: {burst: 5}\nlisten: {cors: ['*']}\n", "utf-8")
    monkeypatch.setenv("TROW_LOG_LEVEL", "debug")
    assert main(["config", "show", "-c", "trow.yaml", "-d", "/srv"]) == 0
    text = capsys.readouterr().out
    assert "  burst: 5  # trow.yaml\n" in text
    assert "  level: debug  # variable TROW_LOG_LEVEL\n" in text
    Path("shown.yaml").write_text(text, "utf-8")
    monkeypatch.delenv("TROW_LOG_LEVEL")
    config = load(Path("shown.yaml"), {}, {})
    assert (config.limits.burst, config.log.level, config.data_dir) == (5, "debug", Path("/srv"))


def test_shown_values_of_several_parts_read_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = {
        "TROW_AUTH_OIDC": "[{name: a, issuer: 'https://a.example/', audiences: [x], required_claims: {r: 'a: b # c'}}]",
        "TROW_ACCESS_RULES": "[{issuer: a, claims: {sub: 'repo:x/*'}, repositories: ['t/**'], actions: [pull, list]}]",
        "TROW_KUBERNETES_NAMESPACES": "{images: team-a, 'no': 'yes'}",
        "TROW_KUBERNETES_SHARED_PREFIXES": "",
    }
    for name, text in variables.items():
        monkeypatch.setenv(name, text)
    assert main(["config", "show"]) == 0
    Path("shown.yaml").write_text(capsys.readouterr().out, "utf-8")
    assert load(Path("shown.yaml"), {}, {}) == load(None, variables, {})


def test_show_keeps_the_password_secret(capsys: pytest.CaptureFixture[str]) -> None:
    Path("password").write_text("correct horse\n", "utf-8")
    assert shown(capsys, "-u", "admin", "--password-file", "password")["auth.user"] == "admin  # flag --user"
    assert main(["serve", "--dry-run", "--port", "0", "-u", "admin", "--password-file", "password"]) == 0
    assert "horse" not in capsys.readouterr().out


def test_check_says_ok(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "check", "--log-level", "debug", "--port", "0"]) == 0
    assert capsys.readouterr().out.startswith("ok: 2 of ")


def test_check_prints_every_problem(capsys: pytest.CaptureFixture[str]) -> None:
    Path("trow.yaml").write_text("limits: {burst: 0}\nloud: 1\n", "utf-8")
    assert main(["config", "check", "-c", "trow.yaml"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "trow.yaml: loud: unknown setting; remove it",
        "trow.yaml: limits.burst: 0 is less than 1; write a whole number of at least 1",
    ]


@pytest.mark.parametrize("argv", [["help"], ["help", "policy", "test"], ["help", "help"]])
def test_help_explains_what_a_flag_after_it_would(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    texts = []
    for form in (argv, [*argv[1:], "--help"]):
        with pytest.raises(SystemExit) as done:
            main(form)
        assert done.value.code == 0
        texts.append(capsys.readouterr().out)
    assert texts[0] == texts[1]
    assert texts[0].startswith("usage: trow")


def test_the_short_flag_prints_the_versions(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        main(["-v"])
    assert done.value.code == 0
    assert capsys.readouterr().out.startswith("trow ")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--port", "abc"], "flag --port: 'abc' is not a port; write a number up to 65535"),
        (["--port", "65536"], "flag --port: '65536' is not a port"),
        (["--port", "-1"], "flag --port: '-1' is not a port"),
        (["--port", ""], "flag --port: '' is not a port"),
        (["--host", "a b"], "flag --host: 'a b' is not a host; write a name or an address"),
        (["--host", "::", "--port", "x"], "flag --port: 'x' is not a port"),
        (["--host", "::"], "flag --host: listen.bind: is reachable from other machines"),
    ],
)
def test_a_wrong_address_is_told_by_the_flag_that_was_typed(
    argv: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["serve", "--dry-run", *argv]) == 2
    assert f"trow: error: {said}" in capsys.readouterr().err


# mistakes


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "COMMAND is missing"),
        (["config"], "COMMAND is missing"),
        (["help", "sevre"], "unknown command 'sevre'; did you mean serve?"),
        (["sevre"], "unknown command 'sevre'; did you mean serve?"),
        (["policy", "tset"], "unknown command 'tset'; did you mean test?"),
        (["zzz"], "unknown command 'zzz'; choose from serve, config,"),
        (["serve", "--confi", "x"], "unknown flag --confi; did you mean --config?"),
        (["serve", "--prot=8"], "unknown flag --prot; did you mean --port?\nTry 'trow serve --help'."),
        (["serve", "--data-dir"], "--data-dir needs a value after it"),
        (["policy", "test"], "-f/--policy, FILE are missing"),
        (["serve", "--zzz"], "unknown flag --zzz\n"),
        (
            ["version", "now"],
            "unexpected argument now; leave it out, or write the flag",
        ),
        (["completion", "ksh"], "SHELL cannot be 'ksh'; choose from bash, zsh, fish"),
    ],
)
def test_wrong_command_line_exits_with_2(capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(argv)
    assert stopped.value.code == 2
    output = capsys.readouterr()
    assert output.err.startswith("trow: error: ")
    assert message in output.err
    assert not output.out


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--bind", "a:1", "--host", "a"], "flag --host: listen.bind: contradicts --bind; give --bind HOST:PORT alone"),
        (["--bind", "a:1", "--port", "1"], "flag --port: listen.bind: contradicts --bind; give --bind HOST:PORT alone"),
        (["--port", "http"], "flag --port: 'http' is not a port"),
        (["--host", "10.0.0.1:80"], "flag --host: '10.0.0.1:80' is not a host"),
        (["--user", "admin"], "flag --user: auth.user: has no password; set auth.password_file too"),
        (
            ["--host", "::"],
            "flag --host: listen.bind: is reachable from other machines, and everybody could push and delete; set",
        ),
        (["--trusted-proxies", "proxy"], "flag --trusted-proxies: listen.trusted_proxies: 'proxy' is not a network"),
        (["-c", "missing.yaml"], "missing.yaml: cannot be read (No such file or directory)"),
    ],
)
def test_wrong_configuration_exits_with_2(capsys: pytest.CaptureFixture[str], flags: list[str], message: str) -> None:
    assert main(["serve", "--dry-run", *flags]) == 2
    assert capsys.readouterr().err.startswith(f"trow: error: {message}")


# trow version, help, fsck


@pytest.mark.slow
@pytest.mark.parametrize("argv", [["--version"], ["version"]])
def test_versions_are_printed(argv: list[str]) -> None:
    done = subprocess.run([sys.executable, "-m", "trow", *argv], check=True, capture_output=True, text=True)
    names = [line.split()[0] for line in done.stdout.splitlines()]
    assert names == ["trow", "python", "apsw", "granian"]
    assert done.stdout.splitlines()[0].split()[1] == trow.__version__


@pytest.mark.parametrize(
    "command",
    [["serve"], ["config"], ["config", "check"], ["config", "show"], ["fsck"], ["version"]],
    ids=" ".join,
)
def test_every_command_has_help(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert f"usage: trow {' '.join(command)}" in capsys.readouterr().out


def test_light_commands_do_not_load_the_server() -> None:
    code = "import sys, trow.cli; trow.cli.main(['config', 'check']); sys.exit('trow.app' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False, stdout=subprocess.DEVNULL).returncode == 0


@pytest.mark.parametrize("command", [["fsck"], ["fsck", "--quarantine"], ["recover"]])
def test_check_or_recovery_without_a_registry_could_not_run(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    Path("empty").mkdir()
    for folder in ("missing", "empty"):
        assert main([*command, "--data-dir", folder]) == 2
        assert capsys.readouterr().err.startswith(f"trow: error: there is no registry in {Path.cwd()}/{folder}")
    assert not list(Path("empty").iterdir())


@pytest.mark.parametrize(
    "command",
    [
        "token create --name ci --repository a --action pull", "token list", "token revoke abcdefghijkl",
        "keys list", "keys rotate", "fsck", "fsck --quarantine", "recover", "access can-i --as robot:ci pull a",
        "audit search", "audit verify", "audit anchor", f"audit who-runs sha256:{'0' * 64}",
    ],
)  # fmt: skip
def test_a_command_beside_no_registry_says_so_and_makes_none(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What it made would be known to no server."""
    for where in ([], ["--data-dir", "elsewhere/data"]):
        assert main([*command.split(), *where]) == 2
        output = capsys.readouterr()
        folder = Path.cwd() / (where[1] if where else "data")
        assert f"{folder}" in output.err
        assert "--data-dir" in output.err
        assert output.out == ""
    assert not list(Path.cwd().iterdir())


@pytest.fixture
def damaged() -> str:
    """A data directory with one small blob whose content is not what its digest says; returns the digest."""
    data = Path("data")
    FilesystemBlobs(data).prepare()
    EmbeddedMetadata(data / "trow.db").close()
    digest = Digest.of(b"whole")
    with apsw.Connection(str(data / "trow.db")) as database:
        database.execute("INSERT INTO blob (digest, size, content) VALUES (?, 5, ?)", (digest, b"whale"))
    return digest


def test_fsck_reports_what_is_damaged(capsys: pytest.CaptureFixture[str], damaged: str) -> None:
    assert main(["fsck"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"blob {damaged}: its content in the database is damaged",
        "blobs and manifests checked: 1, problems: 1",
    ]
    assert main(["fsck", "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["checked"] == 1


def test_fsck_quarantines_what_is_damaged(capsys: pytest.CaptureFixture[str], damaged: str) -> None:
    assert main(["fsck", "--quarantine"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "moved to quarantine: 1; push them again"
    assert (Path("data/quarantine") / damaged).read_bytes() == b"whale"
    assert main(["fsck"]) == 0
    assert capsys.readouterr().out == "blobs and manifests checked: 0, problems: 0\n"


# The banner


def lines_of(config: Config, addresses: Sequence[str]) -> list[str]:
    return banner(config, addresses).splitlines()


def test_banner_tells_which_address_wants_a_client_certificate() -> None:
    lines = banner(Config(), ["127.0.0.1:8000"], certified=["127.0.0.1:8443"]).splitlines()
    assert "  listening   https://127.0.0.1:8443 with a client certificate" in lines


def test_banner_names_every_address_and_how_to_push() -> None:
    lines = lines_of(Config(), ["127.0.0.1:41234", "[::1]:41235"])
    assert lines[0] == f"Trow {trow.__version__}"
    assert "  listening   http://127.0.0.1:41234" in lines
    assert "  listening   http://[::1]:41235" in lines
    assert "  push        docker push 127.0.0.1:41234/NAME:TAG" in lines
    assert "  data        " + str(Path.cwd() / "data") in lines


@pytest.mark.parametrize(
    ("addresses", "warned"),
    [
        (["127.0.0.1:80"], False),
        (["[::1]:80", "localhost:80"], False),
        (["[::]:80"], True),
        (["127.0.0.1:80", "192.0.2.1:80"], True),
        (["registry.example.com:80"], True),
    ],
)
def test_banner_warns_when_everybody_may_push_from_elsewhere(addresses: list[str], *, warned: bool) -> None:
    assert ("WARNING: everybody" in banner(Config(), addresses)) == warned


def test_banner_tells_that_nobody_has_to_log_in() -> None:
    assert "  access      open to all: nobody has to log in" in lines_of(Config(), ["127.0.0.1:80"])


def test_banner_tells_every_way_to_log_in_and_who_decides() -> None:
    Path("users").touch()
    environment = {
        "TROW_AUTH_OIDC": "[{name: a, issuer: 'https://a.example', audiences: [x]}]",
        "TROW_AUTH_USERS_FILE": "users",
        "TROW_KUBERNETES_AUDIENCES": "trow,registry.example.com",
        "TROW_KUBERNETES_AUTHORIZATION": "true",
        "TROW_AUTH_ANONYMOUS": "pull",
    }
    access = [line for line in lines_of(load(None, environment, {}), ["127.0.0.1:80"]) if line.startswith("  access")]
    assert [line.removeprefix("  access      ") for line in access] == [
        "users of users",
        "tokens of https://a.example",
        "ServiceAccount tokens for trow, registry.example.com",
        "the cluster's RBAC decides what access.rules do not allow",
        "without credentials: pull",
    ]


def test_banner_tells_which_images_may_run() -> None:
    validation = ImageValidation(default="Deny", allow=("quay.io", "ghcr.io"), mode="warn")
    admission = Admission(policies=True, registries=("r.example.com",), pull_groups=("system:nodes",))
    text = banner(Config(image_validation=validation, admission=admission), ["127.0.0.1:8000"])
    assert "  images      2 allowed, 0 denied, else Deny (mode warn)" in text
    assert "  images      by the policies of the cluster" in text
    assert "  images      pulls of system:nodes are decided too" in text
    assert "images  " not in banner(Config(), ["127.0.0.1:8000"])


def test_banner_tells_who_can_send_reviews() -> None:
    def text(**admission: Any) -> str:
        return banner(Config(admission=Admission(policies=True, **admission)), ["10.0.0.1:8000"])

    assert "no API server can ask: there is no address for webhooks (admission.bind)" in text()
    assert "WARNING: everybody who reaches this address may send reviews" in text(on_registry_addresses=True)
    assert "reviews" not in text(bind=Bind.parse("[::]:8443"))


def test_banner_of_a_registry_that_everybody_may_push_to() -> None:
    config = load(None, {}, {"listen.bind": "0.0.0.0", "auth.allow_anonymous_push": "true"})
    text = banner(config, ["0.0.0.0:8000"])
    assert "open to all" in text
    assert "WARNING: everybody who reaches this address may push and delete" in text


def test_banner_with_a_user() -> None:
    Path("password").write_text("p", "utf-8")
    config = load(None, {}, {"auth.user": "admin", "auth.password_file": "password", "auth.anonymous": "pull"})
    text = banner(config, ["[::]:80"])
    assert "  access      user admin may do everything\n  access      without credentials: pull\n" in text
    assert "WARNING: passwords cross the network unencrypted" in text
    assert "WARNING: everybody" not in text
    assert "docker push localhost:80/NAME:TAG" in text


def test_dry_run_prints_the_banner_and_serves_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--dry-run", "--port", "0"]) == 0
    assert "listening   http://127.0.0.1:0\n" in capsys.readouterr().out
    assert not Path("data").exists()


# the end of a command


def test_output_that_nobody_reads_any_more_ends_the_command_quietly() -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `head` does when it has seen enough
    try:
        done = subprocess.run(
            [sys.executable, "-m", "trow", "config", "show"], check=False, stdout=writing, stderr=subprocess.PIPE
        )
    finally:
        os.close(writing)
    assert (done.returncode, done.stderr) == (128 + signal.SIGPIPE, b"")


def test_interrupted_command_says_so_by_its_exit_code(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(args: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr("trow.cli.version.run", interrupted)
    assert main(["version"]) == 128 + signal.SIGINT
