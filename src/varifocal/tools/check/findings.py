"""Findings of a data check, and their kinds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from varifocal.data.annotations import CappedList

Level = Literal["loss", "warning", "note", "suspect"]
LEVELS: tuple[Level, ...] = ("loss", "warning", "suspect", "note")
FOUND = "found "  # begins the words of a box that a model detected


class Kind(NamedTuple):
    """A kind of finding.

    "loss" means that training stops there or goes on without the data; "suspect" that a model contradicts a label.
    """

    level: Level
    title: str
    meaning: str


KINDS = {
    # images
    "missing-image": Kind("loss", "missing images", "listed in the annotations, but not found on disk"),
    "unreadable-image": Kind("loss", "unreadable images", "not an image, or its header is damaged"),
    "truncated-image": Kind(
        "loss", "truncated images", "the header is sound, but the pixels are damaged or incomplete"
    ),
    "large-image": Kind(
        "loss", "images above the pixel limit", "they are sound, but training needs crops or a higher limit for them"
    ),
    "no-range": Kind(
        "loss", "images without a known value range", "their values are not gray levels; see data.preprocess.range"
    ),
    "outside-folder": Kind("loss", "images outside the data folder", "the name leads out of the folder"),
    "ambiguous-image": Kind("loss", "names that match several images", "only the ends of the paths can be compared"),
    "bad-size": Kind("loss", "images with two sizes", "two records of one image give different sizes"),
    "rotated-image": Kind(
        "loss", "images labeled before their EXIF rotation", "the recorded size is that of the unrotated image"
    ),
    "size-differs": Kind("loss", "recorded size differs from the image's", "so the boxes do not fit the image"),
    "shared-labels": Kind("warning", "label files that belong to two images", "the images differ only in their suffix"),
    "turned-image": Kind("note", "images with an EXIF rotation", "boxes must be those of the upright image"),
    "leaked-image": Kind("warning", "images in two splits", "the same bytes: metrics on them are too optimistic"),
    "near-leak": Kind("warning", "nearly identical images in two splits", "copies, or neighboring frames of a video"),
    "duplicate-image": Kind("warning", "duplicate images", "the same bytes in one split"),
    "near-duplicate": Kind("warning", "nearly identical images", "copies in one split, or neighboring video frames"),
    "narrow-range": Kind(
        "warning", "images that use little of their range", "few of 256 levels are left; see data.preprocess.range"
    ),
    "beyond-range": Kind("note", "images beyond data.preprocess.range", "values outside it are clipped"),
    "several-images": Kind("note", "files with several pages or frames", "only the first is read"),
    "no-boxes": Kind("note", "images without boxes", "background; correct only if they show no object"),
    # boxes
    "no-label": Kind("loss", "boxes without a label", "the source does not say what is in them"),
    "not-a-number": Kind("loss", "boxes without four numbers", "one is missing, is not a number or is not finite"),
    "no-area": Kind("loss", "boxes without area", "width or height is not above 0"),
    "outside": Kind("loss", "boxes outside their image", "no part of them is inside"),
    "corners": Kind("loss", "boxes that look like corners", "[x1, y1, x2, y2] where the format has width and height"),
    "fractions": Kind("loss", "boxes that look like fractions", "in 0..1, where the format has pixels"),
    "unmatched-box": Kind(
        "loss", "boxes without a positive point", "the detector's assignment never trains on them at this size"
    ),
    "over-border": Kind("warning", "boxes that extend beyond the border", "by more than one pixel; they are clipped"),
    "swapped-corners": Kind(
        "warning", "boxes with swapped corners", "written from right to left or bottom to top; they are put in order"
    ),
    "duplicate-box": Kind("warning", "duplicate boxes", "the same box of the same class"),
    "near-duplicate-box": Kind("warning", "nearly identical boxes", "of one class, with an IoU of 0.9 or more"),
    "two-classes": Kind(
        "warning", "boxes of two classes", "a box of another class is at the same location (IoU of 0.9 or more)"
    ),
    "tiny-box": Kind(
        "warning", "suspiciously tiny boxes", "a side below 2 pixels, or far below the usual size of the class"
    ),
    "huge-box": Kind("warning", "suspiciously huge boxes", "nearly the whole image in a class that is usually small"),
    "thin-box": Kind("warning", "suspiciously thin boxes", "one side is over 20 times the other"),
    # classes and records
    "unknown-class": Kind("loss", "boxes of unknown classes", "the class is not in the list of classes"),
    "shifted-class": Kind(
        "loss", "boxes of unknown classes, ids seem shifted by one", "every other box may then have the wrong class"
    ),
    "unknown-image": Kind("loss", "boxes of unknown images", "the image is not in the list of images"),
    "bad-category": Kind("loss", "impossible classes", "a name that is no text, or no classes at all"),
    "no-classes": Kind("loss", "no labeled objects", "nothing to train on: no box has a class"),
    "class-mismatch": Kind("loss", "classes of another split only", "training requires them in its own split too"),
    "empty-class": Kind("note", "classes without boxes", "training leaves them out"),
    "unlearned-class": Kind(
        "warning", "classes without training boxes", "another split evaluates what training never shows"
    ),
    "twin-classes": Kind("warning", "classes that may be one", "their names differ in case, spelling or number"),
    "rare-class": Kind("note", "rare classes", "fewer than 20 boxes in all"),
    "missing-labels": Kind("loss", "images without their label file", "the file that should hold labels is missing"),
    "malformed": Kind("loss", "malformed records", "a value is missing or of the wrong type"),
    "twice": Kind("loss", "duplicate ids or names", "each must be unique"),
    # labels that a model contradicts
    "missing-label": Kind(
        "suspect", "missing labels?", "the model detects an object with confidence, but there is no box"
    ),
    "spurious-label": Kind("suspect", "labels without an object?", "the model detects nothing there"),
    "swapped-class": Kind("suspect", "labels of the wrong class?", "the model detects another class with confidence"),
    "loose-box": Kind("suspect", "imprecise boxes?", "the overlap is less than the score promises"),
}
_OTHER = Kind("loss", "other problems", "see the sentence")


def kind_of(name: str) -> Kind:
    """Return the kind of this name; a name that only a reader knows is a loss."""
    return KINDS.get(name, _OTHER)


@dataclass(frozen=True)
class Finding:
    """One finding of a check.

    ``text`` is the finding in words, ``location`` its location in the source, and ``file`` the image or annotation
    file. ``image`` and ``box`` index the columns of the split, -1 for none. ``boxes`` are drawn: xyxy in pixels of the
    upright image, each with its words. ``other`` is a second image as (split, index). ``rank`` orders the findings of a
    kind, the largest first; for suspects it is how much less overlap there is than the scores promise, in IoU.
    """

    kind: str
    split: str
    text: str
    file: str = ""
    location: str = ""
    image: int = -1
    box: int = -1
    boxes: tuple[tuple[str, tuple[float, float, float, float]], ...] = ()
    other: tuple[str, int] | None = None
    rank: float = 0.0

    @property
    def level(self) -> Level:
        return kind_of(self.kind).level

    def to_json(self) -> dict[str, Any]:
        """Return plain values without those that are empty."""
        values: dict[str, Any] = {
            "kind": self.kind,
            "split": self.split,
            "file": self.file,
            "location": self.location,
            "text": self.text,
        }
        if self.image >= 0:
            values["image"] = self.image
        if self.box >= 0:
            values["box"] = self.box
        if self.boxes:
            values["boxes"] = [{"what": words, "xyxy": [round(side, 2) for side in box]} for words, box in self.boxes]
        if self.rank:
            values["rank"] = round(self.rank, 4)
        return {key: value for key, value in values.items() if value != ""}


class Findings(CappedList[Finding]):
    """Findings in the order in which they came; they are capped and counted by (kind, split)."""

    def total(self, kind: str) -> int:
        """Return the number of findings of a kind in all splits."""
        return sum(count for (name, _), count in self.counts.items() if name == kind)

    def kinds(self, *levels: Level) -> Iterator[str]:
        """Yield the kinds of these levels (all if none is named) that have findings, the worst level first."""
        found = {kind for (kind, _), count in self.counts.items() if count}
        order = [*KINDS, *sorted(found - set(KINDS))]
        for level in LEVELS:
            if not levels or level in levels:
                yield from (kind for kind in order if kind in found and kind_of(kind).level == level)

    def of(self, kind: str) -> list[Finding]:
        """Return the listed findings of a kind, worst first."""
        return sorted((finding for finding in self if finding.kind == kind), key=lambda finding: -finding.rank)

    @property
    def loses(self) -> bool:
        """Whether training would stop, or go on without a part of the data set."""
        return any(True for _ in self.kinds("loss"))
