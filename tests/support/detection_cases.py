"""Made detections beside made labels: crowds, images without boxes or detections, other classes, tied scores."""

from pathlib import Path

import numpy as np

from varifocal.types import Category, Dataset, Detections, Sample

CATEGORIES = (Category(17, "cat"), Category(3, "dog"), Category(90, "brush"))


def make_data(seed, images=20, crowd=0.15, categories=CATEGORIES, ties=True, most=12):
    """A data set and its detections; classes 0 to 2 have boxes, others only detections."""
    rng = np.random.default_rng(seed)
    samples, detections = [], []
    for image_id in rng.choice(10_000, images, replace=False).tolist():
        count = int(rng.integers(0, most) * (rng.random() > 0.2))
        boxes, labels = random_boxes(rng, count), rng.integers(0, 3, count)
        is_crowd = rng.random(count) < crowd
        areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) * rng.uniform(0.5, 1, count)
        samples.append(Sample(Path(f"{image_id}.jpg"), image_id, 400, 300, boxes, labels, is_crowd, areas))
        near = np.repeat(boxes, 3, axis=0) + rng.normal(0, 1, (3 * count, 4)) * rng.choice([1, 5, 15], (3 * count, 1))
        near[:, 2:] = np.maximum(near[:, 2:], near[:, :2] + 1)
        far = random_boxes(rng, int(rng.integers(0, 20)))
        guess = np.repeat(labels, 3)
        swapped = rng.random(3 * count) < 0.25
        guess[swapped] = rng.integers(0, len(categories), int(swapped.sum()))
        found = np.concatenate([near, far])
        guess = np.concatenate([guess, rng.integers(0, len(categories), len(far))])
        if rng.random() < 0.15:
            found, guess = found[:0], guess[:0]
        scores = rng.random(len(found))
        scores = scores.round(2) if ties else scores
        order = np.argsort(-scores, kind="stable")
        detections.append(Detections(found[order], scores[order], guess[order], categories))
    return Dataset(samples, categories, Path("made.json")), detections


def random_boxes(rng, count):
    corner = rng.uniform(0, 200, (count, 2))
    return np.concatenate([corner, corner + np.exp(rng.uniform(2.5, 5, (count, 2)))], axis=1)


def xywh(box):
    x1, y1, x2, y2 = (float(value) for value in box)
    return [x1, y1, x2 - x1, y2 - y1]


def iou_of(a, b, crowd=False):
    """Of two xyxy boxes; with a crowd, the share of the first inside the second."""
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    area = (a[2] - a[0]) * (a[3] - a[1])
    union = area if crowd else area + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union


def greedy(data, detections, iou, least=0.0):
    """COCO's matching as a literal loop: for each image a list of (place, label, score, right/wrong/ignored, IoU,
    place of the box), best first, and the set of boxes that were found."""
    images = []
    for sample, found in zip(data.samples, detections, strict=True):
        rows, taken = [], set()
        for i in sorted(range(len(found)), key=lambda i: -found.scores[i]):
            if found.scores[i] < least:
                continue
            best, at, in_crowd = iou, None, False
            for j in range(len(sample.labels)):
                if sample.labels[j] != found.labels[i]:
                    continue
                overlap = iou_of(found.boxes[i], sample.boxes[j], sample.crowd[j])
                if sample.crowd[j]:
                    in_crowd |= overlap >= iou
                elif j not in taken and overlap >= best:
                    best, at = overlap, j
            if at is not None:
                taken.add(at)
            kind = "right" if at is not None else "ignored" if in_crowd else "wrong"
            rows.append((i, int(found.labels[i]), float(found.scores[i]), kind, best if at is not None else 0.0, at))
        images.append((rows, taken))
    return images
