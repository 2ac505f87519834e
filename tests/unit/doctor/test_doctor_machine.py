"""What the doctor finds on a machine: docker's file, containerd's and CRI-O's configuration."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any, Final

import pytest

from support.doctor import examined, fine, problem, serving, unchecked
from trow.doctor.nodes import Containerd, judge_containerd

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from trow.doctor.findings import Diagnosis

HOST: Final = "registry.example.com"
V2: Final = 'version = 2\n[plugins."io.containerd.grpc.v1.cri".registry]\n'
V3: Final = "version = 3\n[plugins.'io.containerd.cri.v1.images'.registry]\n"


# ---- docker


def docker(home: Path, content: object, *programs: str, status: int = 401) -> Sequence[Diagnosis]:
    (home / ".docker").mkdir()
    text = content if isinstance(content, str) else json.dumps(content)
    (home / ".docker" / "config.json").write_text(text, "utf-8")
    for name in programs:
        (home / name).write_text("#!/bin/sh\n")
        (home / name).chmod(0o755)
    with serving(status=status) as address:
        given = {"home": home, "environment": {"PATH": str(home)}}
        return examined("docker", url=f"http://{address}", host=HOST, **given)


def test_nobody_has_logged_in(tmp_path: Path) -> None:
    found = problem(docker(tmp_path, {"auths": {"ghcr.io": {"auth": "c2VjcmV0"}}}), "docker")
    assert found.fix.startswith("docker login 127.0.0.1:")
    assert "c2VjcmV0" not in str(found)


def test_no_login_is_needed(tmp_path: Path) -> None:
    assert "none are needed" in fine(docker(tmp_path, {}, status=200), "docker").what


def test_credentials_are_in_the_file(tmp_path: Path) -> None:
    found = fine(docker(tmp_path, {"auths": {HOST: {"auth": "c2VjcmV0"}}}), "docker")
    assert found.what == f"docker has credentials for {HOST}"


@pytest.mark.parametrize("content", [{"credsStore": "desktop"}, {"credHelpers": {HOST: "desktop"}}])
def test_the_program_that_keeps_credentials(tmp_path: Path, content: Any) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    found = problem(docker(here, content), "docker")
    assert "docker-credential-desktop" in found.what
    assert "error getting credentials" in found.what
    fine(docker(there, content, "docker-credential-desktop"), "docker")


def test_a_file_that_docker_cannot_read(tmp_path: Path) -> None:
    assert problem(docker(tmp_path, "{"), "docker").what == "is not a JSON object"


def test_no_file_at_all(tmp_path: Path) -> None:
    with serving() as address:
        assert "nobody has logged in" in unchecked(examined("docker", url=f"http://{address}", home=tmp_path), "docker")


# ---- podman


def podman(home: Path, files: dict[str, object], environment: dict[str, str], *, status: int = 401) -> Any:
    for name, content in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_text(json.dumps(content), "utf-8")
    given = {"home": home, "root": home, "environment": {"PATH": str(home), **environment}}
    with serving(status=status) as address:
        return examined("podman", url=f"http://{address}", host=HOST, **given)


KNOWN: Final = {"auths": {HOST: {"auth": "c2VjcmV0"}}}


@pytest.mark.parametrize(
    ("name", "variable", "value"),
    [
        ("run/containers/auth.json", "XDG_RUNTIME_DIR", "run"),
        (f"run/containers/{os.getuid()}/auth.json", "", ""),
        (".config/containers/auth.json", "", ""),
        ("settings/containers/auth.json", "XDG_CONFIG_HOME", "settings"),
        ("auth.json", "REGISTRY_AUTH_FILE", "auth.json"),
    ],
)
def test_the_places_of_podmans_credentials(tmp_path: Path, name: str, variable: str, value: str) -> None:
    found = fine(podman(tmp_path, {name: KNOWN}, {variable: str(tmp_path / value)} if variable else {}), "podman")
    assert (found.what, found.where) == (f"podman has credentials for {HOST}", str(tmp_path / name))


def test_podman_has_credentials_for_a_part_of_the_registry(tmp_path: Path) -> None:
    fine(podman(tmp_path, {".config/containers/auth.json": {"auths": {f"{HOST}/team": {}}}}, {}), "podman")


def test_podman_takes_what_docker_has(tmp_path: Path) -> None:
    own: dict[str, object] = {".config/containers/auth.json": {"auths": {"ghcr.io": {}}}}
    found = fine(podman(tmp_path, {**own, ".docker/config.json": KNOWN}, {}), "podman")
    assert found.where == str(tmp_path / ".docker/config.json")


def test_podman_does_not_take_what_keeps_all_credentials_of_docker(tmp_path: Path) -> None:
    own: dict[str, object] = {".config/containers/auth.json": {}}
    found = podman(tmp_path, {**own, ".docker/config.json": {"credsStore": "desktop"}}, {})
    assert problem(found, "podman").fix.startswith("podman login 127.0.0.1:")


def test_nobody_has_logged_in_with_podman(tmp_path: Path) -> None:
    assert "nobody has logged in with podman" in unchecked(podman(tmp_path, {}, {}), "podman")
    assert (
        "none are needed" in fine(podman(tmp_path, {".config/containers/auth.json": {}}, {}, status=200), "podman").what
    )


# ---- containerd


def containerd(folder: Path, dump: str) -> Sequence[Diagnosis]:
    (folder / "dump.toml").write_text(dump, "utf-8")
    return examined("config-path", host=HOST, containerd_config=folder / "dump.toml")


@pytest.mark.parametrize("head", [V2, V3], ids=["containerd 1", "containerd 2"])
@pytest.mark.parametrize(
    ("registry", "said"),
    [
        ("", "config_path is not set"),
        ('config_path = ""\n', "config_path is empty"),
        ('config_path = "/etc/containerd/certs.d"\n', ""),
        ('config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"\n', ""),
        ('[HEAD.mirrors."docker.io"]\nendpoint = ["https://m"]\n', "has registry.mirrors"),
        ('config_path = ""\n[HEAD.configs.r.tls]\nca_file = "/ca"\n', "has registry.configs"),
    ],
    ids=["unset", "empty", "one folder", "two folders", "mirrors", "configs"],
)
def test_the_states_of_config_path(tmp_path: Path, head: str, registry: str, said: str) -> None:
    table = head.partition("[")[2].partition("]")[0]
    found = containerd(tmp_path, head + registry.replace("HEAD", table))
    if said:
        assert problem(found, "config-path").what.startswith(said)
        assert "systemctl restart containerd" in problem(found, "config-path").fix
    else:
        fine(found, "config-path").what.startswith("reads /etc/containerd/certs.d")


def test_two_folders_are_remarked_upon(tmp_path: Path) -> None:
    found = fine(
        containerd(tmp_path, f'{V3}config_path = "/etc/containerd/certs.d:/etc/docker/certs.d"\n'), "config-path"
    )
    assert "write a folder for each host" in found.what


def test_the_configuration_that_the_real_containerd_prints(tmp_path: Path) -> None:
    dump = subprocess.run(["containerd", "config", "default"], capture_output=True, text=True, check=True).stdout
    assert problem(containerd(tmp_path, dump), "config-path").what.startswith("config_path is empty")
    set_to = dump.replace('config_path = ""', 'config_path = "/etc/containerd/certs.d"', 1)
    fine(containerd(tmp_path, set_to), "config-path")


@pytest.mark.parametrize(("dump", "said"), [("[", "is not TOML"), ('disabled_plugins = ["cri"]\n', "has no plugin")])
def test_what_is_no_configuration_of_a_node(tmp_path: Path, dump: str, said: str) -> None:
    assert said in unchecked(containerd(tmp_path, dump), "config-path")


def test_a_machine_without_a_kubelet_is_not_asked() -> None:
    assert "this is not a node" in unchecked(examined("config-path", host=HOST), "config-path")


def test_the_containerd_of_a_node_is_asked_itself(tmp_path: Path) -> None:
    """A registry that no node trusts needs a hosts.toml of its own."""
    (tmp_path / "var/lib/kubelet").mkdir(parents=True)
    (tmp_path / "dump").write_text(f'{V3}config_path = "/certs.d"\n')
    (tmp_path / "containerd").write_text(f"#!/bin/sh\nexec /bin/cat {tmp_path}/dump\n")
    (tmp_path / "containerd").chmod(0o755)
    given = {"host": HOST, "root": tmp_path, "environment": {"PATH": str(tmp_path)}}
    assert fine(examined("config-path", **given), "config-path").where == "containerd config dump"


def test_no_hosts_toml_for_a_registry_that_needs_one() -> None:
    found = Containerd("dump", "/certs.d", known=frozenset({"docker.io"}))
    [wrong] = judge_containerd(found, [HOST], needed=True)
    assert wrong.fix.startswith(f"write /certs.d/{HOST}/hosts.toml")
    [right] = judge_containerd(found, [HOST], needed=False)
    [known] = judge_containerd(Containerd("dump", "/certs.d", known=frozenset({HOST})), [HOST], needed=True)
    assert right == known


# ---- short names


def short_names(root: Path, text: str) -> Sequence[Diagnosis]:
    (root / "etc/containers").mkdir(parents=True)
    (root / "etc/containers/registries.conf").write_text(text, "utf-8")
    return examined("short-names", root=root)


@pytest.mark.parametrize(
    ("mode", "said"), [("enforcing", "does not start"), ("permissive", "has it first"), ("disabled", "has it first")]
)
def test_a_short_name_could_be_of_two_registries(tmp_path: Path, mode: str, said: str) -> None:
    text = f'unqualified-search-registries = ["docker.io", "quay.io"]\nshort-name-mode = "{mode}"\n'
    found = problem(short_names(tmp_path, text), "short-names")
    assert said in found.what
    assert 'unqualified-search-registries = ["docker.io"]' in found.fix


def test_a_short_name_is_of_one_registry(tmp_path: Path) -> None:
    fine(short_names(tmp_path, 'unqualified-search-registries = ["docker.io"]\n'), "short-names")


def test_no_configuration_of_short_names() -> None:
    assert "neither CRI-O nor podman" in unchecked(examined("short-names"), "short-names")


# ---- the command


def trow(*arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "trow", "doctor", *arguments]
    environment = {"HOME": str(home), "PATH": ""}
    return subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.slow
def test_exit_codes_and_forms(tmp_path: Path) -> None:
    with serving() as address:
        good = trow("--url", f"http://{address}", home=tmp_path)
        bad = trow("--url", f"https://{address}", "--output", "json", home=tmp_path)
        quiet = trow("--url", f"https://{address}", "--quiet", home=tmp_path)
    assert good.returncode == 0, good.stdout
    assert "is a registry (200)" in good.stdout
    assert "not checked: trow, " in good.stdout
    assert bad.returncode == 1
    [wrong] = [each for each in json.loads(bad.stdout)["findings"] if each["status"] == "problem"]
    assert (wrong["check"], wrong["where"]) == ("connection", f"https://{address}")
    first, fix = quiet.stdout.splitlines()[0], quiet.stdout.splitlines()[-1]
    assert first.startswith("PROBLEM  connection")
    assert fix.strip().startswith(f"fix: use http://{address}")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--url", "registry.example.com"], "is not a URL"),
        (["--kubeconfig", "/nowhere/kubeconfig"], "/nowhere/kubeconfig cannot be read"),
        (["--ca-file", "/dev/null"], "holds no certificates"),
        ([], "neither a registry nor a cluster is known here"),
    ],
)
def test_what_cannot_be_run(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = trow(*arguments, home=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
