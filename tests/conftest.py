"""What pytest does for every test of the project."""

from __future__ import annotations

from conformance.summary import pytest_terminal_summary

__all__ = ["pytest_terminal_summary"]
