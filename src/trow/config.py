"""The configuration: every setting, where its value comes from, and the errors that stop a start.

The structs below are the whole schema: names, types, defaults and descriptions. Values come, by rising precedence, from
these defaults, the YAML file, ``TROW_`` environment variables and command line flags.
"""

from __future__ import annotations

import difflib
import functools
import ipaddress
import re
import ssl
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self, TypeAlias, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import Meta, Struct

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterator, Mapping, Sequence

DEFAULT_PORT = 8000


# Value types. Each has one strict parser; `form` completes the sentence "write ..." in an error.


class Size(int):
    """A number of bytes."""

    form: ClassVar = "a whole number of bytes, or one with a unit such as 64KiB, 4MiB, 1GiB or 500MB"
    units: ClassVar = {
        "TiB": 2**40, "GiB": 2**30, "MiB": 2**20, "KiB": 2**10,
        "TB": 10**12, "GB": 10**9, "MB": 10**6, "kB": 10**3, "B": 1, "": 1,
    }  # fmt: skip

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(r"(\d{1,18}) ?([A-Za-z]*)", str(raw), re.ASCII)
        if match is None or match[2] not in cls.units:
            raise ValueError(f"{raw!r} is not a size")
        return cls(int(match[1]) * cls.units[match[2]])

    @property
    def text(self) -> str:
        return min((f"{self // factor}{unit}" for unit, factor in self.units.items() if self % factor == 0), key=len)


class Duration(float):
    """A number of seconds."""

    form: ClassVar = "a number of seconds, or one with a unit such as 500ms, 30s, 5m, 24h or 7d"
    units: ClassVar = {"d": 86400, "h": 3600, "m": 60, "s": 1, "": 1, "ms": 0.001}

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?) ?([a-z]*)", str(raw), re.ASCII)
        if match is None or match[2] not in cls.units:
            raise ValueError(f"{raw!r} is not a duration")
        return cls(float(match[1]) * cls.units[match[2]])

    @property
    def text(self) -> str:
        unit = next((unit for unit in "dhm" if self and self % self.units[unit] == 0), "s")
        return f"{self / self.units[unit]:.12g}{unit}"


class Bind(str):
    """HOST:PORT to listen on, always written with its port and with IPv6 addresses in brackets."""

    __slots__ = ()
    form: ClassVar = "HOST:PORT, such as 127.0.0.1:8000, [::]:8000 or localhost:8000; port 0 lets the kernel choose"

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(r"(?:\[(?P<ip>[^\[\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>\d{1,5}))?", str(raw), re.ASCII)
        if _is_address(str(raw)):
            return cls.of(str(raw), DEFAULT_PORT)
        if not isinstance(raw, str) or match is None or int(match["port"] or 0) > 65535:  # noqa: PLR2004
            raise ValueError(f"{raw!r} is not an address to listen on")
        if not (_is_address(match["ip"]) if match["ip"] else _is_host(match["host"])):
            raise ValueError(f"{raw!r} names no valid host")
        return cls.of(match["ip"] or match["host"], int(match["port"] or DEFAULT_PORT))

    @classmethod
    def of(cls, host: str, port: int) -> Self:
        return cls(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")

    @property
    def host(self) -> str:
        return self.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        return int(self.rpartition(":")[2])


class WebOrigin(str):
    """An origin that browsers may call from; ``*`` is any."""

    __slots__ = ()
    form: ClassVar = "an origin such as https://ui.example.com (scheme, host and port, no path), or *"

    @classmethod
    def parse(cls, raw: object) -> Self:
        match = re.fullmatch(r"https?://([^/?#@\s:\[\]]+|\[[^/?#@\s\[\]]+\])(:\d{1,5})?", str(raw), re.ASCII)
        if raw != "*" and match is None:
            raise ValueError(f"{raw!r} is not an origin")
        return cls(str(raw).lower())


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _is_host(name: str) -> bool:
    labels = name.removesuffix(".").split(".")
    # A last label of digits only is a mistyped IPv4 address.
    return _is_address(name) or (
        len(name) < 254  # noqa: PLR2004 (the DNS limit)
        and all(re.fullmatch(r"(?!-)[A-Za-z0-9_-]{1,63}(?<!-)", label, re.ASCII) for label in labels)
        and not labels[-1].isdigit()
    )


# The schema.


def _setting(text: str, *, flag: str = "", minimum: int | None = None) -> Meta:
    return Meta(description=text, extra={"flag": flag, "minimum": minimum})


class Tls(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Certificate chain and private key, both PEM."""

    form: ClassVar = "both files, certificate and key; in a variable or flag CERT,KEY"
    certificate: Path
    key: Path


class Listen(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where and how to listen."""

    bind: Annotated[
        tuple[Bind, ...],
        _setting(
            "Addresses to listen on. A host name stands for all addresses it has on this machine, as `localhost` may"
            " be both loopbacks; `[::]` is every address, IPv4 and IPv6; port 0 lets the kernel choose; an address"
            " without port gets 8000.",
            flag="--bind",
        ),
    ] = (Bind("127.0.0.1:8000"),)
    tls: Annotated[
        Tls | None,
        _setting(
            "PEM files `certificate` (the whole chain) and `key`. Null serves plain HTTP. Renewed files are taken up"
            " without a restart.",
            flag="--tls",
        ),
    ] = None
    cors: Annotated[
        tuple[WebOrigin, ...],
        _setting(
            "Origins whose pages may call the registry from a browser. `*` is every origin, then without credentials.",
            flag="--cors",
        ),
    ] = ()
    shutdown_grace: Annotated[
        Duration, _setting("How long a stop waits for requests in flight before it cuts them off.", minimum=0)
    ] = Duration(30)


class Registry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the registry accepts and keeps."""

    max_manifest_size: Annotated[
        Size,
        _setting("Largest manifest accepted; a larger one is answered 413.", flag="--max-manifest-size", minimum=1),
    ] = Size(4 * 2**20)
    max_blob_size: Annotated[
        Size, _setting("Largest blob accepted; a larger one is answered 413.", flag="--max-blob-size", minimum=1)
    ] = Size(2**40)
    sparse_indexes: Annotated[
        bool, _setting("Accept an index that lists manifests which the repository does not hold.")
    ] = True
    sparse_images: Annotated[
        bool, _setting("Accept an image manifest that lists blobs which the repository does not hold.")
    ] = True
    upload_expiry: Annotated[Duration, _setting("An upload session ends this long after its last byte.", minimum=1)] = (
        Duration(3600)
    )
    tag_history: Annotated[int, _setting("Entries of history kept for each tag.", minimum=0)] = 100
    notice: Annotated[
        str, _setting("A text sent as `Warning` header with every answer under `/v2/`; clients show it. Empty: none.")
    ] = ""


class Limits(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What a client may ask for."""

    requests_per_second: Annotated[
        int,
        _setting(
            "Requests a second allowed to one client address; above it the answer is 429 with `Retry-After`."
            " 0: no limit.",
            minimum=0,
        ),
    ] = 0
    burst: Annotated[
        int, _setting("Requests that one client address may send at once before its rate counts.", minimum=1)
    ] = 100
    max_uploads: Annotated[
        int, _setting("Open upload sessions; a new one above this number is answered 429.", minimum=1)
    ] = 10000
    page_size: Annotated[int, _setting("Entries in one page of a list when the request gives no `n`.", minimum=1)] = (
        1000
    )
    max_page_size: Annotated[
        int, _setting("Largest page of a list; a larger `n` is answered with this many.", minimum=1)
    ] = 10000
    max_tags_per_push: Annotated[
        int, _setting("`tag` parameters that one manifest push may carry; above it the answer is 414.", minimum=1)
    ] = 64
    body_timeout: Annotated[
        Duration, _setting("Silence allowed in the middle of a request's body; after it the answer is 408.", minimum=1)
    ] = Duration(60)


Access: TypeAlias = Literal["none", "pull", "all"]


class Auth(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Who may do what."""

    user: Annotated[
        str | None, _setting("The user who may do everything, by HTTP Basic authentication.", flag="--user")
    ] = None
    password_file: Annotated[
        Path | None,
        _setting("File with the user's password; one trailing newline is not part of it.", flag="--password-file"),
    ] = None
    anonymous: Annotated[
        Access | None,
        _setting(
            "What a request without credentials may do: `none`, `pull` (read) or `all`. Null: `none` when a user is"
            " set, `all` when none is.",
            flag="--anonymous",
        ),
    ] = None

    @property
    def anonymous_access(self) -> Access:
        return self.anonymous or ("all" if self.user is None else "none")


class Log(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written to standard error, one JSON object a line."""

    level: Annotated[
        Literal["debug", "info", "warning", "error"],
        _setting("Least severe level that is written.", flag="--log-level"),
    ] = "info"
    access: Annotated[bool, _setting("Write one line for every request.", flag="--no-access-log")] = True


class Config(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The whole configuration."""

    listen: Listen = Listen()
    data_dir: Annotated[
        Path, _setting("Directory of everything stored; made when it does not exist.", flag="--data-dir")
    ] = Path("data")
    registry: Registry = Registry()
    limits: Limits = Limits()
    auth: Auth = Auth()
    log: Log = Log()


# What the schema says about each key.


@dataclass(frozen=True)
class Setting:
    """One key of the schema, with all the ways to give it a value."""

    key: str
    type: Any
    default: Any
    description: str
    flag: str
    minimum: int | None

    @property
    def environment(self) -> str:
        return "TROW_" + self.key.replace(".", "_").upper()

    @property
    def optional(self) -> bool:
        return NoneType in get_args(self.type)

    @property
    def many(self) -> bool:
        return get_origin(self.type) is tuple

    @property
    def kind(self) -> Any:
        """The type of one value, without "or null" and "list of"."""
        if self.many or get_origin(self.type) in (Union, UnionType):
            return get_args(self.type)[0]
        return self.type

    @property
    def form(self) -> str:
        """What to write; completes the sentence "write ..."."""
        simple = {
            bool: "true or false",
            Path: "a path",
            str: "a text",
            int: f"a whole number of at least {self.minimum}",
        }
        if get_origin(self.kind) is Literal:
            return "one of " + ", ".join(get_args(self.kind))
        return str(simple.get(self.kind) or self.kind.form)


def _settings(struct: type[Struct], prefix: str = "") -> Iterator[Setting]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from _settings(field.type, f"{prefix}{field.name}.")
            continue
        kind, meta = get_args(field.type)
        yield Setting(prefix + field.name, kind, field.default, meta.description, **meta.extra)


SETTINGS: Mapping[str, Setting] = {setting.key: setting for setting in _settings(Config)}
SECTIONS = [*dict.fromkeys(key.partition(".")[0] for key in SETTINGS if "." in key)]


def yaml_text(value: object) -> str:
    """A setting's value on one line, as the file would have it."""
    return yaml.safe_dump(_plain(value), default_flow_style=True, width=10**6).removesuffix("...\n").strip()


def _plain(value: object) -> object:
    match value:
        case Size() | Duration():
            return value.text
        case tuple():
            return [_plain(one) for one in value]
        case Tls():
            return {"certificate": str(value.certificate), "key": str(value.key)}
        case str() | Path():
            return str(value)
    return value


# Errors.


@dataclass(frozen=True)
class Source:
    """Where a value was written."""

    kind: Literal["default", "file", "environment", "flag"]
    name: str = ""

    def __str__(self) -> str:
        return {"file": self.name, "environment": f"variable {self.name}", "flag": f"flag {self.name}"}.get(
            self.kind, self.kind
        )


DEFAULT = Source("default")


@dataclass(frozen=True)
class Problem:
    """One reason not to start: where, which key, what is wrong, what to do."""

    source: Source
    key: str
    wrong: str
    fix: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (str(self.source), self.key, f"{self.wrong}; {self.fix}")))


class ConfigError(Exception):
    """The configuration cannot be used; holds every problem found."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = tuple(problems)


# Sources: each gives raw values by key.


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
    r"TROW_(\w+_)?(SERVICE_(HOST|PORT(_\w+)?)=.*|PORT(_\d+_(TCP|UDP|SCTP))?=\w+://.*|PORT_\d+_\w+_(PROTO|PORT|ADDR)=.*)"
)


def _from_environment(environment: Mapping[str, str], problems: list[Problem]) -> dict[str, Given]:
    keys = {setting.environment: key for key, setting in SETTINGS.items()}
    given: dict[str, Given] = {}
    for name, text in environment.items():
        source = Source("environment", name)
        if name in keys:
            given[keys[name]] = Given(_from_text(SETTINGS[keys[name]], text), source)
        elif name.startswith("TROW_") and name != "TROW_CONFIG" and not _SERVICE_VARIABLE.fullmatch(f"{name}={text}"):
            problems.append(_unknown(source, "", [*keys, "TROW_CONFIG"]))
    return given


def _from_flags(flags: Mapping[str, str]) -> dict[str, Given]:
    return {
        key: Given(_from_text(SETTINGS[key], text), Source("flag", SETTINGS[key].flag)) for key, text in flags.items()
    }


def _from_text(setting: Setting, text: str) -> object:
    """The YAML value that a variable or flag stands for: a list is separated by commas, empty is null."""
    if setting.many:
        return [part.strip() for part in text.split(",") if part.strip()]
    if setting.optional and not text:
        return None
    if setting.kind is Tls:
        return dict(zip(("certificate", "key"), text.split(","), strict=False)) if text.count(",") == 1 else text
    return text


def _unknown(source: Source, key: str, known: Sequence[str]) -> Problem:
    near = difflib.get_close_matches(key or source.name, known, n=1, cutoff=0.71)  # more alike than a shared section
    kind = "setting" if key else "variable"
    return Problem(source, key, f"unknown {kind}", f"did you mean {near[0]}?" if near else "remove it")


# From raw values to a Config.


@dataclass(frozen=True)
class Resolved:
    """A configuration and where each of its values was written."""

    config: Config
    sources: Mapping[str, Source]


def load(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> Config:
    """The configuration from all sources, or a `ConfigError` with every problem.

    Args:
        path: the YAML file; without one the variable TROW_CONFIG may name it.
        environment: environment variables, such as `os.environ`.
        flags: values from the command line by dotted key, such as `{"listen.bind": "[::]:80"}`.
    """
    return resolve(path, environment, flags).config


def resolve(path: Path | None, environment: Mapping[str, str], flags: Mapping[str, str]) -> Resolved:
    """Like `load`, and says where each value came from."""
    problems: list[Problem] = []
    if path is None and environment.get("TROW_CONFIG"):
        path = Path(environment["TROW_CONFIG"])
    given = _from_file(path, problems) if path else {}
    given |= _from_environment(environment, problems)
    given |= _from_flags(flags)
    config = _build({key: _convert(SETTINGS[key], raw, problems) for key, raw in given.items()})
    sources = {key: given[key].source if key in given else DEFAULT for key in SETTINGS}
    # Rules about several settings would only repeat what a bad value has already said.
    problems = problems or list(_contradictions(config, sources))
    if problems:
        raise ConfigError(problems)
    return Resolved(config, sources)


def read_password(config: Config) -> str | None:
    """The user's password; None when no password file is set."""
    if config.auth.password_file is None:
        return None
    return config.auth.password_file.read_text("utf-8").removesuffix("\n").removesuffix("\r")


def _convert(setting: Setting, raw: Given, problems: list[Problem]) -> Any:
    try:
        value = msgspec.convert(raw.value, setting.type, strict=raw.source.kind == "file", dec_hook=_decode)
    except msgspec.ValidationError as error:
        wrong = str(error).partition(" - at `$")[0]
        problems.append(Problem(raw.source, setting.key, wrong, f"write {setting.form}"))
        return setting.default
    if setting.minimum is not None and value < setting.minimum:
        problems.append(
            Problem(raw.source, setting.key, f"{raw.value!r} is less than {setting.minimum}", f"write {setting.form}")
        )
    return value


def _decode(kind: Any, raw: object) -> object:
    if kind is not Path:
        return kind.parse(raw)
    if not isinstance(raw, str) or not raw or "\0" in raw:
        raise ValueError(f"{raw!r} is not a path")
    return Path(raw)


def _build(values: Mapping[str, Any]) -> Config:
    sections: dict[str, Any] = {}
    for name in SECTIONS:
        fields = {key.partition(".")[2]: value for key, value in values.items() if key.startswith(f"{name}.")}
        sections[name] = type(getattr(Config(), name))(**fields)
    return Config(**sections, **{key: value for key, value in values.items() if "." not in key})


def _contradictions(config: Config, sources: Mapping[str, Source]) -> Iterator[Problem]:
    """What is wrong between settings, and between a setting and the machine."""
    problem = functools.partial(_problem_at, sources)
    if not config.listen.bind:
        yield problem("listen.bind", "is empty", f"write {Bind.form}")
    if config.limits.page_size > config.limits.max_page_size:
        yield problem("limits.page_size", "is larger than limits.max_page_size", "lower it or raise the other")
    notice = config.registry.notice
    if notice and not (notice.isascii() and notice.isprintable()):
        yield problem("registry.notice", "cannot be sent in a header", "write printable ASCII on one line")
    yield from _contradictions_of_auth(config, problem)
    if config.listen.tls and (wrong := _wrong_with_tls(config.listen.tls)):
        yield problem("listen.tls", wrong, "give a PEM certificate chain and its unencrypted PEM key")


def _problem_at(sources: Mapping[str, Source], key: str, wrong: str, fix: str) -> Problem:
    return Problem(sources[key], key, wrong, fix)


def _contradictions_of_auth(config: Config, problem: functools.partial[Problem]) -> Iterator[Problem]:
    auth = config.auth
    if auth.user is not None and (not auth.user or ":" in auth.user or not auth.user.isprintable()):
        yield problem("auth.user", f"{auth.user!r} is not a user name", "write a name without colon")
    if auth.user is not None and auth.password_file is None:
        yield problem("auth.user", "has no password", "set auth.password_file too")
    if auth.user is None and auth.password_file is not None:
        yield problem("auth.password_file", "is set without a user", "set auth.user too")
    if auth.user is None and auth.anonymous == "none":
        yield problem("auth.anonymous", "leaves nobody who may use the registry", "set auth.user, or write pull or all")
    if wrong := _wrong_with_password(config):
        yield problem("auth.password_file", f"{auth.password_file} {wrong}", "give a file that holds the password")


def _wrong_with_password(config: Config) -> str | None:
    try:
        password = read_password(config)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    except UnicodeDecodeError:
        return "is not UTF-8 text"
    return "is empty" if password == "" else None


def _wrong_with_tls(tls: Tls) -> str | None:
    for path in (tls.certificate, tls.key):
        try:
            path.read_bytes()
        except OSError as error:
            return f"{path} cannot be read ({error.strerror})"
    try:
        # The password keeps OpenSSL from asking for one at the terminal.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(tls.certificate, tls.key, password="")
    except (ssl.SSLError, ValueError) as error:
        return f"{tls.certificate} and {tls.key} cannot be used ({getattr(error, 'reason', None) or error})"
    return None
