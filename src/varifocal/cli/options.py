"""Options on data sets and images that several commands have, the types of option values, and what they change."""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")
DATA = "data set: a folder, an annotation file or an archive; see docs/data.md"
RECIPE_HELP = "name of a built-in recipe, or a YAML file (default: the one that train makes from the data)"
HOLD_OUT = "hold out this fraction of a data set that has no splits, such as 0.2"


def option_type(read: Callable[[str], T], expected: str) -> Callable[[str], T]:
    """Return a ``type`` for argparse: ``read`` converts the text, and its ValueError becomes "TEXT is not EXPECTED"."""

    def convert(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"{text!r} is not {expected}") from error

    return convert


def _number_in(least: float, most: float) -> Callable[[str], float]:
    """Return a function that reads a number above ``least`` and at most ``most``, and raises ValueError for others."""

    def read(text: str) -> float:
        if not least < (number := float(text)) <= most:
            raise ValueError
        return number

    return read


def _digits(text: str) -> int:
    """Return a whole number above 0; signs, spaces and underscores raise ValueError."""
    if not text.isdecimal() or not int(text):
        raise ValueError
    return int(text)


def _height_and_width(text: str) -> tuple[int, int]:
    height, width = text.split("x")
    return _digits(height), _digits(width)


def _levels(text: str) -> tuple[float, float] | str:
    if text in ("image", "percentile"):
        return text
    low, high = (float(part) for part in text.split(","))
    if not -math.inf < low < high < math.inf:
        raise ValueError
    return low, high


fraction = option_type(_number_in(0, 0.9), "a fraction above 0 and at most 0.9, such as 0.2")
seconds = option_type(_number_in(0, sys.float_info.max), "a number of seconds above 0")
fraction_or_pixels = option_type(
    lambda text: float(text) if "." in text else int(text), "a fraction such as 0.2 or a whole number of pixels"
)
size = option_type(_height_and_width, "height x width in pixels, such as 800x1216")
count = option_type(_digits, "a whole number above 0")
numbers = option_type(lambda text: [int(part) for part in text.split(",")], "whole numbers, such as 0,1,2")
levels = option_type(_levels, "two numbers, the lower first, such as 0,4095, nor image or percentile")


def counts(text: str) -> list[int]:
    """Read whole numbers above 0, separated by commas."""
    return [count(part) for part in text.split(",")]


def names(text: str) -> list[str]:
    """Read names, separated by commas."""
    return [name for name in text.split(",") if name]


def add_reading(parser: argparse.ArgumentParser, data: str = "the data set") -> None:
    """Add the options that say how to read a data set where its files leave that open."""
    parser.add_argument("--format", metavar="NAME", help=f"format of {data}: coco, voc, yolo, ... (default: detected)")
    parser.add_argument("--images", metavar="DIR", help="folder of its images, if not the one that the format implies")
    parser.add_argument(
        "--unlabeled",
        choices=("skip", "background"),
        help="images that have no label file or no entry in the annotation file: skip them, or use them as images "
        "without objects (default: depends on the format)",
    )
    add_limit(parser)


def add_val_fraction(parser: argparse.ArgumentParser, text: str = HOLD_OUT) -> None:
    """Add ``--val-fraction`` with the help ``text``."""
    parser.add_argument("--val-fraction", type=fraction, metavar="FRACTION", help=text)


def add_limit(parser: argparse.ArgumentParser) -> None:
    """Add ``--max-pixels``."""
    parser.add_argument(
        "--max-pixels",
        type=count,
        metavar="N",
        help="refuse images of more pixels (179 million; 1,074 million with --tile or data.augment.crop)",
    )


def add_font(parser: argparse.ArgumentParser) -> None:
    """Add ``--font``."""
    parser.add_argument(
        "--font", metavar="FILE", help="font file for class names drawn on images (default: a system font)"
    )


def add_output_json(parser: argparse.ArgumentParser, text: str = "write the numbers to this file") -> None:
    """Add ``--output-json`` with the help ``text``."""
    parser.add_argument("--output-json", type=Path, metavar="F", help=text)


@contextmanager
def in_environment(options: argparse.Namespace) -> Iterator[None]:
    """Set --max-pixels and --font as environment variables while a command runs, so that worker processes see them.

    Raises:
        ConfigError: --font names a file that is not a font.
    """
    values = {
        "VARIFOCAL_MAX_PIXELS": getattr(options, "max_pixels", None),
        "VARIFOCAL_FONT": getattr(options, "font", None),
    }
    variables = {name: str(value) for name, value in values.items() if value is not None}
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        if "VARIFOCAL_FONT" in variables:
            from varifocal.utils.fonts import check_font

            check_font()
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name) if value is None else os.environ.update({name: value})


def data_overrides(options: argparse.Namespace) -> list[str]:
    """Return the overrides of a recipe that --format, --images, --unlabeled and --val-fraction stand for."""
    words: dict[str, Any] = {"data.format": options.format, "data.unlabeled": options.unlabeled}
    if options.images:
        from varifocal.data.options import images_word

        # quoted, because a name may look like YAML
        words["data.images"] = json.dumps(images_word(options.images, Path(options.data)))
    words["data.val_fraction"] = options.val_fraction
    return [f"{key}={value}" for key, value in words.items() if value]
