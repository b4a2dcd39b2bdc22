"""Compare making training batches and prediction inputs from JPEGs with Pillow's decode and resize alone.

    python benchmarks/data_loading.py

64 images of 640 x 480, cut from the embedded aerial photographs and saved with quality 90 (about 140 kB, as in COCO),
stay in the file cache. Everything runs in one process, on one core, with one thread. The peer only decodes and resizes
to the same 1067 x 800 with the same filter: no flip, no batch, no floating point.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from harness import Goal, Row, medians, write
from varifocal.data.loader import BatchSampler, TrainDataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.model import Model, ModelInfo
from varifocal.models.vfnet import VFNetConfig
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.structures import Batch, Candidates, Outputs
from varifocal.training.step import to_device
from varifocal.types import Category, Sample, resized_shape

WIDTH, HEIGHT = 640, 480
IMAGES = 64
BOXES = 7  # per image, as in COCO
AT_ONCE = 16  # images in one call of predict
LOADED = "training batches (decode, resize, flip, pad)"
WHOLE = "training batches, normalized on the CPU"
ALL = "predict without the network"
PEER = "Pillow decode + resize"


class Nothing(nn.Module):
    """A detector that computes nothing and detects nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, images: Tensor) -> Outputs:
        return Outputs({"boxes": images.new_zeros(len(images), 1, 4)}, ((1, 1),))

    def decode(self, outputs: Outputs, _: list[tuple[int, int]]) -> Candidates:
        boxes = outputs.tensors["boxes"]
        return Candidates(boxes, boxes[..., :2], (1,))


def make_images(folder: Path) -> list[Path]:
    """Write crops at random positions of the two large photographs, the same ones each time; return their files."""
    rng = np.random.default_rng(0)
    photographs = [Image.open(file).convert("RGB") for file in sorted((sample_dataset_dir() / "images").glob("*.jpg"))]
    large = [photograph for photograph in photographs if min(photograph.size) > WIDTH]
    files = []
    for i in range(IMAGES):
        photograph = large[i % len(large)]
        left, top = rng.integers(photograph.width - WIDTH), rng.integers(photograph.height - HEIGHT)
        files.append(folder / f"{i}.jpg")
        photograph.crop((left, top, left + WIDTH, top + HEIGHT)).save(files[-1], quality=90)
    return files


def make_batches(files: list[Path], recipe: Recipe) -> BatchSampler:
    """Return the recipe's batches of these images, without a cache."""
    corners = np.random.default_rng(0).uniform(0, 400, (len(files), BOXES, 2))
    boxes = np.concatenate([corners, corners + 60], axis=2).astype(np.float32)
    labels, crowd = np.zeros(BOXES, np.int64), np.zeros(BOXES, bool)
    samples = [Sample(file, i, WIDTH, HEIGHT, boxes[i], labels, crowd) for i, file in enumerate(files)]
    data = TrainDataset(samples, recipe.data.preprocess, recipe.data.augment, recipe.train.seed, cache_bytes=0)
    return BatchSampler(data, recipe.train.batch_size)


def with_pillow(files: list[Path], size: tuple[int, int]) -> None:
    """Decode and resize the images, one at a time."""
    for file in files:
        with Image.open(file) as image:
            image.convert("RGB").resize(size, Image.Resampling.BILINEAR)


def load(batches: BatchSampler, consume: Callable[[Batch], object]) -> None:
    """Load one epoch in this process."""
    for batch in batches.loader(0, batches.per_epoch, workers=0):
        consume(batch)


def main() -> None:
    """Measure and write the rows."""
    torch.set_num_threads(1)
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    recipe = load_recipe("vfnet_r50_1x")
    preprocess = recipe.data.preprocess
    height, width = resized_shape(HEIGHT, WIDTH, preprocess)
    model = Model(Nothing(), ModelInfo("vfnet", VFNetConfig(2), (Category(1, "a"), Category(2, "b")), preprocess))
    with tempfile.TemporaryDirectory() as folder:
        files = make_images(Path(folder))
        kilobytes = sum(file.stat().st_size for file in files) / len(files) / 1000
        batches = make_batches(files, recipe)
        times = medians(
            {
                PEER: lambda: with_pillow(files, (width, height)),
                LOADED: lambda: load(batches, lambda batch: batch),
                WHOLE: lambda: load(batches, lambda batch: to_device(batch, torch.device("cpu"), preprocess)),
                ALL: lambda: [model.predict(files[i : i + AT_ONCE]) for i in range(0, len(files), AT_ONCE)],
            }
        )
    peer = times.pop(PEER) / IMAGES
    notes = {
        LOADED: f"recipe vfnet_r50_1x, batches of {recipe.train.batch_size}, as a loader process prepares them for a "
        "GPU",
        WHOLE: "the same plus the training process's part: conversion to floating point, mean and standard deviation",
        ALL: "opening, resizing, padding and normalizing images, and post-processing of zero boxes",
    }
    rows = [
        Row(name, time / IMAGES, "ms per image", Goal(1.15), PEER, peer, notes[name]) for name, time in times.items()
    ]
    images = {"size": [WIDTH, HEIGHT], "resized": [width, height], "count": IMAGES, "kilobytes": kilobytes}
    write("data_loading", rows, images=images)


if __name__ == "__main__":
    main()
