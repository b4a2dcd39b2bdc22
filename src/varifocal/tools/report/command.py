"""The command ``report``: from options to a page and to JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable

from varifocal.tools.datasets import eval_data
from varifocal.tools.output_paths import ensure_outputs
from varifocal.tools.report.make import make_report
from varifocal.tools.report.page import make_page
from varifocal.tools.report.report import Report
from varifocal.types import Dataset
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar
from varifocal.utils.text import count_of


def run_report(options: argparse.Namespace, usable: Callable[[str], str]) -> None:
    """Make the report and write the files; ``usable`` returns a device after allocating memory on it.

    Raises:
        ConfigError: options contradict each other, or as of ``make_report``.
    """
    if options.data is None and any((options.split, options.format, options.images, options.unlabeled)):
        raise ConfigError(
            "--split, --format, --images and --unlabeled apply to --data; name it, or leave them out.",
            code="options-without-data",
        )
    ensure_outputs({"--output-json": options.output_json, "--out": options.out})
    report = make_report(
        options.runs,
        data=_data(options),
        baseline=options.baseline,
        examples=options.examples,
        inference=not options.no_inference,
        device="cpu" if options.no_inference else usable(options.device),
        bar=progress_bar,
    )
    page = make_page(report).encode(errors="replace")  # file names may be bytes, not text
    atomic_write(options.out, page)
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(report.to_json()).encode())
    _print_notes(report)
    print(f"{options.out}: {count_of(len(report.runs), 'run')}, {len(page) / 1e6:.1f} MB")


def _data(options: argparse.Namespace) -> Dataset | None:
    if options.data is None:
        return None
    options.val_fraction = None  # an option of other commands that eval_data reads
    return eval_data(options)


def _print_notes(report: Report) -> None:
    for note in (*report.notes, *(f"{run.name}: {note}" for run in report.runs for note in run.notes)):
        print(note, file=sys.stderr)
