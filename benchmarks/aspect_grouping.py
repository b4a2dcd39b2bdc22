"""How much padding ``data.group_by_aspect_ratio`` saves.

    python benchmarks/aspect_grouping.py [--images 2000] [--epochs 5]

Counts the pixels of the padded batches of some epochs, in units of the pixels of their images, for images of random
shape: 65 % of 640 x 480, 20 % of 480 x 640 and 15 % of any width from 320 to 960 at a height of 480, about as in COCO.
Nothing is decoded or trained. Time is proportional to the pixels of a batch.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np

from varifocal.data.augment import Augmentation
from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.data.sampler import Sampling
from varifocal.types import Preprocess, Sample, resized_shape

PREPROCESS = Preprocess(short_side=480, max_long_side=800)
BATCHES = (4, 8, 16)


def samples_of(images: int) -> list[Sample]:
    """Images that do not exist, with one box each."""
    rng = np.random.default_rng(0)
    kinds = rng.choice(3, images, p=[0.65, 0.2, 0.15])
    widths = np.choose(kinds, [640, 480, rng.integers(320, 961, images)])
    heights = np.choose(kinds, [480, 640, 480])
    one = Sample(Path("a.png"), 0, 0, 0, np.array([[0, 0, 9, 9]], np.float32), np.zeros(1, np.int64), np.zeros(1, bool))
    return [replace(one, width=int(width), height=int(height)) for width, height in zip(widths, heights, strict=True)]


def padded(samples: list[Sample], batch: int, epochs: int, *, grouped: bool) -> float:
    """The pixels of all batches by those of their images."""
    data = TrainDataset(samples, PREPROCESS, Augmentation(), 0, sampling=Sampling(group_by_aspect_ratio=grouped))
    batches = BatchSampler(data, batch)
    filled = total = 0
    for keys in batches.keys(0, epochs * batches.per_epoch):
        shapes = np.array([resized_shape(samples[i].height, samples[i].width, PREPROCESS) for _, _, i in keys])
        height, width = -(-shapes.max(axis=0) // PREPROCESS.size_divisor) * PREPROCESS.size_divisor
        filled += int(shapes.prod(axis=1).sum())
        total += int(height * width) * len(keys)
    return total / filled


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--epochs", type=int, default=5)
    options = parser.parse_args()
    samples = samples_of(options.images)
    for batch in BATCHES:
        plain, grouped = (padded(samples, batch, options.epochs, grouped=flag) for flag in (False, True))
        print(f"batches of {batch}: {plain:.3f} without, {grouped:.3f} with; {1 - grouped / plain:.0%} less")


if __name__ == "__main__":
    main()
