"""Verbs that say why a detector's numbers are what they are."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli.common import load_model
from varifocal.cli.options import add_measured
from varifocal.cli.verb import Verb


def add_diagnose(verb: argparse.ArgumentParser) -> None:
    """Options of ``diagnose``."""
    verb.add_argument("checkpoint", type=Path, nargs="?", metavar="CHECKPOINT")
    add_measured(verb)
    verb.add_argument(
        "--results", type=Path, metavar="F", help="what any detector found, a COCO results file, in place of CHECKPOINT"
    )
    verb.add_argument("--plots", type=Path, metavar="DIR", help="write charts (SVG) here")
    verb.add_argument(
        "--wanted-precision", type=float, default=0.9, metavar="P", help="find the scores that give it (%(default)s)"
    )
    verb.add_argument(
        "--score",
        type=float,
        metavar="P",
        help="least score in confusion matrix and worst pictures (that of the best F1)",
    )
    verb.add_argument(
        "--iou", type=float, default=0.5, metavar="X", help="least IoU in the confusion matrix (%(default)s)"
    )
    verb.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="read so many of a class in a picture (100, or what the model gives)",
    )
    verb.add_argument("--worst", type=int, default=20, metavar="N", help="pictures in the JSON (%(default)s)")


def run_diagnose(options: argparse.Namespace, _: list[str]) -> None:
    """Say what separates a detector's AP from 100."""
    from varifocal.diagnose.command import run_diagnose

    run_diagnose(options, lambda: load_model(options))


DIAGNOSE = Verb(
    "diagnose",
    "say why the AP is what it is: ranking, errors, calibration, thresholds, the worst pictures",
    "varifocal diagnose runs/vfnet-1/best.safetensors my_data --plots plots --json diagnosis.json\n"
    "  varifocal diagnose my_data --results coco_results.json\n\n"
    "docs/diagnose.md says what each figure means.",
    add_diagnose,
    run_diagnose,
    usage="varifocal diagnose [-h] [--split S] [--plots DIR] [--json F] [...] (CHECKPOINT DATA | DATA --results F)",
)
