"""Hypothesis knows that other programs share the machine."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("trow", deadline=None, max_examples=200)
settings.load_profile("trow")
