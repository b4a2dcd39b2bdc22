"""Sentences that the terminal and the page both say."""

from __future__ import annotations

import os

from varifocal.tools.check.findings import Finding, Level
from varifocal.tools.check.report import Report

LEVEL_TITLES: dict[Level, str] = {
    "loss": "training would stop here or lose data",
    "warning": "worth a look",
    "suspect": "labels that the model doubts",
    "note": "good to know",
}


def count_of(number: int, noun: str) -> str:
    """The number with its noun: 1 box, 2 boxes."""
    plural = "es" if noun.endswith(("s", "x")) else "s"
    return f"{number:,} {noun}{'' if number == 1 else plural}"


def where(one: Finding, report: Report) -> str:
    """Return the file and the location of a finding, the file relative to the data set's folder."""
    folder = report.data if os.path.isdir(report.data) else os.path.dirname(report.data)
    inside = folder and one.file.startswith(os.path.join(folder, ""))
    file = os.path.relpath(one.file, folder) if inside else one.file
    return ", ".join(part for part in (file, one.location.rstrip(",")) if part)


def model_words(report: Report) -> str:
    """What a model found of the labels."""
    one = report.model
    if one is None:
        return ""
    doubts = sum(report.findings.total(kind) for kind in report.findings.kinds("suspect"))
    found = f"{one.found:,} of {count_of(one.labels, 'label')} in {count_of(one.images, 'image')}"
    text = f"the model {one.name} found {found}"
    return "; ".join([f"{text} and doubts {count_of(doubts, 'label')}", *one.notes])


def matching_words(report: Report) -> str:
    """What the detector's assignment gives."""
    found = report.matching
    if found is None or not found.boxes:
        return ""
    text = f"the assignment of {found.recipe} gives no point to {found.unmatched:,} of {count_of(found.boxes, 'box')}"
    if found.sampled:
        text += " (in a random sample of the images)"
    if found.unmatched_then is not None:
        text += f"; at the size below, to {found.unmatched_then:,}"
    return text


def advice_words(report: Report) -> str:
    """The recommended size."""
    if report.advice is None:
        return ""
    return report.advice.text


def decoding_words(report: Report) -> str:
    """What decoding cost, or would."""
    one = report.decoding
    if one.done:
        return f"{count_of(one.images, 'image')} decoded in {duration(one.seconds)}"
    return (
        f"no image was decoded; all {one.images:,} would take about {duration(one.seconds)} here "
        "and show damaged, rotated and copied ones"
    )


def verdict_words(report: Report) -> str:
    """The sentence behind the exit code."""
    lost = {kind: report.findings.total(kind) for kind in report.findings.kinds("loss")}
    if not lost:
        doubts = sum(report.findings.total(kind) for kind in report.findings.kinds("warning", "suspect"))
        return "nothing would be lost" + (f"; {count_of(doubts, 'thing')} worth a look" if doubts else "")
    return (
        f"training would stop or lose data: {count_of(sum(lost.values()), 'finding')} of {count_of(len(lost), 'kind')}"
    )


def duration(seconds: float) -> str:
    """Seconds, minutes or hours, in two digits or so."""
    if seconds < 90:
        return f"{seconds:.1f} seconds" if seconds < 10 else f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
