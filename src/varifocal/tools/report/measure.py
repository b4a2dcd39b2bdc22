"""What the best weights of a run find in its validation images: detections, stars, metrics and diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float

from varifocal.analysis.detection_table import overlap
from varifocal.analysis.diagnose import diagnose
from varifocal.analysis.diagnosis import Diagnosis, Settings
from varifocal.analysis.star_points import Stars, has_stars, predict_with_stars
from varifocal.data.validate import check_size
from varifocal.evaluation.evaluate import detect_all, fit_classes, measure, relabel
from varifocal.inference.model import load
from varifocal.inference.pipeline import read_for
from varifocal.recipes.build import read_splits
from varifocal.recipes.run import dataset_digest
from varifocal.tools.report.folders import Run
from varifocal.types import Dataset, Detections
from varifocal.utils.errors import DataError, VarifocalError

WORST = 0  # of a diagnosis that are listed: the report chooses its images by the costs
Bar = Callable[[str, int], Any]  # a context of a function that is called with the number done


@dataclass(frozen=True)
class RefinementGain:
    """What the refinement does to the boxes of true positives (IoU 0.5): means over ``count`` of them, and the fraction
    whose refined box is nearer to the truth than the first one."""

    count: int
    initial: float
    refined: float
    better: float


@dataclass(frozen=True, eq=False)
class RunEvaluation:
    """``detections[i]`` and ``stars[i]`` belong to ``data.samples[i]``; labels index the classes of the data. There are
    no ``stars`` of another detector than VFNet. ``key`` tells data sets apart; ``refines``: there is a refined box."""

    data: Dataset
    key: str
    detections: Sequence[Detections]
    stars: Sequence[Stars] | None
    refines: bool
    metrics: dict[str, Any]
    diagnosis: Diagnosis
    notes: tuple[str, ...] = ()

    @property
    def gain(self) -> RefinementGain | None:
        """None without stars or without a true positive."""
        if self.stars is None or not self.refines:
            return None
        table = self.diagnosis.table
        right = self.diagnosis.given.matches.right[0]
        if not right.any():
            return None
        where = list(zip(table.samples[table.found.image[right]].tolist(), table.found.index[right], strict=True))
        truth = _corners(table.truth.boxes[self.diagnosis.given.matches.truth[0][right]])
        first = elementwise_iou_of_pairs(np.stack([self.stars[i].initial[at] for i, at in where]), truth)
        last = elementwise_iou_of_pairs(np.stack([self.stars[i].refined[at] for i, at in where]), truth)
        return RefinementGain(len(first), float(first.mean()), float(last.mean()), float((last > first).mean()))


@dataclass
class DatasetCache:
    """Data sets that were read, so that runs on the same data read it once."""

    parts: dict[tuple[str, str], tuple[Dataset, Dataset | None]] = field(default_factory=dict)

    def of(self, run: Run) -> tuple[Dataset, str | None]:
        """What a run was validated on, and a sentence where the labels are not those it was trained with.

        Raises:
            DataError: there is none any more; other errors are those of the readers.
        """
        path = run.data_path
        if run.recipe is None or path is None:
            raise DataError("its folder does not say which data it was validated on; name it with --data")
        if not Path(path).exists():
            also = [] if run.absolute is None else [str(Path(run.absolute).parent)]
            looked = " and ".join([str(Path.cwd()), *also])
            where = "" if Path(path).is_absolute() else f" (looked for in {looked})"
            raise DataError(f"its data {path} is not there{where}; say where with --data")
        key = (path, repr((run.recipe.data, run.recipe.model.num_classes)))
        if key not in self.parts:
            self.parts[key] = read_splits(Path(path), run.recipe.data, run.recipe.model.num_classes)
        training, validation = self.parts[key]
        if validation is None:
            raise DataError(f"its data {path} has no validation split; pass labeled images with --data")
        changed = run.digest is not None and dataset_digest(training) != run.digest
        return validation, f"the labels of {path} were changed since it was trained" if changed else None


def evaluate_run(run: Run, shelf: DatasetCache, given: Dataset | None, device: str, bar: Bar) -> RunEvaluation | str:
    """What the run's best weights find, in ``given`` data or its own; or why there is nothing, in a sentence."""
    if run.checkpoint is None:
        return "without its best weights there is no diagnosis and no example"
    try:
        data, note = (given, None) if given is not None else shelf.of(run)
        model = load(run.checkpoint, device)
        fit_classes(model, data)  # or an error; the data stays whole, so that runs can be compared
        with bar(f"detecting, {run.name}", len(data.samples)) as advance:
            found, stars = _detect(model, data, advance)
    except (VarifocalError, OSError) as error:
        return " ".join(str(error).split()).rstrip(".")
    except (MemoryError, torch.OutOfMemoryError):  # the other runs may have room
        return f"there is not enough memory on {device} to look at its images"
    metrics = measure(model, data, found).to_json()
    kept = [_known(one, data) for one in found]
    detections = [relabel(one, data.categories) for one in found]
    most = max(model.info.postprocess.max_detections, 100)
    diagnosis = diagnose(detections, data, Settings(max_detections=most, worst=WORST))
    own_stars = None if stars is None else [one.take(keep) for one, keep in zip(stars, kept, strict=True)]
    refines = bool(getattr(model.info.config, "refine", False))
    data_notes = () if given is not None else data.notes  # of given data they are reported once
    notes = data_notes if note is None else (*data_notes, note)
    return RunEvaluation(data, dataset_digest(data), detections, own_stars, refines, metrics, diagnosis, notes)


def elementwise_iou_of_pairs(a: Float[np.ndarray, "n 4"], b: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n"]:
    """Of xyxy boxes, row by row, in float64 as the diagnosis has it."""
    sides = [np.concatenate([x[:, :2], x[:, 2:] - x[:, :2]], axis=1) for x in (a.astype(float), b.astype(float))]
    return overlap(sides[0], sides[1], np.zeros(len(a), bool))


def _corners(boxes: Float[np.ndarray, "n 4"]) -> Float[np.ndarray, "n 4"]:
    return np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)


def _detect(model: Any, data: Dataset, advance: Callable[[int], None]) -> tuple[list[Detections], list[Stars] | None]:
    if not has_stars(model):
        return detect_all(model, data.samples, advance), None
    pairs = []
    for done, sample in enumerate(data.samples, start=1):
        image = read_for(model.info, sample.file)
        check_size(sample, image)
        pairs.append(predict_with_stars(model, image))
        advance(done)
    return [found for found, _ in pairs], [stars for _, stars in pairs]


def _known(found: Detections, data: Dataset) -> np.ndarray:
    """Return the indices of the detections whose class the data has, which are what ``relabel`` keeps."""
    names = {category.name for category in data.categories}
    return np.flatnonzero(np.array([category.name in names for category in found.categories])[found.labels])
