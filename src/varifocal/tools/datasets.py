"""What verbs do with data sets: which split is evaluated, and one format written as another."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from varifocal.data.convert import convert, refuse_existing
from varifocal.data.holdout import load_train_val
from varifocal.data.load import find_splits, load_dataset
from varifocal.data.options import images_word
from varifocal.data.roles import measured_split, parted_split
from varifocal.types import Dataset
from varifocal.utils.progress import progress_bar


def reading(options: argparse.Namespace, data: Path | str) -> dict[str, Any]:
    """How a data set is read, as the options say: format, folder of the images, what unlabeled images are."""
    images = images_word(options.images, Path(data)) if options.images else ""
    return {"format": options.format, "images": images, "unlabeled": options.unlabeled or ""}


def eval_data(options: argparse.Namespace) -> Dataset:
    """The split that is asked for: val, or else test, or the only one there is; or what train --val-fraction held out.

    Raises:
        DataError: there are several splits, none of them usual; and as :func:`varifocal.data.load.load_dataset`.
    """
    read: dict[str, Any] = {**reading(options, options.data), "invalid_boxes": "drop"}
    splits = find_splits(options.data, format=options.format)
    if options.val_fraction is not None:
        split = options.split or parted_split(options.data, splits)
        with progress_bar("comparing images", None) as advance:
            return load_train_val(
                options.data, options.val_fraction, options.split_seed, split=split, progress=advance, **read
            )[1]
    return load_dataset(options.data, options.split or measured_split(options.data, splits), **read)


def convert_data(options: argparse.Namespace) -> None:
    """Write a data set in another format, and say what that loses; errors as of ``convert``."""
    refuse_existing(options.out)
    with progress_bar("writing images", None) as advance:
        notes = convert(
            options.data,
            options.out,
            options.to,
            split=options.split,
            val=options.val_fraction,
            seed=options.split_seed,
            image_files=options.image_files,
            drop_invalid=options.drop_invalid_boxes,
            progress=advance,
            **reading(options, options.data),
        )
    for note in notes:
        print(note, file=sys.stderr)
    print(f"{options.out}: written as {options.to}; look at it with: varifocal check {options.out}")
