"""The command ``train``."""

from __future__ import annotations

import argparse
import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from varifocal.cli import Command
from varifocal.cli.model_options import CHECKPOINT
from varifocal.cli.options import DATA, add_font, add_reading, add_val_fraction, data_overrides
from varifocal.training.callbacks import TRACKERS
from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from varifocal.evaluation.coco_ap import CocoMetrics

AUTO = "auto"  # recipes.train.AUTO
PRESETS = ("nano", "small", "base", "large")  # recipes.auto.PRESETS, which is not imported for the help

# options that only a new run takes
NEW_RUN = (
    "recipe",
    "budget",
    "epochs",
    "model",
    "weights",
    "out",
    "format",
    "images",
    "unlabeled",
    "val_fraction",
    "fail_on_unreadable",
)


def add_train(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train``."""
    parser.add_argument("data", metavar="DATA", nargs="?", help=f"{DATA}; with --resume, the data of that run")
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="a built-in recipe or a YAML file; without it, one is made from the data, the machine and the time",
    )
    parser.add_argument("--budget", metavar="TIME", help="time for the whole run, evaluation included: 8m, 2h, 1h30m")
    parser.add_argument("--epochs", type=float, metavar="N", help="length of the run instead of --budget")
    parser.add_argument("--model", choices=PRESETS, help="size of the model (by the machine)")
    parser.add_argument(
        "--weights", metavar="CHECKPOINT", help=f"start from these weights: {CHECKPOINT} (train.weights=CHECKPOINT)"
    )
    parser.add_argument("--out", type=Path, metavar="RUN", help="run folder, new or empty (runs/NAME-N)")
    parser.add_argument(
        "--resume",
        type=Path,
        metavar="RUN",
        help="resume a run exactly where it stopped; train.epochs=N extends it, even if it is finished. auto: resume "
        "the run in --out, or start it if there is none",
    )
    parser.add_argument(
        "--log",
        action="append",
        choices=TRACKERS,
        metavar="NAME",
        help="report to tensorboard, wandb or mlflow, too; may be repeated (train.log=[NAME])",
    )
    add_reading(parser)
    add_font(parser)
    add_val_fraction(parser)
    parser.add_argument(
        "--fail-on-unreadable", action="store_true", help="stop at the first unreadable image (train.max_unreadable=0)"
    )


def run_train(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train a new run, or resume one, and print the metrics."""
    from varifocal.recipes.train import train

    begun = time.monotonic()
    if options.resume not in (None, Path(AUTO)):
        _resume(options, overrides)
        return
    if options.data is None:
        raise ConfigError("no data set given; use varifocal train DATA.", code="no-data")
    if options.out is None and "WORLD_SIZE" in os.environ:
        raise ConfigError("several processes need the same run folder; add --out RUN.", code="no-common-run-folder")
    words = [*data_overrides(options), *_train_overrides(options), *overrides]
    result = train(
        options.data,
        options.recipe,
        budget=options.budget,
        epochs=options.epochs,
        model=options.model,
        overrides=words,
        out=options.out,
        resume=None if options.resume is None else AUTO,
        begun=begun,
    )
    show_run(result.metrics, result.run)


def _train_overrides(options: argparse.Namespace) -> list[str]:
    """Return the overrides of a recipe that the options of ``train`` alone stand for."""
    words = _log_overrides(options)
    if options.fail_on_unreadable:
        words.append("train.max_unreadable=0")
    if options.weights is not None:
        words.append(f"train.weights={json.dumps(options.weights)}")  # quoted, because a name may look like YAML
    return words


def _log_overrides(options: argparse.Namespace) -> list[str]:
    return [f"train.log=[{','.join(dict.fromkeys(options.log))}]"] if options.log else []


def _resume(options: argparse.Namespace, overrides: list[str]) -> None:
    from varifocal.recipes.run import resume_run

    wrong = ["--" + name.replace("_", "-") for name in NEW_RUN if getattr(options, name)]
    if wrong:
        raise ConfigError(
            f"--resume continues a run with its own recipe in its own folder; remove {' and '.join(wrong)}.",
            code="option-of-a-new-run",
        )
    data: str | None = options.data
    if data is not None and "=" in data and not os.path.exists(data):
        overrides = [data, *overrides]  # argparse takes the first key=value word for the data set that was left out
        data = None
    changes = [*_log_overrides(options), *overrides]
    show_run(resume_run(data, options.resume, changes), options.resume)


def show_run(metrics: CocoMetrics | None, run: Path) -> None:
    """Print the metrics of a run and the names of its files, in the first process only."""
    from rich.console import Console

    from varifocal.recipes.run import RESULTS, is_main_process
    from varifocal.training.state import UNREADABLE
    from varifocal.utils.text import counted

    if not is_main_process():
        return
    if metrics is not None:
        Console(markup=False, emoji=False).print(metrics.table())
    unreadable = run / UNREADABLE
    if unreadable.is_file():
        count = len(unreadable.read_text(encoding="utf-8").splitlines())
        print(f"{counted(count, '(image|images)')} could not be used: {unreadable}")
    print(f"Run folder: {run} ({', '.join(name for name in RESULTS if (run / name).exists())})")
    print(f"Try: varifocal predict {run / 'best.safetensors'} IMAGES")


TRAIN = Command(
    "train",
    "train a detector on a data set",
    "varifocal train my_data --budget 30m\n"
    "  varifocal train photos_with_labels --val-fraction 0.2 --model nano --epochs 20\n"
    "  varifocal train my_data --recipe vfnet_r50_1x train.epochs=24 train.lr=0.005\n"
    "  varifocal train my_data --weights vfnet_r50_ms_2x     # start from the authors' detector, fetched once\n"
    "  varifocal train --resume runs/auto-1 train.epochs=24\n"
    "  torchrun --nproc-per-node 4 -m varifocal train my_data --recipe base --out runs/four --resume auto\n\n"
    "Without --recipe, one is made from the data, the machine and the time, and its decisions are printed with\n"
    "the reasons (docs/own-data.md). key=value words win over them and change any recipe; the error for an unknown\n"
    "key lists the valid ones. Training starts from ImageNet weights: those of the models nano and small are\n"
    "in varifocal[demo], others are downloaded by timm, unless --weights FILE or model.backbone.pretrained=none.",
    add_train,
    run_train,
    usage=(
        "varifocal train [-h] [--budget TIME] [--epochs N] [--model NAME] [--recipe NAME] [--weights CHECKPOINT] "
        "[--log NAME] [--out RUN] [--resume RUN] [--format NAME] [--val-fraction FRACTION] [...] [DATA] [key=value ...]"
    ),
    takes_words=True,
)
