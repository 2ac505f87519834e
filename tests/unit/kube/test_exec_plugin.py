"""Credential plugins: real programs, small ones."""

from __future__ import annotations

import json
import os
import pty
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
import trustme

from support.waiting import until
from trow.kube.access import AccessError
from trow.kube.exec_plugin import MOST_OUTPUT_BYTES
from trow.kube.kubeconfig import cluster_access_of
from trow.oci.errors import Unavailable

V1: Final = "client.authentication.k8s.io/v1"
V1BETA1: Final = "client.authentication.k8s.io/v1beta1"


def answer(version: str = V1, **status: str) -> str:
    return json.dumps({"apiVersion": version, "kind": "ExecCredential", "status": status})


def prints(text: str) -> str:
    return f"print({text!r})"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", None)
    return tmp_path


def kubeconfig(folder: Path, source: str = prints(answer(token="t")), /, **settings: Any) -> Path:
    """A file whose user is whoever a program of this source says."""
    program = folder / "plugin"
    program.write_text(f"#!{sys.executable}\nimport json, os, sys, time\n{source}\n")
    program.chmod(0o700)
    how = {"apiVersion": V1, "command": "./plugin", "interactiveMode": "Never"} | settings
    cluster = {
        "server": "https://10.0.0.1:6443",
        "certificate-authority": "ca.crt",
        "tls-server-name": "kubernetes",
        "extensions": [{"name": "client.authentication.k8s.io/exec", "extension": {"audience": "x"}}],
    }
    document = {
        "current-context": "dev",
        "contexts": [{"name": "dev", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": cluster}],
        "users": [{"name": "u", "user": {"exec": {key: how[key] for key in how if how[key] is not None}}}],
    }
    (folder / "ca.crt").write_text("authority")
    path = folder / "kubeconfig"
    path.write_text(json.dumps(document), "utf-8")
    return path


def token(path: Path) -> str:
    source = cluster_access_of([path], run_plugins=True).token
    assert callable(source)
    return source()


def test_the_token_is_that_which_the_program_prints(folder: Path) -> None:
    assert token(kubeconfig(folder)) == "t"


def test_the_program_has_its_arguments_and_the_environment(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_PROFILE", "person")
    monkeypatch.setenv("REGION", "here")
    source = """
status = {'token': '.'.join([*sys.argv[1:], os.environ['AWS_PROFILE'], os.environ['REGION']])}
print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status': status}))
"""
    path = kubeconfig(folder, source, args=["get", "token"], env=[{"name": "REGION", "value": "there"}])
    assert token(path) == "get.token.person.there"


@pytest.mark.parametrize("version", [V1, V1BETA1])
def test_the_program_is_told_what_it_wants_to_know(folder: Path, version: str) -> None:
    source = f"open('told', 'w').write(os.environ['KUBERNETES_EXEC_INFO'])\n{prints(answer(version, token='t'))}"
    token(kubeconfig(folder, source, apiVersion=version, provideClusterInfo=True))
    assert json.loads(Path("told").read_text()) == {
        "apiVersion": version,
        "kind": "ExecCredential",
        "spec": {
            "interactive": False,
            "cluster": {
                "server": "https://10.0.0.1:6443",
                "tls-server-name": "kubernetes",
                "certificate-authority-data": "YXV0aG9yaXR5",
                "config": {"audience": "x"},
            },
        },
    }
    token(kubeconfig(folder, source, apiVersion=version))
    assert json.loads(Path("told").read_text())["spec"] == {"interactive": False}


def test_a_client_certificate_is_shown(folder: Path) -> None:
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "real.crt")
    issued = authority.issue_cert("me")
    certificate, key = issued.cert_chain_pems[0].bytes().decode(), issued.private_key_pem.bytes().decode()
    path = kubeconfig(folder, prints(answer(clientCertificateData=certificate, clientKeyData=key)))
    authority.cert_pem.write_to_path(folder / "ca.crt")
    access = cluster_access_of([path], run_plugins=True)
    assert (access.token, access.certificate, access.key) == ("", certificate, key)
    assert access.tls() is not None


def test_it_runs_again_when_the_token_has_expired(folder: Path) -> None:
    source = """
runs = len(open('runs').read()) if os.path.exists('runs') else 0
open('runs', 'a').write('.')
until = '2000-01-01T00:00:00Z' if runs < 2 else '2999-01-01T00:00:00Z'
status = {'token': str(runs), 'expirationTimestamp': until}
print(json.dumps({'apiVersion': 'client.authentication.k8s.io/v1', 'kind': 'ExecCredential', 'status': status}))
"""
    source_of_token = cluster_access_of([kubeconfig(folder, source)], run_plugins=True).token
    assert callable(source_of_token)
    assert [source_of_token() for _ in range(3)] == ["1", "2", "2"]
    assert datetime(2999, 1, 1, tzinfo=UTC) > datetime.now(UTC)


def test_what_fails_later_is_told_as_such(folder: Path) -> None:
    path = kubeconfig(folder, prints(answer(token="t", expirationTimestamp="2000-01-01T00:00:00Z")))
    source = cluster_access_of([path], run_plugins=True).token
    (folder / "plugin").unlink()
    assert callable(source)
    with pytest.raises(Unavailable, match="is not installed"):
        source()


def test_a_program_without_a_slash_is_looked_for_in_path(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = kubeconfig(folder, command="plugin", installHint="brew install plugin")
    monkeypatch.setenv("PATH", ".")  # as with Go, the current directory is no place to find programs
    with pytest.raises(AccessError, match="'plugin' is not installed; brew install plugin"):
        token(path)
    monkeypatch.setenv("PATH", str(folder))
    assert token(path) == "t"


@pytest.mark.parametrize(
    ("source", "settings", "message"),
    [
        ("sys.exit(3)", {}, "fails with exit code 3"),
        ("print('secret')", {}, "does not print an ExecCredential"),
        (prints(answer(V1BETA1, token="secret")), {}, "answers in client.authentication.k8s.io/v1beta1"),
        (prints(answer()), {}, "prints neither a token nor a certificate"),
        (prints(answer(clientKeyData="secret")), {}, "prints a certificate without its key, or a key alone"),
        (prints(answer(token="secret", expirationTimestamp="soon")), {}, "expirationTimestamp"),
        (f"sys.stdout.write('x' * {MOST_OUTPUT_BYTES + 2})", {}, "prints more than"),
        ("", {"command": "./missing"}, "is not installed; install it"),
        ("", {"command": "nul\0"}, "'nul.x00' "),
        ("", {"interactiveMode": None}, "set interactiveMode: IfAvailable"),
        ("", {"interactiveMode": "Always"}, "needs a terminal"),
        ("", {"interactiveMode": "Maybe"}, "user 'u'.*Maybe"),
        ("", {"apiVersion": "client.authentication.k8s.io/v1alpha1"}, "user 'u'.*v1alpha1"),
        ("", {"colour": "red"}, "user 'u'.*colour"),
    ],
)
def test_what_is_wrong_is_told_without_secrets(
    folder: Path, source: str, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(AccessError, match=message) as caught:
        token(kubeconfig(folder, source, **settings))
    assert str(folder / "kubeconfig") in str(caught.value)
    assert "secret" not in str(caught.value)


def test_a_program_that_hangs_ends_with_all_that_it_has_started(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trow.kube.kubeconfig.PLUGIN_SECONDS", 1.0)
    source = """
child = os.fork()
if child:
    open('started', 'w').write(f'{os.getpid()} {child}')
time.sleep(600)
"""
    with pytest.raises(AccessError, match="takes longer than 1 s"):
        token(kubeconfig(folder, source))
    pids = [int(pid) for pid in Path("started").read_text().split()]
    until(lambda: not any(map(runs, pids)))


def runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def test_a_person_at_a_terminal_can_be_asked(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    person, terminal = pty.openpty()
    with os.fdopen(terminal, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        source = (
            f"assert json.loads(os.environ['KUBERNETES_EXEC_INFO'])['spec']['interactive']\n{prints(answer(token='t'))}"
        )
        assert token(kubeconfig(folder, source, interactiveMode="Always")) == "t"
        assert token(kubeconfig(folder, source, interactiveMode="IfAvailable")) == "t"
    os.close(person)


def test_a_server_runs_no_programs(folder: Path) -> None:
    with pytest.raises(AccessError, match="a server runs no programs"):
        cluster_access_of([kubeconfig(folder, "open('ran', 'w')")])
    assert not Path("ran").exists()
