"""Time the step from network outputs to detections: VFNet, 80 classes, 22,400 points of an image of 800 x 1333 pixels.

    python benchmarks/postprocess.py

The outputs are synthetic: a background, in which up to half a percent of the scores are above the threshold, and 60
objects, each detected by the points around its center. The network runs as in prediction, only to measure its time.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from harness import Goal, Row, medians, write
from varifocal.inference.model import create_model
from varifocal.models.vfnet import VFNet
from varifocal.ops.boxes import grid_priors
from varifocal.ops.nms import multiclass_nms
from varifocal.structures import Outputs
from varifocal.types import PostProcess

SHAPES, STRIDES = ((100, 168), (50, 84), (25, 42), (13, 21), (7, 11)), (8, 16, 32, 64, 128)
SIZE = (800, 1333)
OBJECTS = 60
DEVIATIONS = {"0.9": 0.9, "1.2": 1.2}  # standard deviations of the background's logits around -6
GOAL, SHARE = Goal(10, "value"), Goal(0.03)


def made_up_outputs(deviation: float) -> Outputs:
    """Return outputs with background everywhere, and good detections around each object's center on its level."""
    rng = torch.Generator().manual_seed(0)
    priors = grid_priors(SHAPES, STRIDES)
    count = len(priors.points)
    logits = torch.randn(count, 80, generator=rng) * deviation - 6
    distances = priors.strides[:, None] * (1 + 7 * torch.rand(count, 4, generator=rng))
    for _ in range(OBJECTS):
        center = torch.rand(2, generator=rng) * torch.tensor([float(SIZE[1]), float(SIZE[0])])
        half = 12 * 20 ** torch.rand(2, generator=rng)
        level = int((half.prod().sqrt() / 32).log2().clamp(0, 4))
        near = (priors.points - center).abs().amax(dim=1) < 2 * STRIDES[level]
        own = (near & (priors.strides == STRIDES[level])).nonzero()[:, 0]
        sides = torch.cat([priors.points[own] - (center - half), center + half - priors.points[own]], dim=1)
        noise = 0.05 * half.mean() * torch.randn(len(own), 4, generator=rng)
        distances[own] = (sides + noise).clamp(min=1)
        logits[own, int(torch.randint(80, (1,), generator=rng))] = torch.randn(len(own), generator=rng) - 0.5
    return Outputs({"logits": logits[None], "refined": distances[None]}, SHAPES)


def calls_of(detector: VFNet, deviation: float) -> dict[str, Callable[[], object]]:
    """Return the calls to time: decoding and each selection rule, separately and together."""
    outputs = made_up_outputs(deviation)
    decoded = detector.decode(outputs, [SIZE])

    def select(settings: PostProcess) -> object:
        return multiclass_nms(decoded.boxes[0], decoded.scores[0], decoded.counts, settings)

    def everything() -> object:
        boxes, scores, counts, _ = detector.decode(outputs, [SIZE])
        return multiclass_nms(boxes[0], scores[0], counts, PostProcess())

    return {
        "decode and select": everything,
        "decode": lambda: detector.decode(outputs, [SIZE]),
        "select, pairs": lambda: select(PostProcess()),
        "select, points": lambda: select(PostProcess(topk_mode="points")),
        "select, soft-nms": lambda: select(PostProcess(nms_type="soft-nms")),
    }


@torch.inference_mode()
def main() -> None:
    """Measure and write ``results/postprocess.json``."""
    model = create_model("vfnet", num_classes=80)
    detector = model.detector
    assert isinstance(detector, VFNet)
    rows, whole = [], 0.0
    for name, deviation in DEVIATIONS.items():
        over = int((made_up_outputs(deviation).tensors["logits"].sigmoid() > PostProcess().score_threshold).sum())
        times = medians(calls_of(detector, deviation), rounds=15)
        whole = max(whole, times["decode and select"])
        for what, value in times.items():
            whole_way = what == "decode and select"
            note = f"{over:,} scores above the threshold" if whole_way else ""
            rows.append(Row(f"{what}, deviation {name}", value, "ms", GOAL if whole_way else None, note=note))
    image = torch.randn(1, 3, 800, 1344).to(memory_format=torch.channels_last)
    network = medians({"network": lambda: model.forward_optimized(image)}, rounds=3, warmup=1)["network"]
    rows.append(
        Row("the slower of the two, relative to the network", whole, "ms", SHARE, peer="VFNet-R50", peer_value=network)
    )
    write("postprocess", rows)


if __name__ == "__main__":
    main()
