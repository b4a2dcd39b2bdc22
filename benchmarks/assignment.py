"""Measure label assignment: time and extra memory for 1,000 objects in an image of 800 x 1333 pixels.

    python benchmarks/assignment.py

VFNet trains with ATSS; the other assigners of the package are measured too. None may build a table of all points by all
boxes: a single one in float32 takes 90 MB here, and 800 MB for RetinaNet's anchors.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from harness import Goal, Row, extra_megabytes, medians, write
from varifocal.assign.atss import assign_atss
from varifocal.assign.fcos import assign_fcos
from varifocal.assign.fovea import assign_fovea
from varifocal.assign.max_iou import assign_max_iou
from varifocal.assign.point import assign_nearest_point
from varifocal.ops.boxes import crop_priors, grid_anchors, grid_priors

SHAPES, STRIDES = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)], (8, 16, 32, 64, 128)
SIZE = (800, 1333)
MILLISECONDS, MEBIBYTES = Goal(30, "value"), Goal(50, "value")


def objects(count: int) -> Tensor:
    """Return boxes with sides of 8 to 320 pixels, anywhere in the image."""
    rng = torch.Generator().manual_seed(0)
    center = torch.rand(count, 2, generator=rng) * torch.tensor([float(SIZE[1]), float(SIZE[0])])
    half = 4 * 40 ** torch.rand(count, 2, generator=rng)
    return torch.cat([center - half, center + half], dim=1)


def main() -> None:
    """Measure and write ``results/assignment.json``."""
    corners, _ = crop_priors(grid_priors(SHAPES, STRIDES), *SIZE)
    middles, _ = crop_priors(grid_priors(SHAPES, STRIDES, offset=0.5), *SIZE)
    anchors = grid_anchors(corners, scales=[4 * 2 ** (i / 3) for i in range(3)], ratios=[0.5, 1.0, 2.0])
    many, few = objects(1000), objects(10)
    small: dict[str, Callable[[], object]] = {
        "ATSS, 1,000 boxes": lambda: assign_atss(corners, many),
        "ATSS, 10 boxes": lambda: assign_atss(corners, few),
    }
    large: dict[str, Callable[[], object]] = {
        "FCOS, 1,000 boxes": lambda: assign_fcos(middles, many),
        "FoveaBox, 1,000 boxes": lambda: assign_fovea(middles, many),
        "nearest point, 1,000 boxes": lambda: assign_nearest_point(corners, many),
        "max IoU, 201,600 anchors, 1,000 boxes": lambda: assign_max_iou(anchors, many),
    }
    memory = {what: extra_megabytes(call) for what, call in {**small, **large}.items() if "1,000" in what}
    times = {**medians(small, rounds=15), **medians(large, rounds=3, warmup=0)}
    goal = "ATSS, 1,000 boxes"
    rows = [Row(what, value, "ms", MILLISECONDS if what == goal else None) for what, value in times.items()]
    rows += [Row(f"{what}: extra memory", value, "MiB", MEBIBYTES) for what, value in memory.items()]
    write("assignment", rows)


if __name__ == "__main__":
    main()
