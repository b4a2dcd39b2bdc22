"""Time whole networks on a CPU, from an image tensor to detections, in alternation.

    python benchmarks/network.py [--rounds 5]

VFNet-R50 at 800x1216, 80 classes, random weights. The amount of computation does not depend on the weights, except that
hardly any score passes the threshold; ``postprocess.py`` measures suppression. The peers are ATSS-R50 of this package,
torchvision's FCOS-R50 and RetinaNet-R50, bfloat16, and a stand-in for the authors' implementation: the same network as
their stack runs it, with contiguous maps, separate batch norms and the scalar deformable convolution that mmcv and
torchvision share. The machine's peak is the best of a few convolutions with the network's own shapes in the same run.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection import fcos_resnet50_fpn, retinanet_resnet50_fpn
from torchvision.ops import deform_conv2d

from harness import Goal, Row, medians, write
from varifocal.inference.model import Model
from varifocal.models import layers
from varifocal.ops import deform_conv
from varifocal.ops.kernels.star_operator import star_offsets
from varifocal.ops.nms import multiclass_nms
from varifocal.ops.star_conv import SamplingPoints
from varifocal.recipes.build import build_model
from varifocal.recipes.recipe import load_recipe
from varifocal.tools.model_zoo import count
from varifocal.types import Category

SIZE = (800, 1216)
CLASSES = 80
# Seconds of the authors' implementation and of torchvision's FCOS-R50 on one machine (2 cores of an idle AMD EPYC of
# the Zen 5 generation, 2 threads, this size). They allow a comparison on a machine without the authors' stack.
RECORDED = {"vfnet": 2.23, "mdconv": 4.93, "fcos": 1.32}
# channels in and out, kernel, height, width
PEAK = ((256, 256, 3, 100, 152), (512, 512, 3, 25, 38), (64, 64, 3, 200, 304), (1024, 256, 1, 50, 76))


def model(recipe: str) -> Model:
    """Return the model of a recipe with random weights, ready to predict."""
    torch.manual_seed(0)
    categories = [Category(i, str(i)) for i in range(CLASSES)]
    found = build_model(load_recipe(recipe, ["model.backbone.pretrained=none"]), categories, weights=False)
    return found.to(memory_format=torch.channels_last).eval()


def detect(own: Model, image: Tensor) -> Any:
    """Return boxes, scores and labels for a normalized image, as prediction computes them."""
    with torch.inference_mode():
        decoded = own.detector.decode(own.forward_optimized(image), [SIZE])  # type: ignore[operator]
        return multiclass_nms(decoded.boxes[0], decoded.scores[0], decoded.counts, own.info.postprocess)


@contextmanager
def scalar_operators() -> Iterator[None]:
    """Replace this package's operators by the one that mmcv and torchvision share while the block runs."""

    def star(levels: Sequence[Tensor], taps: SamplingPoints, weight: Tensor) -> list[Tensor]:
        pairs = zip(levels, taps.distances, strict=True)
        return [deform_conv2d(level, star_offsets(place), weight, padding=1) for level, place in pairs]

    def deformable(features: Tensor, offsets: Tensor, weight: Tensor, *, mask: Tensor, **places: int) -> Tensor:
        return deform_conv2d(features, offsets, weight, None, mask=mask, **places)

    own = layers.star_conv, deform_conv.deform_conv2d
    layers.star_conv, deform_conv.deform_conv2d = star, deformable  # type: ignore[assignment]
    try:
        yield
    finally:
        layers.star_conv, deform_conv.deform_conv2d = own


def stand_in(own: Model, image: Tensor) -> Callable[[], Any]:
    """Return a call of the authors' stack with the same weights: contiguous maps, separate batch norms."""
    detector = copy.deepcopy(own.detector).to(memory_format=torch.contiguous_format)
    image = image.contiguous()

    def call() -> Any:
        with torch.inference_mode(), scalar_operators():
            decoded = detector.decode(detector(image), [SIZE])  # type: ignore[operator]
            return multiclass_nms(decoded.boxes[0], decoded.scores[0], decoded.counts, own.info.postprocess)

    return call


def torchvision_model(build: Callable[..., Any]) -> Callable[[], Any]:
    """Return a call of a torchvision detector, including its own transform."""
    network = build(weights=None, weights_backbone=None, num_classes=CLASSES, min_size=SIZE[0], max_size=SIZE[1]).eval()
    image = torch.rand(3, *SIZE, generator=torch.Generator().manual_seed(0))

    def call() -> Any:
        with torch.inference_mode():
            return network([image])

    return call


def convolution(inputs: int, outputs: int, kernel: int, height: int, width: int) -> Callable[[], Any]:
    """Return a call of a plain channels-last convolution."""
    x = torch.randn(1, inputs, height, width).contiguous(memory_format=torch.channels_last)
    weight = torch.randn(outputs, inputs, kernel, kernel).contiguous(memory_format=torch.channels_last)

    def call() -> Any:
        with torch.inference_mode():
            return F.conv2d(x, weight, padding=kernel // 2)

    return call


def against_authors(name: str, what: str, limit: float, found: dict[str, float]) -> list[Row]:
    """Return the rows against the authors' recorded times, in units of torchvision's FCOS, and against the stand-in."""
    unit, peer = "times torchvision's FCOS-R50", "the authors' implementation, recorded"
    value, recorded = found[name] / found["fcos"], RECORDED[name] / RECORDED["fcos"]
    note = "Each was measured relative to torchvision's FCOS-R50 on its own machine"
    stand_in_time = found["authors" if name == "vfnet" else "authors mdconv"]
    return [
        Row(what, value, unit, Goal(limit), peer, recorded, note),
        Row(what, found[name], "ms", None, "stand-in for the authors' stack", stand_in_time),
    ]


def main() -> None:
    """Measure everything and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    image = torch.randn(1, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    image = image.contiguous(memory_format=torch.channels_last)
    vfnet, atss, deformable = model("vfnet_r50_1x"), model("atss_r50_1x"), model("vfnet_r50_mdconv_ms_2x")
    lower = Model(vfnet.detector, replace(vfnet.info))
    lower.precision = "bf16"
    calls: dict[str, Callable[[], Any]] = {
        "vfnet": lambda: detect(vfnet, image),
        "bf16": lambda: detect(lower, image),
        "atss": lambda: detect(atss, image),
        "mdconv": lambda: detect(deformable, image),
        "fcos": torchvision_model(fcos_resnet50_fpn),
        "retinanet": torchvision_model(retinanet_resnet50_fpn),
        "authors": stand_in(vfnet, image),
        "authors mdconv": stand_in(deformable, image),
    }
    peaks = {str(shape): convolution(*shape) for shape in PEAK}
    found = medians({**peaks, **calls}, rounds, warmup=1)
    flops = {str(shape): 2 * shape[0] * shape[1] * shape[2] ** 2 * shape[3] * shape[4] for shape in PEAK}
    peak = max(flops[name] / found[name] / 1e6 for name in peaks)
    speed = 2 * count("vfnet_r50_1x", SIZE)[1] / found["vfnet"] * 1e3
    plain = count("vfnet_r50_1x", SIZE)[1] / count("atss_r50_1x", SIZE)[1]
    what = "VFNet-R50, 800x1216"
    rows = [
        Row(f"{what}, fp32, arithmetic", speed, "GFLOP/s", Goal(0.7, side="least"), "best convolution", peak),
        Row(
            what,
            found["vfnet"],
            "ms",
            Goal(1.05),
            "ATSS-R50 of this package",
            found["atss"],
            f"It has {plain:.3f} times the multiply-adds of ATSS, because of one more convolution in the box branch",
        ),
        *against_authors("vfnet", what, 1 / 2, found),
        *against_authors("mdconv", "VFNet-R50-mdconv, 800x1216", 1 / 3, found),
        Row(what, found["vfnet"], "ms", Goal(1.0), "torchvision FCOS-R50", found["fcos"]),
        Row(what, found["vfnet"], "ms", Goal(1.0), "torchvision RetinaNet-R50", found["retinanet"]),
        Row(f"{what}, bf16", found["bf16"], "ms", Goal(0.5), "fp32", found["vfnet"]),
    ]
    write("network", rows, rounds=rounds)


if __name__ == "__main__":
    main()
