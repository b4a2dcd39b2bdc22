"""The command ``diagnose``: from options to a diagnosis, and from that to the terminal, to JSON and to charts."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from varifocal.analysis.diagnosis import Diagnosis, Settings, diagnose
from varifocal.analysis.diagnosis_plots import make_plots
from varifocal.data.coco_results import read_results
from varifocal.evaluation.evaluate import detect_all, fit_classes, relabel
from varifocal.tools.datasets import eval_data
from varifocal.tools.diagnose.console import show
from varifocal.tools.diagnose.results_sanity import results_sanity
from varifocal.tools.output_paths import ensure_outputs, ensure_writable_dir
from varifocal.types import Dataset, Detections
from varifocal.utils.atomic_write import atomic_write, atomic_write_all
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar

LIMIT = 100  # detections of a class in an image that COCO's evaluation reads


def run_diagnose(options: argparse.Namespace, load: Callable[[], Any]) -> None:
    """Detect objects or read detections, diagnose them, write the files and print the result.

    ``load`` returns the model of the checkpoint.

    Raises:
        ConfigError: neither or both of a checkpoint and results are named, or an option has an impossible value.
    """
    from rich.console import Console

    _check(options)
    found = _diagnose(options, load)
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(found.to_json()).encode())
    plots = {} if options.plot_dir is None else make_plots(found)
    if plots:
        atomic_write_all({options.plot_dir / name: text.encode() for name, text in plots.items()})
    Console(markup=False, emoji=False).print(show(found))  # after the files, which a closed pipe must not cost
    if options.plot_dir is not None:
        print(f"{options.plot_dir}: {', '.join(plots) or 'no chart, since no object is labeled'}")


def _check(options: argparse.Namespace) -> None:
    """Raise on options that contradict each other or outputs that cannot be written, before the work begins."""
    if (options.checkpoint is None) == (options.predictions is None):
        raise ConfigError(
            "name either a checkpoint before DATA or a file of detections with --predictions FILE.",
            code="diagnose-one-source",
        )
    if options.predictions is not None:
        for name in ("tta", "tile", "overlap"):
            if getattr(options, name) not in (None, False):
                raise ConfigError(
                    f"--{name} applies to a checkpoint; leave it out with --predictions.",
                    code="option-of-a-checkpoint",
                )
    _settings(options, LIMIT)
    ensure_outputs({"--output-json": options.output_json})
    if options.plot_dir is not None:
        ensure_writable_dir(options.plot_dir)


def _diagnose(options: argparse.Namespace, load: Callable[[], Any]) -> Diagnosis:
    """Return the diagnosis; print notes on the data and on a results file to stderr."""
    file: Path | None = options.predictions
    model: Any = None if options.checkpoint is None else load()
    data = eval_data(options)
    if file is None:
        data = fit_classes(model, data)
        detections, limit = _detect(model, data)
    else:
        detections, limit = read_results(file, data, lambda note: print(f"{file}: {note}", file=sys.stderr)), LIMIT
    found = diagnose(detections, data, _settings(options, limit))
    for sentence in () if file is None else results_sanity(found.table, data):
        print(f"{file}: {sentence}", file=sys.stderr)
    for note in data.notes:
        print(note, file=sys.stderr)
    return found


def _settings(options: argparse.Namespace, limit: int) -> Settings:
    limit = limit if options.max_detections is None else options.max_detections
    return Settings(options.target_precision, options.score_threshold, options.iou_threshold, limit, options.num_worst)


def _detect(model: Any, data: Dataset) -> tuple[list[Detections], int]:
    """Return the model's detections in each sample, with labels of the data, and how many the diagnosis reads."""
    with progress_bar("detecting", len(data.samples)) as advance:
        found = detect_all(model, data.samples, advance)
    limit = max(model.info.postprocess.max_detections, LIMIT)
    return [relabel(detections, data.categories) for detections in found], limit
