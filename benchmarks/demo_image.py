"""Make docs/demo.jpg from a demo run: python benchmarks/demo_image.py runs/trees-1

Shows labels and detections in a part of the held-out scene; the detections are those of the whole scene.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np

from varifocal.data.images import read_image
from varifocal.data.load import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.draw import draw_comparison
from varifocal.inference.model import load
from varifocal.types import Detections

TARGET = Path(__file__).parents[1] / "docs" / "demo.jpg"
PART = (380, 300, 900, 660)  # xyxy pixels of the scene
SCORE = 0.45


def main() -> None:
    """Detect in the whole scene, crop the part, and draw labels and detections side by side."""
    model = load(Path(sys.argv[1]) / "best.safetensors")
    data = load_dataset(sample_dataset_dir(), "test")
    sample, image = data.samples[0], read_image(data.samples[0].file)
    found = model.predict(image)
    here = inside(sample.boxes)
    part = replace(
        sample, boxes=moved(sample.boxes[here]), labels=sample.labels[here], crowd=sample.crowd[here], areas=None
    )
    kept = inside(found.boxes)
    shown = Detections(moved(found.boxes[kept]), found.scores[kept], found.labels[kept], found.categories)
    image = draw_comparison(image.crop(PART), part, data.categories, shown, threshold=SCORE)
    image.save(TARGET, quality=88)


def inside(boxes: np.ndarray) -> np.ndarray:
    """Return which boxes have their center in the part."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2
    return ((center >= PART[:2]) & (center < PART[2:])).all(axis=1)


def moved(boxes: np.ndarray) -> np.ndarray:
    """Return the boxes in pixels of the part."""
    return (boxes - np.array(PART[:2] * 2)).astype(np.float32)


if __name__ == "__main__":
    main()
