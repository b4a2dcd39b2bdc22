"""Measure the effect of the refinement on the boxes.

    python benchmarks/paper/refinement.py [--only star] [--threads 1]

For every VFNet with refinement that ``run.py`` trained, on the validation frames: the IoU of the first and of the
refined box with their object, at the points that would be positives in training, for the true positives (IoU 0.5)
among the detections, and by the IoU of the first box. Boxes are not clipped to the frame. Results are stored in
``results.json``; those that are already there are not computed again. It may run at the same time as ``run.py``, with
``nice``.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import studies
import torch
from jaxtyping import Float
from run import RECIPE, rows

from varifocal.data.images import read_image
from varifocal.data.load import load_dataset
from varifocal.inference.model import Model, load
from varifocal.inference.pipeline import tta_passes, whole
from varifocal.ops.boxes import distance2bbox, elementwise_iou
from varifocal.recipes.recipe import load_recipe
from varifocal.tools.oracle.positives import Truth
from varifocal.tools.report.folders import read_run
from varifocal.tools.report.measure import DatasetCache, evaluate_run
from varifocal.types import Dataset
from varifocal.utils.progress import progress_bar

EDGES = (0.0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0)  # bins by the IoU of the first box


class Pairs(NamedTuple):
    """The IoU of the first and of the refined box with their object, at P points."""

    initial: Float[np.ndarray, "P"]
    refined: Float[np.ndarray, "P"]


def study(checkpoint: Path, frames: Path, words: str) -> dict[str, Any]:
    """Return the numbers of one run; None for the true positives if there are none."""
    data, model = load_dataset(frames, "val"), load(checkpoint)
    with progress_bar(f"{words}, positives", len(data.samples)) as advance:
        pairs = at_positives(model, data, advance)
    seen = evaluate_run(read_run(checkpoint.parent, words), DatasetCache(), data, "cpu", progress_bar)
    gain = None if isinstance(seen, str) else seen.gain
    return {
        "positives": moved(pairs),
        "true_positives": None if gain is None else vars(gain),
        "bins": by_first_box(pairs),
    }


@torch.inference_mode()
def at_positives(model: Model, data: Dataset, progress: Callable[[int], None] = lambda done: None) -> Pairs:
    """Return the pairs at the points that the detector's own assignment gives to an object, over all images."""
    detector, found = model.detector, []
    for done, sample in enumerate(data.samples, start=1):
        image = read_image(sample.file)
        truth = Truth.of(sample, data.categories, model.categories)
        for batch in tta_passes(whole([image]), model.info):
            forward = model.forward_pass(batch)
            (shape,) = forward.shapes
            targets = truth.targets(image.width, image.height, shape, flip=forward.flip, device=model.device)
            dense = detector.assign(forward.outputs, [targets])
            here = dense.positive
            points = detector.labeling(detector.config).grid(forward.outputs.shapes, like=dense.boxes).points[here[0]]
            both = (distance2bbox(points, forward.outputs.tensors[name][here]) for name in ("initial", "refined"))
            found.append(torch.stack([elementwise_iou(boxes, dense.boxes[here]) for boxes in both]))
        progress(done)
    return Pairs(*torch.cat(found, dim=1).double().cpu().numpy())


def moved(pairs: Pairs) -> dict[str, float | int | None]:
    """Return the number of points, the mean IoU of first and refined box, and the fraction that improved."""
    count = len(pairs.initial)
    if not count:
        return {"count": 0, "initial": None, "refined": None, "better": None}
    return {
        "count": count,
        "initial": float(pairs.initial.mean()),
        "refined": float(pairs.refined.mean()),
        "better": float((pairs.refined > pairs.initial).mean()),
    }


def by_first_box(pairs: Pairs) -> list[dict[str, float | int | None]]:
    """Return the same in bins by the IoU of the first box; 1 is in the last bin."""
    place = np.minimum(np.searchsorted(EDGES, pairs.initial, side="right") - 1, len(EDGES) - 2)
    parts = []
    for i, (low, high) in enumerate(pairwise(EDGES)):
        own = Pairs(*(values[place == i] for values in pairs))
        parts.append({"from": low, "to": high, **moved(own)})
    return parts


def refining() -> list[str]:
    """Return the names of the rows of ``run.py`` whose detector refines a first box."""
    names = {row.name: load_recipe(str(RECIPE), row.overrides) for group in rows() for row in group}
    return [name for name, recipe in names.items() if getattr(recipe.model, "refine", False)]


if __name__ == "__main__":
    studies.main(__doc__, "refinement", study, refining())
