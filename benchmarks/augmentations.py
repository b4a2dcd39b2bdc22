"""Measure what each augmentation and the cache cost a loader process, in milliseconds per image.

    python benchmarks/augmentations.py

Uses the images, the core and the recipe of ``data_loading.py``; each augmentation alone, applied to every image. It
prints the results. docs/training-data.md quotes those of LOG.md, which has their date.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import torch

from data_loading import IMAGES, load, make_batches, make_images
from harness import medians
from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.recipes.recipe import load_recipe

CASES = {
    "as the recipe says": "hflip=0.5",
    "vflip": "vflip=1",
    "random_erasing": "random_erasing=1",
    "copy_paste": "copy_paste=1",
    "mixup": "mixup=1",
    "iou_crop": "iou_crop=1",
    "mosaic": "mosaic=1",
    "RandomPhotometricDistort": "extra_transforms={RandomPhotometricDistort: {}}",
    "color_jitter": "color_jitter=0.4",
}


def cached(batches: BatchSampler) -> BatchSampler:
    """Return the same batches with all of their images in the cache."""
    data = batches.data
    again = BatchSampler(TrainDataset(data.samples, data.preprocess, data.config, 0, cache_bytes=2**28), batches.batch)
    load(again, lambda batch: batch)
    return again


def main() -> None:
    """Measure in alternation and print."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    name = "vfnet_r50_1x"
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder))
        sets = {what: make_batches(files, load_recipe(name, [f"data.augment.{word}"])) for what, word in CASES.items()}
        sets["cache"] = cached(next(iter(sets.values())))
        times = medians(
            {what: lambda batches=batches: load(batches, lambda batch: batch) for what, batches in sets.items()},
            rounds=2,
            warmup=0,
        )
    for what, time in times.items():
        print(f"{what}: {time / IMAGES:.1f} ms per image")


if __name__ == "__main__":
    main()
