"""The kind PolicyReport, which some other program brings to a cluster."""

from __future__ import annotations

from typing import Final

WHO: Final = ("apiVersion", "kind", "name", "namespace", "uid")
OUTCOMES: Final = ("pass", "fail", "warn", "error", "skip")
RESULT: Final = {
    **{key: {"type": "string"} for key in ("source", "policy", "rule", "message")},
    "result": {"type": "string", "enum": OUTCOMES},
    "severity": {"type": "string", "enum": ["high", "low", "medium"]},
    "scored": {"type": "boolean"},
    "resources": {
        "type": "array",
        "items": {"type": "object", "properties": {key: {"type": "string"} for key in WHO}},
    },
    "timestamp": {
        "type": "object",
        "required": ["seconds", "nanos"],
        "properties": {
            "seconds": {"type": "integer", "format": "int64"},
            "nanos": {"type": "integer", "format": "int32"},
        },
    },
}
REPORT: Final = {
    "type": "object",
    "properties": {
        "summary": {
            "type": "object",
            "properties": {key: {"type": "integer"} for key in OUTCOMES},
        },
        "results": {"type": "array", "items": {"type": "object", "required": ["policy"], "properties": RESULT}},
    },
}
# Those fields of the definition that the working group has published which are used here, and no others are accepted.
DEFINITION: Final = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "policyreports.wgpolicyk8s.io"},
    "spec": {
        "group": "wgpolicyk8s.io",
        "names": {
            "kind": "PolicyReport",
            "plural": "policyreports",
            "singular": "policyreport",
            "shortNames": ["polr"],
        },
        "scope": "Namespaced",
        "versions": [
            {"name": "v1alpha2", "served": True, "storage": True, "schema": {"openAPIV3Schema": REPORT}},
        ],
    },
}
