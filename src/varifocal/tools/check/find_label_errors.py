"""A model is asked about every image, and what it doubts of the labels becomes findings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from varifocal.inference.pipeline import Predictor, read_for
from varifocal.tools.check.findings import FOUND, Finding, Findings
from varifocal.tools.check.labels import (
    SAME_OBJECT,
    ClassBaseline,
    FoundLabelErrors,
    ImageComparison,
    LabelIssue,
    Labels,
    doubts,
    look,
    usual,
)
from varifocal.tools.check.report import ModelReport
from varifocal.tools.check.split import Split
from varifocal.utils.errors import DataError


@dataclass(frozen=True, eq=False)
class _Seen:
    """One image that the model has seen: which it is, the indices of its labels in the columns, and the look at it."""

    split: Split
    image: int
    indices: Int64[np.ndarray, "N"]
    look: ImageComparison


def find_label_errors(
    found: Findings,
    splits: Sequence[Split],
    model: Predictor,
    name: str,
    progress: Callable[[int], None] = lambda done: None,
) -> ModelReport:
    """Run the model over all images that can be read and fit their annotations, and add what it doubts.

    Classes are matched by name; labels of a class that the model does not know are neither doubted nor missed.

    Raises:
        DataError: the model knows no class of the data set that has boxes.
    """
    names = [category.name for category in model.categories]
    known = {name for split in splits for name in split.used_names}
    if not known & set(names):
        raise DataError(
            f"{splits[0].raw.source}: the model knows none of its classes; it knows {', '.join(names[:10])}."
        )
    seen: list[_Seen] = []
    done = skipped = 0
    for split in splits:
        for image in range(len(split.raw.images)):
            one = _show(split, image, model, names)
            if one is None:
                skipped += 1
            else:
                seen.append(one)
            done += 1
            progress(done)
    what = usual([one.look for one in seen], len(names))
    for split in splits:
        _add(found, split, [one for one in seen if one.split is split], what, names)
    labels = sum(len(one.indices) for one in seen)
    hit = sum(int(((one.look.iou >= SAME_OBJECT) & _own(one.look)).any(axis=0).sum()) for one in seen)
    return ModelReport(name, len(seen), labels, hit, _notes(known, names, skipped))


def _own(one: ImageComparison) -> np.ndarray:
    return np.asarray(one.found.classes[:, None] == one.labels.classes)


def _notes(known: set[str], names: Sequence[str], skipped: int) -> tuple[str, ...]:
    notes = []
    strange = sorted(known - set(names))
    if strange:
        listed = ", ".join(strange[:5]) + (" and more" if len(strange) > 5 else "")
        notes.append(f"the model does not know {listed}; labels of these are not judged")
    if skipped:
        one = "1 image cannot be read or does not fit its annotations"
        more = f"{skipped} images cannot be read or do not fit their annotations"
        notes.append(f"{one if skipped == 1 else more}; the model was not asked")
    return tuple(notes)


def _show(split: Split, index: int, model: Predictor, names: Sequence[str]) -> _Seen | None:
    """None of an image that cannot be read, or is not of the recorded size."""
    file = split.image_file(index)
    try:
        image = None if file is None else read_for(model.info, file)
    except DataError:
        return None
    if image is None or image.size != tuple(split.raw.images.sizes[index].tolist()):
        return None
    detected = model.predict(image)
    indices = split.boxes_of(index)
    number = {word: i for i, word in enumerate(names)}
    labels = np.array([number.get(split.class_name(int(one)), -1) for one in split.raw.boxes.labels[indices]], np.int64)
    judged = split.sound[indices] & (labels >= 0)
    # an impossible box is no region either
    boxes = split.verdict.boxes[indices]
    regions = boxes[~judged & split.verdict.good[indices]]
    in_data = {category.name for category in split.raw.categories}
    known = np.array([word in in_data for word in names])[detected.labels].astype(bool)
    seen = FoundLabelErrors(detected.boxes[known], detected.scores[known], detected.labels[known])
    return _Seen(split, index, indices[judged], look(Labels(boxes[judged], labels[judged], regions), seen))


def _add(found: Findings, split: Split, seen: Sequence[_Seen], what: ClassBaseline, names: Sequence[str]) -> None:
    ranked = [(one, doubt) for one in seen for doubt in doubts(one.look, what)]
    ranked.sort(key=lambda pair: -pair[1].rank)
    for kind in ("missing-label", "spurious-label", "swapped-class", "loose-box"):
        listed = [pair for pair in ranked if pair[1].kind == kind]
        found.add(kind, split.name, listed, lambda pair: _finding(pair[0], pair[1], names))


def _finding(one: _Seen, doubt: LabelIssue, names: Sequence[str]) -> Finding:
    drawn, text = [], ""
    if doubt.label >= 0:
        name = names[one.look.labels.classes[doubt.label]]
        drawn.append((name, one.split.corners(int(one.indices[doubt.label]))))
        text = f"the label {name!r}"
    if doubt.found >= 0:
        name = names[one.look.found.classes[doubt.found]]
        score = float(one.look.found.scores[doubt.found])
        x1, y1, x2, y2 = one.look.found.boxes[doubt.found].tolist()
        drawn.append((f"{FOUND}{name} {score:.2f}", (x1, y1, x2, y2)))
        text = {
            "missing-label": f"{name!r} is found with a score of {score:.2f}, and no label is there",
            "swapped-class": f"{text} is found as {name!r} with a score of {score:.2f}",
            "loose-box": f"{text} overlaps what is found, with a score of {score:.2f}, by {doubt.iou:.2f}",
        }[doubt.kind]
    else:
        text = f"{text} is on nothing that the model finds with confidence"
    more = {"boxes": tuple(drawn), "rank": doubt.rank}
    if doubt.label >= 0:
        return one.split.on_box(doubt.kind, int(one.indices[doubt.label]), text, **more)  # type: ignore[arg-type]
    return one.split.on_image(doubt.kind, one.image, text, **more)  # type: ignore[arg-type]
