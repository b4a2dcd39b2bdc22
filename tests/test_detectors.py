"""One contract over every detector, each with every loss and every switch of its head, on a tiny network."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
import torch

from varifocal.evaluation.coco_ap import coco_ap
from varifocal.losses import ClassificationLoss
from varifocal.models import DETECTORS, dense
from varifocal.models.backbone import BackboneConfig
from varifocal.ops.boxes import elementwise_iou
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Outputs, Targets
from varifocal.types import Category, Detections, PostProcess, Sample

CLASSES = 3
CATEGORIES = tuple(Category(i, str(i)) for i in range(CLASSES))
LOSSES = get_args(ClassificationLoss)
# the three losses of the paper's tables, with every combination of VFNet's parts
PAPER_LOSSES = ("varifocal", "focal", "quality-focal")
# the switches of a detector's head; VFNet's with every loss, the others' with the detector's own
VFNET_SWITCHES = [{"star": star, "refine": refine} for star in (True, False) for refine in (True, False)]
IMPROVED_FCOS = {
    "center_sampling": True,
    "centerness_on_reg": True,
    "norm_on_bbox": True,
    "box_loss": "giou",
    "conv_bias": True,
}
SWITCHES: dict[str, list[dict[str, Any]]] = {
    "vfnet": [
        {"neck": "pafpn", "deformable_tower": True},  # as in VFNet-X
        {"star_norm": "group"},
        {"star_norm": "group", "star": False, "refine": False},  # there is no star to norm
    ],
    "reppoints": [{"star_norm": "group"}],
    "fcos": [IMPROVED_FCOS],
    "atss": [{"centerness": False}],
    "gfl": [{"bins": 5}],
    "retinanet": [{"octave_steps": 2, "ratios": (1.0,)}],
}
# outputs that are lengths in pixels; the others may be any number
LENGTHS = ("initial", "refined", "distances")
# of the overfit: depth of the towers, steps, learning rate, and the part of the steps over which it falls
TRAINING = (1, 80, 5e-3, 1 / 3)
SLOW_TRAINING = {
    "fcos": (1, 120, 5e-3, 2 / 3),
    "retinanet": (1, 100, 5e-3, 2 / 3),
    "reppoints": (0, 150, 5e-3, 1 / 3),  # its second stage begins to learn when the first has
}
SIZE = (64, 96)  # height, width; maps of 8x12, 4x6 and 2x3


def variants(name: str) -> list[dict[str, Any]]:
    """The losses and the switches that this detector has."""
    rows: list[dict[str, Any]] = [{"loss": loss} for loss in LOSSES]
    if name == "vfnet":
        rows = [{"loss": loss, **switches} for loss in PAPER_LOSSES for switches in VFNET_SWITCHES]
        rows += [{"loss": loss} for loss in LOSSES if loss not in PAPER_LOSSES]
    return [*rows, *SWITCHES.get(name, [])]


def cases(rows: Iterable[tuple[str, dict[str, Any]]]) -> list[Any]:
    """Parameters that are called what they are."""
    return [
        pytest.param(name, row, id="-".join([name, *(f"{key}={value}" for key, value in row.items())]))
        for name, row in rows
    ]


ALL = cases((name, row) for name in DETECTORS for row in variants(name))
# the same without those that differ in the loss alone, which the network knows nothing of
NETWORKS = cases((name, row) for name in DETECTORS for row in variants(name) if row.get("loss") in (None, "focal"))


def config_of(name: str, row: dict[str, Any], **backbone: Any) -> Any:
    options = {"backbone": BackboneConfig("test_resnet", **backbone), "channels": 32, "num_levels": 3, "num_convs": 1}
    return DETECTORS[name][1](num_classes=CLASSES, **{**options, **row})


def build(name: str, row: dict[str, Any], **backbone: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    return DETECTORS[name][0](config_of(name, row, **backbone))


def configs_with(name: str, row: dict[str, Any]) -> list[Any]:
    """The configurations of all variants whose network is that of this one: they differ in the loss."""
    own, every = config_of(name, row), [config_of(name, other) for other in variants(name)]
    return [config for config in every if replace(config, loss=own.loss) == own]


def boxes_a_cell(model: torch.nn.Module) -> int:
    """What the configuration of the detector implies."""
    config = model.config
    return len(config.ratios) * config.octave_steps if hasattr(config, "ratios") else 1


def target(boxes=(), labels=(), crowd=None, size=SIZE) -> Targets:
    return Targets(
        torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        torch.tensor(labels, dtype=torch.long),
        torch.tensor(crowd if crowd is not None else [False] * len(labels), dtype=torch.bool),
        size,
    )


BOXES = target([[10.3, 8.6, 40.2, 44.7], [50.1, 20.2, 88.8, 60.4]], [0, 2])
EMPTY = target()


def images(seed: int = 0) -> torch.Tensor:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(seed))


def total(model: torch.nn.Module, outputs: Outputs, targets: list[Targets]) -> torch.Tensor:
    return sum(model.loss(outputs, targets).values())


@pytest.mark.parametrize(("name", "row"), NETWORKS)
def test_shapes_and_types(name, row):
    model = build(name, row).eval()
    with torch.no_grad():
        outputs = model(images())
        decoded = model.decode(outputs, [SIZE, SIZE])
    assert outputs.shapes == ((8, 12), (4, 6), (2, 3))
    many = boxes_a_cell(model)
    points = many * sum(height * width for height, width in outputs.shapes)
    assert all(value.shape[:2] == (2, points) for value in outputs.tensors.values())
    assert outputs.tensors["logits"].shape == (2, points, CLASSES)
    assert decoded.boxes.shape == (2, points, 4)
    assert decoded.scores.shape == (2, points, CLASSES)
    assert decoded.counts == (96 * many, 24 * many, 6 * many)
    assert (decoded.quality is not None) == ("centerness" in outputs.tensors)
    for values in (decoded.scores, decoded.quality):
        if values is not None:
            assert values.shape[:2] == (2, points)
            assert values.min() >= 0
            assert values.max() <= 1


@pytest.mark.parametrize(("name", "row"), ALL)
@pytest.mark.parametrize("targets", [[BOXES, EMPTY], [EMPTY, EMPTY]], ids=["one-empty", "no-box"])
def test_every_parameter_learns_from_every_batch(name, row, targets):
    """Of images without boxes too, so that no process waits for the gradient of another."""
    model = build(name, row).train()
    losses = model.loss(model(images()), targets)
    assert all(loss.ndim == 0 and loss.isfinite() and loss >= 0 for loss in losses.values())
    assert losses["cls"] > 0
    sum(losses.values()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key


@pytest.mark.parametrize(("name", "row"), ALL)
def test_box_losses_need_boxes(name, row):
    model = build(name, row).train()
    outputs = model(images())
    with_boxes, without = model.loss(outputs, [BOXES, EMPTY]), model.loss(outputs, [EMPTY, EMPTY])
    assert set(with_boxes) == set(without)
    assert all(with_boxes[term] > 0 and without[term] == 0 for term in with_boxes if term != "cls")


@pytest.mark.parametrize("half", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
@pytest.mark.parametrize(("name", "row"), NETWORKS)
def test_under_autocast(name, row, half):
    """Boxes and losses stay in float32, and each loss is that of float32 to a few parts in a hundred.

    The losses share the two forward passes. Their gradients meet in one backward pass, where none that is not finite
    can hide.
    """
    model = build(name, row).train()
    plain = model(images())
    with torch.autocast("cpu", half):
        outputs = model(images())
        decoded = model.decode(outputs, [SIZE, SIZE])
    values = [decoded.boxes, decoded.scores, *([] if decoded.quality is None else [decoded.quality])]
    assert {value.dtype for value in values} == {torch.float32}
    leaves = Outputs({key: value.detach().requires_grad_() for key, value in outputs.tensors.items()}, outputs.shapes)
    for config in configs_with(name, row):
        model.config = config
        with torch.autocast("cpu", half):
            losses = model.loss(leaves, [BOXES, EMPTY])
        assert {value.dtype for value in losses.values()} == {torch.float32}
        found, expected = sum(losses.values()), total(model, plain, [BOXES, EMPTY])
        assert found.item() == pytest.approx(expected.item(), rel=0.05), config.loss
        found.backward()
    torch.autograd.backward(list(outputs.tensors.values()), [leaf.grad for leaf in leaves.tensors.values()])
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("name", "row"), NETWORKS)
def test_decoding_stays_inside_each_image(name, row):
    model = build(name, row).eval()
    sizes = [SIZE, (30, 41)]
    outputs = outputs_of(model, SIZE)
    both = {key: value.expand(2, -1, -1) for key, value in outputs.tensors.items()}
    boxes = model.decode(Outputs(both, outputs.shapes), sizes).boxes
    for box, (height, width) in zip(boxes, sizes, strict=True):
        assert box.min() >= 0
        assert box[:, 0::2].max() == width
        assert box[:, 1::2].max() == height


def outputs_of(model: torch.nn.Module, size: tuple[int, int], seed: int = 0) -> Outputs:
    """Hand-made outputs for one image of that size: random numbers under the names of the model's."""
    rng = torch.Generator().manual_seed(seed)
    shapes = tuple((-(-size[0] // stride), -(-size[1] // stride)) for stride in model.strides)
    points = boxes_a_cell(model) * sum(height * width for height, width in shapes)
    with torch.no_grad():
        names = {key: value.shape[-1] for key, value in model.eval()(images()).tensors.items()}
    tensors = {}
    for key, channels in names.items():
        value = torch.randn(1, points, channels, generator=rng)
        tensors[key] = (value * 0.5 + 3).exp() if key in LENGTHS else value
    return Outputs(tensors, shapes)


def padded(outputs: Outputs, shapes: tuple[tuple[int, int], ...], many: int) -> Outputs:
    """The same numbers in the corner of larger maps, other numbers around them; ``many`` boxes a cell."""
    tensors = {}
    for key, value in outputs.tensors.items():
        levels, start = [], 0
        for (height, width), (rows, columns) in zip(outputs.shapes, shapes, strict=True):
            level = torch.rand(1, rows, columns, many * value.shape[-1]) * 5 + 1
            inner = value[:, start : start + height * width * many]
            level[:, :height, :width] = inner.reshape(1, height, width, -1)
            start += height * width * many
            levels.append(level.reshape(1, -1, value.shape[-1]))
        tensors[key] = torch.cat(levels, dim=1)
    return Outputs(tensors, shapes)


@pytest.mark.parametrize(("name", "row"), ALL)
@pytest.mark.parametrize("truth", [BOXES, EMPTY], ids=["boxes", "no-box"])
def test_padding_of_the_batch_changes_no_loss(name, row, truth):
    model = build(name, row)
    alone = outputs_of(model, SIZE)
    inside = padded(alone, ((16, 16), (8, 8), (4, 4)), boxes_a_cell(model))
    small, large = model.loss(alone, [truth]), model.loss(inside, [truth])
    assert {key: value.item() for key, value in large.items()} == pytest.approx(
        {key: value.item() for key, value in small.items()}, rel=1e-5
    )


@pytest.mark.parametrize(("name", "row"), ALL)
def test_crowd_regions_are_ignored(name, row):
    """Whatever is said inside one, the loss is the same; outside it is not.

    The region ends between the two places, corner and middle, where a point may lie in its cell.
    """
    model = build(name, row)
    outputs = outputs_of(model, SIZE)
    region = [0.0, 0.0, 63.0, 63.0]
    truth = target([[66.1, 20.2, 94.8, 60.4], region], [2, 1], [False, True])
    places = [
        (x * stride, y * stride)
        for (rows, columns), stride in zip(outputs.shapes, model.strides, strict=True)
        for y in range(rows)
        for x in range(columns)
        for _ in range(boxes_a_cell(model))
    ]
    within = torch.tensor([x <= 63 and y <= 63 for x, y in places])
    before = total(model, outputs, [truth])
    for where, same in ((within, True), (~within, False)):
        tensors = {key: value.clone() for key, value in outputs.tensors.items()}
        tensors["logits"][0, where] += 3
        after = total(model, Outputs(tensors, outputs.shapes), [truth])
        assert (after.item() == pytest.approx(before.item(), rel=1e-6)) == same


@pytest.mark.parametrize("name", DETECTORS)
def test_the_papers_crowd_regions_are_background(name):
    """Whatever is said inside one counts, and the loss is that of an image without it."""
    model = build(name, {"compat": "paper"})
    outputs = outputs_of(model, SIZE)
    box, region = [50.1, 20.2, 88.8, 60.4], [0.0, 0.0, 47.0, 63.0]
    crowded, plain = target([box, region], [2, 1], [False, True]), target([box], [2])
    before = total(model, outputs, [crowded]).item()
    assert before == total(model, outputs, [plain]).item()
    own = build(name, {})
    assert total(own, outputs, [crowded]).item() < total(own, outputs, [plain]).item()
    tensors = {key: value.clone() for key, value in outputs.tensors.items()}
    tensors["logits"][0, 0] += 3  # of the point in the corner
    assert total(model, Outputs(tensors, outputs.shapes), [crowded]).item() > before


@pytest.mark.parametrize(("name", "row"), ALL)
def test_a_crowd_region_is_no_object(name, row):
    model = build(name, row)
    truth = target([[50.1, 20.2, 88.8, 60.4]], [2], [True])
    losses = model.loss(outputs_of(model, SIZE), [truth])
    assert all(value == 0 for key, value in losses.items() if key != "cls")


class TwoProcesses:
    """Takes the place of torch.distributed: the sums of this process, then those of both."""

    def __init__(self) -> None:
        self.seen: list[torch.Tensor] = []
        self.others: Iterator[torch.Tensor] | None = None

    def is_available(self) -> bool:
        return True

    is_initialized = is_available

    def get_world_size(self) -> int:
        return 2

    def all_reduce(self, values: torch.Tensor) -> None:
        self.seen.append(values.clone())
        if self.others is not None:
            values += next(self.others)


@pytest.mark.parametrize(("name", "row"), ALL)
@pytest.mark.parametrize("second", [BOXES, EMPTY], ids=["boxes", "no-box"])
def test_two_processes_lose_what_one_does(name, row, second, monkeypatch):
    """The mean of the losses of two processes with an image each is the loss of one with both."""
    model = build(name, row)
    rows = [outputs_of(model, SIZE, seed) for seed in (0, 1)]
    truths = [BOXES, second]
    joined = {key: torch.cat([row.tensors[key] for row in rows]) for key in rows[0].tensors}
    wanted = model.loss(Outputs(joined, rows[0].shapes), truths)

    def run(others: list[list[torch.Tensor]] | None) -> tuple[list[dict[str, torch.Tensor]], list[list[torch.Tensor]]]:
        losses, seen = [], []
        for rank in (0, 1):
            world = TwoProcesses()
            world.others = None if others is None else iter(others[1 - rank])
            monkeypatch.setattr(dense, "dist", world)
            losses.append(model.loss(rows[rank], [truths[rank]]))
            seen.append(world.seen)
        return losses, seen

    _, alone = run(None)
    found, _ = run(alone)
    assert len(alone[0]) == len(alone[1]) > 0
    for term, value in wanted.items():
        assert sum(each[term].item() for each in found) / 2 == pytest.approx(value.item(), rel=1e-5), term


def squares() -> tuple[torch.Tensor, list[Targets]]:
    """Two images of noise with bright rectangles, a color for each class."""
    drawn = images(1) * 0.1
    truths = [
        target([[8.0, 8.0, 40.0, 40.0], [52.0, 20.0, 92.0, 56.0]], [0, 1]),
        target([[30.0, 10.0, 70.0, 50.0]], [2]),
    ]
    for one, truth in zip(drawn, truths, strict=True):
        for (x1, y1, x2, y2), label in zip(truth.boxes.int().tolist(), truth.labels.tolist(), strict=True):
            one[label, y1:y2, x1:x2] += 3
    return drawn, truths


# what is trained until it knows its images: every detector with the paper's losses, VFNet with all there is
OVERFITS = [
    *((name, {"loss": loss}) for name in DETECTORS for loss in PAPER_LOSSES),
    *(("vfnet", {"loss": loss, "star_norm": "group"}) for loss in LOSSES if loss not in PAPER_LOSSES),
]


def overfit(name: str, row: dict[str, Any], seed: int = 0) -> float:
    """Train on two images and return the AP on them; the objects must lead the list, each with its class.

    A ``seed`` above 0 moves the first weights by a millionth, as another order of sums does in the first step.
    """
    convs, steps, rate, falling = SLOW_TRAINING.get(name, TRAINING)
    model = build(name, {**row, "num_convs": convs}, norm_eval=False).train()
    if seed:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.mul_(1 + 1e-6 * torch.randn(parameter.shape, generator=generator))
    images, truths = squares()
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rate * min((step + 1) / 5, (steps - step) / (steps * falling), 1)
        optimizer.zero_grad()
        total(model, model(images), truths).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
    with torch.no_grad():
        outputs = model(images)  # with the statistics of these two images
        decoded = model.decode(outputs, [SIZE, SIZE])
    samples, detections = [], []
    for i, truth in enumerate(truths):
        quality = None if decoded.quality is None else decoded.quality[i]
        found, scores, labels = multiclass_nms(
            decoded.boxes[i], decoded.scores[i], decoded.counts, PostProcess(), quality
        )
        objects = len(truth.boxes)
        order = labels[:objects].argsort()
        assert labels[:objects][order].tolist() == truth.labels.tolist()
        assert elementwise_iou(found[:objects][order], truth.boxes).min() > 0.7
        arrays = (truth.boxes.numpy(), truth.labels.numpy(), truth.crowd.numpy())
        samples.append(Sample(Path("noise.png"), i, SIZE[1], SIZE[0], *arrays))
        detections.append(Detections(found.numpy(), scores.numpy(), labels.numpy(), CATEGORIES))
    return coco_ap(samples, CATEGORIES, detections).AP


@pytest.mark.parametrize(("name", "row"), cases(OVERFITS))
def test_overfits_two_images(name, row):
    """To a COCO AP above 27/30, over IoUs of 0.5 to 0.95: three objects at ten IoUs make steps of 1/30.

    docs/processors.md says what runs with other first weights reach (scripts/overfit_margins.py).
    """
    assert overfit(name, row) > 27.5 / 30  # 28 of 30 at least
