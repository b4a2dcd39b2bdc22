"""Measure the time that assignment and losses add to a training step of VFNet-R50.

    python benchmarks/training_step.py

Two images of 512 x 512 with 10 objects each, 80 classes. The peer is the network alone, forward and backward; its loss
is the sum of the outputs times fixed random numbers. The last row measures assignment and losses without the network,
which shows how much of the difference is noise.
"""

from __future__ import annotations

import torch

from harness import Goal, Row, medians, write
from varifocal.models.backbone import BackboneConfig
from varifocal.models.vfnet import VFNet, VFNetConfig
from varifocal.structures import Outputs, Targets

SIDE, OBJECTS, CLASSES = 512, 10, 80
GOAL = Goal(1.10)


def objects(rng: torch.Generator) -> Targets:
    """Return boxes with sides of 16 to 256 pixels, clipped to the image."""
    center = torch.rand(OBJECTS, 2, generator=rng) * SIDE
    half = 8 * 16 ** torch.rand(OBJECTS, 2, generator=rng)
    boxes = torch.cat([center - half, center + half], dim=1).clamp(0, SIDE)
    labels = torch.randint(CLASSES, (OBJECTS,), generator=rng)
    return Targets(boxes, labels, torch.zeros(OBJECTS, dtype=torch.bool), (SIDE, SIDE))


def main() -> None:
    """Measure and write ``results/training_step.json``."""
    torch.manual_seed(0)
    rng = torch.Generator().manual_seed(0)
    detector = VFNet(VFNetConfig(num_classes=CLASSES, backbone=BackboneConfig(pretrained="none"))).train()
    detector = detector.to(memory_format=torch.channels_last)
    images = torch.randn(2, 3, SIDE, SIDE, generator=rng).to(memory_format=torch.channels_last)
    targets = [objects(rng), objects(rng)]
    with torch.no_grad():
        outputs = detector(images)
    fixed = {name: torch.randn(values.shape, generator=rng) for name, values in outputs.tensors.items()}
    leaves = Outputs({name: values.requires_grad_() for name, values in outputs.tensors.items()}, outputs.shapes)

    def learn(outputs: Outputs) -> None:
        torch.stack(list(detector.loss(outputs, targets).values())).sum().backward()

    def step() -> None:
        detector.zero_grad()
        learn(detector(images))

    def network() -> None:
        detector.zero_grad()
        said = detector(images).tensors
        torch.stack([(said[name] * fixed[name]).sum() for name in fixed]).sum().backward()

    alone = medians({"loss": lambda: learn(leaves)}, rounds=15)["loss"]
    times = medians({"step": step, "network": network}, rounds=4, warmup=1)
    peer = {"peer": "the network, forward and backward", "peer_value": times["network"]}
    rows = [
        Row("forward, assignment, losses, backward", times["step"], "ms", GOAL, **peer),
        Row("assignment and losses alone, with gradients", alone, "ms", **peer),
    ]
    write("training_step", rows)


if __name__ == "__main__":
    main()
