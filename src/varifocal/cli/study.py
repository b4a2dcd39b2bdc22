"""Verbs that say why a detector's numbers are what they are."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli.command import Command
from varifocal.cli.common import load_model, resolve_device
from varifocal.cli.options import DATA, DEVICES, RECIPE_HELP, add_evaluation_options, add_font, add_reading, read_count


def add_diagnose(verb: argparse.ArgumentParser) -> None:
    """Options of ``diagnose``."""
    verb.add_argument("checkpoint", type=Path, nargs="?", metavar="CHECKPOINT")
    add_evaluation_options(verb)
    verb.add_argument(
        "--predictions",
        type=Path,
        metavar="F",
        help="what any detector found, a COCO results file, in place of CHECKPOINT",
    )
    verb.add_argument("--plot-dir", type=Path, metavar="DIR", help="write charts (SVG) here")
    verb.add_argument(
        "--target-precision", type=float, default=0.9, metavar="P", help="find the scores that give it (%(default)s)"
    )
    verb.add_argument(
        "--score-threshold",
        type=float,
        metavar="P",
        help="least score in confusion matrix and worst images (that of the best F1)",
    )
    verb.add_argument(
        "--iou-threshold", type=float, default=0.5, metavar="X", help="least IoU in the confusion matrix (%(default)s)"
    )
    verb.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="read so many of a class in an image (100, or what the model gives)",
    )
    verb.add_argument("--num-worst", type=int, default=20, metavar="N", help="images in the JSON (%(default)s)")


def run_diagnose(options: argparse.Namespace, _: list[str]) -> None:
    """Say what separates a detector's AP from 100."""
    from varifocal.tools.diagnose.command import run_diagnose

    run_diagnose(options, lambda: load_model(options))


DIAGNOSE = Command(
    "diagnose",
    "say why the AP is what it is: ranking, errors, calibration, thresholds, the worst images",
    "varifocal diagnose runs/vfnet-1/best.safetensors my_data --plot-dir plots --output-json diagnosis.json\n"
    "  varifocal diagnose my_data --predictions coco_results.json\n\n"
    "docs/diagnose.md says what each figure means.",
    add_diagnose,
    run_diagnose,
    usage="varifocal diagnose [-h] [--split S] [--plot-dir DIR] [--output-json F] [...] "
    "(CHECKPOINT DATA | DATA --predictions F)",
)


def add_oracle(verb: argparse.ArgumentParser) -> None:
    """Options of ``oracle``."""
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    add_evaluation_options(verb)
    verb.add_argument("--plot", type=Path, metavar="F.svg", help="write the rows as bars here")
    verb.add_argument(
        "--assigner",
        choices=("atss", "detector"),
        default="atss",
        help="whose positives: ATSS or the detector's (%(default)s)",
    )
    verb.add_argument(
        "--topk", type=read_count, default=9, metavar="N", help="candidates a level of ATSS (%(default)s)"
    )
    verb.add_argument("--max-images", type=read_count, metavar="N", help="look at the first N images alone")


def run_oracle(options: argparse.Namespace, _: list[str]) -> None:
    """Give the detector the truth, one quantity at a time."""
    from varifocal.tools.oracle.command import run_oracle

    run_oracle(options, lambda: load_model(options))


ORACLE = Command(
    "oracle",
    "give a detector the truth, one quantity at a time, and see what AP it buys (the paper's table 1)",
    "varifocal oracle runs/vfnet-1/best.safetensors my_data --plot oracle.svg --output-json oracle.json\n"
    "  varifocal oracle fcos.safetensors my_data --assigner detector --max-images 500\n\n"
    "docs/oracle.md says what each row means.",
    add_oracle,
    run_oracle,
    usage="varifocal oracle [-h] [--split S] [--assigner {atss,detector}] [--max-images N] [--output-json F] "
    "[--plot F.svg] [...] CHECKPOINT DATA",
)


def add_assign_view(verb: argparse.ArgumentParser) -> None:
    """Options of ``assign-view``."""
    verb.add_argument("data", type=Path, metavar="DATA", help=DATA)
    verb.add_argument("--split", metavar="S", help="split of the data set (train, or the only one)")
    add_reading(verb)
    add_font(verb)
    verb.add_argument("--recipe", metavar="NAME", help=RECIPE_HELP)
    verb.add_argument("--checkpoint", type=Path, metavar="F", help="a checkpoint in place of a recipe")
    verb.add_argument(
        "--out",
        type=Path,
        default=Path("show-assignment"),
        metavar="DIR",
        help="a page an image, assign.json (%(default)s)",
    )
    verb.add_argument("--max-images", type=read_count, default=12, metavar="N", help="the first N images (%(default)s)")


def run_assign_view(options: argparse.Namespace, overrides: list[str]) -> None:
    """Draw what training gives each object."""
    from varifocal.tools.show_assignment.command import run_assign_view

    run_assign_view(options, overrides)


ASSIGN_VIEW = Command(
    "show-assignment",
    "draw which points training gives each object, level by level, and which objects get none",
    "varifocal show-assignment my_data --out points\n"
    "  varifocal show-assignment my_data --recipe vfl_foveabox_r50_1x data.preprocess.short_side=640\n\n"
    "key=value words change the recipe, whose image size and assignment are drawn.",
    add_assign_view,
    run_assign_view,
    usage="varifocal show-assignment [-h] [--recipe NAME | --checkpoint F] [--out DIR] [--max-images N] [...] DATA "
    "[key=value ...]",
    takes_words=True,
)


def add_report(verb: argparse.ArgumentParser) -> None:
    """Options of ``report``."""
    verb.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run or of a sweep")
    verb.add_argument("--out", type=Path, default=Path("report.html"), metavar="F", help="the page (%(default)s)")
    verb.add_argument("--output-json", type=Path, metavar="F", help="write the numbers here")
    verb.add_argument("--data", type=Path, metavar="DATA", help="measure on this (what each run was validated on)")
    verb.add_argument("--split", metavar="S", help="split of DATA (val, or else test)")
    add_reading(verb, "DATA")
    verb.add_argument(
        "--baseline", metavar="ROW", help="row of a sweep or of runs by seed that the others are compared with"
    )
    verb.add_argument(
        "--examples", type=int, default=8, metavar="N", help="images to show, half of them the worst (%(default)s)"
    )
    verb.add_argument("--no-inference", action="store_true", help="ask no network: no diagnosis, no images")
    verb.add_argument("--device", default="auto", help=DEVICES)


def run_report(options: argparse.Namespace, _: list[str]) -> None:
    """Put runs side by side on one page."""
    from varifocal.tools.report.command import run_report

    run_report(options, resolve_device)


REPORT = Command(
    "report",
    "put runs or a sweep on one page: curves, numbers, diagnosis, images, the star of each box",
    "varifocal report runs/focal runs/varifocal --out report.html\n"
    "  varifocal report sweeps/table3 --baseline raw-focal\n"
    "  varifocal report runs/a-seed* runs/b-seed*     # is b better than a?\n\n"
    "docs/report.md says what the page shows.",
    add_report,
    run_report,
)
