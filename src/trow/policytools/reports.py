"""The result of an evaluation, for programs: JSON of a stable form, and JUnit as CI systems read it."""

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
    from trow.policytools.judging import PolicyEvaluation

# Raised when a member changes its meaning or goes; new members do not raise it.
FORMAT: Final = 1
# Characters that XML 1.0 cannot hold, not even escaped (section 2.2).
_NO_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class PolicyResult(Struct, frozen=True):
    """What one policy says of one image."""

    policy: str
    rule: str
    mode: str
    verdict: str
    reason: str
    remedy: str
    exception: str


class ImageResult(Struct, frozen=True):
    """One field that names an image: `image` as it was written, `reference` as it is judged, null if it cannot be."""

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
    """Something that could not be judged, or that was passed over and should be looked at."""

    file: str
    document: int
    item: int | None
    message: str


class Summary(Struct, frozen=True):
    """How many images came to what, and how many objects name none."""

    allowed: int
    audited: int
    warned: int
    undecided: int
    denied: int
    objects: int
    objects_without_images: int
    errors: int


class Report(Struct, frozen=True):
    """All of it."""

    format: int
    verdict: str
    summary: Summary
    objects: tuple[ObjectResult, ...]
    errors: tuple[ErrorResult, ...]
    warnings: tuple[ErrorResult, ...]


def as_json(evaluation: Evaluation) -> str:
    """One JSON object, as the reference describes it."""
    report = Report(
        FORMAT,
        evaluation.outcome.value,
        Summary(
            **{outcome.value: count for outcome, count in evaluation.counts.items()},
            objects=len(evaluation.objects),
            objects_without_images=evaluation.without_images,
            errors=len(evaluation.unreadable),
        ),
        tuple(map(_object, evaluation.objects)),
        tuple(map(_error, evaluation.unreadable)),
        tuple(map(_error, evaluation.unknown_kinds)),
    )
    return msgspec.json.format(msgspec.json.encode(report)).decode()


def _object(judged: ObjectEvaluation) -> ObjectResult:
    location, images = judged.location, tuple(map(_image, judged.images))
    where = (location.file, location.document, location.item)
    return ObjectResult(*where, str(judged.kind), judged.namespace, judged.name, judged.outcome.value, images)


def _image(image: ImageEvaluation) -> ImageResult:
    use, reference = image.use, image.reference
    policies = tuple(map(_policy, image.results))
    text = str(reference) if reference else None
    return ImageResult(use.field, use.owner, use.text, text, image.outcome.value, policies)


def _policy(result: PolicyEvaluation) -> PolicyResult:
    found = result.finding
    reasons = (found.reason, found.remedy, found.exception)
    return PolicyResult(found.policy, found.rule, found.mode.value, result.outcome.value, *reasons)


def _error(unreadable: Unreadable) -> ErrorResult:
    location = unreadable.location
    message = f"{unreadable.what}: {unreadable.why}" if unreadable.what else unreadable.why
    return ErrorResult(location.file, location.document, location.item, message)


def as_junit(evaluation: Evaluation) -> str:
    """A test suite for each object, with a test case for each image in it.

    What is denied is a failure, what cannot be decided or read an error; what only warns passes and says so.
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
            told = ET.SubElement(case, tag, type=outcome.value, message=_text(lines[0]))
            told.text = _text("\n".join(lines))
            return case
    if lines := [*_lines(image, EvaluationOutcome.WARNED), *_lines(image, EvaluationOutcome.AUDITED)]:
        ET.SubElement(case, "system-out").text = _text("\n".join(lines))
    return case


def _lines(image: ImageEvaluation, outcome: EvaluationOutcome) -> Iterator[str]:
    return (str(result.finding) for result in image.results if result.outcome is outcome)


def _text(text: str) -> str:
    return _NO_XML.sub("\N{REPLACEMENT CHARACTER}", text)
