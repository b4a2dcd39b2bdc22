"""The demonstration: train a small VFNet on two aerial photographs and measure it on a third."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.recipes.recipe import load_recipe
from varifocal.recipes.run import run_recipe

EXPLANATION = (
    "The held-out scene is read in overlapping windows of 256 pixels whose detections are merged, and measured whole. "
    "Its labels are loose, many tree crowns have no sharp edge, so AP75 and with it AP are low by nature; AP50 is the "
    "number to look at."
)


def run_demo(out: Path, overrides: Sequence[str]) -> tuple[CocoMetrics | None, float]:
    """Train the recipe "trees" on the embedded images; the metrics and the seconds it took."""
    begun = time.monotonic()
    metrics = run_recipe(load_recipe("trees", overrides), sample_dataset_dir(), out)
    return metrics, time.monotonic() - begun
