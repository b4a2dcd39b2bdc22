"""The verb ``diagnose``: options to a diagnosis, and that to the terminal, to JSON and to pictures."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from varifocal.data.coco_results import read_results
from varifocal.datasets import eval_data
from varifocal.diagnose.doubts import doubts
from varifocal.diagnose.plots import make_plots
from varifocal.diagnose.report import Settings
from varifocal.diagnose.run import diagnose
from varifocal.diagnose.show import show
from varifocal.errors import ConfigError
from varifocal.evaluate.run import detect_all, fit_classes, relabel
from varifocal.files import write_beside, write_together
from varifocal.places import check_folder, check_target
from varifocal.progress import progress_bar
from varifocal.records import DataSet, Detections


def run_diagnose(options: argparse.Namespace, load: Callable[[], Any]) -> None:
    """Detect or read what was found, diagnose, show, write; ``load`` gives the model of the checkpoint.

    Raises:
        ConfigError: neither or both of a checkpoint and results are named, or an option says nothing possible.
    """
    from rich.console import Console

    if (options.checkpoint is None) == (options.results is None):
        raise ConfigError("name either a checkpoint before DATA, or what a detector found with --results FILE.")
    if options.results is not None:
        _refuse_settings_of_a_model(options)
    _settings(options, 100)  # mistakes are told before the work
    if options.json is not None:
        check_target(options.json)
    if options.plots is not None:
        check_folder(options.plots)
    found = _find(options, load)
    plots = {} if options.plots is None else make_plots(found)
    if options.json is not None:
        write_beside(options.json, json.dumps(found.to_json()).encode())
    if plots:
        write_together({options.plots / name: text.encode() for name, text in plots.items()})
    Console().print(show(found))  # after the files, which a closed pipe must not cost
    if options.plots is not None:
        print(f"{options.plots}: {', '.join(plots) or 'no chart, since no object is labeled'}")


def _refuse_settings_of_a_model(options: argparse.Namespace) -> None:
    given = [name for name in ("tta", "tile", "overlap") if getattr(options, name) not in (None, False)]
    if given:
        raise ConfigError(f"--{given[0]} is for a checkpoint; leave it out with --results.")


def _find(options: argparse.Namespace, load: Callable[[], Any]) -> Any:
    """The diagnosis; notes of the data go to stderr."""
    model = None if options.checkpoint is None else load()
    data = eval_data(options)
    if model is not None:
        data = fit_classes(model, data)
    detections, usual = _detections(options.results, model, data)
    for note in data.notes:
        print(note, file=sys.stderr)
    return diagnose(detections, data, _settings(options, usual))


def _settings(options: argparse.Namespace, usual: int) -> Settings:
    limit = usual if options.max_detections is None else options.max_detections
    return Settings(options.wanted_precision, options.score, options.iou, limit, options.worst)


def _detections(results: Path | None, model: Any, data: DataSet) -> tuple[list[Detections], int]:
    """One of each sample with labels of the data, and how many COCO's evaluation reads of a picture."""
    if results is not None:
        read = read_results(results, data, lambda note: print(f"{results}: {note}", file=sys.stderr))
        for doubt in doubts(read, data):
            print(f"{results}: {doubt}", file=sys.stderr)
        return read, 100
    with progress_bar("detecting", len(data.samples)) as advance:
        found = detect_all(model, data.samples, advance)
    most: int = model.info.postprocess.max_detections
    return [relabel(one, data.categories) for one in found], max(most, 100)
