"""What a finished run leaves for a person: the metrics of its best weights, and pictures of what they find."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path

from varifocal.draw import draw_comparison
from varifocal.evaluate.coco_ap import CocoMetrics
from varifocal.evaluate.run import evaluate_model
from varifocal.models.weights import write_beside
from varifocal.pictures import read_for
from varifocal.predict import load
from varifocal.types import DataSet

METRICS = "metrics.json"
PICTURES = "pictures"
MOST = 8  # pictures that are drawn
DRAWN_SCORE = 0.4


def write_results(
    run: Path, data: DataSet, device: str = "cpu", progress: Callable[[int], None] = lambda done: None
) -> CocoMetrics:
    """Evaluate ``best.safetensors``; write ``metrics.json`` and ``pictures/`` (labels left, detections right)."""
    model = load(run / "best.safetensors", device)
    metrics, found = evaluate_model(model, data, progress)
    write_beside(run / METRICS, json.dumps(metrics.to_json(), indent=1).encode())
    order = sorted(range(len(found)), key=lambda i: -len(data.samples[i].boxes))[:MOST]
    for i in order:
        sample = data.samples[i]
        image = read_for(model.info, sample.file)
        picture = draw_comparison(image, sample, data.categories, found[i], threshold=DRAWN_SCORE)
        buffer = io.BytesIO()
        picture.save(buffer, format="PNG")
        write_beside(run / PICTURES / f"{sample.image_id}-{sample.file.stem}.png", buffer.getvalue())
    return metrics


def read_metrics(file: Path) -> CocoMetrics | None:
    """What :func:`write_results` wrote there, or None where it is not there or not whole."""
    try:
        return CocoMetrics(**json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
