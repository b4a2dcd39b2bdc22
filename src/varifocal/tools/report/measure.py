"""Evaluation of a run's best weights on its validation images: detections, stars, metrics and diagnosis."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from varifocal.analysis.detection_table import xywh_to_xyxy
from varifocal.analysis.diagnosis import Diagnosis, Settings, diagnose
from varifocal.analysis.star_points import Stars, has_stars, predict_with_stars
from varifocal.data.digest import dataset_digest
from varifocal.data.validate import check_size
from varifocal.evaluation.evaluate import detect_all, fit_classes, measure, relabel
from varifocal.inference.boxes_numpy import elementwise_iou
from varifocal.inference.model import load
from varifocal.inference.pipeline import read_for
from varifocal.recipes.build import read_splits
from varifocal.tools.report.folders import Run
from varifocal.types import Dataset, Detections
from varifocal.utils.errors import DataError, VarifocalError
from varifocal.utils.progress import Bar

WORST = 0  # images listed in a diagnosis: the report chooses its own by their costs


@dataclass(frozen=True)
class RefinementGain:
    """Mean IoU of the first and the refined boxes of ``count`` true positives (IoU 0.5).

    ``better`` is the fraction whose refined box overlaps the truth more than the first one.
    """

    count: int
    initial: float
    refined: float
    better: float


@dataclass(frozen=True, eq=False)
class RunEvaluation:
    """The evaluation of a run; ``detections[i]`` and ``stars[i]`` belong to ``data.samples[i]``.

    Labels index the classes of the data. ``stars`` is None for detectors other than VFNet, and ``refines`` says whether
    the detector refines its first boxes. ``key`` identifies the data set.
    """

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
        """The gain of the refinement; None without stars or without a true positive."""
        if self.stars is None or not self.refines:
            return None
        table = self.diagnosis.table
        right = self.diagnosis.given.matches.right[0]
        if not right.any():
            return None
        pairs = list(zip(table.samples[table.found.image[right]].tolist(), table.found.index[right], strict=True))
        truth = xywh_to_xyxy(table.truth.boxes[self.diagnosis.given.matches.truth[0][right]])
        initial = np.stack([self.stars[i].initial[index] for i, index in pairs]).astype(np.float64)
        refined = np.stack([self.stars[i].refined[index] for i, index in pairs]).astype(np.float64)
        first, last = elementwise_iou(initial, truth), elementwise_iou(refined, truth)
        return RefinementGain(len(first), float(first.mean()), float(last.mean()), float((last > first).mean()))


@dataclass
class DatasetCache:
    """The data sets read so far, so that runs on the same data read it once."""

    parts: dict[tuple[str, str], tuple[Dataset, Dataset | None]] = field(default_factory=dict)

    def of(self, run: Run) -> tuple[Dataset, str | None]:
        """Return the validation data of a run, and a sentence if the labels have changed since the training.

        Raises:
            DataError: the data set does not exist any more, or cannot be read.
        """
        path = run.data_path
        if run.recipe is None or path is None:
            raise DataError(
                "its folder does not name the data it was validated on; name it with --data", code="run-without-data"
            )
        if not Path(path).exists():
            also = [] if run.absolute is None else [str(Path(run.absolute).parent)]
            searched = " and ".join([str(Path.cwd()), *also])
            where = "" if Path(path).is_absolute() else f" (searched in {searched})"
            raise DataError(f"its data {path} does not exist{where}; name it with --data", code="data-missing")
        key = (path, repr((run.recipe.data, run.recipe.model.num_classes)))
        if key not in self.parts:
            self.parts[key] = read_splits(Path(path), run.recipe.data, run.recipe.model.num_classes)
        training, validation = self.parts[key]
        if validation is None:
            raise DataError(
                f"its data {path} has no validation split; name labeled images with --data",
                code="no-validation-split",
            )
        changed = run.digest is not None and dataset_digest(training) != run.digest
        return validation, f"the labels of {path} have changed since it was trained" if changed else None


def evaluate_run(run: Run, cache: DatasetCache, data: Dataset | None, device: str, bar: Bar) -> RunEvaluation | str:
    """Evaluate the run's best weights on ``data``, or on the run's own if None; return a sentence if that fails."""
    if run.checkpoint is None:
        return "without its best weights there is no diagnosis and no example"
    try:
        used, note = cache.of(run) if data is None else (data, None)
        model = load(run.checkpoint, device)
        fit_classes(model, used)  # only for its errors: the data stays whole, so that runs can be compared
        with bar(f"detecting, {run.name}", len(used.samples)) as advance:
            found, stars = _detect(model, used, advance)
    except (VarifocalError, OSError) as error:
        return " ".join(str(error).split()).rstrip(".")
    except (MemoryError, torch.OutOfMemoryError):  # the other runs may have room
        return f"there is not enough memory on {device} to run on its images"
    notes = (*(used.notes if data is None else ()), *([] if note is None else [note]))  # those of data come once
    return _evaluation(model, used, found, stars, notes)


def _evaluation(
    model: Any, data: Dataset, found: Sequence[Detections], stars: Sequence[Stars] | None, notes: tuple[str, ...]
) -> RunEvaluation:
    kept = None if stars is None else [one.take(_known(each, data)) for one, each in zip(stars, found, strict=True)]
    detections = [relabel(each, data.categories) for each in found]
    settings = Settings(max_detections=max(model.info.postprocess.max_detections, 100), worst=WORST)
    return RunEvaluation(
        data,
        dataset_digest(data),
        detections,
        kept,
        bool(getattr(model.info.config, "refine", False)),
        measure(model, data, found).to_json(),
        diagnose(detections, data, settings),
        notes,
    )


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
