"""Counting the points of boxes, against the assignment of one image at a time and against literal loops."""

import statistics

import numpy as np
import pytest
import torch

from varifocal.analysis.training_geometry import TrainingGeometry
from varifocal.models import DETECTORS
from varifocal.models.dense import assign_batch
from varifocal.structures import Targets
from varifocal.tools.check import unassigned as module
from varifocal.tools.check.training_boxes import TrainingBoxes
from varifocal.tools.check.unassigned import count_points
from varifocal.types import Preprocess, resized_shape

PREPROCESS = Preprocess(short_side=96, max_long_side=160)
VARIANTS = [
    *((name, {}) for name in DETECTORS),
    ("vfnet", {"assigner": "fcos"}),
    ("vfnet", {"assigner": "fcos-center"}),
    ("vfnet", {"compat": "paper"}),
    ("retinanet", {"compat": "paper"}),
    ("fcos", {"center_sampling": True}),
]


def make_eye(name: str, preprocess: Preprocess = PREPROCESS, **options) -> TrainingGeometry:
    return TrainingGeometry.of(name, name, DETECTORS[name][1](num_classes=1, num_levels=3, **options), preprocess)


def make_scene(images: int, seed: int = 0) -> TrainingBoxes:
    """Images of few sizes with up to ten boxes each, from a pixel to the whole; some have none."""
    rng = np.random.default_rng(seed)
    sizes = np.array([(120, 80), (80, 120), (100, 100), (321, 77)])[rng.integers(4, size=images)]
    owner = np.repeat(np.arange(images), rng.integers(0, 11, images))
    first = rng.uniform(0, 0.9, (len(owner), 2))
    last = first + (1 - first) * rng.uniform(0.01, 1, (len(owner), 2)) ** 2
    boxes = (np.concatenate([first, last], axis=1) * np.tile(sizes[owner], 2)).astype(np.float32)
    return TrainingBoxes(sizes, owner, boxes, np.zeros(len(owner), np.int64), np.arange(len(owner)))


def alone(scene: TrainingBoxes, eye: TrainingGeometry, preprocess: Preprocess = PREPROCESS) -> np.ndarray:
    """Points of each box as training gives them: the maps of a padded batch of one image, its boxes by number."""
    points = np.zeros(len(scene.owner), np.int64)
    for image, (width, height) in enumerate(scene.sizes.tolist()):
        mine = np.flatnonzero(scene.owner == image)
        shape = resized_shape(height, width, preprocess)
        scale = np.tile(np.array(shape[::-1]) / (width, height), 2).astype(np.float32)
        maps = [tuple(-(-side // 32) * 32 // 8 for side in shape)]
        for _ in eye.labeling.strides[1:]:
            maps.append(tuple(-(-side // 2) for side in maps[-1]))
        boxes = torch.from_numpy(scene.boxes[mine] * scale)
        targets = Targets(boxes, torch.arange(len(mine)), torch.zeros(len(mine), dtype=torch.bool), shape)
        priors = eye.labeling.grid(maps)
        dense = assign_batch(eye.labeling.assign, priors, [targets], divisor=eye.labeling.divisor)
        points[mine] = torch.bincount(dense.labels[dense.positive], minlength=len(mine)).numpy()
    return points


@pytest.mark.parametrize(("name", "options"), VARIANTS)
def test_as_one_image_at_a_time(name, options):
    scene, eye = make_scene(24), make_eye(name, **options)
    found = count_points(scene, eye)
    assert not found.sampled
    np.testing.assert_array_equal(found.points, alone(scene, eye))
    assert found.assigned == len(scene.owner)


@pytest.mark.parametrize("boxes", [1, 7, 40])
def test_blocks_change_nothing(monkeypatch, boxes):
    scene, eye = make_scene(24, seed=1), make_eye("vfnet")
    expected = count_points(scene, eye).points
    monkeypatch.setattr(module, "MOST_BOXES", boxes)
    np.testing.assert_array_equal(count_points(scene, eye).points, expected)


def iou(a: list[float], b: list[float]) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]), 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]), 0)
    return width * height / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height)


def literal_points(boxes: list[list[float]], width: int, height: int, strides: tuple[int, ...]) -> list[int]:
    """ATSS written out for one image: how many points each box gets."""
    best: dict[tuple[int, int, int], tuple[float, int]] = {}
    for i, box in enumerate(boxes):
        middle = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
        candidates = []
        for stride in strides:
            cells = [(x, y) for y in range(-(-height // stride)) for x in range(-(-width // stride))]
            near = sorted(cells, key=lambda c: (c[0] * stride - middle[0]) ** 2 + (c[1] * stride - middle[1]) ** 2)[:9]
            candidates += [(stride, x, y) for x, y in near]
        anchors = [[s * (x - 4), s * (y - 4), s * (x + 4), s * (y + 4)] for s, x, y in candidates]
        overlap = [iou(box, anchor) for anchor in anchors]
        least = statistics.mean(overlap) + statistics.stdev(overlap)
        for (s, x, y), value in zip(candidates, overlap, strict=True):
            inside = min(s * x - box[0], s * y - box[1], box[2] - s * x, box[3] - s * y) > 0.01
            if value >= least and inside and value > best.get((s, x, y), (0.0, -1))[0]:
                best[s, x, y] = (value, i)
    owners = [owner for _, owner in best.values()]
    return [owners.count(i) for i in range(len(boxes))]


def test_as_the_algorithm_written_out():
    scene = make_scene(16, seed=2)
    eye = make_eye("vfnet", Preprocess(scale=1.0))
    expected = []
    for image, (width, height) in enumerate(scene.sizes.tolist()):
        expected += literal_points(scene.boxes[scene.owner == image].tolist(), width, height, (8, 16, 32))
    found = count_points(scene, eye)
    np.testing.assert_array_equal(found.points, expected)
    np.testing.assert_array_equal(found.unmatched, [i for i, count in enumerate(expected) if count == 0])
    assert 0 < len(found.unmatched) < len(expected)


def test_of_many_images_a_sample(monkeypatch):
    scene = make_scene(60, seed=3)
    for name in ("fcos", "vfnet"):
        eye = make_eye(name)
        expected = count_points(scene, eye).points
        monkeypatch.setattr(module, "MOST_CALLS", 3)
        found = count_points(scene, eye)
        monkeypatch.undo()
        seen = found.points >= 0
        assert found.sampled
        assert len(np.unique(scene.owner[seen])) == 3
        np.testing.assert_array_equal(found.points[seen], expected[seen])
        # all or nothing of an image
        assert not set(scene.owner[seen]) & set(scene.owner[~seen])


def test_crops_are_not_bound_by_the_longest_side():
    config = DETECTORS["vfnet"][1](num_classes=1)
    bound = Preprocess(scale=2.0, max_size=100)
    sizes = np.array([[80, 60]])
    assert TrainingGeometry.of("", "vfnet", config, bound).resized(sizes).tolist() == [[100, 75]]
    assert TrainingGeometry.of("", "vfnet", config, bound, crop=64).resized(sizes).tolist() == [[160, 120]]


def test_no_boxes():
    scene = TrainingBoxes(
        np.array([[64, 64]]), np.empty(0, np.int64), np.empty((0, 4), np.float32), *[np.empty(0, np.int64)] * 2
    )
    for name in DETECTORS:
        found = count_points(scene, make_eye(name))
        assert len(found.points) == 0
        assert not found.sampled


def test_progress_ends_at_the_number_of_boxes():
    scene, done = make_scene(12), []
    count_points(scene, make_eye("vfnet"), done.append)
    assert done == sorted(done)
    assert done[-1] == len(scene.owner)
