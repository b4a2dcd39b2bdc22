"""The study of every detector against a literal one, and the cases in which theory says what must come out."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import oracle_literal as literal
import pytest
import torch
from PIL import Image

from varifocal.evaluation.evaluate import evaluate
from varifocal.inference.model import create_model
from varifocal.inference.pipeline import tta_passes, whole
from varifocal.models import DETECTORS
from varifocal.structures import Targets
from varifocal.tools.oracle import study as module
from varifocal.tools.oracle.rows import FURTHER, all_rows
from varifocal.tools.oracle.study import oracle_study
from varifocal.types import TTA, Category, Dataset, PostProcess, Preprocess, Sample, Tiling

VARIANTS = [
    *((name, {}) for name in DETECTORS),
    ("vfnet", {"star": False, "refine": False}),
    ("atss", {"centerness": False}),
]
IDS = ["-".join([name, *options]) for name, options in VARIANTS]
POST = PostProcess(score_threshold=0.3, nms_pre=80, nms_iou=0.6, max_detections=30)
ROWS = (
    "nothing",
    "gt_ctr",
    "gt_ctr_iou",
    "gt_bbox",
    "gt_cls",
    "gt_cls_iou",
    "gt_bbox_cls",
    "gt_bbox@1",
    "gt_cls_iou@25",
)
# of a file: width, height, (x1, y1, x2, y2, name, crowd); another order of the classes than the model's
IMAGES = [
    (
        96,
        64,
        [(8, 6, 44, 40, "cat", 0), (50, 10, 90, 60, "owl", 0), (30, 30, 62, 62, "cat", 0), (0, 40, 30, 64, "dog", 1)],
    ),
    (144, 96, [(10, 12, 100, 90, "dog", 0), (96, 40, 140, 94, "owl", 0)]),
    (96, 64, []),
]
KNOWN = ("cat", "dog", "owl")
CATEGORIES = (Category(9, "owl"), Category(4, "cat"), Category(7, "dog"))


def random_model(name, seed=0, **options):
    """A tiny detector whose scores lie on both sides of the threshold and whose boxes are not all alike."""
    torch.manual_seed(seed)
    model = create_model(
        name, backbone="test_resnet", classes=KNOWN, **{"channels": 32, "num_levels": 3, "num_convs": 1, **options}
    )
    with torch.no_grad():
        head = model.detector.head
        for part in (head.cls, getattr(head, "centerness", None)):
            if part is not None:
                part.weight.normal_(std=0.15)
                part.bias.fill_(-0.7)
        for part in ("reg", "reg_refine", "pts_refine", "initial"):
            if isinstance(getattr(head, part, None), torch.nn.Conv2d):
                getattr(head, part).weight.normal_(std=0.03)
        if name == "fcos":
            head.reg.bias.fill_(math.log(16))
        if name == "reppoints":
            for part in (head.initial, head.pts_refine):
                part.weight.normal_(std=0.2)
            head.moment.copy_(torch.tensor([0.4, 0.2]))
    model.info = replace(model.info, preprocess=Preprocess(short_side=64, max_long_side=96), postprocess=POST)
    return model.eval()


@pytest.fixture
def data(tmp_path) -> Dataset:
    rng = np.random.default_rng(0)
    labels = {category.name: label for label, category in enumerate(CATEGORIES)}
    samples = []
    for i, (width, height, objects) in enumerate(IMAGES):
        file = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(file)
        boxes = np.array([one[:4] for one in objects], np.float32).reshape(-1, 4)
        named = np.array([labels[one[4]] for one in objects], np.int64)
        samples.append(Sample(file, i, width, height, boxes, named, np.array([one[5] for one in objects], bool)))
    return Dataset(tuple(samples), CATEGORIES, Path("data.json"))


class Case:
    """One image as the literal study sees it: everything in pixels of the network's input."""

    def __init__(self, model, sample):
        self.model, self.name = model, model.info.name
        self.per_cell = 9 if self.name == "retinanet" else 1
        with torch.inference_mode():
            (batch,) = tta_passes(whole([Image.open(sample.file)]), model.info)
            self.forward = model.forward_pass(batch)
        (self.shape,) = self.forward.shapes
        self.factor = [self.shape[1] / sample.width, self.shape[0] / sample.height] * 2
        real = ~sample.crowd
        # in single precision like the package, since objects may lie just between two points
        self.objects = (sample.boxes[real] * np.array(self.factor, np.float32)).tolist()
        self.labels = [KNOWN.index(CATEGORIES[label].name) for label in sample.labels[real]]
        self.shapes = self.forward.outputs.shapes
        self.read(self.forward.outputs)
        self.given = {}

    def read(self, outputs):
        tensors = {name: value[0].tolist() for name, value in outputs.tensors.items()}
        moment = self.model.detector.head.moment.tolist() if self.name == "reppoints" else ()
        self.points = literal.points_and_boxes(self.name, tensors, self.shapes, moment)
        self.boxes = [literal.clipped(box, *self.shape) for _, _, box in self.points]
        self.scores = [[literal.sigmoid(x) for x in logits] for logits in tensors["logits"]]
        self.central = [literal.sigmoid(x[0]) for x in tensors.get("centerness", [])]

    def positives(self, assign, topk):
        """The object of each point, or -1."""
        if (assign, topk) not in self.given:
            self.given[assign, topk] = self.find_positives(assign, topk)
        return self.given[assign, topk]

    def find_positives(self, assign, topk):
        if assign == "detector":
            targets = Targets(
                torch.tensor(self.objects).reshape(-1, 4),
                torch.arange(len(self.objects)),  # so that the label tells the object
                torch.zeros(len(self.objects), dtype=torch.bool),
                self.shape,
            )
            return self.model.detector.assign(self.forward.outputs, [targets]).labels[0].tolist()

        def inside(level, row, column):
            stride = literal.STRIDES[level]
            return row < math.ceil(self.shape[0] / stride) and column < math.ceil(self.shape[1] / stride)

        return literal.atss(self.points, self.shapes, self.per_cell, self.objects, topk, inside)

    def answer(self, row, centerness, assign="atss"):
        """(score, label, box in pixels of the image), best first."""
        self.read(self.forward.outputs)
        name = row.split("@")[0]
        given = self.positives(assign, int(row.split("@")[1]) if "@" in row else 9)
        for i, number in enumerate(given):
            if number >= 0:
                self.give(name, i, self.objects[number], self.labels[number])
        return self.detections(centerness)

    def detections(self, centerness):
        """Those over the threshold, of each level the best so many, suppressed."""
        found, start = [], 0
        for rows, columns in self.shapes:
            level = []
            for i in range(start, start + rows * columns * self.per_cell):
                factor = self.central[i] if centerness else 1.0
                passed = [(score, label) for label, score in enumerate(self.scores[i]) if score > POST.score_threshold]
                level += [(score, score * factor, label, self.boxes[i]) for score, label in passed]
            found += sorted(level, key=lambda one: -one[0])[: POST.nms_pre]
            start += rows * columns * self.per_cell
        sound = [one for one in found if one[3][2] > one[3][0] and one[3][3] > one[3][1]]
        candidates = [(score, label, self.back(box)) for _, score, label, box in sound]
        return literal.suppressed(candidates, POST.nms_iou, POST.max_detections)

    def back(self, box):
        return [side / factor for side, factor in zip(box, self.factor, strict=True)]

    def give(self, name, i, box, label):
        said = literal.iou(self.boxes[i], box)
        if name == "gt_ctr":
            self.central[i] = literal.centerness(*self.points[i][0], box)
        if name == "gt_ctr_iou":
            self.central[i] = said
        if name in ("gt_cls", "gt_bbox_cls"):
            self.scores[i][label] = 1.0
        if name == "gt_cls_iou":
            self.scores[i][label] = said
        if name in ("gt_bbox", "gt_bbox_cls"):
            self.boxes[i] = list(box)


def recorded(monkeypatch):
    """What the study measures, in the order of its rows."""
    seen, real = [], module.measure
    monkeypatch.setattr(module, "measure", lambda *args, **kw: seen.append(args[2]) or real(*args, **kw))
    return seen


def same(found, expected):
    assert len(found) == len(expected)
    assert found.scores == pytest.approx([one[0] for one in expected], abs=1e-5)
    assert found.labels.tolist() == [one[1] for one in expected]
    np.testing.assert_allclose(found.boxes, np.array([one[2] for one in expected]).reshape(-1, 4), atol=2e-3)


@pytest.mark.parametrize("assign", ["atss", "detector"])
@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_as_the_literal_study(data, monkeypatch, name, options, assign):
    model = random_model(name, **options)
    seen = recorded(monkeypatch)
    rows = [row for row in all_rows(9) if row.name in ROWS]
    found = oracle_study(model, data, assign=assign, rows=rows)
    cases = [Case(model, sample) for sample in data.samples]
    for row, images in zip(found.rows, seen, strict=True):
        for case, detections in zip(cases, images, strict=True):
            topk = "@" in row.name
            same(detections, case.answer(row.name, row.centerness, "atss" if topk else assign))
    assert len({str([d.boxes.tolist() + d.scores.tolist() for d in images]) for images in seen}) > 4


def sampled(features, y, x):
    """Bilinear between the cells of [C, H, W], zero outside."""
    total = torch.zeros(features.shape[0])
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < features.shape[1] and 0 <= column < features.shape[2]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * features[:, row, column]
    return total


def star(features, distances, stride, weight):
    """A 3x3 kernel whose taps lie on the point, its projections and the corners of its box; cell by cell."""
    found = torch.zeros_like(features)
    for row in range(features.shape[1]):
        for column in range(features.shape[2]):
            left, top, right, bottom = (distances[:, row, column] / stride).tolist()
            for i, down in enumerate((-top, 0.0, bottom)):
                for j, across in enumerate((-left, 0.0, right)):
                    found[:, row, column] += weight[:, :, i, j] @ sampled(features, row + down, column + across)
    return found


def normed(features, norm):
    """Channels in groups, each group of an image brought to mean 0 and deviation 1, then scaled and shifted."""
    if norm is None:
        return features
    groups = features.reshape(norm.num_groups, -1)
    mean, variance = groups.mean(dim=1, keepdim=True), groups.var(dim=1, keepdim=True, correction=0)
    found = ((groups - mean) / (variance + norm.eps).sqrt()).reshape(features.shape)
    return found * norm.weight[:, None, None] + norm.bias[:, None, None]


@pytest.mark.parametrize("norm", ["none", "group"])
def test_a_true_first_box_is_refined_and_scored_by_what_the_star_sees_there(data, monkeypatch, norm):
    model = random_model("vfnet", star_norm=norm, channels=64)  # 32 groups of two channels
    if norm == "group":
        for part in (model.detector.head.cls_star, model.detector.head.reg_star):
            torch.nn.init.uniform_(part.norm.weight, 0.5, 1.5)
            torch.nn.init.uniform_(part.norm.bias, -0.5, 0.5)
    one = replace(data, samples=data.samples[:1])
    seen = recorded(monkeypatch)
    study = oracle_study(model, one, rows=FURTHER)
    case, head = Case(model, one.samples[0]), model.detector.head
    pixels = torch.from_numpy(np.array(Image.open(one.samples[0].file))).float()
    mean, std = (torch.tensor(values) for values in (model.info.preprocess.mean, model.info.preprocess.std))
    given = case.positives("atss", 9)
    start = 0
    with torch.no_grad():
        levels = model.detector.neck(model.detector.backbone(((pixels - mean) / std).permute(2, 0, 1)[None]))
        for level, maps in enumerate(levels):
            rows, columns = case.shapes[level]
            count, stride = rows * columns, literal.STRIDES[level]
            cls, reg = head.cls_tower(maps), head.reg_tower(maps)
            first = (
                case.forward.outputs.tensors["initial"][0, start : start + count].T.reshape(4, rows, columns).clone()
            )
            for i in range(count):
                if given[start + i] >= 0:
                    (x, y), box = case.points[start + i][0], case.objects[given[start + i]]
                    first[:, i // columns, i % columns] = torch.tensor([x - box[0], y - box[1], box[2] - x, box[3] - y])
            seen_again = [
                normed(star(found[0], first, stride, part.weight), part.norm).relu()[None]
                for found, part in ((reg, head.reg_star), (cls, head.cls_star))
            ]
            change = head.reg_refine(seen_again[0])[0]
            refined = (change * head.scales_refine[level]).exp() * first
            logits = head.cls(seen_again[1])[0]
            for i in range(count):
                if given[start + i] >= 0:
                    where = slice(None), i // columns, i % columns
                    box = literal.around(*case.points[start + i][0], *refined[where].tolist())
                    case.boxes[start + i] = literal.clipped(box, *case.shape)
                    case.scores[start + i] = logits[where].sigmoid().tolist()
            start += count
    assert [row.name for row in study.rows] == ["nothing", "gt_bbox_cls", "gt_refine"]
    same(seen[2][0], case.detections(centerness=False))


@pytest.mark.parametrize(("name", "options"), VARIANTS, ids=IDS)
def test_which_rows_there_are(data, name, options):
    model = random_model(name, **options)
    found = oracle_study(model, data)
    central = name == "fcos" or (name == "atss" and not options)
    refines = name == "vfnet" and not options
    names = list(dict.fromkeys(row.name for row in found.rows))
    expected = [
        "nothing",
        *(["gt_ctr", "gt_ctr_iou"] if central else []),
        "gt_bbox",
        "gt_cls",
        "gt_cls_iou",
        "gt_bbox_cls",
    ]
    expected += ["gt_refine"] if refines else []
    expected += [f"{row}@{topk}" for row in ("gt_bbox", "gt_cls_iou") for topk in (1, 5, 15, 25)]
    expected += ["perfect_nms", "perfect_nms_score", "perfect_threshold", "gt_bbox_cls_nms"]
    assert names == expected
    ways = {row.name: [one.centerness for one in found.rows if one.name == row.name] for row in found.rows}
    assert ways["gt_cls"] == ([False, True] if central else [None])
    if central:
        assert ways["gt_ctr"] == [True]
    why = {"gt_ctr": f"{name} has no centerness", "gt_ctr_iou": f"{name} has no centerness"} if not central else {}
    if not refines:
        why["gt_refine"] = f"{name} refines no first box: only a VFNet with refine=true does"
    assert found.absent == why
    assert (found.images, found.objects, found.detector) == (3, 5, name)


@pytest.mark.parametrize("name", list(DETECTORS))
def test_nothing_is_what_eval_says(data, name):
    model = random_model(name)
    expected = evaluate(model, data)[0]
    assert oracle_study(model, data, rows=[]).row("nothing").metrics == expected


@pytest.mark.parametrize(
    "settings",
    [
        {"tiling": Tiling(64, 24, 0.3)},
        {"tiling": Tiling(64, 24)},
        {"tiling": Tiling(0, 0, 0.3)},
        {"tta": TTA((1.0, 1.5), flip=True)},
        {"postprocess": replace(POST, nms_type="soft-nms")},
        {"postprocess": replace(POST, topk_mode="points", nms_pre=20)},
    ],
    ids=["vote", "windows", "whole", "views", "soft", "points"],
)
def test_nothing_is_what_eval_says_however_images_are_read(data, settings):
    model = random_model("fcos")
    model.info = replace(model.info, **settings)
    expected = evaluate(model, data)[0]
    found = oracle_study(model, data)
    assert found.row("nothing").metrics == expected
    assert found.row("gt_bbox_cls").gain > 0


def test_everything_given_is_perfect(data):
    """Each object has a positive, which gets its box, its class at score 1 and the only place: nothing is left to lose.

    What else is found scores less than 1, so it comes after all objects.
    """
    for name in DETECTORS:
        found = oracle_study(random_model(name), data).row(
            "gt_bbox_cls_nms", centerness=False if name in ("fcos", "atss") else None
        )
        assert (found.metrics.AP, found.metrics.AP50, found.metrics.AR100) == (1.0, 1.0, 1.0)


def test_everything_given_is_perfect_in_windows_and_views(data):
    model = random_model("vfnet")
    for settings in ({"tiling": Tiling(96, 60)}, {"tta": TTA((1.0, 1.25), flip=True)}):
        changed = random_model("vfnet")
        changed.info = replace(model.info, **settings)
        found = oracle_study(changed, data).row("gt_bbox_cls_nms")
        assert found.metrics.AP == 1.0
