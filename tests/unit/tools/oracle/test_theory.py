"""What must come out whatever a network says, on a detector that says what a table holds."""

from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from varifocal.assign.point import assign_nearest_point
from varifocal.inference.model import Model, ModelInfo
from varifocal.models.dense import TargetAssigner, assign_targets
from varifocal.models.vfnet import VFNetConfig
from varifocal.ops.boxes import grid_priors
from varifocal.structures import Candidates, Outputs
from varifocal.tools.oracle.rows import Override, Row, certain, overlap, true_box
from varifocal.tools.oracle.study import oracle_study
from varifocal.types import Category, Dataset, PostProcess, Preprocess, Sample

SIDE = 64
CATEGORIES = (Category(1, "tree"),)
PLACES = [(x, y) for x in (8, 24, 40) for y in (8, 24, 40)]  # points of stride 8 in the middle of each object


class Table(nn.Module):
    """A point every 8 pixels with the box and the score of a table; one point of each object is positive."""

    def __init__(self, boxes, scores):
        super().__init__()
        self.head = nn.Identity()
        self.weight = nn.Parameter(torch.zeros(1))
        self.config = SimpleNamespace()
        self.boxes, self.scores = boxes, scores

    def forward(self, images):
        return Outputs({"logits": self.scores.logit()[None]}, ((8, 8),))

    def decode(self, outputs, sizes):
        return Candidates(self.boxes[None], outputs.tensors["logits"].sigmoid(), (64,))

    @staticmethod
    def labeling(config):
        return TargetAssigner((8,), partial(grid_priors, strides=(8,)), partial(assign_nearest_point, scale=1))

    def assign(self, outputs, targets):
        return assign_targets(self.labeling(self.config), outputs, targets)


def scene(tmp_path, seed, far=0):
    """Nine objects apart, each with one positive that predicts a box near it; ``far`` more boxes lie anywhere.

    The other points say nothing: their scores are below the threshold.
    """
    rng = np.random.default_rng(seed)
    objects = np.array([(x - 6, y - 6, x + 6, y + 6) for x, y in PLACES], np.float32)
    boxes, scores = torch.zeros(64, 4), torch.full((64, 1), 0.01)
    boxes[:, 2:] = 1
    for box, (x, y) in zip(objects, PLACES, strict=True):
        point = y // 8 * 8 + x // 8
        boxes[point] = torch.from_numpy(box + rng.normal(0, 1.2, 4).astype(np.float32))
        scores[point] = float(rng.uniform(0.1, 0.9))
    free = [point for point in range(64) if (point % 8 * 8, point // 8 * 8) not in PLACES]
    for point in rng.choice(free, far, replace=False):
        corner = rng.uniform(0, 50, 2)
        boxes[point] = torch.from_numpy(np.concatenate([corner, corner + 12]).astype(np.float32))
        scores[point] = float(rng.uniform(0.1, 0.9))
    file = tmp_path / "one.png"
    Image.new("RGB", (SIDE, SIDE)).save(file)
    sample = Sample(file, 1, SIDE, SIDE, objects, np.zeros(9, np.int64), np.zeros(9, bool))
    info = ModelInfo("table", VFNetConfig(1), CATEGORIES, Preprocess(scale=1.0), PostProcess())
    return Model(Table(boxes, scores), info).eval(), Dataset((sample,), CATEGORIES, Path("table"))


def study(tmp_path, seed, *rows, far=0):
    return oracle_study(*scene(tmp_path, seed, far), assign="detector", rows=rows)


def ap(found, name):
    return found.row(name).metrics.AP


@pytest.mark.parametrize("seed", range(12))
def test_the_iou_as_score_is_never_worse_where_each_object_has_one_box(tmp_path, seed):
    """Of one class, without duplicates and suppression, all boxes that count at an IoU come before all that do not.

    So at every IoU the ranking is the best that these boxes can have, and no other scores can give more.
    """
    found = study(
        tmp_path, seed, Row("gt_cls_iou", "", Override(score=overlap)), Row("gt_cls", "", Override(score=certain))
    )
    assert found.row("gt_cls_iou").gain >= 0
    assert found.row("gt_cls_iou").metrics.AP >= found.row("gt_cls").metrics.AP
    assert found.row("gt_cls_iou").metrics.AP50 == 1.0 or found.row("nothing").metrics.AP50 < 1.0


def test_there_is_something_to_gain(tmp_path):
    gains = [
        study(tmp_path, seed, Row("gt_cls_iou", "", Override(score=overlap))).row("gt_cls_iou").gain
        for seed in range(12)
    ]
    assert max(gains) > 0.02


@pytest.mark.parametrize("seed", range(4))
def test_true_boxes_are_perfect_where_nothing_else_is_said(tmp_path, seed):
    found = study(tmp_path, seed, Row("gt_bbox", "", Override(box=true_box)))
    assert found.row("nothing").metrics.AP < 0.9
    assert ap(found, "gt_bbox") == pytest.approx(1.0)


@pytest.mark.parametrize("seed", range(4))
def test_true_boxes_that_nothing_suppresses_and_a_perfect_threshold_are_perfect(tmp_path, seed):
    """Every object is found exactly, and what else is said does not pass: far boxes cost nothing any more."""
    rows = (
        Row("gt_bbox", "", Override(box=true_box)),
        Row("gt_cls", "", Override(score=certain)),
        Row("both", "", Override(box=true_box), ground_truth_nms="overlap", without_false=True),
        Row("perfect_threshold", "", without_false=True),
    )
    found = study(tmp_path, seed, *rows, far=25)
    assert found.row("gt_bbox").metrics.AP < 1.0
    assert ap(found, "both") == pytest.approx(1.0)
    assert found.row("perfect_threshold").gain > 0
    assert found.row("perfect_threshold").metrics.AR100 == found.row("nothing").metrics.AR100


@pytest.mark.parametrize("seed", range(4))
def test_certain_scores_and_true_boxes_are_perfect_with_any_far_boxes(tmp_path, seed):
    """All objects come first; a far box can only be suppressed by them."""
    found = study(tmp_path, seed, Row("both", "", Override(box=true_box, score=certain)), far=40)
    assert ap(found, "both") == pytest.approx(1.0)


def test_a_baseline_is_always_there_and_first(tmp_path):
    rows = (Row("gt_bbox", "", Override(box=true_box)), Row("nothing", "here too"))
    assert [row.name for row in study(tmp_path, 0, *rows).rows] == ["nothing", "gt_bbox"]


def test_an_unknown_row_is_said(tmp_path):
    with pytest.raises(KeyError, match="no row 'gt_magic'"):
        study(tmp_path, 0).row("gt_magic")


def test_without_any_object_there_is_nothing_to_find(tmp_path):
    model, data = scene(tmp_path, 0)
    (sample,) = data.samples
    none = replace(sample, boxes=sample.boxes[:0], labels=sample.labels[:0], crowd=sample.crowd[:0])
    found = oracle_study(model, replace(data, samples=(none,)), assign="detector")
    assert (found.positives, found.objects) == (0, 0)
    assert {row.metrics.AP for row in found.rows} == {-1.0}


def test_crowd_regions_have_no_positives(tmp_path):
    model, data = scene(tmp_path, 0)
    (sample,) = data.samples
    crowd = np.arange(9) < 4
    found = oracle_study(model, replace(data, samples=(replace(sample, crowd=crowd),)), assign="detector")
    assert (found.positives, found.objects) == (5, 5)


def test_objects_that_overlap_are_kept_apart_by_suppression_that_knows_them(tmp_path):
    """They share 0.625, more than the 0.6 of ordinary suppression, which takes one for the other."""
    model, data = scene(tmp_path, 0)
    (sample,) = data.samples
    boxes = np.array([(0, 0, 64, 52), (0, 12, 64, 64)], np.float32)
    two = replace(sample, boxes=boxes, labels=sample.labels[:2], crowd=sample.crowd[:2])
    rows = [
        Row("both", "", Override(box=true_box, score=certain)),
        Row("all", "", Override(box=true_box, score=certain), ground_truth_nms="overlap"),
    ]
    found = oracle_study(model, replace(data, samples=(two,)), assign="detector", rows=rows)
    assert ap(found, "both") < 0.6
    assert ap(found, "all") == pytest.approx(1.0)
