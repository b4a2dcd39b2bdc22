"""The changes of a cleaned copy, decided before anything is written; only what is unambiguous is changed.

Dropped are images that are missing, damaged or not of the recorded size, with their boxes; boxes that are invalid or
have no known class; images that lose all objects, since they would become background; exact copies of a box; and a copy
of an image if its labels are the same, too. Fixed are swapped corners, boxes beyond the border (clipped), boxes
recorded before the EXIF rotation (rotated), classes that differ only in case, spaces or punctuation (merged into the
one with most boxes), and classes that a split does not list. Everything else stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int64

from varifocal.data.annotations import SourceLocation
from varifocal.data.near_duplicates import exact_duplicates
from varifocal.data.validate import BOX_ISSUES, validate_boxes
from varifocal.tools.check.boxes import find_copies
from varifocal.tools.check.image_scan import ScannedImages
from varifocal.tools.check.similar_names import find_similar_names
from varifocal.tools.check.split import Split
from varifocal.utils.text import count_of

CLIPPED = 0.01  # pixels from which the clipping of a box is reported
COPY_DROPPED, MERGED = "copy dropped", "class merged"
# Kinds of issues whose records a reader could not use.
UNREAD = ("malformed", "unknown-image", "twice", "bad-category", "bad-size")
LEFT_OUT = "record left out"
_CHANGED = {"bad-size": "size taken from the image", "twice": "record left out or given a new id"}


class Change(NamedTuple):
    """One change of the source."""

    what: str
    split: str
    image: str
    location: str
    why: str

    def __str__(self) -> str:
        where = ", ".join(part for part in (self.split, self.image, self.location) if part)
        return f"{where}: {self.what}: {self.why}"


@dataclass(frozen=True, eq=False)
class Plan:
    """The images and boxes of a split that are kept, and the new class name of each label.

    ``split`` has the new sizes and corners.
    """

    split: Split
    images: Bool[np.ndarray, "M"]
    boxes: Bool[np.ndarray, "N"]
    names: Sequence[str]
    changes: tuple[Change, ...]


def make_plans(splits: Sequence[Split], scans: Sequence[ScannedImages]) -> list[Plan]:
    """Return a plan for each split."""
    merged = merged_names(splits)
    return [_plan(split, scan, merged) for split, scan in zip(splits, scans, strict=True)]


def merged_names(splits: Sequence[Split]) -> dict[str, str]:
    """Return the new name of each class: of those that differ only in case, spaces or punctuation the most frequent."""
    totals: dict[str, int] = {}
    for split in splits:
        counts = np.bincount(split.sound_labels, minlength=len(split.raw.categories))
        for category, count in zip(split.raw.categories, counts.tolist(), strict=True):
            totals[category.name] = totals.get(category.name, 0) + count
    names = list(totals)
    group = list(range(len(names)))
    for pair in find_similar_names(names):
        if pair.difference == "case":
            group[pair.second] = group[pair.first]
    members = {
        name: [other for other, g in zip(names, group, strict=True) if g == group[i]] for i, name in enumerate(names)
    }
    return {name: max(same, key=lambda other: totals[other]) for name, same in members.items()}


def _plan(split: Split, scan: ScannedImages, merged: dict[str, str]) -> Plan:
    changes = list(_unread_records(split))
    images, dropped = _usable_images(split, scan)
    split, rotated = _rotated_boxes(split, scan, images)
    boxes, fixed = _usable_boxes(split, images)
    changes += [*dropped, *rotated, *fixed]
    changes += _drop_emptied(split, images, boxes)
    names = [merged[category.name] for category in split.raw.categories]
    for category, name in zip(split.raw.categories, names, strict=True):
        if name != category.name:
            changes.append(Change(MERGED, split.name, "", f"class {category.name!r}", f"becomes {name!r}"))
    changes += _drop_copied_boxes(split, boxes, names)
    changes += _drop_copied_images(split, scan, images, boxes, names)
    changes += _clipped_boxes(split, boxes)
    return Plan(split, images, boxes, names, tuple(changes))


def _unread_records(split: Split) -> Iterator[Change]:
    listed = [issue for issue in split.raw.problems if issue.kind in UNREAD]
    for issue in listed:
        what = _CHANGED.get(issue.kind, LEFT_OUT)
        yield Change(what, split.name, "", _location_of(issue.location, split), issue.text)
    for kind in UNREAD:
        unlisted = split.raw.problems.counts[kind] - sum(issue.kind == kind for issue in listed)
        if unlisted:
            yield Change(_CHANGED.get(kind, LEFT_OUT), split.name, "", "", f"{unlisted} more of the kind {kind!r}")


def _location_of(location: SourceLocation, split: Split) -> str:
    """Return the location with its file if that is not the file of the split, as in formats with a file per image."""
    name = "" if location.file is None or location.file == split.raw.source else getattr(location.file, "name", "")
    return f"{name} {location.text}".strip()


def _usable_images(split: Split, scan: ScannedImages) -> tuple[Bool[np.ndarray, "M"], list[Change]]:
    """Return the images that can be read and have the recorded size, upright or before their EXIF rotation."""
    recorded = split.raw.images.sizes
    fits = (recorded == scan.sizes).all(axis=1) | (recorded == scan.stored).all(axis=1)
    counts = np.bincount(split.raw.boxes.images, minlength=len(recorded))
    changes = []
    for image in np.flatnonzero(~(scan.seen & fits)).tolist():
        if split.image_file(image) is None:
            why = "it is missing"
        elif image in scan.errors:
            why = scan.errors[image][1].rpartition("; ")[0] or scan.errors[image][1]  # without the advice
        else:
            width, height = scan.sizes[image].tolist()
            why = f"it has {width} x {height} pixels and not the recorded {recorded[image, 0]} x {recorded[image, 1]}"
        what = "image dropped" + (f" with {count_of(int(counts[image]), 'box')}" if counts[image] else "")
        changes.append(Change(what, split.name, split.image_name(image), "", why))
    return scan.seen & fits, changes


def _rotated_boxes(split: Split, scan: ScannedImages, images: Bool[np.ndarray, "M"]) -> tuple[Split, list[Change]]:
    """Return the split with boxes of the upright image if they were recorded before its EXIF rotation."""
    sizes = split.raw.images.sizes
    rotated = images & (sizes != scan.sizes).any(axis=1)
    if not rotated.any():
        return split, []
    xyxy = split.raw.boxes.xyxy.copy()
    changes = []
    for image in np.flatnonzero(rotated).tolist():
        indices, orientation = split.boxes_of(image), int(scan.orientations[image])
        xyxy[indices] = rotate_boxes(xyxy[indices], orientation, *sizes[image].tolist())
        why = f"they were recorded before the EXIF rotation (orientation {orientation})"
        changes.append(Change(f"{count_of(len(indices), 'box')} rotated", split.name, split.image_name(image), "", why))
    new_sizes = np.where(rotated[:, None], scan.sizes, sizes)
    raw = replace(
        split.raw, images=replace(split.raw.images, sizes=new_sizes), boxes=replace(split.raw.boxes, xyxy=xyxy)
    )
    return Split(split.name, raw, validate_boxes(raw)), changes


def rotate_boxes(xyxy: Float[np.ndarray, "N 4"], orientation: int, width: int, height: int) -> Float[np.ndarray, "N 4"]:
    """Return boxes of the stored image of this size as boxes of the upright one; for EXIF orientations 5 to 8."""
    x1, y1, x2, y2 = xyxy.T
    left, top, right, bottom = {
        5: (y1, x1, y2, x2),
        6: (height - y2, x1, height - y1, x2),
        7: (height - y2, width - x2, height - y1, width - x1),
        8: (y1, width - x2, y2, width - x1),
    }[orientation]
    return np.stack([left, top, right, bottom], axis=1)


def _usable_boxes(split: Split, images: Bool[np.ndarray, "M"]) -> tuple[Bool[np.ndarray, "N"], list[Change]]:
    """Return the boxes of kept images that are valid and have a class."""
    boxes = split.raw.boxes
    kept = images[boxes.images]
    changes = []
    for kind, text in BOX_ISSUES.items():
        for box in np.flatnonzero(split.verdict.faults[kind] & kept).tolist():
            changes.append(_of_box("box dropped", split, box, boxes.describe(box, text)))
    for box in boxes.swapped[kept[boxes.swapped] & split.verdict.good[boxes.swapped]].tolist():
        why = "it was written from right to left or from bottom to top"
        changes.append(_of_box("box put in order", split, box, why))
    unknown = kept & split.verdict.good & (boxes.labels < 0)
    for box in np.flatnonzero(unknown).tolist():
        changes.append(_of_box("box dropped", split, box, "its class is unknown"))
    return kept & split.verdict.good & (boxes.labels >= 0), changes


def _drop_emptied(split: Split, images: Bool[np.ndarray, "M"], boxes: Bool[np.ndarray, "N"]) -> list[Change]:
    """Drop images that lose all their objects, because training would use them as background."""
    raw = split.raw.boxes
    many_images = len(split.raw.images)
    objects = ~raw.crowd & ~raw.difficult
    emptied = np.zeros(many_images, bool)
    for which in (objects, np.ones(len(raw), bool)):  # an image of ignored regions alone is no background
        had, left = (np.bincount(raw.images[part], minlength=many_images) > 0 for part in (which, which & boxes))
        emptied |= had & ~left
    damaged = np.array(sorted(split.raw.problems.damaged), np.int64)
    emptied[damaged] |= np.bincount(raw.images[objects & boxes], minlength=many_images)[damaged] == 0
    changes = []
    for image in np.flatnonzero(emptied & images).tolist():
        images[image] = False
        boxes[split.boxes_of(image)] = False
        why = "none of its objects can be used, and without them it would be background"
        changes.append(Change("image dropped", split.name, split.image_name(image), "", why))
    return changes


def _of_box(what: str, split: Split, box: int, why: str) -> Change:
    image = int(split.raw.boxes.images[box])
    return Change(what, split.name, split.image_name(image), split.where(box), why)


def _drop_copied_boxes(split: Split, boxes: Bool[np.ndarray, "N"], names: Sequence[str]) -> list[Change]:
    """Drop exact copies of objects; classes are compared by their new names."""
    raw = split.raw.boxes
    indices = np.flatnonzero(boxes & ~raw.crowd & ~raw.difficult)
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    labels = np.array([number[name] for name in names], np.int64)[raw.labels[indices]]
    same = find_copies(raw.images[indices], labels, split.verdict.boxes[indices]).same
    changes = []
    for first, later in zip(indices[same.first].tolist(), indices[same.later].tolist(), strict=True):
        boxes[later] = False
        changes.append(_of_box("box dropped", split, later, f"it is the same as {split.where(first)}"))
    return changes


def _drop_copied_images(
    split: Split, scan: ScannedImages, images: Bool[np.ndarray, "M"], boxes: Bool[np.ndarray, "N"], names: Sequence[str]
) -> list[Change]:
    """Drop images with the bytes and the labels of an earlier one."""
    digests = [digest if kept else b"" for digest, kept in zip(scan.digests, images.tolist(), strict=True)]
    changes = []
    for first, *later in exact_duplicates(digests):
        labels = _labels_of(split, first, boxes, names)
        for image in later:
            if _labels_of(split, image, boxes, names) != labels:
                continue
            images[image] = False
            boxes[split.boxes_of(image)] = False
            why = f"it has the bytes and the labels of {split.image_name(first)}"
            changes.append(Change(COPY_DROPPED, split.name, split.image_name(image), "", why))
    return changes


def _labels_of(
    split: Split, image: int, boxes: Bool[np.ndarray, "N"], names: Sequence[str]
) -> list[tuple[object, ...]]:
    indices = split.boxes_of(image)
    indices = indices[boxes[indices]]
    raw = split.raw.boxes
    return sorted(
        (names[raw.labels[i]], bool(raw.crowd[i]), bool(raw.difficult[i]), *split.verdict.boxes[i].round(2).tolist())
        for i in indices.tolist()
    )


def _clipped_boxes(split: Split, boxes: Bool[np.ndarray, "N"]) -> list[Change]:
    with np.errstate(invalid="ignore"):
        moved = np.abs(split.verdict.boxes - split.raw.boxes.xyxy).max(axis=1, initial=0)
    indices: Int64[np.ndarray, "K"] = np.flatnonzero(boxes & (moved > CLIPPED))
    return [
        _of_box(
            "box clipped", split, box, f"{split.raw.boxes.show(box)} extended {moved[box]:.4g} pixels beyond the border"
        )
        for box in indices.tolist()
    ]
