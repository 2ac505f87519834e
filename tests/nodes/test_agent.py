"""The node agent on a scratch root, with the real containerd's word for its configuration, in each shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from typing import TYPE_CHECKING, Final

import pytest
import trustme
import yaml

from nodes.scratch import CERTS, HOST, HOSTS, IMAGES, ONE, SCRIPTS, SHELLS, Node, providers, states
from support.waiting import until
from tools.find import tool
from trow.lib.file_watch import version_of

if TYPE_CHECKING:
    from pathlib import Path

CRI: Final = '[plugins."io.containerd.grpc.v1.cri".registry]'
PROVIDER: Final = "trow-credential-provider"
CONFIG: Final = "/etc/kubernetes/image-credential-provider/config.yaml"
BIN: Final = "/etc/kubernetes/image-credential-provider/bin"
FLAGS: Final = (f"--image-credential-provider-config={CONFIG}", f"--image-credential-provider-bin-dir={BIN}")


@pytest.fixture(params=SHELLS)
def node(request: pytest.FixtureRequest, tmp_path: Path) -> Node:
    return Node(tmp_path, request.param)


@pytest.fixture
def any_node(tmp_path: Path) -> Node:
    """Where the shell makes no difference any more."""
    return Node(tmp_path, "busybox")


# ---- what containerd says of itself: five states


def test_one_folder_gets_a_file_for_each_name(node: Node) -> None:
    node.has_containerd(ONE)
    node.set(hosts=f"{HOST}\ntrow.trow.svc\n")
    assert "registry: ready: containerd 2.4.2 reads /etc/containerd/certs.d (one)" in node.agent("apply")
    assert sorted(name for name in node.files() if name.endswith("hosts.toml")) == [
        f"etc/containerd/certs.d/{HOST}/hosts.toml",
        "etc/containerd/certs.d/trow.trow.svc/hosts.toml",
    ]
    assert 'server = "http://10.1.2.3:30500"' in node.read(HOSTS)


@pytest.mark.parametrize("program", ["containerd", "containerd2"])
def test_two_folders_get_it_in_the_first(any_node: Node, program: str) -> None:
    """There containerd looks first, and a `_default` in the second does not hide it (containerd 12636)."""
    table, version = (CRI, 2) if program == "containerd" else (IMAGES, 3)
    any_node.has_containerd(f'version = {version}\n{table}\nconfig_path = "/opt/first:/opt/second"\n', program)
    assert "(two)" in any_node.agent("apply")
    assert any_node.at(f"/opt/first/{HOST}/hosts.toml").exists()
    assert not any_node.at("/opt/second").exists()


@pytest.mark.parametrize("setting", ["", 'config_path = ""\n'], ids=["unset", "empty"])
def test_since_containerd_2_2_nothing_configured_means_the_default_folders(any_node: Node, setting: str) -> None:
    any_node.has_containerd(f"version = 3\n{IMAGES}\n{setting}" if setting else "version = 3\n")
    assert states(any_node.agent("apply"))["registry"] == "ready"
    assert any_node.at(HOSTS).exists()


@pytest.mark.parametrize("setting", ["", 'config_path = ""\n'], ids=["unset", "empty"])
def test_before_that_the_line_that_is_missing_is_told(node: Node, setting: str) -> None:
    node.has_containerd(f"version = 2\n{CRI}\n{setting}" if setting else "version = 2\n", "containerd")
    said = node.agent("apply")
    assert "registry: blocked: config_path of containerd 1." in said
    assert f'fix: set config_path = "{CERTS}" under {CRI}' in said
    assert "restart containerd" in said
    assert not node.at(CERTS).exists()


@pytest.mark.parametrize("version", [2, 3])
def test_legacy_mirrors_are_told_and_nothing_is_written(node: Node, version: int) -> None:
    table = (CRI if version == 2 else IMAGES).removesuffix("]")
    mirrors = f'{table}.mirrors."docker.io"]\nendpoint = ["https://mirror.example"]\n'
    node.has_containerd(f"version = {version}\n{mirrors}", "containerd" if version == 2 else "containerd2")
    said = node.agent("apply")
    assert "registry: blocked:" in said
    assert "registry.mirrors" in said
    assert not node.at(CERTS).exists()


def test_imports_count_because_containerd_is_asked(any_node: Node) -> None:
    """The setting stands in a file that only containerd knows to read."""
    any_node.write("/etc/containerd/conf.d/more.toml", f'version = 3\n{IMAGES}\nconfig_path = "/opt/certs"\n')
    any_node.has_containerd('version = 3\nimports = ["/etc/containerd/conf.d/*.toml"]\n')
    any_node.agent("apply")
    assert any_node.at(f"/opt/certs/{HOST}/hosts.toml").exists()


def test_of_several_runtimes_the_one_of_the_kubelet_counts(any_node: Node) -> None:
    any_node.has_containerd(f'version = 2\n[grpc]\naddress = "/run/other.sock"\n{CRI}\nconfig_path = "/opt/other"\n')
    own = any_node.write(
        "/etc/own.toml", f'version = 2\n[grpc]\naddress = "/run/own.sock"\n{CRI}\nconfig_path = "/opt/own"\n'
    )
    any_node.runs("/usr/bin/containerd", "-c", f"/etc/{own.name}")
    any_node.write(
        "/var/lib/kubelet/config.yaml", "kind: KubeletConfiguration\ncontainerRuntimeEndpoint: unix:///run/own.sock\n"
    )
    any_node.has_kubelet("--config=/var/lib/kubelet/config.yaml")
    assert "/opt/own" in any_node.agent("apply")


# ---- files


def test_a_second_look_changes_nothing(node: Node) -> None:
    node.has_containerd(ONE)
    said = node.agent("apply")
    before = version_of(node.at(HOSTS))  # without the time of the last look
    assert node.agent("apply") == said
    assert version_of(node.at(HOSTS)) == before


def test_the_authority_is_distributed_and_a_new_one_too(node: Node) -> None:
    node.has_containerd(ONE)
    for _ in range(2):
        authority = trustme.CA().cert_pem.bytes().decode()
        node.set(ca_crt=authority, endpoint="")
        node.agent("apply")
        assert node.read(f"{CERTS}/{HOST}/trow-ca.crt") == authority
        assert f'ca = "{CERTS}/{HOST}/trow-ca.crt"' in node.read(HOSTS)
        assert f'server = "https://{HOST}"' in node.read(HOSTS)


def test_a_name_that_needs_no_help_gets_none(any_node: Node) -> None:
    any_node.has_containerd(ONE)
    any_node.agent("apply")
    any_node.set(endpoint="")
    assert f"needs nothing to reach {HOST}" in any_node.agent("apply")
    assert not any_node.at(f"{CERTS}/{HOST}").exists()


def test_what_was_there_is_kept_and_put_back(node: Node) -> None:
    node.has_containerd(ONE)
    node.write(HOSTS, "# mine\n")
    node.write(f"{CERTS}/docker.io/hosts.toml", "# also mine\n")
    before = node.files()
    node.agent("apply")
    node.set(endpoint="http://10.9.9.9:5000")
    node.agent("apply")  # what it wrote itself is not taken for what was there
    assert node.files() != before
    node.agent("restore")
    assert node.files() == before


def test_names_that_are_gone_are_cleaned_up(node: Node) -> None:
    node.has_containerd(ONE)
    node.set(ca_crt=trustme.CA().cert_pem.bytes().decode())
    node.agent("apply")
    node.set(hosts="other.example\n")
    node.agent("apply")
    assert not node.at(f"{CERTS}/{HOST}").exists()
    assert node.at(f"{CERTS}/other.example/hosts.toml").exists()


def test_a_folder_that_containerd_would_prefer_is_told(any_node: Node) -> None:
    any_node.has_containerd(ONE)
    any_node.write(f"{CERTS}/registry.example.com_5000_/hosts.toml", "")
    assert "containerd would not look further; fix: remove it" in any_node.agent("apply")


def test_what_cannot_be_written_is_told_with_the_value_to_set(any_node: Node) -> None:
    any_node.has_containerd(ONE)
    any_node.write("/etc/containerd/certs.d", "a file, where a folder should be")
    said = any_node.agent("apply")
    assert "cannot be written; fix: add /etc/containerd/certs.d/" in said
    assert "nodes.hostPaths" in said


@pytest.mark.parametrize(
    ("settings", "reason"),
    [
        ({"hosts": ""}, "set nodes.hosts"),
        ({"hosts": "a/b\n"}, "a/b is no name"),
        ({"hosts": '"; rm\n'}, "is no name"),
        ({"hosts": "../x\n"}, "is no name"),
        ({"hosts": "*\n"}, "* is no name"),
        ({"hosts": "[a-z]*\n"}, "is no name"),
        ({"hosts": "registry.example.com:https\n"}, "is no name"),
        ({"hosts": "a.example b.example\n"}, "is no name"),
        ({"endpoint": "10.0.0.1:80"}, "is no URL"),
        ({"endpoint": "http://../../etc/shadow"}, "is no URL"),
        ({"endpoint": "http://:30500"}, "is no URL"),
        ({"endpoint": 'http://x"\nserver = "y'}, "is no URL"),
        ({"ca_crt": "hello"}, "something else than certificates"),
        ({"ca_crt": "BEGIN CERTIFICATE\nBEGIN PRIVATE KEY"}, "something else than certificates"),
    ],
)
def test_settings_that_are_not_understood_change_nothing(any_node: Node, settings: dict[str, str], reason: str) -> None:
    any_node.has_containerd(ONE)
    before = any_node.files()
    any_node.set(**settings)
    said = any_node.agent("apply")
    assert "registry: blocked:" in said
    assert reason in said
    assert any_node.files() == before


def test_blank_lines_are_no_names(any_node: Node) -> None:
    """A kubelet does not start with a provider that is for no audience."""
    any_node.has_containerd(ONE)
    any_node.has_kubelet(*FLAGS)
    any_node.set(hosts=f"\n  {HOST} \r\n\n", credentialProvider="true")
    any_node.agent("apply")
    assert yaml.safe_load(any_node.read(CONFIG))["providers"] == [ENTRY]


# ---- what Pods, other people and accidents may do to it


@pytest.mark.parametrize(
    ("uid", "pids"), [(0, "1"), (65532, "7"), (1000, "")], ids=["root of a Pod", "a Pod", "a user of the node"]
)
def test_no_program_of_somebody_else_is_run(node: Node, uid: int, pids: str) -> None:
    """A process may have any name and any arguments, and a Pod has files on the node."""
    volume = "/var/lib/kubelet/pods/1/volumes/kubernetes.io~empty-dir/v"
    node.has_program("evil", "echo here >/evil-was-here")
    evil = node.at("/usr/bin/evil").rename(node.write(f"{volume}/evil", ""))
    node.runs(f"{volume}/{evil.name}", name="containerd", uid=uid, pids=pids)
    node.runs(f"{volume}/{evil.name}", *FLAGS, name="kubelet", uid=uid, pids=pids)
    node.set(credentialProvider="true")
    said = node.agent("apply")
    assert "runtime: blocked: no runtime was found" in said
    assert "credentials: blocked: no kubelet was found" in said
    assert not node.at("/evil-was-here").exists()
    assert not node.at(CONFIG).exists()


def test_arguments_of_a_pod_change_no_path(any_node: Node) -> None:
    any_node.has_kubelet(*FLAGS, since=time.time() + 10)
    any_node.runs(
        "/usr/bin/kubelet",
        "--hostname-override=node1",
        f"--image-credential-provider-config={CERTS}/docker.io/hosts.toml",
        "--image-credential-provider-bin-dir=/etc/cron.d",
        pids="12",
    )
    any_node.set(credentialProvider="true")
    any_node.agent("apply")
    assert any_node.at(CONFIG).exists()
    assert not any_node.at("/etc/cron.d").exists()
    assert not any_node.at(f"{CERTS}/docker.io").exists()


@pytest.mark.parametrize("other", ["trow-test.example.com", "trow-staging.trow.svc"])
def test_files_of_others_are_theirs_whatever_their_folder_is_called(node: Node, other: str) -> None:
    node.has_containerd(ONE)
    node.write(f"{CERTS}/{other}/hosts.toml", "# mine\n")
    before = node.files()
    node.agent("apply")
    assert node.read(f"{CERTS}/{other}/hosts.toml") == "# mine\n"
    node.set(hosts=f"{other}\n")
    node.agent("apply")
    node.agent("restore")
    assert node.files() == before


def test_a_backup_that_was_not_finished_is_none(node: Node) -> None:
    """As after a full disk: what was there is kept as a whole before it is replaced."""
    node.has_containerd(ONE)
    node.write(HOSTS, "# mine\n")
    before = node.files()
    limited = ["/bin/sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *node.argv("apply")]
    subprocess.run(limited, env=node.environment, capture_output=True, check=False, preexec_fn=ignore_file_limit)
    assert node.read(HOSTS) == "# mine\n"
    node.agent("apply")
    node.agent("restore")
    assert node.files() == before


def ignore_file_limit() -> None:
    """A write beyond the limit is an error then, as on a full disk."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)


def test_a_full_temporary_folder_cuts_no_file_of_the_node(node: Node) -> None:
    node.has_containerd(ONE)
    node.has_kubelet(*FLAGS)
    node.set(credentialProvider="true")
    node.agent("apply")
    whole = node.files()
    for name in whole:
        node.at(name).unlink()
    nowhere = node.environment | {"TMPDIR": str(node.root / "missing")}
    node.has_containerd(ONE)
    subprocess.run(node.argv("apply"), env=nowhere, capture_output=True, check=False)
    assert {name: text for name, text in node.files().items() if name in whole} == whole


def test_a_link_is_put_back_as_a_link(node: Node) -> None:
    """Some systems keep all of /etc as links, which lead nowhere inside of the agent's Pod."""
    node.has_containerd(ONE)
    node.at(HOSTS).parent.mkdir(parents=True)
    node.at(HOSTS).symlink_to("/nix/store/hosts.toml")
    node.agent("apply")
    assert 'server = "http://10.1.2.3:30500"' in node.read(HOSTS)
    node.agent("restore")
    assert str(node.at(HOSTS).readlink()) == "/nix/store/hosts.toml"


def test_what_a_killed_agent_left_behind_goes_too(node: Node) -> None:
    """Killed after the first of two steps of `restore`, and in the middle of a write."""
    node.has_containerd(ONE)
    before = node.files()
    node.set(ca_crt=trustme.CA().cert_pem.bytes().decode())
    node.agent("apply")
    node.at(HOSTS).rename(node.at(f"{HOSTS}.trow-new"))
    node.agent("restore")
    assert node.files() == before
    assert not node.at(f"{CERTS}/{HOST}").exists()


def test_a_temporary_file_that_leads_elsewhere_is_not_followed(node: Node) -> None:
    node.has_containerd(ONE)
    victim = node.write("/etc/passwd", "root\n")
    node.at(HOSTS).parent.mkdir(parents=True)
    node.at(f"{HOSTS}.trow-new").symlink_to(victim)
    node.agent("apply")
    assert victim.read_text() == "root\n"
    assert not node.at(HOSTS).is_symlink()


@pytest.mark.parametrize("runtime", ["containerd", "crio"])
@pytest.mark.parametrize("form", ["yaml", "json"])
def test_two_trows_in_a_cluster_leave_each_other_alone(node: Node, form: str, runtime: str) -> None:
    """Otherwise each of two agents would take away, twice a minute, what the other one needs, and call itself ready."""
    if runtime == "crio":
        node.runs("/usr/bin/crio")
    else:
        node.has_containerd(ONE)
    node.has_kubelet(*FLAGS)
    node.write(CONFIG, OTHERS[form])
    before = node.files()
    node.set(credentialProvider="true", ca_crt=trustme.CA().cert_pem.bytes().decode())
    node.agent("apply", namespace="one")
    first = node.files()
    assert "registry: blocked" in node.agent("apply", namespace="two")  # it has the same name
    assert "in the namespace one" in node.report.read_text()
    assert "of somebody else, such as another Trow" in node.report.read_text()
    assert node.files() == first
    node.set(hosts="other.example\n", endpoint="http://10.1.2.4:30501")
    assert "registry: ready" in node.agent("apply", namespace="two")
    node.agent("restore", namespace="two")
    assert node.files() == first
    node.agent("restore", namespace="one")
    assert node.files().keys() == before.keys()
    assert yaml.safe_load(node.read(CONFIG)) == yaml.safe_load(before.pop(CONFIG.lstrip("/")))
    assert {name: node.files()[name] for name in before} == before


def test_the_kernel_tells_the_processes_of_pods_apart() -> None:
    argv = [str(tool("unshare")), "--pid", "--fork", "--kill-child", "sleep", "100"]
    with subprocess.Popen(argv) as outside:
        inside = until(lambda: first_child(outside.pid))
        told = [is_of_node(pid) for pid in (str(outside.pid), inside)]
        outside.terminate()
    assert told == [True, False]


def first_child(pid: int) -> str:
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "pid="], capture_output=True, text=True, check=False)
    return found.stdout.strip()


def is_of_node(pid: str) -> bool:
    script = f'TROW_HOST= && . "{SCRIPTS}/lib/node.sh" && is_of_node "$1"'
    return subprocess.run(["/bin/sh", "-c", script, "sh", pid], check=False).returncode == 0


# ---- a kubelet that would not start any more


@pytest.mark.parametrize(
    ("version", "flags", "reason"),
    [
        ("v1.33.5", (), "it is 1.33"),
        ("v1.32.0", (), "it is 1.32"),
        ("unknown", (), "its version is not known"),
        ("v1.34.0", ("--feature-gates=A=true,KubeletServiceAccountTokenForCredentialProviders=false",), "switched off"),
    ],
)
def test_a_kubelet_that_does_not_know_tokens_gets_no_entry(
    node: Node, version: str, flags: tuple[str, ...], reason: str
) -> None:
    """It refuses to start with a member that it does not know."""
    node.has_kubelet(*FLAGS, *flags, version=version)
    node.write(CONFIG, providers(["ecr"]))
    node.set(credentialProvider="true", restartKubelet="true")
    said = node.agent("apply")
    assert "credentials: blocked: " in said
    assert reason in said
    assert node.read(CONFIG) == providers(["ecr"])


def test_an_entry_from_before_goes_when_the_kubelet_becomes_older(any_node: Node) -> None:
    any_node.has_kubelet(*FLAGS)
    any_node.write(CONFIG, providers(["ecr"]))
    any_node.set(credentialProvider="true")
    any_node.agent("apply")
    any_node.has_program("kubelet", "echo Kubernetes v1.33.0")
    any_node.agent("apply")
    assert yaml.safe_load(any_node.read(CONFIG)) == yaml.safe_load(providers(["ecr"]))


@pytest.mark.parametrize("form", ["yaml", "json"])
@pytest.mark.parametrize("version", ["v1beta1", "v1alpha1"])
def test_an_older_form_of_the_configuration_is_left_alone(node: Node, form: str, version: str) -> None:
    text = OTHERS[form].replace("kubelet.config.k8s.io/v1", f"kubelet.config.k8s.io/{version}", 1)
    node.has_kubelet(*FLAGS)
    node.write(CONFIG, text)
    node.set(credentialProvider="true")
    assert "kubelet.config.k8s.io/v1" in node.agent("apply").partition("fix: ")[2]
    assert node.read(CONFIG) == text


# ---- other runtimes


def test_cri_o_gets_a_drop_in(node: Node) -> None:
    node.runs("/usr/bin/crio", since=time.time() + 10)
    node.set(ca_crt=trustme.CA().cert_pem.bytes().decode())
    before = node.files()
    assert node.agent("apply") == (
        "registry: ready: CRI-O reads /etc/containers/registries.conf.d, which leads to http://10.1.2.3:30500\n"
        "credentials: off: the credential provider is not asked for\n"
    )
    drop_in = node.read("/etc/containers/registries.conf.d/50-trow-registry.example.com-5000.conf")
    assert f'prefix = "{HOST}"\nlocation = "10.1.2.3:30500"\ninsecure = true\n' in drop_in
    assert node.at("/etc/containers/certs.d/10.1.2.3:30500/trow-ca.crt").exists()
    node.agent("restore")
    assert node.files() == before


def test_cri_o_that_began_before_has_to_be_told(any_node: Node) -> None:
    any_node.runs("/usr/bin/crio")
    assert "systemctl reload crio" in any_node.agent("apply")


@pytest.mark.parametrize("distribution", ["k3s", "rke2"])
def test_rancher_makes_the_files_itself(node: Node, distribution: str) -> None:
    node.has_containerd(ONE)
    node.runs(f"/usr/local/bin/{distribution}", "server", name="k3s-server" if distribution == "k3s" else "rke2")
    file = f"/etc/rancher/{distribution}/registries.yaml"
    said = node.agent("apply")
    assert f"makes the configuration of containerd from {file}" in said
    mirrors = f"mirrors: {{'{HOST}': {{endpoint: ['http://10.1.2.3:30500']}}}}"
    assert mirrors in said
    assert yaml.safe_load(mirrors)["mirrors"][HOST]
    assert not node.at(CERTS).exists()
    node.write(file, mirrors)
    assert states(node.agent("apply"))["registry"] == "ready"


def test_without_a_runtime_the_report_says_so(any_node: Node) -> None:
    assert "runtime: blocked: no runtime was found" in any_node.agent("apply")


# ---- credentials


def test_the_folders_of_a_kubelet_that_has_flags_are_used(node: Node) -> None:
    node.has_containerd(ONE)
    node.has_kubelet(
        "--image-credential-provider-config",
        "/srv/cri.yaml",
        "--image-credential-provider-bin-dir=/srv/bin/",
        since=time.time() + 10,
    )
    node.set(credentialProvider="true")
    assert states(node.agent("apply"))["credentials"] == "ready"
    assert os.access(node.at(f"/srv/bin/{PROVIDER}"), os.X_OK)
    assert yaml.safe_load(node.read("/srv/cri.yaml")) == {
        "apiVersion": "kubelet.config.k8s.io/v1",
        "kind": "CredentialProviderConfig",
        "providers": [ENTRY],
    }


ENTRY: Final = {
    "name": PROVIDER,
    "apiVersion": "credentialprovider.kubelet.k8s.io/v1",
    "matchImages": [HOST],
    "defaultCacheDuration": "0s",
    "args": [HOST],
    "tokenAttributes": {"serviceAccountTokenAudience": HOST, "cacheType": "Token", "requireServiceAccount": True},
}
OTHERS: Final = {
    "yaml": providers(["ecr", "acr"]),
    "yaml, not indented": providers(["ecr"]).replace("\n  ", "\n"),
    "json": json.dumps(yaml.safe_load(providers(["ecr", "acr"])), indent=2) + "\n",
    "json in a line": json.dumps(yaml.safe_load(providers(["ecr"]))) + "\n",
    "json, empty": json.dumps(yaml.safe_load(providers([])) | {"providers": []}) + "\n",
}


@pytest.mark.parametrize("form", OTHERS)
def test_entries_of_others_stay_as_they_are(node: Node, form: str) -> None:
    node.has_kubelet(*FLAGS)
    node.set(credentialProvider="true", hosts=f"{HOST}\n")
    node.write(CONFIG, OTHERS[form]).chmod(0o640)
    others = yaml.safe_load(OTHERS[form])
    for hosts in ([HOST], ["a.example", HOST], ["a.example", HOST]):
        node.set(hosts="\n".join(hosts))
        node.agent("apply")
        found = yaml.safe_load(node.read(CONFIG))
        own = [each for each in found["providers"] if each["name"] == PROVIDER]
        assert [each["matchImages"] for each in own] == [hosts]
        found["providers"] = [each for each in found["providers"] if each["name"] != PROVIDER]
        assert found == others
        assert node.at(CONFIG).stat().st_mode & 0o777 == 0o640
    if others["providers"]:
        node.agent("restore")
        assert yaml.safe_load(node.read(CONFIG)) == others
        assert not node.at(f"{BIN}/{PROVIDER}").exists()


@pytest.mark.parametrize(
    "text",
    [
        "{kind: CredentialProviderConfig, providers: [{name: ecr}]}\n",
        "kind: CredentialProviderConfig\nproviders: [{name: ecr}]\n",
        providers(["ecr"]) + providers(["acr"]),
    ],
    ids=["flow", "flow of entries", "twice"],
)
def test_what_cannot_be_merged_safely_is_left_alone(node: Node, text: str) -> None:
    node.has_kubelet(*FLAGS)
    node.set(credentialProvider="true")
    node.write(CONFIG, text)
    said = node.agent("apply")
    assert "credentials: blocked:" in said
    entry = said.partition("add this to its providers: ")[2]
    assert json.loads(entry) == ENTRY
    assert node.read(CONFIG) == text


@pytest.mark.parametrize(
    "text",
    [
        providers(["trow-credential-provider"]),
        json.dumps({"providers": [{"name": "trow-credential-provider"}]}, indent=1),
    ],
    ids=["YAML", "JSON"],
)
def test_an_entry_of_that_name_that_somebody_else_wrote_is_theirs(node: Node, text: str) -> None:
    node.has_kubelet(*FLAGS)
    node.set(credentialProvider="true")
    node.write(CONFIG, text)
    before = node.files()
    assert "has an entry trow-credential-provider of somebody else" in node.agent("apply")
    node.agent("restore")
    assert node.files() == before


def test_a_kubelet_that_reads_a_folder_gets_a_file_of_its_own(node: Node) -> None:
    node.has_kubelet("--image-credential-provider-config=/srv/config.d", "--image-credential-provider-bin-dir=/srv/bin")
    node.write("/srv/config.d/cloud.yaml", providers(["ecr"]))
    before = node.files()
    node.set(credentialProvider="true")
    node.agent("apply")
    assert yaml.safe_load(node.read("/srv/config.d/trow.yaml"))["providers"] == [ENTRY]
    assert node.read("/srv/config.d/cloud.yaml") == providers(["ecr"])
    node.agent("restore")
    assert node.files() == before


def test_a_kubelet_without_flags_is_told_exactly_what_to_set(node: Node) -> None:
    node.has_kubelet("--config=/var/lib/kubelet/config.yaml")
    node.set(credentialProvider="true")
    said = node.agent("apply")
    assert f"fix: start it with {' '.join(FLAGS)} (kubeadm: KUBELET_EXTRA_ARGS in /etc/default/kubelet)" in said
    assert yaml.safe_load(node.read(CONFIG))["providers"] == [ENTRY]  # so that it starts with these flags
    node.agent("restore")
    assert not any("credential" in name for name in node.files())


def test_microk8s_has_its_flags_in_a_file(any_node: Node) -> None:
    any_node.write("/var/snap/microk8s/current/args/kubelet", "--config=x\n--v=2\n")
    any_node.write("/snap/microk8s/current/meta/snap.yaml", "name: microk8s\nversion: v1.34.1\n")
    any_node.runs("/snap/microk8s/1/kubelite", name="kubelite")
    any_node.set(credentialProvider="true")
    said = any_node.agent("apply")
    assert "/var/snap/microk8s/current/args/kubelet, and run `snap restart microk8s.daemon-kubelite`" in said


def test_k3s_takes_its_own_folder(any_node: Node) -> None:
    any_node.has_program("k3s", 'echo "k3s version v1.34.1+k3s1 (abc)"; echo "go version go1.24.6"')
    any_node.runs("/usr/bin/k3s", "agent", name="k3s-agent")
    any_node.set(credentialProvider="true")
    said = any_node.agent("apply")
    assert "run `systemctl restart k3s-agent` on the node" in said
    folder = "/var/lib/rancher/credentialprovider"
    assert yaml.safe_load(any_node.read(f"{folder}/config.yaml"))["providers"] == [ENTRY]
    assert any_node.at(f"{folder}/bin/{PROVIDER}").exists()
    any_node.agent("restore")
    assert any_node.files() == {}


def test_a_kubelet_is_not_left_without_a_configuration_that_it_needs(node: Node) -> None:
    """With flags that lead to no provider, no kubelet starts."""
    node.has_kubelet(*FLAGS)
    node.set(credentialProvider="true")
    node.agent("apply")
    before = node.files()
    said = node.agent("restore")
    assert "credentials: blocked: the kubelet does not start without" in said
    assert node.files() == before


@pytest.mark.parametrize("asked", [True, False])
def test_a_kubelet_is_restarted_only_when_asked_and_once(node: Node, asked: bool) -> None:  # noqa: FBT001
    node.has_program("systemctl", 'echo "$*" >>/asked')
    node.has_kubelet(*FLAGS)
    node.set(credentialProvider="true", restartKubelet=str(asked).lower())
    if not asked:
        assert "run `systemctl restart kubelet` on the node, or set nodes.restartKubelet" in node.agent("apply")
        assert not node.at("/asked").exists()
        return
    assert "the kubelet was told to restart, and is not back yet" in node.agent("apply")
    assert "run `systemctl restart kubelet` on the node" in node.agent("apply")
    assert node.read("/asked") == "restart kubelet\n"
    os.utime(node.at(CONFIG), (1, 1))  # the kubelet has come back since
    assert states(node.agent("apply"))["credentials"] == "ready"


# With Trow's entry there is no kubelet any more, and without it there is one again.
DISLIKES: Final = f"""echo "$*" >>/asked
cd /proc; PATH=/usr/bin
b=/usr/bin/busybox
if $b grep -q trow {CONFIG}; then $b mv 101 gone; else $b mv gone 101; fi"""


def test_a_kubelet_that_does_not_come_back_gets_what_it_had(node: Node) -> None:
    node.has_program("systemctl", DISLIKES)
    node.has_kubelet(*FLAGS)
    node.write(CONFIG, providers(["ecr"]))
    node.set(credentialProvider="true", restartKubelet="true")
    for _ in range(2):
        said = node.agent("apply")
        assert "the kubelet did not start with Trow's entry" in said
        assert f"delete {CONFIG}.trow-refused" in said
        assert node.read(CONFIG) == providers(["ecr"])
    assert node.read("/asked") == "restart kubelet\n" * 2  # with it, and then without
    node.set(hosts="other.example\n")  # which may work
    node.agent("apply")
    assert node.read("/asked") == "restart kubelet\n" * 4


# ---- the life of the container


def watching(node: Node) -> subprocess.Popen[str]:
    return subprocess.Popen(node.argv("watch"), env=node.environment, stdout=subprocess.PIPE, text=True)


def test_watching_puts_back_what_somebody_removed_and_says_nothing_of_it(node: Node) -> None:
    node.has_containerd(ONE)
    node.agent("apply")
    with watching(node) as agent:
        node.at(HOSTS).unlink()
        until(node.at(HOSTS).exists)
        assert agent.poll() is None
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(10) == 0


def test_watching_ends_with_the_new_report(node: Node) -> None:
    """A container's message is shown when it has ended; the kubelet starts it again."""
    node.has_containerd(ONE)
    before = node.agent("apply")
    with watching(node) as agent:
        node.set(endpoint="http://10.7.7.7:80")
        assert agent.wait(10) == 0
    assert node.report.read_text() != before
    assert "leads to http://10.7.7.7:80" in node.report.read_text()
    with watching(node) as agent:  # and then has nothing new to say
        node.at(HOSTS).unlink()
        until(node.at(HOSTS).exists)
        assert agent.poll() is None
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(10) == 0


@pytest.mark.parametrize("mode", ["watch", "idle"])
def test_it_ends_at_once_when_told_to(node: Node, mode: str) -> None:
    node.has_containerd(ONE)
    node.agent("apply")
    environment = node.environment | {"TROW_SECONDS": "1000"}
    with subprocess.Popen(node.argv(mode), env=environment, start_new_session=True) as agent:
        until(lambda: sleeping(agent.pid))
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(10) == 0
    assert not group_lives(agent.pid)


def sleeping(pid: int) -> bool:
    found = subprocess.run(["ps", "--ppid", str(pid), "-o", "args="], capture_output=True, text=True, check=False)
    return "sleep" in found.stdout


def group_lives(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
