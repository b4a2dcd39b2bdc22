"""Sentences for both the terminal and the page."""

from __future__ import annotations

import os

from varifocal.tools.check.findings import Finding, Level
from varifocal.tools.check.report import Report
from varifocal.utils.text import count_of

LEVEL_TITLES: dict[Level, str] = {
    "loss": "training would stop here or lose data",
    "warning": "worth checking",
    "suspect": "labels that the model contradicts",
    "note": "good to know",
}


def where(finding: Finding, report: Report) -> str:
    """Return the file and the location of a finding, the file relative to the data set's folder."""
    folder = report.data if os.path.isdir(report.data) else os.path.dirname(report.data)
    inside = folder and finding.file.startswith(os.path.join(folder, ""))
    file = os.path.relpath(finding.file, folder) if inside else finding.file
    return ", ".join(part for part in (file, finding.location.rstrip(",")) if part)


def model_words(report: Report) -> str:
    """Return a sentence on how many labels the model detects, and on its findings; "" without a model."""
    model = report.model
    if model is None:
        return ""
    issues = sum(report.findings.total(kind) for kind in report.findings.kinds("suspect"))
    detected = f"{model.found:,} of {count_of(model.labels, 'label')} in {count_of(model.images, 'image')}"
    text = f"the model {model.name} detects {detected}"
    return "; ".join([f"{text} and reports {count_of(issues, 'possible label error')}", *model.notes])


def matching_words(report: Report) -> str:
    """Return a sentence on the boxes to which the detector's assignment gives no point."""
    match = report.matching
    if match is None or not match.boxes:
        return ""
    text = (
        f"the assignment of {match.recipe} leaves {match.unmatched:,} of {count_of(match.boxes, 'box')} without a point"
    )
    if match.sampled:
        text += " (in a random sample of the images)"
    if match.unmatched_then is not None:
        text += f"; at the recommended size, {match.unmatched_then:,}"
    return text


def decoding_words(report: Report) -> str:
    """Return a sentence on the time that decoding took, or would take."""
    decoding = report.decoding
    if decoding.done:
        return f"{count_of(decoding.images, 'image')} decoded in {duration(decoding.seconds)}"
    return (
        f"no image was decoded; decoding all {decoding.images:,} would take about {duration(decoding.seconds)} here "
        "and find damaged, rotated and duplicate images"
    )


def verdict_words(report: Report) -> str:
    """Return the sentence that explains the exit code."""
    lost = {kind: report.findings.total(kind) for kind in report.findings.kinds("loss")}
    if not lost:
        warnings = sum(report.findings.total(kind) for kind in report.findings.kinds("warning", "suspect"))
        return "no data would be lost" + (f"; {count_of(warnings, 'finding')} worth checking" if warnings else "")
    return (
        f"training would stop or lose data: {count_of(sum(lost.values()), 'finding')} of {count_of(len(lost), 'kind')}"
    )


def duration(seconds: float) -> str:
    """Return seconds, minutes or hours with about two digits."""
    if seconds < 90:
        return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
