"""Reports of an evaluation for programs: JSON with a stable format, and JUnit XML for CI systems."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET

import msgspec
from msgspec import Struct

from trow.lib.terminal import escaped_xml
from trow.policytools.judging import EvaluationOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from trow.policytools.evaluation import Evaluation, ImageEvaluation, ObjectEvaluation, Unreadable

# Incremented when the meaning of a member changes or a member is removed; not for a new member.
FORMAT: Final = 1
# Characters that XML 1.0 does not allow, not even escaped (section 2.2).
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class PolicyResult(Struct, frozen=True):
    """The finding of one policy about one image."""

    policy: str
    rule: str
    mode: str
    verdict: str
    reason: str
    remedy: str
    exception: str


class ImageResult(Struct, frozen=True):
    """One image: `image` as it was written, `reference` as it is evaluated, null if it is not valid."""

    field: str
    used_by: str
    image: str
    reference: str | None
    verdict: str
    policies: tuple[PolicyResult, ...]


class ObjectResult(Struct, frozen=True):
    """One object that names images; `document` counts from 1, `item` of a list from 0."""

    file: str
    document: int
    item: int | None
    kind: str
    namespace: str
    name: str
    verdict: str
    images: tuple[ImageResult, ...]


class ErrorResult(Struct, frozen=True):
    """An object that could not be evaluated, or whose kind is unknown."""

    file: str
    document: int
    item: int | None
    message: str


class Summary(Struct, frozen=True):
    """The number of images with each outcome, and the number of objects."""

    allowed: int
    audited: int
    warned: int
    undecided: int
    denied: int
    objects: int
    objects_without_images: int
    errors: int


class Report(Struct, frozen=True):
    """The JSON report."""

    format: int
    verdict: str
    summary: Summary
    objects: tuple[ObjectResult, ...]
    errors: tuple[ErrorResult, ...]
    warnings: tuple[ErrorResult, ...]


def as_json(evaluation: Evaluation) -> str:
    """The JSON report, as the reference describes it."""
    report = Report(
        FORMAT,
        evaluation.outcome.value,
        Summary(
            **{outcome.value: count for outcome, count in evaluation.counts.items()},
            objects=len(evaluation.objects),
            objects_without_images=evaluation.without_images,
            errors=len(evaluation.unreadable),
        ),
        tuple(map(_object_result, evaluation.objects)),
        tuple(map(_error, evaluation.unreadable)),
        tuple(map(_error, evaluation.unknown_kinds)),
    )
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def _object_result(evaluated: ObjectEvaluation) -> ObjectResult:
    where = (evaluated.location.file, evaluated.location.document, evaluated.location.item)
    what = (str(evaluated.kind), evaluated.namespace, evaluated.name)
    return ObjectResult(*where, *what, evaluated.outcome.value, tuple(map(_image_result, evaluated.images)))


def _image_result(image: ImageEvaluation) -> ImageResult:
    use, reference = image.use, str(image.reference) if image.reference else None
    policies = []
    for result in image.results:
        found, verdict = result.finding, result.outcome.value
        reasons = (found.reason, found.remedy, found.exception)
        policies.append(PolicyResult(found.policy, found.rule, found.mode.value, verdict, *reasons))
    return ImageResult(use.field, use.owner, use.text, reference, image.outcome.value, tuple(policies))


def _error(unreadable: Unreadable) -> ErrorResult:
    location = unreadable.location
    message = f"{unreadable.what}: {unreadable.why}" if unreadable.what else unreadable.why
    return ErrorResult(location.file, location.document, location.item, message)


def as_junit(evaluation: Evaluation) -> str:
    """A JUnit report: a test suite for each object, with a test case for each of its images.

    Denied is a failure; undecided and unreadable are errors; a warning passes, with the warning in its output.
    """
    root = ET.Element("testsuites", name="trow policy test")
    for judged in evaluation.objects:
        root.append(_suite(f"{judged.location.short} {judged}", [_case(judged, image) for image in judged.images]))
    unreadable: list[ET.Element] = []
    for each in evaluation.unreadable:
        name, file, message = _text(str(each.location)), _text(each.location.file), _text(str(each))
        case = ET.Element("testcase", name=name, classname="unreadable", file=file, time="0")
        ET.SubElement(case, "error", type="unreadable", message=message).text = message
        unreadable.append(case)
    if unreadable:
        root.append(_suite("unreadable", unreadable))
    for name in ("tests", "failures", "errors"):
        root.set(name, str(sum(int(suite.get(name, "0")) for suite in root)))
    ET.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + escaped_xml(ET.tostring(root, encoding="unicode"))


def _suite(name: str, cases: Sequence[ET.Element]) -> ET.Element:
    suite = ET.Element("testsuite", name=_text(name), tests=str(len(cases)), skipped="0", time="0")
    for tag in ("failure", "error"):
        suite.set(f"{tag}s", str(sum(case.find(tag) is not None for case in cases)))
    suite.extend(cases)
    return suite


def _case(judged: ObjectEvaluation, image: ImageEvaluation) -> ET.Element:
    name = f"{image.use.owner}: {image.reference or image.use.text}"
    case = ET.Element("testcase", name=_text(name), classname=_text(str(judged)), file=_text(judged.location.file))
    case.set("time", "0")
    for tag, outcome in (("failure", EvaluationOutcome.DENIED), ("error", EvaluationOutcome.UNDECIDED)):
        if lines := list(_lines(image, outcome)):
            ET.SubElement(case, tag, type=outcome.value, message=_text(lines[0])).text = _text("\n".join(lines))
            return case
    if lines := [*_lines(image, EvaluationOutcome.WARNED), *_lines(image, EvaluationOutcome.AUDITED)]:
        ET.SubElement(case, "system-out").text = _text("\n".join(lines))
    return case


def _lines(image: ImageEvaluation, outcome: EvaluationOutcome) -> Iterator[str]:
    return (str(result.finding) for result in image.results if result.outcome is outcome)


def _text(text: str) -> str:
    return _NOT_XML.sub("\N{REPLACEMENT CHARACTER}", text)
