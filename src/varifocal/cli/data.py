"""Verbs on a data set before anything is trained: look at it, check it, write it in another format."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varifocal.cli.command import Command
from varifocal.cli.common import data_overrides, load_model
from varifocal.cli.options import (
    DATA,
    RECIPE_HELP,
    add_device,
    add_font,
    add_inference_options,
    add_reading,
    read_count,
    read_fraction,
)
from varifocal.tools.output_paths import ensure_writable_file, save_image
from varifocal.utils.errors import ConfigError


def add_preview(verb: argparse.ArgumentParser) -> None:
    """Options of ``preview``."""
    verb.add_argument("data", type=Path, metavar="DATA", help=DATA)
    verb.add_argument("--recipe", metavar="NAME", help=RECIPE_HELP)
    verb.add_argument(
        "--out", type=Path, default=Path("preview.png"), metavar="F.png", help="where it goes (%(default)s)"
    )
    verb.add_argument("--num-images", type=read_count, default=12, metavar="N", help="images (%(default)s)")
    verb.add_argument("--epoch", type=read_count, default=1, metavar="N", help="of this epoch (%(default)s)")
    add_reading(verb)
    add_font(verb)
    verb.add_argument(
        "--val-fraction",
        type=read_fraction,
        metavar="FRACTION",
        help="without what train --val-fraction FRACTION holds out",
    )


def run_preview(options: argparse.Namespace, overrides: list[str]) -> None:
    """Draw what training will see, and say what was drawn."""
    from varifocal.recipes.recipe import load_recipe
    from varifocal.tools.preview import preview

    name = options.recipe or "vfnet_r50_1x"
    if options.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"--out {options.out}: the name of an image ends in .png or .jpg.")
    ensure_writable_file(options.out)
    drawn = preview(
        load_recipe(name, [*data_overrides(options), *overrides]),
        options.data,
        name,
        count=options.num_images,
        epoch=options.epoch,
    )
    for note in drawn.notes:
        print(note, file=sys.stderr)
    save_image(drawn.image, options.out)
    print(f"{options.out}: {drawn.summary}")


PREVIEW = Command(
    "preview",
    "draw what the network will be trained on: augmented, padded, with boxes",
    "varifocal preview my_data --out preview.png\n"
    "  varifocal preview my_data --recipe my.yaml --num-images 24 --epoch 3 data.augment.mosaic=0.5\n\n"
    "The images are the first ones of that epoch, to the pixel, as key=value words and train.seed say. Hatched\n"
    "boxes are ignored by the loss; what is flat gray beyond a white line is the padding of the batch.",
    add_preview,
    run_preview,
    usage=(
        "varifocal preview [-h] [--recipe NAME] [--out F.png] [--num-images N] [--epoch N] [--format NAME] "
        "[--val-fraction FRACTION] [...] DATA [key=value ...]"
    ),
    takes_words=True,
)


def add_check(verb: argparse.ArgumentParser) -> None:
    """Options of ``check``."""
    verb.add_argument("data", type=Path, metavar="DATA", help="data set: folder or annotation file")
    verb.add_argument("--split", metavar="S", help="look at this split alone (all)")
    add_reading(verb)
    verb.add_argument("--recipe", metavar="NAME", help=RECIPE_HELP)
    verb.add_argument("--annotations-only", action="store_true", help="annotations alone; say what decoding would cost")
    verb.add_argument(
        "--model",
        type=Path,
        dest="checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint or exported file, whose doubts of the labels are listed",
    )
    verb.add_argument("--output-json", type=Path, metavar="F", help="write everything here")
    verb.add_argument("--html", type=Path, metavar="F", help="write one page with plots and the worst cases here")
    verb.add_argument("--fix", type=Path, metavar="OUT", help="write a cleaned copy (COCO) and a list of each change")
    verb.add_argument("--copy", action="store_true", help="of --fix: copy images; without it they are links")
    add_inference_options(verb, "of the model: ")
    add_device(verb, "of the model: ")


def run_check(options: argparse.Namespace, overrides: list[str]) -> int:
    """Look at a data set, and at its labels with a model's eyes."""
    from varifocal.tools.check.command import run_check

    return run_check(options, overrides, lambda: load_model(options))


CHECK = Command(
    "check",
    "say what is wrong with a data set, before training or with a trained model's eyes",
    "varifocal check my_data --html check.html\n"
    "  varifocal check my_data --recipe vfnet_r50_1x data.preprocess.short_side=640\n"
    "  varifocal check my_data --model runs/first/best.safetensors --html check.html\n\n"
    "key=value words change the recipe whose image size and assignment are tried. The exit code is 0 where\n"
    "nothing would be lost, 1 where training would stop or lose data, 2 where the data cannot be read at all.",
    add_check,
    run_check,
    usage="varifocal check [-h] [--split S] [--recipe NAME] [--model CHECKPOINT] [...] DATA [key=value ...]",
    takes_words=True,
)


def add_convert_data(verb: argparse.ArgumentParser) -> None:
    """Options of ``convert-data``."""
    verb.add_argument("data", type=Path, metavar="IN", help=DATA)
    verb.add_argument("out", type=Path, metavar="OUT", help="folder to write, which must not be there")
    verb.add_argument("--to", choices=("coco", "yolo", "voc"), required=True, help="what OUT is")
    verb.add_argument("--split", metavar="S", help="this split alone (all)")
    add_reading(verb)
    verb.add_argument(
        "--val-fraction", type=read_fraction, metavar="FRACTION", help="hold this fraction of data without a split out"
    )
    verb.add_argument("--split-seed", type=int, default=0, metavar="N", help="which images these are (0)")
    verb.add_argument(
        "--image-files", choices=("link", "copy"), default="link", help="link to the images, or copy them (%(default)s)"
    )
    verb.add_argument(
        "--drop-invalid-boxes", action="store_true", help="leave boxes out that cannot be, instead of stopping"
    )


def run_convert_data(options: argparse.Namespace, _: list[str]) -> None:
    """Write a data set in another format, and say what that loses."""
    from varifocal.tools.datasets import convert_data

    convert_data(options)


CONVERT_DATA = Command(
    "convert-dataset",
    "write a data set as COCO, YOLO or Pascal VOC; no box is lost",
    "varifocal convert-dataset export.zip my_data --to yolo --val-fraction 0.2",
    add_convert_data,
    run_convert_data,
)
