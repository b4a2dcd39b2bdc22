"""The noun of this room: one thing that was found, of a kind that says how bad it is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeVar

Level = Literal["loss", "warning", "note", "suspect"]
LEVELS: tuple[Level, ...] = ("loss", "warning", "suspect", "note")
LISTED = 1000  # findings of one kind of one split that are kept; further ones are counted
FOUND = "found "  # begins the word of a box that a model found
T = TypeVar("T")


class Kind(NamedTuple):
    """``level`` "loss": training would stop there or go without it; "suspect": what a model says of the labels."""

    level: Level
    title: str
    meaning: str


KINDS = {
    # images
    "missing-image": Kind("loss", "images that are not there", "listed in the annotations, not found on disk"),
    "unreadable-image": Kind("loss", "unreadable images", "not an image, or its header is damaged"),
    "truncated-image": Kind("loss", "images cut short", "the header is sound, the pixels are damaged or end early"),
    "large-image": Kind(
        "loss", "images above the limit of pixels", "they are sound; training wants crops or a higher limit for them"
    ),
    "no-range": Kind(
        "loss", "images without a known range", "their numbers are no levels of gray; see data.preprocess.range"
    ),
    "outside-folder": Kind("loss", "images outside the data folder", "the name climbs out of the folder"),
    "ambiguous-image": Kind("loss", "names that fit several images", "their ends are all that can be compared"),
    "bad-size": Kind("loss", "images with two sizes", "two records of one image give it different sizes"),
    "rotated-image": Kind(
        "loss", "images labeled before their EXIF rotation", "the recorded size is that of the unrotated image"
    ),
    "size-differs": Kind("loss", "recorded size is not the image's", "so the boxes do not fit the image"),
    "shared-labels": Kind(
        "warning", "files of labels that belong to two images", "the images differ in their suffix alone"
    ),
    "turned-image": Kind("note", "images with an EXIF rotation", "boxes must be those of the upright image"),
    "leaked-image": Kind("warning", "images in two splits", "the same bytes: a measurement on them says too much"),
    "near-leak": Kind("warning", "nearly the same image in two splits", "copies, or neighbors in a video"),
    "duplicate-image": Kind("warning", "images that are there twice", "the same bytes in one split"),
    "near-duplicate": Kind("warning", "nearly the same images", "copies in one split, or neighbors in a video"),
    "narrow-range": Kind(
        "warning", "images that use little of their range", "few of 256 levels are left; see data.preprocess.range"
    ),
    "beyond-range": Kind("note", "images beyond data.preprocess.range", "values outside it are cut off"),
    "several-images": Kind("note", "files with several pages or frames", "only the first is read"),
    "no-boxes": Kind("note", "images without boxes", "background; right only if nothing is there to label"),
    # boxes
    "no-label": Kind("loss", "boxes without a label", "nobody has said what is in them"),
    "not-a-number": Kind("loss", "boxes without four numbers", "one is missing, is no number or is not finite"),
    "no-area": Kind("loss", "boxes without area", "width or height is not above 0"),
    "outside": Kind("loss", "boxes outside their image", "nothing of them is inside"),
    "corners": Kind("loss", "boxes that look like corners", "[x1, y1, x2, y2] where the format has width and height"),
    "fractions": Kind("loss", "boxes that look like fractions", "all end within two pixels, instead of 0 to 1"),
    "unmatched-box": Kind(
        "loss", "boxes that no point is given to", "the detector's assignment never trains on them at this size"
    ),
    "over-border": Kind("warning", "boxes that reach over the border", "by more than one pixel; they are clipped"),
    "swapped-corners": Kind(
        "warning", "boxes with swapped corners", "from right to left or from bottom to top; they are put in order"
    ),
    "duplicate-box": Kind("warning", "boxes that are there twice", "the same box of the same class"),
    "near-duplicate-box": Kind("warning", "nearly the same boxes", "of one class, with an IoU of 0.9 or more"),
    "two-classes": Kind(
        "warning", "boxes of two classes", "the same location (IoU of 0.9 or more) has another class too"
    ),
    "tiny-box": Kind(
        "warning", "suspiciously tiny boxes", "a side below 2 pixels, or far below its class's usual size"
    ),
    "huge-box": Kind("warning", "suspiciously huge boxes", "nearly the whole image in a class that is usually small"),
    "thin-box": Kind("warning", "suspiciously thin boxes", "one side is over 20 times the other"),
    # classes and records
    "unknown-class": Kind("loss", "boxes of unknown classes", "the class is not in the list of classes"),
    "shifted-class": Kind(
        "loss", "boxes of unknown classes, as all seem one off", "so that every other box may have the wrong class"
    ),
    "unknown-image": Kind("loss", "boxes of unknown images", "the image is not in the list of images"),
    "bad-category": Kind("loss", "impossible classes", "a class without a name, or no classes at all"),
    "class-mismatch": Kind("loss", "classes of another split only", "training wants them in its own split too"),
    "empty-class": Kind("note", "classes without a box", "training leaves them out"),
    "unlearned-class": Kind(
        "warning", "classes without a box to train on", "another split measures what training never shows"
    ),
    "twin-classes": Kind("warning", "classes that may be one", "their names differ in case, spelling or number"),
    "rare-class": Kind("note", "rare classes", "fewer than 20 boxes in all"),
    "missing-labels": Kind("loss", "images without the labels that are named", "no file of labels is there"),
    "malformed": Kind("loss", "malformed records", "something is missing in them or of the wrong kind"),
    "twice": Kind("loss", "ids or names that are there twice", "each must be its own"),
    # what a model says of the labels
    "missing-label": Kind("suspect", "objects without a label?", "found with confidence where no box is"),
    "spurious-label": Kind("suspect", "labels of nothing?", "the detector finds nothing there"),
    "swapped-class": Kind("suspect", "labels of the wrong class?", "the detector says another class with confidence"),
    "loose-box": Kind("suspect", "loose boxes?", "the overlap is less than the score promises"),
}
_OTHER = Kind("loss", "other problems", "see the sentence")


def kind_of(name: str) -> Kind:
    """What is known of a kind; of one that a reader made up, that training would stop there."""
    return KINDS.get(name, _OTHER)


@dataclass(frozen=True)
class Finding:
    """One thing that was found.

    ``text`` says what, ``location`` where in the source; ``file`` is the image or the annotation file. ``image`` and
    ``box`` index the columns of the split, -1 for none. ``boxes`` are xyxy pixels of the upright image to be drawn,
    each with a word for it; ``other`` is a second image (split, index). ``rank`` orders findings of one kind, the
    largest first; of suspects it is how much less overlap there is than the scores promise, in IoU.
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
        """Plain values; what is empty is left out."""
        values: dict[str, Any] = {
            "kind": self.kind,
            "split": self.split,
            "file": self.file,
            "place": self.location,
            "text": self.text,
        }
        if self.image >= 0:
            values["image"] = self.image
        if self.box >= 0:
            values["box"] = self.box
        if self.boxes:
            values["boxes"] = [{"what": word, "xyxy": [round(side, 2) for side in box]} for word, box in self.boxes]
        if self.rank:
            values["rank"] = round(self.rank, 4)
        return {key: value for key, value in values.items() if value != ""}


class Findings(Sequence[Finding]):
    """Findings in the order in which they came, at most ``LISTED`` of a kind of a split; ``counts`` has them all."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()  # (kind, split)
        self._listed: list[Finding] = []

    def add(
        self, kind: str, split: str, things: Sequence[T], make: Callable[[T], Finding], count: int | None = None
    ) -> None:
        """One for each of ``things``, worst first; only those that are kept are made.

        ``count`` is how many there are where ``things`` are only some of them.
        """
        room = max(LISTED - self.counts[kind, split], 0)
        self._listed += [make(thing) for thing in things[:room]]
        if count or things:
            self.counts[kind, split] += len(things) if count is None else count

    def total(self, kind: str) -> int:
        """How many of a kind there are in all splits."""
        return sum(count for (name, _), count in self.counts.items() if name == kind)

    def kinds(self, *levels: Level) -> Iterator[str]:
        """The kinds that were found, of these levels or all, the worst levels first, then as in ``KINDS``."""
        found = {kind for (kind, _), count in self.counts.items() if count}
        order = [*KINDS, *sorted(found - set(KINDS))]
        for level in LEVELS:
            if not levels or level in levels:
                yield from (kind for kind in order if kind in found and kind_of(kind).level == level)

    def of(self, kind: str) -> list[Finding]:
        """The listed ones of a kind, worst first."""
        return sorted((one for one in self._listed if one.kind == kind), key=lambda one: -one.rank)

    @property
    def loses(self) -> bool:
        """Whether training would stop, or go without something that is in the data set."""
        return any(True for _ in self.kinds("loss"))

    def __getitem__(self, index: Any) -> Any:
        return self._listed[index]

    def __len__(self) -> int:
        return len(self._listed)
