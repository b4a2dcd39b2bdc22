"""Measure how well the scores rank the boxes.

    python benchmarks/paper/ranking.py [--seeds 0,1,2] [--only atss] [--threads 1]

Diagnoses the detectors that ``run.py`` trained, on the validation frames, and stores rank correlation, calibration and
the causes of lost AP in ``results.json`` (docs/diagnose.md defines them). Results that are already there are not
computed again. It may run at the same time as ``run.py``, with ``nice``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import studies

from varifocal.analysis.diagnosis import Diagnosis, Settings, diagnose
from varifocal.data.load import load_dataset
from varifocal.evaluation.evaluate import detect_all, relabel
from varifocal.inference.model import load
from varifocal.utils.progress import progress_bar


def study(checkpoint: Path, frames: Path, words: str) -> dict[str, Any]:
    """Return the numbers of one run."""
    data, model = load_dataset(frames, "val"), load(checkpoint)
    with progress_bar(words, len(data.samples)) as advance:
        found = detect_all(model, data.samples, advance)
    most = max(model.info.postprocess.max_detections, 100)
    settings = Settings(max_detections=most, worst=0)
    return {"metrics": numbers(diagnose([relabel(one, data.categories) for one in found], data, settings))}


def numbers(found: Diagnosis) -> dict[str, float | int | None]:
    """Return fractions of 1, correlations and counts; None where a number does not exist."""
    ranking, calibration = found.ranking, found.calibration
    return {
        "AP": found.ap["AP"],
        "AP75": found.ap["AP75"],
        "spearman": ranking.near.spearman,
        "kendall": ranking.near.kendall,
        "near": ranking.near.count,
        "spearman_all": ranking.everywhere.spearman,
        "laece": None if calibration is None else calibration.laece,
        "laece_all": None if calibration is None else calibration.laece_all,
        "lost_to_ranking": ranking.worth.ranking,
        "lost_to_duplicates": ranking.worth.duplicates,
        "lost_to_boxes": ranking.worth.boxes,
    }


if __name__ == "__main__":
    studies.main(__doc__, "ranking", study)
