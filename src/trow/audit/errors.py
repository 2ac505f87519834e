"""The error of the trail."""

from __future__ import annotations


class AuditError(Exception):
    """The trail, its key or one of its targets cannot be used; the message says what to do."""
