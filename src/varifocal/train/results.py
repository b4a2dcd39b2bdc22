"""What a finished run leaves for a person: the metrics of its best weights, and images of what they find."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from varifocal.evaluation.coco_ap import CocoMetrics
from varifocal.evaluation.evaluate import evaluate
from varifocal.inference.draw import draw_comparison
from varifocal.inference.model import load
from varifocal.inference.pipeline import read_for
from varifocal.types import Dataset
from varifocal.utils.atomic_write import atomic_write

METRICS = "metrics.json"
IMAGES = "images"
MOST = 8  # images that are drawn
DRAWN_SCORE = 0.4


def write_results(
    run: Path, data: Dataset, device: str = "cpu", progress: Callable[[int], None] = lambda done: None
) -> CocoMetrics:
    """Evaluate ``best.safetensors``; write ``metrics.json`` and ``images/`` (labels left, detections right)."""
    model = load(run / "best.safetensors", device)
    metrics, found = evaluate(model, data, progress)
    atomic_write(run / METRICS, json.dumps(metrics.to_json(), indent=1).encode())
    order = sorted(range(len(found)), key=lambda i: -len(data.samples[i].boxes))[:MOST]
    for i in order:
        sample = data.samples[i]
        image = read_for(model.info, sample.file)
        drawing = draw_comparison(image, sample, data.categories, found[i], threshold=DRAWN_SCORE)
        buffer = io.BytesIO()
        drawing.save(buffer, format="PNG")
        atomic_write(run / IMAGES / f"{sample.image_id}-{sample.file.stem}.png", buffer.getvalue())
    return metrics


def read_metrics(file: Path) -> CocoMetrics | None:
    """What :func:`write_results` wrote there, or None where it is not there or not whole."""
    try:
        return CocoMetrics(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
