"""What a check says."""

from __future__ import annotations

from enum import StrEnum

from msgspec import Struct


class DiagnosisStatus(StrEnum):
    """Whether it is as it should be."""

    OK = "ok"
    PROBLEM = "problem"
    UNCHECKED = "unchecked"


class Diagnosis(Struct, frozen=True, omit_defaults=True):
    """One statement.

    Attributes:
        check: the name of the check.
        what: what is so, or why it could not be found out.
        where: the object, address or file; "" where that goes without saying.
        fix: what to do about a problem, with the command as it is typed.
    """

    status: DiagnosisStatus
    what: str
    where: str = ""
    fix: str = ""
    check: str = ""


class NotCheckedError(Exception):
    """Something cannot be found out from here; the message says why, and from where it can."""


def ok(what: str, where: str = "") -> Diagnosis:
    return Diagnosis(DiagnosisStatus.OK, what, where)


def problem(what: str, where: str, fix: str) -> Diagnosis:
    return Diagnosis(DiagnosisStatus.PROBLEM, what, where, fix)


def unchecked(what: str, where: str = "") -> Diagnosis:
    return Diagnosis(DiagnosisStatus.UNCHECKED, what, where)
