"""What verbs do with data sets: which split is evaluated, and one format written as another."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from varifocal.data.convert import convert
from varifocal.data.load import find_splits, load_dataset
from varifocal.data.split import load_parts
from varifocal.errors import DataError
from varifocal.files import sweep_parts
from varifocal.locks import claimed_file
from varifocal.progress import progress_bar
from varifocal.records import DataSet


def eval_data(options: argparse.Namespace) -> DataSet:
    """The split that is asked for: val, or else test, or the only one there is; or what train --val held out.

    Raises:
        DataError: there are several splits, none of them usual; and as :func:`varifocal.data.load.load_dataset`.
    """
    read: dict[str, Any] = {"format": options.format, "invalid_boxes": "drop"}
    splits = find_splits(options.data, format=options.format)
    if options.val is not None:
        split = options.split or (splits[0] if len(splits) == 1 else "train")
        with progress_bar("comparing pictures", None) as advance:
            return load_parts(options.data, options.val, options.val_seed, split=split, progress=advance, **read)[1]
    usual = [wanted for wanted in ("val", "test") if any(split.startswith(wanted) for split in splits)]
    split = options.split or (splits[0] if len(splits) == 1 else next(iter(usual), None))
    if split is None:
        raise DataError(f"{options.data}: has the splits {', '.join(splits)}; name one with --split.")
    return load_dataset(options.data, split, **read)


def convert_data(options: argparse.Namespace) -> None:
    """Write a data set in another format, and say what that loses; errors as of ``convert``."""
    with claimed_file(options.out), progress_bar("writing pictures", None) as advance:
        sweep_parts([options.out])
        notes = convert(
            options.data,
            options.out,
            options.to,
            split=options.split,
            format=options.format,
            val=options.val,
            seed=options.val_seed,
            pictures=options.pictures,
            drop_invalid=options.drop_invalid,
            progress=advance,
        )
    for note in notes:
        print(note, file=sys.stderr)
    print(f"{options.out}: written as {options.to}; look at it with: varifocal check {options.out}")
