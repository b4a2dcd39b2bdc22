"""What the reader and the shared judgment of boxes found, and what else is odd about boxes, as findings."""

from __future__ import annotations

from collections import defaultdict

import numpy as np

from varifocal.data.annotations import Issue
from varifocal.data.validate import BOX_ISSUES, MEANINGS, other_meanings
from varifocal.tools.check.boxes import Odd, Pairs, find_copies, find_odd
from varifocal.tools.check.findings import Finding, Findings
from varifocal.tools.check.split import Split


def find_in_source(found: Findings, split: Split) -> None:
    """What was wrong while reading: malformed records, unknown classes, missing images."""
    problems: dict[str, list[Issue]] = defaultdict(list)
    for problem in (*split.raw.problems, *split.raw.doubts):
        problems[problem.kind].append(problem)
    counts = split.raw.problems.counts + split.raw.doubts.counts
    for kind, listed in problems.items():

        def make(problem: Issue) -> Finding:
            hint = f"; {problem.hint}" if problem.hint else ""
            if problem.box >= 0:
                return split.on_box(problem.kind, problem.box, problem.text + hint)
            location, file = problem.location.text, str(problem.location.file)
            return Finding(problem.kind, split.name, problem.text + hint, file, location, problem.image)

        found.add(kind, split.name, listed, make, counts[kind])


def find_faults(found: Findings, split: Split) -> None:
    """Boxes that cannot be, and those that are put in order or clipped."""
    once = split.each_region_once
    for kind, text in BOX_ISSUES.items():

        def make(box: int, kind: str = kind, text: str = text) -> Finding:
            return split.on_box(kind, box, split.raw.boxes.describe(box, text))

        found.add(kind, split.name, np.flatnonzero(split.verdict.faults[kind] & once).tolist(), make)

    def swapped(box: int) -> Finding:
        text = "is written from right to left or from bottom to top, and is put in order"
        return split.on_box("swapped-corners", box, text)

    found.add("swapped-corners", split.name, split.raw.boxes.swapped.tolist(), swapped)
    suspected = other_meanings(split.raw, split.verdict)
    for kind, boxes in suspected.items():

        def meant(box: int, kind: str = kind) -> Finding:
            return split.on_box(kind, box, MEANINGS[kind])

        found.add(kind, split.name, boxes.tolist(), meant)
    if not len(suspected["corners"]):
        _find_over_border(found, split)


def _find_over_border(found: Findings, split: Split) -> None:
    indices = np.flatnonzero(split.verdict.clipped & split.each_region_once)
    free = split.raw.boxes.xyxy[indices]
    limit = np.tile(split.raw.images.sizes[split.raw.boxes.images[indices]], 2)
    over = np.maximum(-free, free - limit).max(axis=1, initial=0)
    order = np.argsort(-over, kind="stable")

    def clipped(one: tuple[int, float]) -> Finding:
        text = f"reaches {one[1]:.6g} pixels over the border of its image"
        return split.on_box("over-border", one[0], text, rank=min(one[1], 1e9))

    found.add("over-border", split.name, list(zip(indices[order].tolist(), over[order].tolist(), strict=True)), clipped)


def find_copied_boxes(found: Findings, split: Split) -> np.ndarray:
    """Boxes that are there twice; [N] bool, which boxes equal an earlier one."""
    copies = find_copies(split.sound_images, split.sound_labels, split.sound_boxes)
    texts = {
        "duplicate-box": (copies.same, "is the same as {}"),
        "near-duplicate-box": (copies.nearly, "is nearly the same as {} (IoU {:.2f})"),
        "two-classes": (copies.two_classes, "is where {} has {!r} (IoU {:.2f})"),
    }
    for kind, (pairs, text) in texts.items():
        _add_pairs(found, split, kind, pairs, text)
    copy = np.zeros(len(split.raw.boxes), bool)
    copy[split.sound_indices[copies.same.later]] = True
    return copy


def _add_pairs(found: Findings, split: Split, kind: str, pairs: Pairs, text: str) -> None:
    def make(i: int) -> Finding:
        box, first = (int(split.sound_indices[column[i]]) for column in (pairs.later, pairs.first))
        iou, name = float(pairs.iou[i]), split.class_name(int(split.raw.boxes.labels[first]))
        where = split.where(first)
        words = (where, name, iou) if kind == "two-classes" else (where, iou)
        own = split.class_name(int(split.raw.boxes.labels[box]))
        boxes = ((name, split.corners(first)), (own, split.corners(box)))
        return split.on_box(kind, box, text.format(*words), rank=iou, boxes=boxes)

    order = np.argsort(-pairs.iou, kind="stable")
    found.add(kind, split.name, order.tolist(), make)


def find_odd_boxes(found: Findings, split: Split) -> None:
    """Suspiciously tiny, huge and thin boxes."""
    sizes = split.raw.images.sizes[split.sound_images].astype(np.float64)
    odd: Odd = find_odd(split.sound_labels, split.sound_boxes, sizes.prod(axis=1), len(split.raw.categories))
    for kind, (indices, how) in {"tiny-box": odd.tiny, "huge-box": odd.huge, "thin-box": odd.thin}.items():

        def make(one: tuple[int, float], kind: str = kind) -> Finding:
            box = split.sound_boxes[one[0]].astype(np.float64)
            width, height = (box[2:] - box[:2]).tolist()
            fraction = 100 * width * height / float(sizes[one[0]].prod())
            size = f"is {width:.4g} x {height:.4g} pixels"
            text = {
                "tiny-box": size,
                "huge-box": f"{size}, {fraction:.0f} % of its image; {fraction / one[1]:.0f} % is usual in its class",
                "thin-box": f"{size}, 1 to {one[1]:.0f}",
            }[kind]
            return split.on_box(kind, int(split.sound_indices[one[0]]), text, rank=one[1])

        found.add(kind, split.name, list(zip(indices.tolist(), how.tolist(), strict=True)), make)
