"""Findings about labels that a model contradicts."""

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
    ImageComparison,
    ImageDetections,
    LabelIssue,
    Labels,
    class_baseline,
    compare_image,
    label_issues,
)
from varifocal.tools.check.report import ModelReport
from varifocal.tools.check.split import Split
from varifocal.utils.errors import DataError


@dataclass(frozen=True, eq=False)
class _ComparedImage:
    """An image that the model has seen; ``indices`` are those of its labels in the columns of the split."""

    split: Split
    image: int
    indices: Int64[np.ndarray, "N"]
    comparison: ImageComparison

    @property
    def detected(self) -> int:
        """The number of labels with a detection of their class."""
        same = self.comparison.found.classes[:, None] == self.comparison.labels.classes
        return int(((self.comparison.iou >= SAME_OBJECT) & same).any(axis=0).sum())


def find_label_errors(
    findings: Findings,
    splits: Sequence[Split],
    model: Predictor,
    name: str,
    progress: Callable[[int], None] = lambda done: None,
) -> ModelReport:
    """Run the model over all images that can be read and fit their annotations, and add the labels it contradicts.

    Classes are matched by name; labels of a class that the model does not know are not judged. ``name`` is that of the
    model, and ``progress`` is called with the number of images done.

    Raises:
        DataError: the model knows no class of the data set that has boxes.
    """
    names = [category.name for category in model.categories]
    used = set().union(*(split.used_names for split in splits))
    if not used & set(names):
        raise DataError(
            f"{splits[0].raw.source}: the model knows none of its classes; it knows {', '.join(names[:10])}.",
            code="model-without-these-classes",
        )
    images = _compare_all(splits, model, names, progress)
    baseline = class_baseline([image.comparison for image in images], len(names))
    for split in splits:
        _add_issues(findings, split, [image for image in images if image.split is split], baseline, names)
    labels, detected = sum(len(image.indices) for image in images), sum(image.detected for image in images)
    skipped = sum(len(split.raw.images) for split in splits) - len(images)
    return ModelReport(name, len(images), labels, detected, _notes(used - set(names), skipped))


def _compare_all(
    splits: Sequence[Split], model: Predictor, names: Sequence[str], progress: Callable[[int], None]
) -> list[_ComparedImage]:
    """Compare all images that can be read and fit their annotations."""
    pairs = [(split, image) for split in splits for image in range(len(split.raw.images))]
    compared = []
    for done, (split, image) in enumerate(pairs, start=1):
        compared.append(_compare(split, image, model, names))
        progress(done)
    return [image for image in compared if image is not None]


def _notes(unknown: set[str], skipped: int) -> tuple[str, ...]:
    notes = []
    if unknown:
        listed = ", ".join(sorted(unknown)[:5]) + (" and others" if len(unknown) > 5 else "")
        notes.append(f"the model does not know {listed}; their labels are not judged")
    if skipped == 1:
        notes.append("1 image cannot be read or does not fit its annotations; its labels are not judged")
    elif skipped:
        notes.append(f"{skipped} images cannot be read or do not fit their annotations; their labels are not judged")
    return tuple(notes)


def _compare(split: Split, image: int, model: Predictor, names: Sequence[str]) -> _ComparedImage | None:
    """Compare an image's labels with its detections; None if it cannot be read or is not of the recorded size."""
    file = split.image_file(image)
    try:
        opened = None if file is None else read_for(model.info, file)
    except DataError:
        return None
    if opened is None or opened.size != tuple(split.raw.images.sizes[image].tolist()):
        return None
    detected = model.predict(opened)
    indices = split.boxes_of(image)
    number = {name: i for i, name in enumerate(names)}
    classes = [number.get(split.class_name(int(label)), -1) for label in split.raw.boxes.labels[indices]]
    labels = np.array(classes, np.int64)
    judged = split.sound[indices] & (labels >= 0)
    boxes = split.verdict.boxes[indices]
    regions = boxes[~judged & split.verdict.good[indices]]  # an invalid box is no region either
    in_data = {category.name for category in split.raw.categories}
    known = np.array([name in in_data for name in names])[detected.labels].astype(bool)
    found = ImageDetections(detected.boxes[known], detected.scores[known], detected.labels[known])
    return _ComparedImage(
        split, image, indices[judged], compare_image(Labels(boxes[judged], labels[judged], regions), found)
    )


def _add_issues(
    findings: Findings, split: Split, images: Sequence[_ComparedImage], baseline: ClassBaseline, names: Sequence[str]
) -> None:
    ranked = [(image, issue) for image in images for issue in label_issues(image.comparison, baseline)]
    ranked.sort(key=lambda pair: -pair[1].rank)
    for kind in ("missing-label", "spurious-label", "swapped-class", "loose-box"):
        listed = [pair for pair in ranked if pair[1].kind == kind]
        findings.add_many((kind, split.name), listed, lambda pair: _finding(pair[0], pair[1], names))


def _finding(image: _ComparedImage, issue: LabelIssue, names: Sequence[str]) -> Finding:
    split, labels, found = image.split, image.comparison.labels, image.comparison.found
    drawn, label = [], ""
    if issue.label >= 0:
        label = names[labels.classes[issue.label]]
        drawn.append((label, split.corners(int(image.indices[issue.label]))))
    if issue.found >= 0:
        name, score = names[found.classes[issue.found]], float(found.scores[issue.found])
        x1, y1, x2, y2 = found.boxes[issue.found].tolist()
        drawn.append((f"{FOUND}{name} {score:.2f}", (x1, y1, x2, y2)))
        text = {
            "missing-label": f"{name!r} is detected with a score of {score:.2f}, but there is no label",
            "swapped-class": f"the label {label!r} is detected as {name!r} with a score of {score:.2f}",
            "loose-box": f"the label {label!r} has an IoU of only {issue.iou:.2f} with a detection (score {score:.2f})",
        }[issue.kind]
    else:
        text = f"the label {label!r} has no confident detection"
    extra = {"boxes": tuple(drawn), "rank": issue.rank}
    if issue.label >= 0:
        return split.on_box(issue.kind, int(image.indices[issue.label]), text, **extra)  # type: ignore[arg-type]
    return split.on_image(issue.kind, image.image, text, **extra)  # type: ignore[arg-type]
