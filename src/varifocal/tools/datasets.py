"""What several commands do with data sets: choose the split to evaluate, and convert formats."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from varifocal.data.convert import convert
from varifocal.data.load import load_evaluation, open_dataset
from varifocal.data.options import images_word
from varifocal.types import Dataset
from varifocal.utils.atomic_write import refuse_existing
from varifocal.utils.progress import progress_bar


def reading(options: argparse.Namespace, data: Path | str) -> dict[str, Any]:
    """Return the arguments for reading ``data`` from the options: format, folder of the images, unlabeled images."""
    images = images_word(options.images, Path(data)) if options.images else ""
    return {"format": options.format, "images": images, "unlabeled": options.unlabeled or ""}


def eval_data(options: argparse.Namespace) -> Dataset:
    """Return the split to evaluate a model on: the requested one, or as ``load_evaluation`` chooses it.

    Raises:
        DataError: there are several splits with other names; and as in :func:`varifocal.data.load.load_dataset`.
    """
    source = open_dataset(options.data, **reading(options, options.data))
    with progress_bar("comparing images", 0 if options.val_fraction is None else None) as advance:
        return load_evaluation(
            source, options.split, fraction=options.val_fraction, seed=options.split_seed, progress=advance
        )


def convert_data(options: argparse.Namespace) -> None:
    """Write a data set in another format, and print what is lost; errors are those of ``convert``."""
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
    print(f"{options.out}: written as {options.to}; check it with: varifocal check {options.out}")
