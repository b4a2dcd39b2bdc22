"""Commands that train one or more runs with given recipes: the demonstration, and the rows of a table."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli import Command
from varifocal.cli.options import add_reading, add_val_fraction, data_overrides, numbers
from varifocal.cli.train import show_run

# repeated here, because the modules that define them import torch
LOSSES = ("varifocal", "focal", "quality-focal", "mal", "ia-bce")
TABLES = ("table2", "table3", "table5", "losses")


def add_demo(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``demo``."""
    parser.add_argument("--loss", choices=LOSSES, default="varifocal", help="classification loss (%(default)s)")
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder, new or empty (runs/trees-N)")


def run_demo(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train and test on the built-in images."""
    from varifocal.recipes.run import run_folder
    from varifocal.tools.demo import EXPLANATION, run_demo

    with run_folder(options.out, "trees") as run:
        metrics, seconds = run_demo(run, [f"model.loss={options.loss}", *overrides])
        show_run(metrics, run)
    print(f"{seconds / 60:.1f} minutes. {EXPLANATION}")


DEMO = Command(
    "demo",
    "train and test on the built-in aerial photographs, in minutes on a CPU",
    "varifocal demo --loss focal train.seed=1",
    add_demo,
    run_demo,
    takes_words=True,
)


def add_sweep(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``sweep``."""
    parser.add_argument("table", choices=TABLES, help="which table; see below")
    parser.add_argument("data", metavar="DATA", help="data set with a training and a validation split")
    add_reading(parser)
    add_val_fraction(parser)
    parser.add_argument("--recipe", metavar="NAME", help="recipe that every row starts from (each row's, as published)")
    parser.add_argument("--seeds", type=numbers, default=[0], metavar="N,N", help="seeds of each row (0)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder for the runs and results.json (runs/TABLE)")


def run_sweep(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train the rows of a table and print them side by side."""
    from rich.console import Console

    from varifocal.recipes import sweep
    from varifocal.tools.report.sweeps import read_sweep

    out = options.out or Path("runs") / options.table
    results = sweep.run_sweep(
        options.table,
        options.data,
        out,
        recipe=options.recipe,
        seeds=options.seeds,
        overrides=[*data_overrides(options), *overrides],
    )
    Console(markup=False, emoji=False).print(sweep.table(results, options.table))
    for comparison in read_sweep(out).of("AP"):
        print(f"{comparison.words}.")
    print(f"Runs and results.json: {out}; to compare them on one page: varifocal report {out}")


SWEEP = Command(
    "sweep",
    "train every row of one of the paper's tables, or with every loss, and compare the results",
    "varifocal sweep table3 my_data --recipe my.yaml --seeds 0,1,2 train.epochs=6\n\n"
    "table2: settings of the varifocal loss; table3: the parts of VFNet; table5: the losses in other detectors;\n"
    "losses: every IoU-aware loss and focal loss, on VFNet with star_norm=group and on ATSS.\n"
    "To continue an interrupted sweep, repeat the command: finished runs are kept, and the interrupted one is\n"
    "resumed.",
    add_sweep,
    run_sweep,
    usage=(
        "varifocal sweep [-h] [--recipe NAME] [--seeds N,N] [--out DIR] [...] {table2,table3,table5,losses} DATA "
        "[key=value ...]"
    ),
    takes_words=True,
)
