"""Measure how well ``check --model`` ranks label errors: known errors in the embedded data set "trees".

    python benchmarks/label_errors.py CHECKPOINT     # of the recipe "trees"; without one, it is trained first
    python benchmarks/label_errors.py CHECKPOINT --train    # also trains a model on labels with errors

Each of three errors is injected into a tenth of the labels of a split: a label is removed; a label is moved and
stretched until its IoU with the original is 0.3 to 0.5; a box with the size of another label is added where there is no
label. Classes cannot be swapped, because there is only one. "held out": errors in the test scene, which the model has
not seen, ten draws. "trained on": errors in the training scenes, with a model trained on these erroneous labels.

Precision at k is the fraction of injected errors among the first k findings. n is the number of errors of one kind, "in
any order" the fraction among all findings, "chance" the fraction of labels that were changed. The labels have errors of
their own; finding those counts as wrong here. The result is ``label_errors.json``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from harness import machine
from varifocal.data.load import read_raw
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.boxes_numpy import box_iou
from varifocal.inference.model import load
from varifocal.recipes.recipe import load_recipe
from varifocal.recipes.run import run_recipe
from varifocal.tools.check.find_label_errors import find_label_errors
from varifocal.tools.check.findings import FOUND, Finding, Findings
from varifocal.tools.check.split import Split
from varifocal.types import Detections

FRACTION = 0.1  # fraction of an image's labels that get each kind of error
DRAWS = 10
KINDS = ("missing-label", "spurious-label", "loose-box")
Errors = dict[str, list[tuple[int, np.ndarray]]]  # kind -> (image id, box that was removed, added or moved)


def inject(content: dict[str, Any], rng: np.random.Generator) -> tuple[dict[str, Any], Errors]:
    """Return a COCO dictionary with injected errors, and the errors."""
    errors: Errors = {kind: [] for kind in KINDS}
    annotations: list[dict[str, Any]] = []
    for image in content["images"]:
        own = [dict(row) for row in content["annotations"] if row["image_id"] == image["id"]]
        boxes = np.array([row["bbox"] for row in own], float)
        boxes[:, 2:] += boxes[:, :2]
        count, order = max(round(FRACTION * len(own)), 1), rng.permutation(len(own))
        gone, loose = order[:count], order[count : 2 * count]
        errors["missing-label"] += [(image["id"], boxes[i]) for i in gone]
        for i in loose:
            moved = _loosened(boxes[i], rng)
            own[i]["bbox"] = _xywh(moved)
            errors["loose-box"].append((image["id"], moved))
        annotations += [row for i, row in enumerate(own) if i not in gone]
        for box in _put_elsewhere(boxes, (image["width"], image["height"]), count, rng):
            errors["spurious-label"].append((image["id"], box))
            annotations.append({**own[0], "id": 10**6 + len(annotations), "bbox": _xywh(box)})
    return {**content, "annotations": annotations}, errors


def _loosened(box: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    sides = np.tile(box[2:] - box[:2], 2)
    while True:
        moved = box + rng.uniform(-0.4, 0.4, 4) * sides
        if (moved[2:] > moved[:2] + 4).all() and 0.3 <= box_iou(moved[None], box[None])[0, 0] <= 0.5:
            return moved


def _put_elsewhere(boxes: np.ndarray, size: tuple[int, int], count: int, rng: np.random.Generator) -> list[np.ndarray]:
    there = list(boxes)
    while len(there) < len(boxes) + count:
        sides = np.diff(boxes[rng.integers(len(boxes))].reshape(2, 2), axis=0)[0]
        corner = rng.uniform(0, 1, 2) * np.maximum(np.array(size) - sides, 0)
        box = np.concatenate([corner, corner + sides])
        if box_iou(box[None], np.array(there)).max() < 0.1:
            there.append(box)
    return there[len(boxes) :]


def _xywh(box: np.ndarray) -> list[float]:
    return [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()]


class Remembering:
    """A model that processes each image once and remembers its detections; the errors change no image."""

    def __init__(self, model: Any) -> None:
        self._model, self._seen = model, {}
        self.categories, self.info, self.device = model.categories, model.info, model.device

    def predict(self, image: Image.Image) -> Detections:
        """Return the detections of the model."""
        if image.size not in self._seen:  # each image has a different size
            self._seen[image.size] = self._model.predict(image)
        return self._seen[image.size]


def doubted(folder: Path, split: str, model: Any) -> list[Finding]:
    """Return all suspected label errors of a split, the most likely first."""
    found, one = Findings(), Split.of(read_raw(folder, split))
    find_label_errors(found, [one], model, "model")
    suspects = [suspect for kind in found.kinds("suspect") for suspect in found.of(kind)]
    return sorted(suspects, key=lambda suspect: -suspect.rank)


def judge(suspects: Sequence[Finding], errors: Errors, ids: Sequence[int]) -> list[tuple[str, bool, bool]]:
    """Return for each finding its kind, whether it is an injected error, and whether it is one of that kind."""
    told = []
    for one in suspects:
        kinds = {kind for kind, rows in errors.items() if _hits(one, kind, rows, ids[one.image])}
        told.append((one.kind, bool(kinds), one.kind in kinds))
    return told


def _hits(one: Finding, kind: str, rows: Sequence[tuple[int, np.ndarray]], image: int) -> bool:
    """Return whether a finding hits an error: a removed label where it was, other errors by their present box."""
    gone = kind == "missing-label"
    boxes = [box for word, box in one.boxes if word.startswith(FOUND) == gone]
    there = [box for number, box in rows if number == image]
    if not boxes or not there or gone != (one.kind == "missing-label"):
        return False
    return bool(box_iou(np.array(boxes[:1]), np.array(there)).max() >= (0.5 if gone else 0.99))


def precision(rights: Sequence[bool], count: int) -> float:
    """Return the fraction of correct ones among the first ``count``."""
    return sum(rights[:count]) / count


def score(told: Sequence[tuple[str, bool, bool]], errors: Errors, labels: int) -> dict[str, float]:
    """Return the metrics of one draw."""
    each = len(errors["missing-label"])
    made = sum(map(len, errors.values()))
    rights = [right for _, right, _ in told]
    rows = {"at 10": precision(rights, 10), "at n": precision(rights, each), "at 3n": precision(rights, made)}
    for kind in KINDS:
        rows[f"{kind} at n"] = precision([exact for its, _, exact in told if its == kind], each)
    rows["in any order"] = precision(rights, len(rights))
    return {**rows, "chance": made / (labels + each), "doubts": len(told), "n": each}


def held_out(model: Any, folder: Path) -> dict[str, Any]:
    """Return the metrics for errors in the test scene."""
    content = json.loads((sample_dataset_dir() / "test.json").read_text(encoding="utf-8"))
    rows = defaultdict(list)
    for seed in range(DRAWS):
        wrong, errors = inject(content, np.random.default_rng(seed))
        (folder / "test.json").write_text(json.dumps(wrong), encoding="utf-8")
        told = judge(doubted(folder, "test", model), errors, [image["id"] for image in wrong["images"]])
        for name, value in score(told, errors, len(content["annotations"])).items():
            rows[name].append(value)
    return {name: round(statistics.mean(values), 3) for name, values in rows.items()}


def trained_on(folder: Path) -> dict[str, Any]:
    """Return the metrics for errors in the training scenes, found by a model that was trained on them."""
    content = json.loads((sample_dataset_dir() / "train.json").read_text(encoding="utf-8"))
    wrong, errors = inject(content, np.random.default_rng(0))
    (folder / "train.json").write_text(json.dumps(wrong), encoding="utf-8")
    run_recipe(load_recipe("trees", ["data.val_split="]), folder, folder / "run")
    model = load(folder / "run" / "last.safetensors")
    told = judge(doubted(folder, "train", model), errors, [image["id"] for image in wrong["images"]])
    return {name: round(value, 3) for name, value in score(told, errors, len(content["annotations"])).items()}


def main() -> None:
    """Measure everything and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path, nargs="?")
    parser.add_argument("--train", action="store_true")
    options = parser.parse_args()
    target = Path(__file__).with_suffix(".json")
    result = json.loads(target.read_text()) if target.exists() else {}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "trees"
        shutil.copytree(sample_dataset_dir(), folder)
        checkpoint = options.checkpoint
        if checkpoint is None:
            run_recipe(load_recipe("trees"), folder, Path(name) / "run")
            checkpoint = Path(name) / "run" / "best.safetensors"
        model = load(checkpoint)
        result["metrics"] = {key: round(model.info.metrics[key], 3) for key in ("AP50", "AP", "AP75")}
        result["held out"] = held_out(Remembering(model), folder)
        if options.train:
            result["trained on"] = trained_on(folder)
    content = {"script": "benchmarks/label_errors.py", "machine": machine(), "draws": DRAWS, **result}
    target.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
