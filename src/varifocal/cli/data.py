"""Commands on a data set before training: preview it, check it, convert it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from varifocal.cli import Command
from varifocal.cli.model_options import MODEL, add_device, add_inference_options, load_model
from varifocal.cli.options import (
    DATA,
    RECIPE_HELP,
    add_font,
    add_output_json,
    add_reading,
    add_val_fraction,
    count,
    data_overrides,
)
from varifocal.tools.output_paths import ensure_writable_file, save_image
from varifocal.utils.errors import ConfigError


def add_preview(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``preview``."""
    parser.add_argument("data", type=Path, metavar="DATA", help=DATA)
    parser.add_argument("--recipe", metavar="NAME", help=RECIPE_HELP)
    parser.add_argument(
        "--out", type=Path, default=Path("preview.png"), metavar="F.png", help="image file to write (%(default)s)"
    )
    parser.add_argument("--num-images", type=count, default=12, metavar="N", help="number of images (%(default)s)")
    parser.add_argument("--epoch", type=count, default=1, metavar="N", help="which epoch to draw (%(default)s)")
    add_reading(parser)
    add_font(parser)
    add_val_fraction(parser, "leave out the images that train --val-fraction FRACTION holds out")


def run_preview(options: argparse.Namespace, overrides: list[str]) -> None:
    """Draw the images that training will use, and print a summary."""
    from varifocal.tools.preview import preview

    if options.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"--out {options.out}: must end in .png or .jpg.", code="preview-suffix")
    ensure_writable_file(options.out)
    drawn = preview(
        options.recipe,
        [*data_overrides(options), *overrides],
        options.data,
        count=options.num_images,
        epoch=options.epoch,
    )
    for note in drawn.notes:
        print(note, file=sys.stderr)
    save_image(drawn.image, options.out)
    print(f"{options.out}: {drawn.summary}")


PREVIEW = Command(
    "preview",
    "draw the images that the network will be trained on: augmented, padded, with boxes",
    "varifocal preview my_data --out preview.png\n"
    "  varifocal preview my_data --recipe my.yaml --num-images 24 --epoch 3 data.augment.mosaic=0.5\n\n"
    "The images are exactly the first ones of that epoch for these key=value words and this train.seed. The\n"
    "loss ignores hatched boxes; the flat gray area beyond a white line is the padding of the batch.",
    add_preview,
    run_preview,
    usage=(
        "varifocal preview [-h] [--recipe NAME] [--out F.png] [--num-images N] [--epoch N] [--format NAME] "
        "[--val-fraction FRACTION] [...] DATA [key=value ...]"
    ),
    takes_words=True,
)


def add_check(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``check``."""
    parser.add_argument("data", type=Path, metavar="DATA", help="data set: folder or annotation file")
    parser.add_argument("--split", metavar="S", help="check only this split (all)")
    add_reading(parser)
    parser.add_argument("--recipe", metavar="NAME", help=RECIPE_HELP)
    parser.add_argument(
        "--annotations-only",
        action="store_true",
        help="check the annotations without decoding the images, and estimate how long decoding would take",
    )
    parser.add_argument(
        "--model",
        type=Path,
        dest="checkpoint",
        metavar="CHECKPOINT",
        help=f"{MODEL}; labels that it disagrees with are listed",
    )
    add_output_json(parser, "write all findings to this file")
    parser.add_argument("--html", type=Path, metavar="F", help="write a page with plots and the worst cases")
    parser.add_argument(
        "--fix", type=Path, metavar="OUT", help="write a cleaned copy (COCO) and a list of all changes to this folder"
    )
    parser.add_argument("--copy", action="store_true", help="with --fix: copy the images instead of linking them")
    add_inference_options(parser, "with --model: ")
    add_device(parser, "with --model: ")


def run_check(options: argparse.Namespace, overrides: list[str]) -> int:
    """Check a data set, with a model also its labels, and return the exit code."""
    from varifocal.tools.check.command import run_check

    return run_check(options, overrides, lambda: load_model(options))


CHECK = Command(
    "check",
    "find what is wrong with a data set, before training or with the help of a trained model",
    "varifocal check my_data --html check.html\n"
    "  varifocal check my_data --recipe vfnet_r50_1x data.preprocess.short_side=640\n"
    "  varifocal check my_data --model runs/first/best.safetensors --html check.html\n\n"
    "key=value words change the recipe, which sets the image size and the assigner. The exit code is 0 if training\n"
    "would lose nothing, 1 if it would stop or lose data, 2 if the data cannot be read at all.",
    add_check,
    run_check,
    usage="varifocal check [-h] [--split S] [--recipe NAME] [--model CHECKPOINT] [...] DATA [key=value ...]",
    takes_words=True,
)


def add_convert_dataset(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``convert-dataset``."""
    parser.add_argument("data", type=Path, metavar="IN", help=DATA)
    parser.add_argument("out", type=Path, metavar="OUT", help="folder to write; it must not exist")
    parser.add_argument("--to", choices=("coco", "yolo", "voc"), required=True, help="format of OUT")
    parser.add_argument("--split", metavar="S", help="convert only this split (all)")
    add_reading(parser)
    add_val_fraction(parser)
    parser.add_argument("--split-seed", type=int, default=0, metavar="N", help="seed that chooses these images (0)")
    parser.add_argument(
        "--image-files", choices=("link", "copy"), default="link", help="link or copy the images (%(default)s)"
    )
    parser.add_argument("--drop-invalid-boxes", action="store_true", help="drop invalid boxes instead of stopping")


def run_convert_dataset(options: argparse.Namespace, _: list[str]) -> None:
    """Write a data set in another format, and print what that loses."""
    from varifocal.tools.datasets import convert_data

    convert_data(options)


CONVERT_DATASET = Command(
    "convert-dataset",
    "convert a data set to COCO, YOLO or Pascal VOC without losing a box",
    "varifocal convert-dataset export.zip my_data --to yolo --val-fraction 0.2",
    add_convert_dataset,
    run_convert_dataset,
)
