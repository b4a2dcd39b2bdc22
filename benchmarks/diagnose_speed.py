"""Time ``varifocal diagnose`` on the detections of a large data set, section by section.

    OMP_NUM_THREADS=1 python benchmarks/diagnose_speed.py    # 5,000 images, 100 detections each, 80 classes

Two thirds of the detections lie near boxes of their class, the others anywhere. Results go to diagnose_speed.json;
docs/diagnose.md quotes them.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from pathlib import Path

import numpy as np

from harness import Row, write
from varifocal.analysis import diagnosis_plots as plots
from varifocal.analysis.diagnosis import diagnose
from varifocal.data.coco_results import read_results
from varifocal.types import Category, Dataset, Detections, Sample


def make(images: int, each: int, classes: int, seed: int = 0) -> tuple[Dataset, list[Detections]]:
    """Return images of 640 x 480 pixels with 0 to 14 boxes each, of which one in a hundred is crowd."""
    rng = np.random.default_rng(seed)
    categories = tuple(Category(k + 1, f"class {k}") for k in range(classes))
    samples, detections = [], []
    for image_id in range(images):
        count = int(rng.integers(0, 15))
        boxes, labels = random_boxes(rng, count), rng.integers(0, classes, count)
        samples.append(Sample(Path(f"{image_id}.jpg"), image_id, 640, 480, boxes, labels, rng.random(count) < 0.01))
        near = rng.integers(0, max(count, 1), each if count else 0)[: each * 2 // 3]
        found = np.concatenate([boxes[near] + rng.normal(0, 6, (len(near), 4)), random_boxes(rng, each - len(near))])
        found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
        guess = np.concatenate([labels[near], rng.integers(0, classes, each - len(near))])
        score = np.concatenate([rng.beta(2, 2, len(near)), rng.beta(1, 6, each - len(near))])
        order = np.argsort(-score)
        detections.append(Detections(found[order], score[order], guess[order], categories))
    return Dataset(samples, categories, Path("made")), detections


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, [500, 360], (count, 2))
    return np.concatenate([corner, corner + np.exp(rng.uniform(2, 5, (count, 2)))], axis=1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--detections", type=int, default=100)
    parser.add_argument("--classes", type=int, default=80)
    options = parser.parse_args()
    data, detections = make(options.images, options.detections, options.classes)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "results.json"
        listed = [
            entry
            for sample, one in zip(data.samples, detections, strict=True)
            for entry in one.to_coco(sample.image_id, str(sample.file))
        ]
        file.write_text(json.dumps(listed), encoding="utf-8")
        del listed
        seconds = {}
        begun = time.perf_counter()
        detections = read_results(file, data)
        seconds["read the results"] = time.perf_counter() - begun
        begun = time.perf_counter()
        found = diagnose(detections, data)
        seconds["diagnose"] = time.perf_counter() - begun
        begun = time.perf_counter()
        json.dumps(found.to_json())
        seconds["JSON"] = time.perf_counter() - begun
        begun = time.perf_counter()
        plots.make_plots(found)
        seconds["plots"] = time.perf_counter() - begun
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    rows = [Row(name, value, "s") for name, value in seconds.items()]
    write("diagnose_speed", [*rows, Row("highest memory of the whole", memory, "MiB")], Path(__file__).parent)


if __name__ == "__main__":
    main()
