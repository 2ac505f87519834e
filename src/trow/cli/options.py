"""The flags that give settings a value, shared by the commands that need a configuration."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from trow.config import DEFAULT_PORT, LARGEST_PORT, SETTINGS, Bind, ConfigError, Problem, Resolved, Source, resolve

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

    from trow.cli.parser import Parser

# Flags that only pass a value on: key, metavar, short form.
_PLAIN = [
    ("listen.tls", "CERT,KEY", None),
    ("listen.probes", "HOST:PORT", None),
    ("listen.public_url", "URL", None),
    ("listen.trusted_proxies", "NETWORKS", None),
    ("listen.cors", "ORIGINS", None),
    ("data_dir", "DIR", "-d"),
    ("registry.max_manifest_size", "SIZE", None),
    ("registry.max_blob_size", "SIZE", None),
    ("auth.user", "USER", "-u"),
    ("auth.password_file", "FILE", None),
    ("auth.users_file", "FILE", None),
    ("auth.anonymous", "ACCESS", None),
    ("auth.challenge", "KIND", None),
    ("kubernetes.audiences", "NAMES", None),
    ("admission.bind", "HOST:PORT", None),
    ("log.level", "LEVEL", None),
    ("log.format", "FORMAT", None),
]
# Flags that stand alone: key, the value they give it, help.
_SWITCHES = {
    "--allow-anonymous-push": ("auth.allow_anonymous_push", "true", "let everybody pull, push and delete, anywhere"),
    "--kubernetes-authorization": ("kubernetes.authorization", "true", "let the cluster's RBAC decide"),
    "--admission-policies": ("admission.policies", "true", "follow the policies of the cluster"),
    "--no-audit": ("audit.enabled", "false", "keep no record of who did what"),
    "--no-access-log": ("log.access", "false", "do not log every request"),
}
_MEBIBYTES = {"registry.max_manifest_size", "registry.max_blob_size"}
_NOTES = {
    **dict.fromkeys(("listen.cors", "listen.trusted_proxies", "kubernetes.audiences"), " Separate several by commas."),
    **dict.fromkeys(_MEBIBYTES, " A number without unit means MiB here."),
}


def add_config(parser: Parser) -> None:
    parser.add_argument("-c", "--config", metavar="FILE", type=Path, help="YAML file with settings (or TROW_CONFIG)")


def add_data_dir(parser: Parser) -> None:
    """The data directory, or the file that says where it is."""
    add_config(parser)
    _add(parser, "data_dir", "DIR", "-d")


def add_cluster(parser: Parser, default: str = "") -> None:
    """The cluster that a command asks; ``default`` is what comes before the files that kubectl would take."""
    parser.add_argument(
        "--kubeconfig",
        metavar="PATH",
        type=Path,
        help=f"the cluster (default: {default}the files of $KUBECONFIG, or ~/.kube/config)",
    )
    parser.add_argument(
        "--context", metavar="NAME", default="", help="context of the kubeconfig file (default: its current one)"
    )


def add_settings(parser: Parser) -> None:
    """Every flag that gives a setting a value."""
    group = parser.add_argument_group("settings", "These win over TROW_ variables, which win over the file.")
    group.add_argument(
        "--bind", metavar="HOST:PORT", action="append", help="listen here, such as [::]:8000; may be repeated"
    )
    group.add_argument("--host", action="append", help="listen on this host; may be repeated; not with --bind")
    group.add_argument("--port", help=f"port for --host (default {DEFAULT_PORT}; 0: any free one)")
    for plain in _PLAIN:
        _add(group, *plain)
    for flag, (key, _, text) in _SWITCHES.items():
        group.add_argument(flag, action="store_true", dest=key, help=text)


def resolved(args: argparse.Namespace) -> Resolved:
    """The configuration of this command line with this process's environment."""
    given = vars(args)
    typed = next((flag for flag in ("--host", "--port") if given.get(flag[2:]) is not None), "--bind")
    return resolve(args.config, os.environ, dict(_flags(args)), {"listen.bind": typed})


def _add(group: argparse._ActionsContainer, key: str, metavar: str, short: str | None) -> None:
    names = [name for name in (short, SETTINGS[key].flag) if name]
    text = SETTINGS[key].description + _NOTES.get(key, "")
    group.add_argument(*names, dest=key, metavar=metavar, help=text.replace("`", "").replace("%", "%%"))


def _flags(args: argparse.Namespace) -> Iterator[tuple[str, str]]:
    """Flags as (key, text); commands that offer fewer flags simply give fewer."""
    given = vars(args)
    if binds := _binds(args):
        yield "listen.bind", binds
    for key, _, _ in _PLAIN:
        if (text := given.get(key)) is not None:
            yield key, f"{text}MiB" if key in _MEBIBYTES and text.isdecimal() else text
    yield from ((key, value) for key, value, _ in _SWITCHES.values() if given.get(key))


def _binds(args: argparse.Namespace) -> str | None:
    given = vars(args)
    hosts, port, binds = given.get("host"), given.get("port"), given.get("bind")
    if hosts is None and port is None:
        return ",".join(binds) if binds else None
    if binds:
        source = Source("flag", "--host" if hosts else "--port")
        raise ConfigError([Problem(source, "listen.bind", "contradicts --bind", "give --bind HOST:PORT alone")])
    if port is not None and not (port.isascii() and port.isdecimal() and int(port[:6]) <= LARGEST_PORT):
        raise _wrong("--port", f"{port!r} is not a port", f"write a number up to {LARGEST_PORT}; 0 is any free one")
    return ",".join(_bind(host, port or str(DEFAULT_PORT)) for host in hosts or ["127.0.0.1"])


def _bind(host: str, port: str) -> str:
    bind = _join(host.strip("[]"), port)
    try:
        return Bind.parse(bind)
    except ValueError:
        raise _wrong(
            "--host", f"{host!r} is not a host", "write a name or an address, and the port as --port"
        ) from None


def _wrong(flag: str, wrong: str, fix: str) -> ConfigError:
    """A mistake in a flag that is not a setting by itself, named as it was typed."""
    return ConfigError([Problem(Source("flag", flag), "", wrong, fix)])


def _join(host: str, port: str) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
