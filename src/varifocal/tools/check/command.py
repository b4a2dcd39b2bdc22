"""The command ``check``: from options to a report, and from that to the terminal, to JSON, to a page and to a copy."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.data.summary import DataSummary
from varifocal.recipes.plan import TRAIN, untimed_recipe
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.tools.check.report import Report
from varifocal.tools.check.run import check_data
from varifocal.tools.datasets import reading
from varifocal.tools.output_paths import ensure_outputs
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar
from varifocal.utils.text import count_of


def run_check(options: argparse.Namespace, overrides: list[str], load: Callable[[], Any]) -> int:
    """Check the data, print the report and write the files; return the exit code of the report.

    ``load`` returns the model that --model names.
    """
    from rich.console import Console

    from varifocal.tools.check.console import show

    ensure_outputs({"--output-json": options.output_json, "--html": options.html})
    if options.fix is not None:
        _check_fix(options)
    model = None if options.checkpoint is None else (options.checkpoint.name, load())
    report = check_data(
        options.data,
        _geometry(options.recipe, overrides, model),
        split=options.split,
        **reading(options, options.data),
        decode=not options.annotations_only,
        model=model,
        bar=progress_bar,
    )
    Console(markup=False, emoji=False).print(show(report))
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(report.to_json(), indent=1).encode())
    if options.html is not None:
        from varifocal.tools.check.page import make_page

        atomic_write(options.html, make_page(report).encode(errors="replace"))  # file names may be bytes, not text
    if options.fix is not None:
        _fix(report, options)
    return report.exit_code


def _check_fix(options: argparse.Namespace) -> None:
    from varifocal.tools.check.fix import check_new

    if options.annotations_only:
        raise ConfigError(
            "--fix copies images that can be read, so it has to decode them; leave out --annotations-only.",
            code="fix-without-decoding",
        )
    check_new(options.fix, options.data)


def _fix(report: Report, options: argparse.Namespace) -> None:
    from varifocal.tools.check.fix import write_fixed

    notes: list[str] = []
    changes = write_fixed(report, options.fix, copy=options.copy, notes=notes)
    print(
        f"{options.fix}: a copy with {count_of(len(changes), 'change')}, listed in changes.txt; "
        "the source is unchanged."
    )
    for note in notes:
        print(note)


def _geometry(
    name: str | None, overrides: list[str], model: tuple[str, Any] | None
) -> TrainingGeometry | Callable[[DataSummary], TrainingGeometry]:
    """Return the geometry of the named recipe, else of the checkpoint, else what ``train`` decides by the data."""
    if name is None and not overrides and model is not None and hasattr(model[1].info, "config"):
        return TrainingGeometry.of_model(model[0], model[1].info)
    if name is not None:
        return _geometry_of(load_recipe(name, overrides), " ".join([name, *overrides]))
    load_recipe("small", overrides)  # a wrong word is reported before the data is read
    return lambda data: _geometry_of(untimed_recipe(data, overrides), " ".join([TRAIN, *overrides]))


def _geometry_of(recipe: Recipe, label: str) -> TrainingGeometry:
    return TrainingGeometry.of(label, recipe.detector, recipe.model, recipe.data.preprocess, recipe.data.augment.crop)
