"""Where values come from: the YAML file, ``TROW_`` environment variables and flags, by rising precedence."""

from __future__ import annotations

import difflib
import re
import typing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import msgspec
import yaml

from trow.config.check import contradictions
from trow.config.errors import DEFAULT, ConfigError, Problem, Source
from trow.config.schema import Config, Tls
from trow.config.settings import SECTIONS, SETTINGS, Setting
from trow.config.values import Duration, Size
from trow.lib.globs import RepositoryGlob
from trow.lib.mistakes import reword

if TYPE_CHECKING:
    from collections.abc import Collection, Hashable, Mapping, Sequence


@dataclass(frozen=True)
class Given:
    """A raw value and the place it was written."""

    value: object
    source: Source


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is written twice; YAML readers usually keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:  # noqa: FBT001, FBT002
        names: set[str] = set()
        for name, _ in node.value:
            if str(name.value) in names:
                raise yaml.MarkedYAMLError(problem=f"key {name.value!r} is written twice", problem_mark=name.start_mark)
            names.add(str(name.value))
        return super().construct_mapping(node, deep=deep)


def _read_yaml(path: Path) -> object:
    source = Source("file", str(path))
    try:
        return yaml.load(path.read_bytes(), Loader=_StrictLoader)  # noqa: S506 (a safe loader made stricter)
    except OSError as error:
        problem = Problem(source, "", f"cannot be read ({error.strerror})", "give the path of a readable file")
    except yaml.MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}" if error.problem_mark else ""
        problem = Problem(source, line, str(error.problem or error), "correct the YAML")
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problem = Problem(source, "", f"is not YAML ({str(error).splitlines()[0]})", "correct the file")
    raise ConfigError([problem])


def _from_file(path: Path, problems: list[Problem]) -> dict[str, Given]:
    source = Source("file", str(path))
    document = _read_yaml(path)
    if not isinstance(document, dict | None):
        raise ConfigError(
            [Problem(source, "", "is not a mapping", "write sections such as `listen:` at the top level")]
        )
    values: dict[str, object] = {}
    for name, content in (document or {}).items():
        if name not in SECTIONS:
            values[str(name)] = content
        elif isinstance(content, dict):
            values |= {f"{name}.{field}": value for field, value in content.items()}
        elif content is not None:  # a section whose lines are all commented out is fine
            problems.append(Problem(source, name, "is not a mapping", "write its settings below it, indented"))
    problems += [
        _unknown(source, key, [*SETTINGS, *([] if "." in key else SECTIONS)]) for key in values if key not in SETTINGS
    ]
    return {key: Given(value, source) for key, value in values.items() if key in SETTINGS}


# Kubernetes gives every container variables for each Service of its namespace; one named "trow" makes these.
_SERVICE_VARIABLE = re.compile(
    r"TROW_(\w+_)?(SERVICE_(HOST|PORT)=.*|PORT(_\d+_(TCP|UDP|SCTP))?=\w+://.*|PORT_\d+_[A-Z]+_(PROTO|PORT|ADDR)=.*)"
)
_NAMED_SERVICE_PORT = "_SERVICE_PORT_"


def _from_environment(environment: Mapping[str, str], problems: list[Problem]) -> dict[str, Given]:
    keys = {setting.environment: key for key, setting in SETTINGS.items()}
    given: dict[str, Given] = {}
    for name, text in environment.items():
        source = Source("environment", name)
        if name in keys:
            given[keys[name]] = Given(_from_text(SETTINGS[keys[name]], text), source)
        elif name.startswith("TROW_") and name != "TROW_CONFIG" and not _of_a_service(name, text):
            problems.append(_unknown(source, "", [*keys, "TROW_CONFIG"]))
    return given


def _of_a_service(name: str, text: str) -> bool:
    return _NAMED_SERVICE_PORT in name or _SERVICE_VARIABLE.fullmatch(f"{name}={text}") is not None


def _from_flags(flags: Mapping[str, str], typed: Mapping[str, str]) -> dict[str, Given]:
    return {
        key: Given(_from_text(SETTINGS[key], text), Source("flag", typed.get(key, SETTINGS[key].flag)))
        for key, text in flags.items()
    }


def _from_text(setting: Setting, text: str) -> object:
    """The YAML value that a variable or flag stands for: a list is separated by commas, empty is null."""
    if setting.optional and not text:
        return None
    if setting.kind is Tls:
        return dict(zip(("certificate", "key"), text.split(","), strict=False)) if text.count(",") == 1 else text
    if setting.structured:
        return _flow(text) if text else setting.default
    if setting.many:
        return [part.strip() for part in text.split(",") if part.strip()]
    return text


def _flow(text: str) -> object:
    """A value of several parts, as YAML on one line; what is not YAML stays text, which the conversion refuses."""
    try:
        return yaml.load(text, Loader=_StrictLoader)  # noqa: S506 (a safe loader made stricter)
    except (yaml.YAMLError, ValueError, RecursionError):
        return text


# What other programs call settings of Trow.
CALLED: Final = {
    "listen.port": "listen.bind",
    "listen.host": "listen.bind",
    "listen.address": "listen.bind",
    "listen.certificate": "listen.tls",
    "listen.cert": "listen.tls",
    "listen.key": "listen.tls",
    "listen.client_ca": "listen.client_tls",
    "auth.password": "auth.password_file",
    "auth.users": "auth.users_file",
    "auth.htpasswd": "auth.users_file",
    "http.addr": "listen.bind",
    "port": "listen.bind",
    "bind": "listen.bind",
    "tls": "listen.tls",
    "storage": "data_dir",
    "data": "data_dir",
}


def _unknown(source: Source, key: str, known: Sequence[str]) -> Problem:
    if key in CALLED:
        right = SETTINGS[CALLED[key]]
        return Problem(source, key, "unknown setting", f"write {right.key}: {right.form}")
    name = key or source.name
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.71)
    section = key.rpartition(".")[0]
    if near and section and not _alike(key, near[0]):
        near = []
    kind = "setting" if key else "variable"
    return Problem(source, key, f"unknown {kind}", f"did you mean {near[0]}?" if near else _instead(section))


def _alike(key: str, other: str) -> bool:
    """Whether the names within their sections are alike: a section in common makes any two names seem so."""
    names = [each.rpartition(".")[2] for each in (key, other)]
    return difflib.SequenceMatcher(None, names[0], names[1]).ratio() >= 0.6  # noqa: PLR2004 - what difflib takes for close


def _instead(section: str) -> str:
    names = [key.removeprefix(f"{section}.") for key in SETTINGS if section and key.startswith(f"{section}.")]
    return f"remove it; {section} has {', '.join(names)}" if names else "remove it"


# From raw values to a Config.


@dataclass(frozen=True)
class Resolved:
    """A configuration and where each of its values was written."""

    config: Config
    sources: Mapping[str, Source]


def load(
    path: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, str],
    *,
    only: Collection[str] | None = None,
) -> Config:
    """The configuration from all sources, or a `ConfigError` with every problem.

    Args:
        path: the YAML file; without one the variable TROW_CONFIG may name it.
        environment: environment variables, such as `os.environ`.
        flags: values from the command line by dotted key, such as `{"listen.bind": "[::]:80"}`.
        only: sections and keys to read, such as `{"image_validation", "admission.registries"}`; all others keep their
            defaults, whatever the sources say. None reads everything.
    """
    return resolve(path, environment, flags, only=only).config


def resolve(
    path: Path | None,
    environment: Mapping[str, str],
    flags: Mapping[str, str],
    typed: Mapping[str, str] | None = None,
    *,
    only: Collection[str] | None = None,
) -> Resolved:
    """Like `load`, and says where each value came from.

    Args:
        path: the YAML file, as in `load`.
        environment: environment variables.
        flags: values from the command line by dotted key.
        typed: the flag by key where another one than the setting's own was given, such as ``--port``.
        only: as in `load`.
    """
    problems: list[Problem] = []
    if path is None and environment.get("TROW_CONFIG"):
        path = Path(environment["TROW_CONFIG"])
    given = _from_file(path, problems) if path else {}
    given |= _from_environment(environment, problems)
    given |= _from_flags(flags, typed or {})
    if only is not None:
        given = {key: value for key, value in given.items() if _is_read(key, only)}
        problems = [problem for problem in problems if _may_be_read(problem.key, only)]
    config = _build({key: _convert(SETTINGS[key], raw, problems) for key, raw in given.items()})
    sources = {key: given[key].source if key in given else DEFAULT for key in SETTINGS}
    # Rules about several settings would only repeat what a bad value has already said. What is not read breaks none.
    problems = problems or [
        each for each in contradictions(config, sources) if only is None or _is_read(each.key, only)
    ]
    if problems:
        raise ConfigError(problems)
    return Resolved(config, sources)


def _is_read(key: str, only: Collection[str]) -> bool:
    return key in only or key.partition(".")[0] in only


def _may_be_read(key: str, only: Collection[str]) -> bool:
    """Whether an unknown key could be a misspelt one of those that are read."""
    section, dot, _ = key.partition(".")
    return not dot or any(each.partition(".")[0] == section for each in only)


def _convert(setting: Setting, raw: Given, problems: list[Problem]) -> Any:
    try:
        value = msgspec.convert(raw.value, setting.type, strict=raw.source.kind == "file", dec_hook=_decode)
    except msgspec.ValidationError as error:
        wrong, _, where = str(error).partition(" - at `$")
        form = _choices(setting, where) if wrong.startswith("Invalid enum value") else ""
        place = f"at {where.rstrip('`').lstrip('.')}: " if where and setting.structured else ""
        wrong = place + reword(wrong, _members(setting))
        problems.append(Problem(raw.source, setting.key, wrong, f"write {form or setting.form}"))
        return setting.default
    if outside := _outside(setting, value):
        problems.append(Problem(raw.source, setting.key, f"{raw.value!r} {outside}", f"write {setting.form}"))
    return value


def _members(setting: Setting) -> tuple[str, ...]:
    """The names that a setting of several parts has."""
    return tuple(getattr(setting.kind, "__struct_fields__", ()))


def _choices(setting: Setting, where: str) -> str:
    """What a member of a structured setting may be, for a value that is none of it."""
    member = where.rstrip("`").rpartition(".")[2].partition("[")[0]
    hints = typing.get_type_hints(setting.kind) if setting.structured and isinstance(setting.kind, type) else {}
    values = _literals(hints.get(member))
    return f"one of {', '.join(values)}" if values else ""


def _literals(kind: object) -> tuple[str, ...]:
    """The texts that a type allows, also inside a list or with null."""
    inner = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return inner
    return next(filter(None, map(_literals, inner)), ())


def _outside(setting: Setting, value: Any) -> str:
    if value is None:
        return ""
    if setting.minimum is not None and value < setting.minimum:
        return f"is less than {_as_written(setting, setting.minimum)}"
    if setting.maximum is not None and value > setting.maximum:
        return f"is more than {_as_written(setting, setting.maximum)}"
    return ""


def _as_written(setting: Setting, bound: float) -> str:
    """A bound with the unit that people write."""
    kind = setting.kind
    return kind(bound).text if kind in (Size, Duration) else f"{bound:g}"


def _decode(kind: Any, raw: object) -> object:
    if kind is RepositoryGlob and not isinstance(raw, str):
        raise ValueError(f"{raw!r} is not a glob of repositories")
    if kind is not Path:
        return kind.parse(raw)
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError(f"{'nothing' if raw is None else repr(raw)} is not a path")
    return Path(raw)


def _build(values: Mapping[str, Any]) -> Config:
    sections: dict[str, Any] = {}
    for name in SECTIONS:
        fields = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
        sections[name] = type(getattr(Config(), name))(**fields)
    return Config(**sections, **{key: value for key, value in values.items() if "." not in key})
