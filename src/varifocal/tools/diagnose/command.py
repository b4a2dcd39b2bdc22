"""The verb ``diagnose``: options to a diagnosis, and that to the terminal, to JSON and to images."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from varifocal.analysis.diagnose import diagnose
from varifocal.analysis.diagnosis import Settings
from varifocal.analysis.diagnosis_plots import make_plots
from varifocal.data.coco_results import read_results
from varifocal.evaluation.evaluate import detect_all, fit_classes, relabel
from varifocal.tools.datasets import eval_data
from varifocal.tools.diagnose.console import show
from varifocal.tools.diagnose.results_sanity import results_sanity
from varifocal.tools.output_paths import ensure_writable_dir, ensure_writable_file
from varifocal.types import Dataset, Detections
from varifocal.utils.atomic_write import atomic_write, atomic_write_all
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar


def run_diagnose(options: argparse.Namespace, load: Callable[[], Any]) -> None:
    """Detect or read what was found, diagnose, show, write; ``load`` gives the model of the checkpoint.

    Raises:
        ConfigError: neither or both of a checkpoint and results are named, or an option says nothing possible.
    """
    from rich.console import Console

    if (options.checkpoint is None) == (options.predictions is None):
        raise ConfigError("name either a checkpoint before DATA, or what a detector found with --predictions FILE.")
    if options.predictions is not None:
        _refuse_settings_of_a_model(options)
    _settings(options, 100)  # mistakes are reported before the work
    if options.output_json is not None:
        ensure_writable_file(options.output_json)
    if options.plot_dir is not None:
        ensure_writable_dir(options.plot_dir)
    found = _find(options, load)
    plots = {} if options.plot_dir is None else make_plots(found)
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(found.to_json()).encode())
    if plots:
        atomic_write_all({options.plot_dir / name: text.encode() for name, text in plots.items()})
    Console().print(show(found))  # after the files, which a closed pipe must not cost
    if options.plot_dir is not None:
        print(f"{options.plot_dir}: {', '.join(plots) or 'no chart, since no object is labeled'}")


def _refuse_settings_of_a_model(options: argparse.Namespace) -> None:
    given = [name for name in ("tta", "tile", "overlap") if getattr(options, name) not in (None, False)]
    if given:
        raise ConfigError(f"--{given[0]} is for a checkpoint; leave it out with --predictions.")


def _find(options: argparse.Namespace, load: Callable[[], Any]) -> Any:
    """The diagnosis; notes of the data go to stderr."""
    model = None if options.checkpoint is None else load()
    data = eval_data(options)
    if model is not None:
        data = fit_classes(model, data)
    detections, usual = _detections(options.predictions, model, data)
    for note in data.notes:
        print(note, file=sys.stderr)
    return diagnose(detections, data, _settings(options, usual))


def _settings(options: argparse.Namespace, usual: int) -> Settings:
    limit = usual if options.max_detections is None else options.max_detections
    return Settings(options.target_precision, options.score_threshold, options.iou_threshold, limit, options.num_worst)


def _detections(results: Path | None, model: Any, data: Dataset) -> tuple[list[Detections], int]:
    """One of each sample with labels of the data, and how many COCO's evaluation reads of an image."""
    if results is not None:
        read = read_results(results, data, lambda note: print(f"{results}: {note}", file=sys.stderr))
        for doubt in results_sanity(read, data):
            print(f"{results}: {doubt}", file=sys.stderr)
        return read, 100
    with progress_bar("detecting", len(data.samples)) as advance:
        found = detect_all(model, data.samples, advance)
    most: int = model.info.postprocess.max_detections
    return [relabel(one, data.categories) for one in found], max(most, 100)
