"""The command ``oracle``: from options to a study, and from that to the terminal, to JSON and to a chart."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from varifocal.evaluation.evaluate import fit_classes
from varifocal.inference.loading import is_exported
from varifocal.tools.datasets import eval_data
from varifocal.tools.oracle.chart import chart
from varifocal.tools.oracle.console import show
from varifocal.tools.oracle.study import oracle_study
from varifocal.tools.output_paths import ensure_outputs
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar


def run_oracle(options: argparse.Namespace, load: Callable[[], Any]) -> None:
    """Run the study, write the files and print the result; ``load`` returns the model that the options name.

    Raises:
        ConfigError: the model is an exported file, or an output cannot be written.
    """
    from rich.console import Console

    if is_exported(options.checkpoint):
        raise ConfigError(
            f"{options.checkpoint}: an exported file does not show its points; name the checkpoint it was made from.",
            code="checkpoint-is-exported",
        )
    if options.plot is not None and options.plot.suffix.lower() != ".svg":
        raise ConfigError(f"--plot {options.plot}: the chart is an SVG; its name must end in .svg.", code="plot-suffix")
    ensure_outputs({"--output-json": options.output_json, "--plot": options.plot})
    model = load()
    data = fit_classes(model, eval_data(options))
    if options.max_images is not None:
        data = replace(data, samples=data.samples[: options.max_images])
    with progress_bar("evaluating", len(data.samples)) as advance:
        study = oracle_study(model, data, assign=options.assigner, topk=options.topk, progress=advance)
    for note in data.notes:
        print(note, file=sys.stderr)
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(study.to_json(), indent=1).encode())
    if options.plot is not None:
        atomic_write(options.plot, chart(study).encode())
    Console(markup=False, emoji=False).print(show(study))  # after the files, which a closed pipe must not cost
