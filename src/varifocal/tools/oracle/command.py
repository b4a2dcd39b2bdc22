"""The verb ``oracle``: options to a study, and the study to the terminal, to JSON and to a chart."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from varifocal.evaluation.evaluate import fit_classes
from varifocal.inference.loading import is_exported
from varifocal.tools.datasets import eval_data
from varifocal.tools.oracle.chart import chart
from varifocal.tools.oracle.console import show
from varifocal.tools.oracle.study import oracle_study
from varifocal.tools.output_paths import ensure_writable_file
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar


def run_oracle(options: argparse.Namespace, load: Callable[[], Any]) -> None:
    """Study, show, write; ``load`` gives the model that the options name."""
    from rich.console import Console

    if is_exported(options.checkpoint):
        raise ConfigError(
            f"{options.checkpoint}: an exported file hides its points; give the checkpoint it was made of."
        )
    for target in _targets(options):
        ensure_writable_file(target)
    model = load()
    data = fit_classes(model, eval_data(options))
    if options.max_images is not None:
        data = replace(data, samples=data.samples[: options.max_images])
    with progress_bar("asking", len(data.samples)) as advance:
        study = oracle_study(model, data, assign=options.assigner, topk=options.topk, progress=advance)
    for note in data.notes:
        print(note, file=sys.stderr)
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(study.to_json(), indent=1).encode())
    if options.plot is not None:
        atomic_write(options.plot, chart(study).encode())
    Console().print(show(study))  # after the files, which a closed pipe must not cost


def _targets(options: argparse.Namespace) -> list[Path]:
    if options.plot is not None and options.plot.suffix.lower() != ".svg":
        raise ConfigError(f"--plot {options.plot}: the chart is an SVG; give it a name that ends in .svg.")
    targets = [target for target in (options.output_json, options.plot) if target is not None]
    if len({target.resolve() for target in targets}) < len(targets):
        raise ConfigError(
            f"{options.output_json}: is named by --output-json and by --plot; give each a file of its own."
        )
    return targets
