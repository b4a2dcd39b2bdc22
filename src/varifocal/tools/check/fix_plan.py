"""What a cleaned copy would change, decided before anything is written; only what is unambiguous is changed.

Dropped: images that are missing, damaged or of another size than recorded, with their boxes; boxes that cannot be or
have no known class; images of which no object is left, since they would become background; exact copies of a box; a
copy of an image whose labels are the same, too. Fixed: corners are put in order, boxes over the border are clipped,
boxes recorded before the EXIF rotation are turned with it, classes that differ in case, spaces or signs alone become
the one with most boxes, and every split lists the classes of all. Everything else is left alone.
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
from varifocal.tools.check.messages import count_of
from varifocal.tools.check.similar_names import find_twins
from varifocal.tools.check.split import Split

CLIPPED = 0.01  # pixels from which the clipping of a box is reported
# What a reader found and could not take over at all.
COPY_DROPPED, MERGED = "copy dropped", "class merged"
UNREAD = ("malformed", "unknown-image", "twice", "bad-category", "bad-size")
LEFT_OUT = "record left out"
_CHANGED = {"bad-size": "size taken from the image", "twice": "record left out or given a new id"}


class Change(NamedTuple):
    """One thing that is other than in the source."""

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
    """What is kept of a split: images and boxes by index, with the boxes' new corners and class names.

    ``split`` has the sizes and corners as they will be.
    """

    split: Split
    images: Bool[np.ndarray, "M"]
    boxes: Bool[np.ndarray, "N"]
    names: Sequence[str]  # of each label of the split
    changes: tuple[Change, ...]


def make_plans(splits: Sequence[Split], scans: Sequence[ScannedImages]) -> list[Plan]:
    """A plan for each split."""
    merged = merged_names(splits)
    return [_plan(split, scan, merged) for split, scan in zip(splits, scans, strict=True)]


def merged_names(splits: Sequence[Split]) -> dict[str, str]:
    """For each class name the one it becomes: of names that differ in case, spaces or signs that with most boxes."""
    totals: dict[str, int] = {}
    for split in splits:
        counts = np.bincount(split.sound_labels, minlength=len(split.raw.categories))
        for category, count in zip(split.raw.categories, counts.tolist(), strict=True):
            totals[category.name] = totals.get(category.name, 0) + count
    names = list(totals)
    group = list(range(len(names)))
    for twin in find_twins(names):
        if twin.how == "case":
            group[twin.second] = group[twin.first]
    members = {
        name: [other for other, g in zip(names, group, strict=True) if g == group[i]] for i, name in enumerate(names)
    }
    return {name: max(same, key=lambda other: totals[other]) for name, same in members.items()}


def _plan(split: Split, scan: ScannedImages, merged: dict[str, str]) -> Plan:
    changes = list(_unread(split))
    images, more = _usable(split, scan)
    changes += more
    split, more = _turned(split, scan, images)
    changes += more
    boxes, more = _possible(split, images)
    changes += more
    changes += _drop_emptied(split, images, boxes)
    names = [merged[category.name] for category in split.raw.categories]
    for category, name in zip(split.raw.categories, names, strict=True):
        if name != category.name:
            changes.append(Change(MERGED, split.name, "", f"class {category.name!r}", f"becomes {name!r}"))
    changes += _drop_copied_boxes(split, boxes, names)
    changes += _drop_copied_images(split, scan, images, boxes, names)
    changes += _clipped(split, boxes)
    return Plan(split, images, boxes, names, tuple(changes))


def _unread(split: Split) -> Iterator[Change]:
    for problem in split.raw.problems:
        if problem.kind in UNREAD:
            yield Change(
                _CHANGED.get(problem.kind, LEFT_OUT),
                split.name,
                "",
                _location_of(problem.location, split),
                problem.text,
            )
    for kind in UNREAD:
        more = split.raw.problems.counts[kind] - sum(problem.kind == kind for problem in split.raw.problems)
        if more:
            yield Change(_CHANGED.get(kind, LEFT_OUT), split.name, "", "", f"{more} more of the kind {kind!r}")


def _location_of(location: SourceLocation, split: Split) -> str:
    """With the file where that is not the split's own, as of a reader with a file for each image."""
    name = "" if location.file is None or location.file == split.raw.source else getattr(location.file, "name", "")
    return f"{name} {location.text}".strip()


def _usable(split: Split, scan: ScannedImages) -> tuple[Bool[np.ndarray, "M"], list[Change]]:
    """Images that can be read and have the recorded size, upright or before their rotation."""
    recorded = split.raw.images.sizes
    fits = (recorded == scan.sizes).all(axis=1) | (recorded == scan.stored).all(axis=1)
    counts = np.bincount(split.raw.boxes.images, minlength=len(recorded))
    changes = []
    for image in np.flatnonzero(~(scan.seen & fits)).tolist():
        if split.image_file(image) is None:
            why = "it is not there"
        elif image in scan.errors:
            why = scan.errors[image][1].rpartition("; ")[0] or scan.errors[image][1]  # without what could fix it
        else:
            width, height = scan.sizes[image].tolist()
            why = f"it has {width} x {height} pixels and not the recorded {recorded[image, 0]} x {recorded[image, 1]}"
        what = "image dropped" + (f" with {count_of(int(counts[image]), 'box')}" if counts[image] else "")
        changes.append(Change(what, split.name, split.image_name(image), "", why))
    return scan.seen & fits, changes


def _turned(split: Split, scan: ScannedImages, images: Bool[np.ndarray, "M"]) -> tuple[Split, list[Change]]:
    """The split with boxes of the upright image where they were recorded before its EXIF rotation."""
    sizes = split.raw.images.sizes
    lying = images & (sizes != scan.sizes).any(axis=1)
    if not lying.any():
        return split, []
    xyxy = split.raw.boxes.xyxy.copy()
    changes = []
    for image in np.flatnonzero(lying).tolist():
        indices, orientation = split.boxes_of(image), int(scan.orientations[image])
        xyxy[indices] = turn_boxes(xyxy[indices], orientation, *sizes[image].tolist())
        why = f"they were recorded before the EXIF rotation (orientation {orientation})"
        changes.append(Change(f"{count_of(len(indices), 'box')} turned", split.name, split.image_name(image), "", why))
    new_sizes = np.where(lying[:, None], scan.sizes, sizes)
    raw = replace(
        split.raw, images=replace(split.raw.images, sizes=new_sizes), boxes=replace(split.raw.boxes, xyxy=xyxy)
    )
    return Split(split.name, raw, validate_boxes(raw)), changes


def turn_boxes(xyxy: Float[np.ndarray, "N 4"], orientation: int, width: int, height: int) -> Float[np.ndarray, "N 4"]:
    """Boxes of a stored image of that size as boxes of the upright one; EXIF orientations 5 to 8."""
    x1, y1, x2, y2 = xyxy.T
    left, top, right, bottom = {
        5: (y1, x1, y2, x2),
        6: (height - y2, x1, height - y1, x2),
        7: (height - y2, width - x2, height - y1, width - x1),
        8: (y1, width - x2, y2, width - x1),
    }[orientation]
    return np.stack([left, top, right, bottom], axis=1)


def _possible(split: Split, images: Bool[np.ndarray, "M"]) -> tuple[Bool[np.ndarray, "N"], list[Change]]:
    """Boxes of kept images that can be and have a class."""
    boxes = split.raw.boxes
    there = images[boxes.images]
    changes = []
    for kind, text in BOX_ISSUES.items():
        for box in np.flatnonzero(split.verdict.faults[kind] & there).tolist():
            changes.append(_of_box("box dropped", split, box, boxes.describe(box, text)))
    for box in boxes.swapped[there[boxes.swapped] & split.verdict.good[boxes.swapped]].tolist():
        why = "it was written from right to left or from bottom to top"
        changes.append(_of_box("box put in order", split, box, why))
    unknown = there & split.verdict.good & (boxes.labels < 0)
    for box in np.flatnonzero(unknown).tolist():
        changes.append(_of_box("box dropped", split, box, "its class is not known"))
    return there & split.verdict.good & (boxes.labels >= 0), changes


def _drop_emptied(split: Split, images: Bool[np.ndarray, "M"], boxes: Bool[np.ndarray, "N"]) -> list[Change]:
    """Drop images that had objects and have none any more: what is on them would be taught as background."""
    raw = split.raw.boxes
    many_images = len(split.raw.images)
    objects = ~raw.crowd & ~raw.difficult
    emptied = np.zeros(many_images, bool)
    for which in (objects, np.ones(len(raw), bool)):  # regions alone are no objects, and no background either
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
    """Drop exact copies of objects; classes count by their new names."""
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
        said = _labels_of(split, first, boxes, names)
        for image in later:
            if _labels_of(split, image, boxes, names) != said:
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


def _clipped(split: Split, boxes: Bool[np.ndarray, "N"]) -> list[Change]:
    with np.errstate(invalid="ignore"):
        moved = np.abs(split.verdict.boxes - split.raw.boxes.xyxy).max(axis=1, initial=0)
    indices: Int64[np.ndarray, "K"] = np.flatnonzero(boxes & (moved > CLIPPED))
    return [
        _of_box("box clipped", split, box, f"{split.raw.boxes.show(box)} reached over the border by {moved[box]:.4g}")
        for box in indices.tolist()
    ]
