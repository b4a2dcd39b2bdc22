"""The command ``demo``: train a small VFNet on two aerial photographs and evaluate it on a third."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.recipes.recipe import load_recipe
from varifocal.recipes.run import run_recipe

EXPLANATION = (
    "The held-out scene is read in overlapping tiles of 256 pixels, whose detections are merged, and evaluated as a "
    "whole. Its labels are imprecise, as many tree crowns have no sharp edge, so AP75 and with it AP are low; AP50 is "
    "the number to compare."
)


def run_demo(out: Path, overrides: Sequence[str]) -> tuple[CocoMetrics | None, float]:
    """Train the recipe "trees" on the embedded images; return the metrics and the duration in seconds."""
    begun = time.monotonic()
    metrics = run_recipe(load_recipe("trees", overrides), sample_dataset_dir(), out)
    return metrics, time.monotonic() - begun
