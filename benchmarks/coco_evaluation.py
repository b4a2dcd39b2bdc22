"""Compare our COCO metrics with pycocotools at the size of val2017, starting from detections in memory.

    python benchmarks/coco_evaluation.py

5,000 images with 7 labeled boxes on average and 100 detections each, 80 classes, drawn with a fixed seed. Objects are
detected several times, with imprecise boxes and sometimes as another class; the other detections lie anywhere, in a
realistic number of classes. pycocotools has its labels in memory and indexed before its timing starts, and receives the
detections as the array that it reads fastest; ours starts from what ``predict`` returns. The twelve metrics must agree,
otherwise nothing is written. It takes a minute, most of it for pycocotools, which is therefore timed once.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torch import nn

from harness import Goal, Row, medians, write
from varifocal.data.load import load_dataset
from varifocal.evaluation.coco_ap import coco_ap
from varifocal.evaluation.evaluate import measure
from varifocal.inference.model import Model, ModelInfo
from varifocal.models.vfnet import VFNetConfig
from varifocal.types import Category, Dataset, Detections, Sample

IMAGES, DETECTIONS, CLASSES, BOXES = 5000, 100, 80, 7.3
WIDTH, HEIGHT = 640, 480
DOUBT = 12  # classes among an image's other detections
NAMES = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
TOLERANCE = 1e-9
PEER = f"pycocotools {version('pycocotools')}"


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """Return boxes [count, 4], xyxy pixels, with sides of 4 to 600 pixels, small ones more often."""
    sides = np.minimum(np.exp(rng.normal(4, 0.9, (count, 2))).clip(4, 600), [WIDTH - 1, HEIGHT - 1])
    corners = rng.random((count, 2)) * ([WIDTH, HEIGHT] - sides)
    return np.concatenate([corners, corners + sides], axis=1).astype(np.float32)


def draw_image(rng: np.random.Generator, number: int, categories: tuple[Category, ...]) -> tuple[Sample, Detections]:
    """Return a labeled image and the detections of a mediocre detector."""
    count = int(rng.poisson(BOXES))
    boxes, labels = random_boxes(rng, count), rng.integers(0, CLASSES, count)
    crowd = rng.random(count) < 0.01
    sample = Sample(Path(f"{number:012d}.jpg"), number, WIDTH, HEIGHT, boxes, labels, crowd)
    near = min(4 * count, 80)
    which = np.arange(near) % max(count, 1)
    sides = np.tile(boxes[which, 2:] - boxes[which, :2], 2)
    found = boxes[which] + rng.normal(0, 0.08, (near, 4)) * sides
    found[:, 2:] = np.maximum(found[:, 2:], found[:, :2] + 1)
    others = rng.choice(CLASSES, DOUBT, replace=False)
    guesses = np.where(rng.random(near) < 0.8, labels[which], rng.choice(others, near))
    all_boxes = np.concatenate([found, random_boxes(rng, DETECTIONS - near)]).astype(np.float32)
    all_labels = np.concatenate([guesses, rng.choice(others, DETECTIONS - near)]).astype(np.int64)
    scores = rng.random(DETECTIONS).astype(np.float32)
    scores[near:] *= 0.6
    order = np.argsort(-scores, kind="stable")
    return sample, Detections(all_boxes[order], scores[order], all_labels[order], categories)


def to_json(samples: list[Sample], categories: tuple[Category, ...]) -> dict[str, Any]:
    """Return the labels as the content of a COCO file."""
    annotations = [
        {
            "image_id": sample.image_id,
            "category_id": categories[label].id,
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "area": (x2 - x1) * (y2 - y1),
            "iscrowd": int(crowd),
        }
        for sample in samples
        for (x1, y1, x2, y2), label, crowd in zip(sample.boxes.tolist(), sample.labels, sample.crowd, strict=True)
    ]
    return {
        "info": {},
        "images": [{"id": s.image_id, "file_name": s.file.name, "width": WIDTH, "height": HEIGHT} for s in samples],
        "categories": [{"id": category.id, "name": category.name} for category in categories],
        "annotations": [{"id": i, **annotation} for i, annotation in enumerate(annotations, start=1)],
    }


def with_pycocotools(truth: COCO, data: Dataset, found: list[Detections]) -> list[float]:
    """Return the twelve metrics of pycocotools."""
    ids = [category.id for category in data.categories]
    columns = []
    for sample, one in zip(data.samples, found, strict=True):
        boxes = one.boxes.astype(np.float64)
        boxes[:, 2:] -= boxes[:, :2]
        head, tail = np.full((len(one), 1), sample.image_id), np.array(ids)[one.labels]
        columns.append(np.column_stack([head, boxes, one.scores, tail]))
    evaluation = COCOeval(truth, truth.loadRes(np.concatenate(columns)), "bbox")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats.tolist()


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of one call and its result; its output is hidden."""
    with contextlib.redirect_stdout(io.StringIO()):
        begun = time.perf_counter()
        result = call()
        return time.perf_counter() - begun, result


def main() -> None:
    """Measure, compare, write the rows."""
    rng = np.random.default_rng(0)
    categories = tuple(Category(i, f"class {i}") for i in range(1, CLASSES + 1))
    samples, found = map(list, zip(*(draw_image(rng, i, categories) for i in range(1, IMAGES + 1)), strict=True))
    model = Model(nn.Identity(), ModelInfo("vfnet", VFNetConfig(CLASSES), categories))
    with tempfile.TemporaryDirectory() as folder:
        for sample in samples:
            (Path(folder) / sample.file).touch()
        labels = Path(folder) / "labels.json"
        labels.write_text(json.dumps(to_json(samples, categories)), encoding="utf-8")
        peer_reading, truth = timed(lambda: COCO(labels))
        data = load_dataset(labels)
        ours = medians(
            {
                "read": lambda: load_dataset(labels),
                "metrics": lambda: coco_ap(data.samples, data.categories, found),
                "eval": lambda: measure(model, data, found),
            },
            rounds=5,
            warmup=1,
        )
    peer, theirs = timed(lambda: with_pycocotools(truth, data, found))
    metrics = coco_ap(data.samples, data.categories, found)
    difference = max(abs(getattr(metrics, name) - value) for name, value in zip(NAMES, theirs, strict=True))
    assert difference <= TOLERANCE, f"the metrics differ by {difference}"
    boxes = sum(len(sample.boxes) for sample in samples)
    size = f"{IMAGES} images x {DETECTIONS} detections, {CLASSES} classes, {boxes} boxes"
    rows = [
        Row(
            "COCO metrics of detections in memory",
            ours["metrics"] / 1e3,
            "s",
            Goal(0.2),
            PEER,
            peer,
            f"{size}; pycocotools timed once; the twelve metrics agree to {TOLERANCE:g}",
        ),
        Row(
            "eval without reading images and running the network",
            (ours["read"] + ours["eval"]) / 1e3,
            "s",
            peer=PEER,
            peer_value=peer_reading + peer,
            note="from the annotation JSON and detections in memory, including validation of the labels and matching "
            "of classes by name",
        ),
    ]
    write("coco_evaluation", rows, difference=difference)


if __name__ == "__main__":
    main()
