"""The verb ``check``: options to a report, and the report to the terminal, to JSON and to a page."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.recipes.recipe import load_recipe
from varifocal.tools.check.report import Report
from varifocal.tools.check.run import check_data
from varifocal.tools.datasets import reading
from varifocal.tools.output_paths import ensure_writable_file
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar

RECIPE = "vfnet_r50_1x"


def run_check(options: argparse.Namespace, overrides: list[str], load: Callable[[], Any]) -> int:
    """Look, show, write; ``load`` gives the model that --model names. The exit code is the report's."""
    from rich.console import Console

    from varifocal.tools.check.console import show

    for target in _targets(options):
        ensure_writable_file(target)
    if options.fix is not None:
        _check_fix(options)
    model = None if options.checkpoint is None else (options.checkpoint.name, load())
    eye = _eye(options.recipe, overrides, model)
    report = check_data(
        options.data,
        eye,
        split=options.split,
        **reading(options, options.data),
        decode=not options.annotations_only,
        model=model,
        bar=_bar,
    )
    Console().print(show(report))
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(report.to_json(), indent=1).encode())
    if options.html is not None:
        from varifocal.tools.check.page import make_page

        atomic_write(options.html, make_page(report).encode(errors="replace"))  # names may be no text
    if options.fix is not None:
        _fix(report, options)
    return report.exit_code


def _check_fix(options: argparse.Namespace) -> None:
    from varifocal.tools.check.fix import check_new

    if options.annotations_only:
        raise ConfigError(
            "--fix copies images that can be read, so it has to decode them; leave --annotations-only out."
        )
    check_new(options.fix, options.data)


def _fix(report: Report, options: argparse.Namespace) -> None:
    from varifocal.tools.check.fix import write_fixed
    from varifocal.tools.check.messages import count_of

    notes: list[str] = []
    changes = write_fixed(report, options.fix, copy=options.copy, notes=notes)
    print(
        f"{options.fix}: a copy with {count_of(len(changes), 'change')}, listed in changes.txt; "
        "the source is untouched."
    )
    for note in notes:
        print(note)


def _targets(options: argparse.Namespace) -> list[Path]:
    targets = [target for target in (options.output_json, options.html) if target is not None]
    if len({target.resolve() for target in targets}) < len(targets):
        raise ConfigError(
            f"{options.output_json}: is named by --output-json and by --html; give each a file of its own."
        )
    return targets


def _eye(name: str | None, overrides: list[str], model: tuple[str, Any] | None) -> TrainingGeometry:
    """That of the recipe that is named, or else of the checkpoint, or else of the usual recipe."""
    if name is None and not overrides and model is not None and hasattr(model[1].info, "config"):
        return TrainingGeometry.of_model(model[0], model[1].info)
    recipe = load_recipe(name or RECIPE, overrides)
    said = " ".join([name or RECIPE, *overrides])
    return TrainingGeometry.of(said, recipe.detector, recipe.model, recipe.data.preprocess, recipe.data.augment.crop)


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    with progress_bar(label, total) as advance:
        yield advance
