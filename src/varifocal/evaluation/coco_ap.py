"""COCO average precision of detections on a labeled data set.

This is the only module that calls the evaluator, hotcoco, which reproduces pycocotools: ten IoU thresholds, 101 recall
points, at most 100 boxes per image unless a larger limit is given.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

import numpy as np

from varifocal.types import Category, Detections, Sample

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True)
class CocoMetrics:
    """The twelve COCO numbers, each in 0..1, or -1 if there are no such labels.

    s, m and l are boxes below 32 x 32 pixels, up to 96 x 96 and above; AR1, AR10 and AR100 allow that many detections
    per image, the others the limit of the evaluation, 100 by default. ``per_class`` is the AP by class name, in the
    order of the categories; a name that two categories have is followed by the id.
    """

    AP: float
    AP50: float
    AP75: float
    APs: float
    APm: float
    APl: float
    AR1: float
    AR10: float
    AR100: float
    ARs: float
    ARm: float
    ARl: float
    per_class: dict[str, float]

    def to_json(self) -> dict[str, Any]:
        """Return all numbers as a dictionary for ``json.dump``."""
        return asdict(self)

    def table(self) -> Table:
        """Return a table of the twelve numbers, then the AP of each class, in percent, with a dash for -1."""
        from rich.table import Table

        table = Table("metric", "%", title="COCO box AP")
        table.columns[1].justify = "right"
        for field in fields(self):
            if field.name != "per_class":
                table.add_row(field.name, _percent(getattr(self, field.name)))
        table.add_section()
        for name, value in self.per_class.items():
            table.add_row(_plain(f"AP {name}"), _percent(value))
        return table


def coco_ap(
    samples: Sequence[Sample],
    categories: Sequence[Category],
    detections: Sequence[Detections],
    max_detections: int = 100,
    *,
    without_false: bool = False,
) -> CocoMetrics:
    """Return the COCO metrics of ``detections[i]`` in ``samples[i]``.

    Images with more than 100 objects need a larger ``max_detections``; it is never below COCO's 100.

    Boxes are xyxy in pixels of the original image; labels of both index ``categories``. A crowd box matches any number
    of detections and counts neither for nor against them. Boxes are small, medium or large by the areas of the samples,
    as in COCO's own evaluation.

    ``without_false`` removes, at each IoU threshold, the detections that the evaluation counts as false there. That
    changes no other match and leaves a precision of 1 at every recall that is reached.

    Raises:
        ValueError: there is not one Detections per sample, or a label does not index ``categories``.
    """
    from hotcoco import COCOeval

    if len(samples) != len(detections):
        raise ValueError(f"{len(samples)} samples but detections of {len(detections)}")
    _check_labels([*samples, *detections], len(categories))

    evaluator = COCOeval(*_both_sides(samples, categories, detections), "bbox")
    evaluator.params.max_dets = [1, 10, 100] if max_detections <= 100 else [1, 10, 100, max_detections]
    evaluator.evaluate()
    evaluator.accumulate()
    accumulated = evaluator.eval
    assert accumulated is not None  # accumulate() has just made it
    precision = accumulated["precision"]
    if without_false:
        precision = np.where(precision > 0, 1.0, precision)  # 0 where a recall is not reached, -1 without labels
    return CocoMetrics(**_twelve(precision, accumulated["recall"]), per_class=_per_class(precision, categories))


def _both_sides(
    samples: Sequence[Sample], categories: Sequence[Category], detections: Sequence[Detections]
) -> tuple[Any, Any]:
    """Return the labels and the detections as objects of the evaluator.

    The evaluator orders equal scores by image id. It gets the ranks of the ids instead: the order stays the same, and
    ids that are negative or used twice do no harm. A label is its own category id.
    """
    from hotcoco import COCO

    ranks = np.empty(len(samples), dtype=np.int64)
    ranks[np.argsort([sample.image_id for sample in samples], kind="stable")] = np.arange(len(samples))
    truth = COCO.from_arrays(
        [{"id": int(rank), "width": s.width, "height": s.height} for rank, s in zip(ranks, samples, strict=True)],
        [{"id": label, "name": category.name} for label, category in enumerate(categories)],
        _per_box(ranks, samples),
        _join([sample.labels for sample in samples], np.int64),
        _xywh(samples),
        area=_join([_areas(sample) for sample in samples], np.float64),
        iscrowd=_join([sample.crowd for sample in samples], np.int64),
    )
    found = np.column_stack(
        [
            _per_box(ranks, detections),
            _xywh(detections),
            _join([one.scores for one in detections], np.float64),
            _join([one.labels for one in detections], np.int64),
        ]
    )
    return truth, truth.load_res(found)


def _twelve(precision: np.ndarray, recall: np.ndarray) -> dict[str, float]:
    """Return the twelve numbers of precision[T, R, K, A, M] and recall[T, K, A, M]; M: 1, 10, 100, any larger limit."""
    parts = {"AP": precision[..., 0, -1], "AP50": precision[0, ..., 0, -1], "AP75": precision[5, ..., 0, -1]}
    parts |= {f"AP{size}": precision[..., area, -1] for area, size in enumerate("sml", start=1)}
    parts |= {f"AR{most}": recall[..., 0, index] for index, most in enumerate((1, 10, 100))}
    parts |= {f"AR{size}": recall[..., area, -1] for area, size in enumerate("sml", start=1)}
    return {name: float(part[part > -1].mean()) if (part > -1).any() else -1.0 for name, part in parts.items()}


def _check_labels(holders: Sequence[Sample | Detections], classes: int) -> None:
    for holder in holders:
        bad = holder.labels[(holder.labels < 0) | (holder.labels >= classes)]
        if len(bad):
            raise ValueError(f"label {bad[0]} does not index the {classes} categories")


def _join(arrays: Sequence[np.ndarray], dtype: type) -> np.ndarray:
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype)


def _per_box(ids: np.ndarray, holders: Sequence[Sample | Detections]) -> np.ndarray:
    """Return the image id of each box."""
    return np.repeat(ids, [len(holder.labels) for holder in holders])


def _xywh(holders: Sequence[Sample | Detections]) -> np.ndarray:
    """Return all boxes [N, 4] as x, y, width, height, converted to float64 before the subtraction, as in JSON."""
    boxes = np.concatenate([np.zeros((0, 4)), *(holder.boxes.astype(np.float64) for holder in holders)])
    boxes[:, 2:] -= boxes[:, :2]
    return boxes


def _areas(sample: Sample) -> np.ndarray:
    return _xywh([sample])[:, 2:].prod(axis=1) if sample.areas is None else sample.areas


def _per_class(precision: np.ndarray, categories: Sequence[Category]) -> dict[str, float]:
    """Return the mean over thresholds and recalls of precision[T, R, label, area "all", largest limit] by class."""
    uses = Counter(category.name for category in categories)
    result = {}
    for label, category in enumerate(categories):
        name = category.name if uses[category.name] == 1 else f"{category.name} ({category.id})"
        result[name] = float(precision[:, :, label, 0, -1].mean())  # all are -1 where a class has no box
    return result


def _percent(value: float) -> str:
    return "-" if value < 0 else f"{100 * value:.1f}"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
