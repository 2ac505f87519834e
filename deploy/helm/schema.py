"""`values.schema.json`: the values of the chart by their defaults, the settings of Trow by its own schema."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, get_args, get_origin

import msgspec
import yaml

from trow.config.settings import SETTINGS
from trow.config.values import Duration, Size

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trow.config.settings import Setting

CHART: Final = Path(__file__).with_name("trow")
SCHEMA: Final = CHART / "values.schema.json"

Json: TypeAlias = "dict[str, Any]"

# What a default does not tell.
_SPECIAL: Final[Mapping[str, Json]] = {
    "admin.name": {"minLength": 1},
    "image.digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
    "image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "nodes.endpoint": {"pattern": "^(https?://[^/]+)?$"},
    "nodes.image.digest": {"pattern": "^(sha256:[0-9a-f]{64})?$"},
    "nodes.image.pullPolicy": {"enum": ["Always", "IfNotPresent", "Never"]},
    "ingress.controller": {"enum": ["nginx", "none"]},
    "ingress.maxBodySize": {"type": ["string", "integer"]},
    "httpRoute.requestTimeout": {"pattern": "^([0-9]{1,5}(h|m|s|ms)){1,4}$"},
    "persistence.whenDeleted": {"enum": ["Retain", "Delete"]},
    "service.externalTrafficPolicy": {"enum": [None, "Cluster", "Local"]},
    "service.nodePort": {"type": ["integer", "null"], "minimum": 1, "maximum": 65535},
    "service.port": {"minimum": 1, "maximum": 65535},
    "service.type": {"enum": ["ClusterIP", "NodePort", "LoadBalancer"]},
    "tls.issuerRef.kind": {"enum": ["Issuer", "ClusterIssuer"]},
    "tls.source": {"enum": ["none", "generated", "certManager", "existingSecret"]},
}
_TYPES: Final[Mapping[type, str]] = {bool: "boolean", dict: "object", int: "integer", list: "array", str: "string"}
# Objects of Kubernetes, which the API server checks.
_OPEN: Final = frozenset(
    ("podSecurityContext", "securityContext", "resources", "nodes.resources", "nodes.nodeSelector")
)


def schema() -> Json:
    """The schema of the values."""
    values = yaml.safe_load((CHART / "values.yaml").read_text("utf-8"))
    made = _of_default("", values)
    made["properties"]["config"] = _settings()
    made["properties"]["global"] = {"type": "object"}  # Helm passes it to every chart
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "Values of Trow", **made}


def text() -> str:
    """The schema as it is written."""
    return msgspec.json.format(msgspec.json.encode(schema()), indent=2).decode() + "\n"


def _of_default(key: str, value: object) -> Json:
    if isinstance(value, dict) and value and key not in _OPEN:
        members = {name: _of_default(f"{key}.{name}".lstrip("."), each) for name, each in value.items()}
        return {"type": "object", "additionalProperties": False, "properties": members}
    special = _SPECIAL.get(key, {})
    return special if "enum" in special or value is None else {"type": _TYPES[type(value)], **special}


def _settings() -> Json:
    """The settings of Trow, each in its section."""
    made: Json = {"type": "object", "additionalProperties": False, "properties": {}}
    for setting in SETTINGS.values():
        section, _, name = setting.key.rpartition(".")
        into = made["properties"]
        if section:
            into = into.setdefault(section, {"type": "object", "additionalProperties": False, "properties": {}})
            into = into["properties"]
        into[name] = {"description": setting.description, **_of_setting(setting)}
    return made


def _of_setting(setting: Setting) -> Json:
    one = _of_kind(setting.kind)
    if setting.minimum is not None and one.get("type") == "integer":
        one["minimum"] = setting.minimum
    if setting.many:
        one = {"type": "array", "items": one}
    return {"anyOf": [one, {"type": "null"}]} if setting.optional else one


def _of_kind(kind: Any) -> Json:
    if get_origin(kind) is dict:
        return {"type": "object"}
    if get_origin(kind) is Literal:
        return {"enum": [*get_args(kind)]}
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        names: Json = {field.encode_name: {} for field in msgspec.structs.fields(kind)}
        return {"type": "object", "additionalProperties": False, "properties": names}
    if kind in (Size, Duration):
        return {"type": ["string", "number"], "pattern": "^[0-9]"}
    return {"type": {bool: "boolean", int: "integer"}.get(kind, "string")}
