"""Measure the AP that label noise leaves to a perfect detector.

    python benchmarks/trees_label_noise.py [CHECKPOINT ...]

A perfect detector finds every tree and nothing else, each with its true box. The labels are such boxes with each edge
moved by a normally distributed amount, whose standard deviation is a fraction of the box's width or height. The script
measures the AP of the boxes of the embedded held-out scene against labels moved this way, as the mean of 20 draws. The
scores are random, because a detector cannot know which labels are imprecise. For each CHECKPOINT, for example
``runs/trees-1/best.safetensors``, it measures the same fraction for the detection nearest to each label, with an IoU of
at least 0.3. This includes both label noise and detector errors, so label noise alone is lower. Results go to
``trees_label_noise.json``.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from harness import machine
from varifocal.data.load import load_split
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.evaluation.coco_ap import coco_ap
from varifocal.evaluation.evaluate import evaluate
from varifocal.inference.boxes_numpy import box_iou, elementwise_iou
from varifocal.inference.loading import load
from varifocal.types import Dataset, Detections

RESULTS = Path(__file__).with_name("trees_label_noise.json")
FRACTIONS = (0.025, 0.05, 0.075, 0.1, 0.125, 0.15, 0.2)
DRAWS = 20
NEAR = 0.3


def moved(boxes: np.ndarray, fraction: float, generator: np.random.Generator) -> np.ndarray:
    """Return the boxes with each edge moved by a normal random number times ``fraction`` of the width or height."""
    sides = np.tile(boxes[:, 2:] - boxes[:, :2], 2)
    return boxes + fraction * sides * generator.standard_normal(boxes.shape)


def perfect(data: Dataset, fraction: float) -> dict[str, float]:
    """Return metrics in points of the true boxes against moved labels, and the mean IoU between the two."""
    draws = []
    for seed in range(DRAWS):
        generator = np.random.default_rng(seed)
        labels = [replace(one, boxes=moved(one.boxes, fraction, generator), areas=None) for one in data.samples]
        found = [_detections(one.boxes, one.labels, data, generator) for one in data.samples]
        metrics = coco_ap(labels, data.categories, found, max_detections=2000)
        iou = np.concatenate([elementwise_iou(a.boxes, b.boxes) for a, b in zip(labels, data.samples, strict=True)])
        draws.append((100 * metrics.AP, 100 * metrics.AP50, 100 * metrics.AP75, float(iou.mean())))
    return dict(zip(("AP", "AP50", "AP75", "IoU"), np.mean(draws, axis=0).tolist(), strict=True))


def _detections(boxes: np.ndarray, labels: np.ndarray, data: Dataset, generator: np.random.Generator) -> Detections:
    scores = np.sort(generator.random(len(boxes)))[::-1]
    order = generator.permutation(len(boxes))
    return Detections(boxes[order], scores, labels[order], tuple(data.categories))


def measured(checkpoint: Path, data: Dataset) -> dict[str, Any]:
    """Return the deviation of the nearest detections' edges as a fraction of the label's side, and their mean IoU."""
    _, found = evaluate(load(checkpoint), data)
    pairs = [_nearest(one.boxes, sample.boxes) for one, sample in zip(found, data.samples, strict=True)]
    boxes, labels = (np.concatenate(each) for each in zip(*pairs, strict=True))
    off = (boxes - labels) / np.tile(labels[:, 2:] - labels[:, :2], 2)
    return {
        "run": checkpoint.parent.name,
        "labels": sum(len(one.boxes) for one in data.samples),
        "near": len(boxes),
        "fraction": float(off.std(axis=0).mean()),
        "IoU": float(elementwise_iou(boxes, labels).mean()),
    }


def _nearest(boxes: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the detection with the highest IoU for each label that has one near enough, and these labels."""
    iou = box_iou(boxes, labels)
    near = iou.max(axis=0) >= NEAR
    return boxes[iou.argmax(axis=0)[near]], labels[near]


def main(words: Sequence[str] | None = None) -> None:
    """Measure, print and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoints", nargs="*", type=Path, metavar="CHECKPOINT")
    options = parser.parse_args(words)
    data = load_split(sample_dataset_dir(), "val", "--val-fraction")
    content = {
        "script": "benchmarks/trees_label_noise.py",
        "machine": machine(),
        "noise": [{"fraction": fraction, **perfect(data, fraction)} for fraction in FRACTIONS],
        "detectors": [measured(checkpoint, data) for checkpoint in options.checkpoints],
    }
    for row in (*content["noise"], *content["detectors"]):
        print(json.dumps(row))
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
