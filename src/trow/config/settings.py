"""What the schema says about each key: its type, its default, and all the ways to give it a value."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin

import msgspec
import yaml
from msgspec import Struct

from trow.config.schema import Config
from trow.config.values import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


@dataclass(frozen=True)
class Setting:
    """One key of the schema, with all the ways to give it a value."""

    key: str
    type: Any
    default: Any
    description: str
    flag: str
    minimum: float | None
    maximum: float | None

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
    def structured(self) -> bool:
        """Whether a value is more than one word: variables and flags then hold YAML."""
        kind = self.kind
        return get_origin(kind) is dict or (isinstance(kind, type) and issubclass(kind, Struct))

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
        if get_origin(self.kind) is dict:
            return "a mapping of texts, such as {images: team-a}"
        if get_origin(self.kind) is Literal:
            return "one of " + ", ".join(get_args(self.kind))
        return str(simple.get(self.kind) or self.kind.form)


def _settings(struct: type[Struct], prefix: str = "") -> Iterator[Setting]:
    for field in msgspec.structs.fields(struct):
        if isinstance(field.type, type) and issubclass(field.type, Struct):
            yield from _settings(field.type, f"{prefix}{field.name}.")
            continue
        kind, meta = get_args(field.type)
        # What can be changed in place, such as a dictionary, has no one default.
        default = field.default if field.default_factory is msgspec.NODEFAULT else field.default_factory()
        yield Setting(prefix + field.name, kind, default, meta.description, **meta.extra)


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
        case Struct():
            return {name: _plain(one) for name, one in msgspec.structs.asdict(value).items()}
        case str() | Path():
            return str(value)
    return value
