"""Commands that explain the numbers of a detector: its errors, its upper bounds, its labels and its runs."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli import Command
from varifocal.cli.model_options import CHECKPOINT, DEVICES, MODEL, add_evaluation_options, load_model, resolve_device
from varifocal.cli.options import DATA, RECIPE_HELP, add_font, add_output_json, add_reading, count


def add_diagnose(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``diagnose``."""
    parser.add_argument("checkpoint", type=Path, nargs="?", metavar="CHECKPOINT", help=MODEL)
    add_evaluation_options(parser)
    parser.add_argument(
        "--predictions",
        type=Path,
        metavar="F",
        help="detections of any detector as a COCO results file, instead of CHECKPOINT",
    )
    parser.add_argument("--plot-dir", type=Path, metavar="DIR", help="write plots (SVG) to this folder")
    parser.add_argument(
        "--target-precision",
        type=float,
        default=0.9,
        metavar="P",
        help="find the score thresholds that reach this precision (%(default)s)",
    )
    parser.add_argument(
        "--score-threshold",
        type=float,
        metavar="P",
        help="minimum score for the confusion matrix and the worst images (the threshold with the best F1)",
    )
    parser.add_argument(
        "--iou-threshold",
        type=float,
        default=0.5,
        metavar="X",
        help="minimum IoU of a match in the confusion matrix (%(default)s)",
    )
    parser.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="maximum number of detections of one class in one image (100, or the limit of the model)",
    )
    parser.add_argument(
        "--num-worst", type=int, default=20, metavar="N", help="number of worst images in the JSON (%(default)s)"
    )


def run_diagnose(options: argparse.Namespace, _: list[str]) -> None:
    """Explain what separates a detector's AP from 100."""
    from varifocal.tools.diagnose.command import run_diagnose

    run_diagnose(options, lambda: load_model(options))


DIAGNOSE = Command(
    "diagnose",
    "explain the AP: ranking, error types, calibration, thresholds, the worst images",
    "varifocal diagnose runs/vfnet-1/best.safetensors my_data --plot-dir plots --output-json diagnosis.json\n"
    "  varifocal diagnose my_data --predictions coco_results.json\n\n"
    "docs/diagnose.md explains each number.",
    add_diagnose,
    run_diagnose,
    usage="varifocal diagnose [-h] [--split S] [--plot-dir DIR] [--output-json F] [...] "
    "(CHECKPOINT DATA | DATA --predictions F)",
)


def add_oracle(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``oracle``."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=CHECKPOINT)
    add_evaluation_options(parser)
    parser.add_argument("--plot", type=Path, metavar="F.svg", help="draw the rows as a bar chart in this file")
    parser.add_argument(
        "--assigner",
        choices=("atss", "detector"),
        default="atss",
        help="which points count as positive: those of ATSS or of the detector's own assigner (%(default)s)",
    )
    parser.add_argument(
        "--topk", type=count, default=9, metavar="N", help="candidate points per level in ATSS (%(default)s)"
    )
    parser.add_argument("--max-images", type=count, metavar="N", help="use only the first N images")


def run_oracle(options: argparse.Namespace, _: list[str]) -> None:
    """Replace one predicted quantity at a time by the ground truth and measure the AP."""
    from varifocal.tools.oracle.command import run_oracle

    run_oracle(options, lambda: load_model(options))


ORACLE = Command(
    "oracle",
    "replace one predicted quantity at a time by the ground truth and measure the AP (the paper's table 1)",
    "varifocal oracle runs/vfnet-1/best.safetensors my_data --plot oracle.svg --output-json oracle.json\n"
    "  varifocal oracle fcos.safetensors my_data --assigner detector --max-images 500\n\n"
    "docs/oracle.md explains each row.",
    add_oracle,
    run_oracle,
    usage="varifocal oracle [-h] [--split S] [--assigner {atss,detector}] [--max-images N] [--output-json F] "
    "[--plot F.svg] [...] CHECKPOINT DATA",
)


def add_show_assignment(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``show-assignment``."""
    parser.add_argument("data", type=Path, metavar="DATA", help=DATA)
    parser.add_argument("--split", metavar="S", help="split of the data set (train, or the only one)")
    add_reading(parser)
    add_font(parser)
    parser.add_argument("--recipe", metavar="NAME", help=RECIPE_HELP)
    parser.add_argument("--checkpoint", type=Path, metavar="F", help=f"{CHECKPOINT}, instead of a recipe")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("show-assignment"),
        metavar="DIR",
        help="folder for assign.json and one page per image (%(default)s)",
    )
    parser.add_argument(
        "--max-images", type=count, default=12, metavar="N", help="draw the first N images (%(default)s)"
    )


def run_show_assignment(options: argparse.Namespace, overrides: list[str]) -> None:
    """Draw the points that training assigns to each object."""
    from varifocal.tools.show_assignment.command import run_assign_view

    run_assign_view(options, overrides)


SHOW_ASSIGNMENT = Command(
    "show-assignment",
    "draw which points training assigns to each object, level by level, and which objects get none",
    "varifocal show-assignment my_data --out points\n"
    "  varifocal show-assignment my_data --recipe vfl_foveabox_r50_1x data.preprocess.short_side=640\n\n"
    "key=value words change the recipe, which sets the image size and the assigner.",
    add_show_assignment,
    run_show_assignment,
    usage="varifocal show-assignment [-h] [--recipe NAME | --checkpoint F] [--out DIR] [--max-images N] [...] DATA "
    "[key=value ...]",
    takes_words=True,
)


def add_report(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``report``."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="folder of a run or of a sweep")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="F", help="HTML page (%(default)s)")
    add_output_json(parser)
    parser.add_argument(
        "--data", type=Path, metavar="DATA", help="measure on this data set (each run's own validation data)"
    )
    parser.add_argument("--split", metavar="S", help="split of DATA (val, else test)")
    add_reading(parser, "DATA")
    parser.add_argument(
        "--baseline", metavar="ROW", help="row of a sweep, or of runs grouped by seed, to compare the others with"
    )
    parser.add_argument(
        "--examples", type=int, default=8, metavar="N", help="example images, half of them the worst (%(default)s)"
    )
    parser.add_argument("--no-inference", action="store_true", help="run no network: no diagnosis, no images")
    parser.add_argument("--device", default="auto", help=DEVICES)


def run_report(options: argparse.Namespace, _: list[str]) -> None:
    """Compare runs on one HTML page."""
    from varifocal.tools.report.command import run_report

    run_report(options, resolve_device)


REPORT = Command(
    "report",
    "compare runs or a sweep on one page: curves, numbers, diagnosis, images, the star of each box",
    "varifocal report runs/focal runs/varifocal --out report.html\n"
    "  varifocal report sweeps/table3 --baseline raw-focal\n"
    "  varifocal report runs/a-seed* runs/b-seed*     # is b better than a?\n\n"
    "docs/report.md explains the page.",
    add_report,
    run_report,
)
