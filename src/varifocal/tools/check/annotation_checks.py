"""Findings about annotations: issues of the reader, invalid boxes, duplicate and unusual boxes."""

from __future__ import annotations

from collections import defaultdict
from functools import partial

import numpy as np

from varifocal.data.annotations import Issue
from varifocal.data.validate import BOX_ISSUES, MEANINGS, other_meanings
from varifocal.tools.check.boxes import Pairs, find_copies, find_unusual_sizes
from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.split import Split


def add_reader_issues(findings: Findings, split: Split) -> None:
    """Add what was wrong while reading: malformed records, unknown classes, missing images."""
    issues: dict[str, list[Issue]] = defaultdict(list)
    for issue in (*split.raw.problems, *split.raw.doubts):
        issues[issue.kind].append(issue)
    counts = split.raw.problems.counts + split.raw.doubts.counts

    def make(issue: Issue) -> Finding:
        text = f"{issue.text}; {issue.hint}" if issue.hint else issue.text
        if issue.box >= 0:
            return split.on_box(issue.kind, issue.box, text)
        return Finding(issue.kind, split.name, text, str(issue.location.file), issue.location.text, issue.image)

    for kind, listed in issues.items():
        findings.add_many((kind, split.name), listed, make, counts[kind])


def add_invalid_boxes(findings: Findings, split: Split) -> None:
    """Add invalid boxes, boxes with swapped corners or another meaning, and boxes that are clipped."""
    boxes, once = split.raw.boxes, split.each_region_once
    for kind, text in BOX_ISSUES.items():
        invalid = np.flatnonzero(split.verdict.faults[kind] & once)
        split.add_boxes(findings, kind, invalid, partial(boxes.describe, fault=text))
    swapped = "is written from right to left or from bottom to top, and is put in order"
    split.add_boxes(findings, "swapped-corners", boxes.swapped, lambda _: swapped)
    meanings = other_meanings(split.raw, split.verdict)
    for kind, indices in meanings.items():
        split.add_boxes(findings, kind, indices, partial(_meaning, kind))
    if not len(meanings["corners"]):
        _add_clipped_boxes(findings, split)


def _meaning(kind: str, index: int) -> str:
    del index  # the sentence is the same for every box
    return MEANINGS[kind]


def _add_clipped_boxes(findings: Findings, split: Split) -> None:
    indices = np.flatnonzero(split.verdict.clipped & split.each_region_once)
    corners = split.raw.boxes.xyxy[indices]
    limit = np.tile(split.raw.images.sizes[split.raw.boxes.images[indices]], 2)
    over = np.maximum(-corners, corners - limit).max(axis=1, initial=0)
    order = np.argsort(-over, kind="stable")

    def make(pair: tuple[int, float]) -> Finding:
        box, pixels = pair
        text = f"extends {pixels:.6g} pixels beyond the border of its image"
        return split.on_box("over-border", box, text, rank=min(pixels, 1e9))

    pairs = list(zip(indices[order].tolist(), over[order].tolist(), strict=True))
    findings.add_many(("over-border", split.name), pairs, make)


def add_copied_boxes(findings: Findings, split: Split) -> np.ndarray:
    """Add boxes that repeat another one; return which boxes [N] (bool) are exact copies of an earlier one."""
    copies = find_copies(split.sound_images, split.sound_labels, split.sound_boxes)
    texts = {
        "duplicate-box": (copies.same, "is the same as {}"),
        "near-duplicate-box": (copies.nearly, "is nearly the same as {} (IoU {:.2f})"),
        "two-classes": (copies.two_classes, "is where {} has {!r} (IoU {:.2f})"),
    }
    for kind, (pairs, text) in texts.items():
        _add_pairs(findings, split, kind, pairs, text)
    copy = np.zeros(len(split.raw.boxes), bool)
    copy[split.sound_indices[copies.same.later]] = True
    return copy


def _add_pairs(findings: Findings, split: Split, kind: str, pairs: Pairs, text: str) -> None:
    def make(i: int) -> Finding:
        box, first = (int(split.sound_indices[column[i]]) for column in (pairs.later, pairs.first))
        iou, name = float(pairs.iou[i]), split.class_name(int(split.raw.boxes.labels[first]))
        where = split.where(first)
        words = (where, name, iou) if kind == "two-classes" else (where, iou)
        own = split.class_name(int(split.raw.boxes.labels[box]))
        drawn = ((name, split.corners(first)), (own, split.corners(box)))
        return split.on_box(kind, box, text.format(*words), rank=iou, boxes=drawn)

    findings.add_many((kind, split.name), np.argsort(-pairs.iou, kind="stable").tolist(), make)


def add_unusual_boxes(findings: Findings, split: Split) -> None:
    """Add suspiciously tiny, huge and thin boxes."""
    sizes = split.raw.images.sizes[split.sound_images].astype(np.float64)
    unusual = find_unusual_sizes(split.sound_labels, split.sound_boxes, sizes.prod(axis=1), len(split.raw.categories))
    for kind, (indices, degrees) in unusual.items():

        def make(pair: tuple[int, float], kind: str = kind) -> Finding:
            index, degree = pair
            box = split.sound_boxes[index].astype(np.float64)
            width, height = (box[2:] - box[:2]).tolist()
            text = f"is {width:.4g} x {height:.4g} pixels"
            if kind == "huge-box":
                percent = 100 * width * height / float(sizes[index].prod())
                text += f", {percent:.0f} % of its image; {percent / degree:.0f} % is usual in its class"
            elif kind == "thin-box":
                text += f", 1 to {degree:.0f}"
            return split.on_box(kind, int(split.sound_indices[index]), text, rank=degree)

        pairs = list(zip(indices.tolist(), degrees.tolist(), strict=True))
        findings.add_many((kind, split.name), pairs, make)
