"""The verb ``report``: options to a page, and to JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from varifocal.tools.datasets import eval_data
from varifocal.tools.output_paths import ensure_writable_file
from varifocal.tools.report.make import make_report
from varifocal.tools.report.page import make_page
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.errors import ConfigError
from varifocal.utils.progress import progress_bar


def run_report(options: argparse.Namespace, usable: Callable[[str], str]) -> None:
    """Read, look, write; ``usable`` gives the device after something was put there.

    Raises:
        ConfigError: options that say nothing possible, and as of ``make_report``.
    """
    if options.data is None and (options.split or options.format or options.images or options.unlabeled):
        raise ConfigError(
            "--split, --format, --images and --unlabeled are those of --data; name it, or leave them out."
        )
    if options.output_json is not None and options.output_json.resolve() == options.out.resolve():
        raise ConfigError(f"{options.out}: is named by --output-json and by --out; give each a file of its own.")
    for target in (options.out, options.output_json):
        if target is not None:
            ensure_writable_file(target)
    data = None
    if options.data is not None:
        options.val_fraction = None  # which eval_data knows
        data = eval_data(options)
    report = make_report(
        options.runs,
        data=data,
        baseline=options.baseline,
        examples=options.examples,
        look=not options.no_inference,
        device="cpu" if options.no_inference else usable(options.device),
        bar=_bar,
    )
    page = make_page(report).encode(errors="replace")  # names of files are bytes, and may be no text
    atomic_write(options.out, page)
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(report.to_json()).encode())
    for note in (*report.notes, *(f"{one.name}: {note}" for one in report.runs for note in one.notes)):
        print(note, file=sys.stderr)
    runs = "1 run" if len(report.runs) == 1 else f"{len(report.runs)} runs"
    print(f"{options.out}: {runs}, {len(page) / 1e6:.1f} MB")


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    with progress_bar(label, total) as advance:
        yield advance
