"""The verb ``report``: options to a page, and to JSON."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from varifocal.datasets import eval_data
from varifocal.errors import ConfigError
from varifocal.files import write_beside
from varifocal.places import check_target
from varifocal.progress import progress_bar
from varifocal.report.make import make_report
from varifocal.report.page import make_page


def run_report(options: argparse.Namespace, usable: Callable[[str], str]) -> None:
    """Read, look, write; ``usable`` gives the device after something was put there.

    Raises:
        ConfigError: options that say nothing possible, and as of ``make_report``.
    """
    if options.data is None and (options.split or options.format or options.images or options.unlabeled):
        raise ConfigError(
            "--split, --format, --images and --unlabeled are those of --data; name it, or leave them out."
        )
    if options.json is not None and options.json.resolve() == options.out.resolve():
        raise ConfigError(f"{options.out}: is named by --json and by --out; give each a file of its own.")
    for target in (options.out, options.json):
        if target is not None:
            check_target(target)
    data = None
    if options.data is not None:
        options.val = None  # which eval_data knows
        data = eval_data(options)
    report = make_report(
        options.runs,
        data=data,
        baseline=options.baseline,
        examples=options.examples,
        look=not options.fast,
        device="cpu" if options.fast else usable(options.device),
        bar=_bar,
    )
    page = make_page(report).encode(errors="replace")  # names of files are bytes, and may be no text
    write_beside(options.out, page)
    if options.json is not None:
        write_beside(options.json, json.dumps(report.to_json()).encode())
    for note in (*report.notes, *(f"{one.name}: {note}" for one in report.runs for note in one.notes)):
        print(note, file=sys.stderr)
    runs = "1 run" if len(report.runs) == 1 else f"{len(report.runs)} runs"
    print(f"{options.out}: {runs}, {len(page) / 1e6:.1f} MB")


@contextmanager
def _bar(label: str, total: int) -> Iterator[Callable[[int], None]]:
    with progress_bar(label, total) as advance:
        yield advance
