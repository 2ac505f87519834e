"""What a check says."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from trow.kube.errors import Forbidden


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


def lacking(error: Forbidden) -> str:
    """Which right somebody lacks. To give it to Trow itself would be wrong: Trow needs less than its doctor."""
    if (missing := error.missing) is None:
        return error.message
    resource = ".".join(filter(None, (missing.resource, missing.group)))
    where = f" in the namespace {missing.namespace}" if missing.namespace else ""
    return (
        f"{missing.user or 'this user'} may not {missing.verb} {resource}{where}; run the doctor where kubectl has the"
        " rights of a cluster administrator"
    )


def unchecked(what: str, where: str = "") -> Diagnosis:
    return Diagnosis(DiagnosisStatus.UNCHECKED, what, where)
