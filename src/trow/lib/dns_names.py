"""Names of the DNS as Kubernetes has them: of namespaces, objects and hosts (RFC 1123, section 2.1).

https://kubernetes.io/docs/concepts/overview/working-with-objects/names/
"""

from __future__ import annotations

import re
from typing import Final

LABEL: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
SUBDOMAIN: Final = rf"{LABEL}(?:\.{LABEL})*"
_LABEL: Final = re.compile(LABEL)
_SUBDOMAIN: Final = re.compile(SUBDOMAIN)
_LONGEST_SUBDOMAIN: Final = 253


def is_label(text: str) -> bool:
    """Whether it can be the name of a namespace: lower-case letters, digits and ``-``, 63 of them at most."""
    return _LABEL.fullmatch(text) is not None


def is_subdomain(text: str) -> bool:
    """Whether it can be the name of most objects: labels with dots between them, 253 characters at most."""
    return len(text) <= _LONGEST_SUBDOMAIN and _SUBDOMAIN.fullmatch(text) is not None
