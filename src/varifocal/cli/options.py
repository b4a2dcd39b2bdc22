"""Options that several commands have in common, and the parsers of their values."""

from __future__ import annotations

import argparse
import math
from pathlib import Path

DATA = "data set: a folder, an annotation file or an archive; see docs/data.md"
RECIPE_HELP = "a recipe of the package or a YAML file (vfnet_r50_1x)"


def read_fraction(text: str) -> float:
    """Parse a fraction of a data set."""
    try:
        fraction = float(text)
    except ValueError:
        fraction = 0.0
    if not 0 < fraction <= 0.9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a fraction above 0 and at most 0.9, such as 0.2")
    return fraction


def read_fraction_or_pixels(text: str) -> float | int:
    """Parse a fraction below 1, or whole pixels."""
    try:
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a fraction such as 0.2 nor whole pixels") from error


def read_size(text: str) -> tuple[int, int]:
    """Height and width."""
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not height x width in pixels, such as 800x1216")
    return int(height), int(width)


def read_count(text: str) -> int:
    """A whole number above 0."""
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def read_counts(text: str) -> list[int]:
    """Several of them, with commas."""
    return [read_count(part) for part in text.split(",")]


def read_numbers(text: str) -> list[int]:
    """Whole numbers, with commas."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between, such as 0,1,2") from error


def read_names(text: str) -> list[str]:
    """Names, with commas."""
    return [name for name in text.split(",") if name]


def read_seconds(text: str) -> float:
    """A time."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def add_reading(verb: argparse.ArgumentParser, whose: str = "the data set") -> None:
    """How a data set is read, where looking at it does not say."""
    verb.add_argument("--format", metavar="NAME", help=f"of {whose}: coco, voc, yolo, ... (recognized by looking)")
    verb.add_argument(
        "--images", metavar="DIR", help="folder of its images, where it is not the one that the format keeps them in"
    )
    verb.add_argument(
        "--unlabeled",
        choices=("skip", "background"),
        help="images without a file of labels, or not listed in that of all: leave them out, or take them as images "
        "without objects (as the format means it)",
    )
    add_limit(verb)


def read_levels(text: str) -> tuple[float, float] | str:
    """A range of values: two numbers with a comma, or whose own range it is."""
    if text in ("image", "percentile"):
        return text
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        low, high = 0.0, 0.0
    if not -math.inf < low < high < math.inf:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not two numbers, the lower first, such as 0,4095, nor image or percentile"
        )
    return low, high


def add_limit(verb: argparse.ArgumentParser) -> None:
    """How large images may be."""
    verb.add_argument(
        "--max-pixels",
        type=read_count,
        metavar="N",
        help="most pixels of an image (179 million; 1,074 million with --tile or data.augment.crop)",
    )


def add_font(verb: argparse.ArgumentParser) -> None:
    """The font of what is drawn."""
    verb.add_argument("--font", metavar="FILE", help="font of class names on images (one that is found)")


def add_inference_options(verb: argparse.ArgumentParser, whose: str = "") -> None:
    """How a model looks at an image: several times, in windows."""
    rest = "" if whose else ": slower, better"
    verb.add_argument("--tta", action="store_true", help=f"{whose}look eight times, at four sizes and mirrored{rest}")
    verb.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="read large images in windows of N pixels; 0: whole (the model's recipe)",
    )
    verb.add_argument(
        "--overlap",
        type=read_fraction_or_pixels,
        metavar="X",
        help="least overlap of the windows, as a fraction below 1 or in pixels (0.2)",
    )
    verb.add_argument(
        "--range",
        type=read_levels,
        metavar="LOW,HIGH",
        help=f"{whose}values that are black and white in images of more than 8 bits; image or percentile: each image's "
        "own (the model's recipe)",
    )


DEVICES = "cpu, cuda, cuda:1, ... (auto: the GPU if torch sees one, the CPU for exported files)"


def add_device(verb: argparse.ArgumentParser, whose: str = "") -> None:
    """Where a network runs, and in which precision."""
    verb.add_argument("--device", default="auto", help=f"{whose}{DEVICES}")
    verb.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (%(default)s)"
    )


def add_evaluation_options(verb: argparse.ArgumentParser) -> None:
    """What a model is measured on, and how it looks at images."""
    verb.add_argument("data", type=Path, metavar="DATA", help=DATA)
    verb.add_argument("--split", metavar="S", help="split of the data set (val, or else test)")
    add_reading(verb)
    verb.add_argument(
        "--val-fraction",
        type=read_fraction,
        metavar="FRACTION",
        help="measure on what train --val-fraction FRACTION holds out",
    )
    verb.add_argument("--split-seed", type=int, default=0, metavar="N", help="data.split_seed of that run (0)")
    verb.add_argument("--output-json", type=Path, metavar="F", help="write the numbers here")
    add_inference_options(verb)
    add_device(verb)
