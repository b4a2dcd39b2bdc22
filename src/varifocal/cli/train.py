"""Verbs that train: one recipe on a data set, the demonstration, the rows of a table."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from varifocal.cli.command import Command
from varifocal.cli.common import data_overrides
from varifocal.cli.options import DATA, RECIPE_HELP, add_font, add_reading, read_fraction, read_numbers
from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from varifocal.evaluation.coco_ap import CocoMetrics

# said here too, because their own homes import torch
LOSSES = ("varifocal", "focal", "quality-focal", "mal", "ia-bce")
TABLES = ("table2", "table3", "table5", "losses")


def add_train(verb: argparse.ArgumentParser) -> None:
    """Options of ``train``."""
    verb.add_argument("data", metavar="DATA", nargs="?", help=f"{DATA}; with --resume that of the run")
    verb.add_argument("--recipe", metavar="NAME", help=RECIPE_HELP)
    verb.add_argument("--out", type=Path, metavar="RUN", help="run folder (runs/NAME-N); must be new or empty")
    verb.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="go on with a run exactly where it was cut off; train.epochs=N makes it longer, also when it is finished",
    )
    add_reading(verb)
    add_font(verb)
    verb.add_argument(
        "--val-fraction",
        type=read_fraction,
        metavar="FRACTION",
        help="hold this fraction of data without a split out, such as 0.2",
    )
    verb.add_argument(
        "--fail-on-unreadable", action="store_true", help="stop at the first unreadable image (train.max_unreadable=0)"
    )


def run_train(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train, or go on with a run, and show the metrics."""
    from varifocal.recipes.recipe import load_recipe
    from varifocal.recipes.run import resume_run, run_folder, run_recipe

    if options.resume is not None:
        own = ("recipe", "out", "format", "images", "unlabeled", "val_fraction", "fail_on_unreadable")
        wrong = ["--" + name.replace("_", "-") for name in own if getattr(options, name)]
        if wrong:
            raise ConfigError(
                f"--resume goes on with the run's own recipe in its own folder; leave {' and '.join(wrong)} out."
            )
        data: str | None = options.data
        if data is not None and "=" in data and not os.path.exists(data):
            overrides = [data, *overrides]  # argparse takes the first key=value word for the data that is left out
            data = None
        _show(resume_run(data, options.resume, overrides), options.resume)
        return
    if options.data is None:
        raise ConfigError("name the data set: varifocal train DATA.")
    if options.out is None and "WORLD_SIZE" in os.environ:
        raise ConfigError("several processes need the same run folder: name it with --out.")
    name = options.recipe or "vfnet_r50_1x"
    strict = ["train.max_unreadable=0"] if options.fail_on_unreadable else []
    recipe = load_recipe(name, [*data_overrides(options), *strict, *overrides])
    with run_folder(options.out, Path(name).stem) as run:
        _show(run_recipe(recipe, options.data, run), run)


def _show(metrics: CocoMetrics | None, run: Path) -> None:
    """What a run has left, as the first of its processes says it."""
    from rich.console import Console

    from varifocal.recipes.run import RESULTS, is_main_process
    from varifocal.train.unreadable_images import LIST as BAD_IMAGES

    if not is_main_process():
        return
    if metrics is not None:
        Console().print(metrics.table())
    bad = run / BAD_IMAGES
    if bad.is_file():
        count = len(bad.read_text(encoding="utf-8").splitlines())
        print(f"{count} {'image' if count == 1 else 'images'} could not be used: {bad}")
    print(f"Run folder: {run} ({', '.join(name for name in RESULTS if (run / name).exists())})")
    print(f"Try: varifocal predict {run / 'best.safetensors'} IMAGES")


TRAIN = Command(
    "train",
    "train a detector on a data set",
    "varifocal train my_data --recipe vfnet_r50_1x train.epochs=24 train.lr=0.005\n"
    "  varifocal train photos_with_labels --val-fraction 0.2 --format yolo\n"
    "  varifocal train --resume runs/vfnet_r50_1x-1 train.epochs=24\n"
    "  torchrun --nproc-per-node 4 -m varifocal train my_data --out runs/four\n\n"
    "key=value words change the recipe; an unknown key lists the valid ones. The default recipe starts from\n"
    "ImageNet weights that timm downloads; model.backbone.pretrained=none or train.weights=FILE fetch nothing.\n"
    "With few images add model.star_norm=group (docs/training-data.md).",
    add_train,
    run_train,
    usage=(
        "varifocal train [-h] [--recipe NAME] [--out RUN] [--resume RUN] [--format NAME] [--images DIR] "
        "[--unlabeled {skip,background}] [--val-fraction FRACTION] [--fail-on-unreadable] [...] [DATA] [key=value ...]"
    ),
    takes_words=True,
)


def add_demo(verb: argparse.ArgumentParser) -> None:
    """Options of ``demo``."""
    verb.add_argument("--loss", choices=LOSSES, default="varifocal", help="classification loss (%(default)s)")
    verb.add_argument("--out", type=Path, metavar="RUN", help="run folder (runs/trees-N)")


def run_demo(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train and test on the embedded images."""
    from varifocal.recipes.run import run_folder
    from varifocal.tools.demo import EXPLANATION, run_demo

    with run_folder(options.out, "trees") as run:
        metrics, seconds = run_demo(run, [f"model.loss={options.loss}", *overrides])
        _show(metrics, run)
    print(f"{seconds / 60:.1f} minutes. {EXPLANATION}")


DEMO = Command(
    "demo",
    "train and test on the embedded aerial photographs, in minutes on a CPU",
    "varifocal demo --loss focal train.seed=1",
    add_demo,
    run_demo,
    takes_words=True,
)


def add_sweep(verb: argparse.ArgumentParser) -> None:
    """Options of ``sweep``."""
    verb.add_argument("table", choices=TABLES)
    verb.add_argument("data", metavar="DATA", help="data set with a training and a validation split")
    add_reading(verb)
    verb.add_argument(
        "--val-fraction", type=read_fraction, metavar="FRACTION", help="hold this fraction of data without a split out"
    )
    verb.add_argument("--recipe", metavar="NAME", help="where every row starts from (the paper's own of each row)")
    verb.add_argument("--seeds", type=read_numbers, default=[0], metavar="N,N", help="seeds of each row (0)")
    verb.add_argument("--out", type=Path, metavar="DIR", help="folder of the runs and results.json (runs/TABLE)")


def run_sweep(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train the rows of a table and show them side by side."""
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
    Console().print(sweep.table(results, options.table))
    for one in read_sweep(out).of("AP"):
        print(f"{one.words}.")
    print(f"Runs and results.json: {out}; on one page: varifocal report {out}")


SWEEP = Command(
    "sweep",
    "train every row of one of the paper's tables, or every loss, and compare them",
    "varifocal sweep table3 my_data --recipe my.yaml --seeds 0,1,2 train.epochs=6\n\n"
    "table2: settings of the varifocal loss; table3: the parts of VFNet; table5: the losses in other detectors;\n"
    "losses: every IoU-aware loss and focal loss, on VFNet with star_norm=group and on ATSS.\n"
    "What is finished is not done again, what was cut off goes on: repeat the command.",
    add_sweep,
    run_sweep,
    usage=(
        "varifocal sweep [-h] [--recipe NAME] [--seeds N,N] [--out DIR] [...] {table2,table3,table5,losses} DATA "
        "[key=value ...]"
    ),
    takes_words=True,
)
