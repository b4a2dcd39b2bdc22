"""Measure AP and file size of a trained model in every runtime: python benchmarks/deploy_accuracy.py [CHECKPOINT]

Exports the model of ``make demo`` (by default the newest of runs/trees-*/best.safetensors) for windows of its training
size, and evaluates each file on the held-out trees scene, as ``varifocal eval`` does. int8 is calibrated on the
training scenes. Files are kept whatever AP they lose, because the table reports the loss.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from deploy import megabytes
from harness import Goal, Row, write
from varifocal.cli import main as varifocal
from varifocal.data.load import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.evaluation.evaluate import evaluate
from varifocal.inference.loading import load

# name, precision when loading, file, options of the export
RUNS = (
    ("torch bf16", "bf16", "", ()),
    ("ONNX Runtime fp32", "fp32", "best.onnx", ("--format", "onnx")),
    ("ONNX Runtime int8", "fp32", "int8/best.onnx", ("--format", "onnx", "--precision", "int8")),
    ("OpenVINO fp32", "fp32", "best.xml", ("--format", "openvino")),
    ("OpenVINO bf16", "bf16", "best.xml", ()),
    ("OpenVINO int8", "fp32", "int8/best.xml", ("--format", "openvino", "--precision", "int8")),
)
SIZE = ("--size", "256x256")  # of the windows
DROP = Goal(-1.0, of="value", side="least")


def measure(file: Path, precision: str) -> float:
    """Return the AP in points on the held-out scene."""
    metrics, _ = evaluate(load(file, precision=precision), load_dataset(sample_dataset_dir(), "test"))  # type: ignore[arg-type]
    return 100 * metrics.AP


def main() -> None:
    """Measure and write ``results/deploy_accuracy.json``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path, nargs="?")
    found = sorted(Path("runs").glob("trees-*/best.safetensors"), key=lambda file: file.stat().st_mtime)
    checkpoint = parser.parse_args().checkpoint or (found[-1] if found else None)
    if checkpoint is None:
        raise SystemExit("runs/ contains no trees model; run `make demo` first, or pass a checkpoint.")
    truth = measure(checkpoint, "fp32")
    rows = [Row("AP, torch fp32", truth, "AP"), Row("size, torch fp32", megabytes(checkpoint), "MB")]
    with tempfile.TemporaryDirectory() as folder:
        for name, precision, file, words in RUNS:
            place = Path(folder) / file if file else checkpoint
            if words:
                place.parent.mkdir(exist_ok=True)
                trees = str(sample_dataset_dir())
                int8 = (
                    ["--calibration-data", trees, "--validation-data", trees, "--max-ap-drop", "100"]
                    if "int8" in words
                    else []
                )
                if varifocal(["export", str(checkpoint), *SIZE, *words, *int8, "--out", str(place)]) != 0:
                    raise SystemExit(f"{name}: the export failed")
            average = measure(place, precision)
            rows.append(Row(f"AP, {name}", average, "AP", peer="torch fp32", peer_value=truth))
            rows.append(Row(f"change, {name}", average - truth, "AP", DROP))
            rows.append(Row(f"size, {name}", megabytes(place), "MB"))
    write("deploy_accuracy", rows, int8_target="portable")


if __name__ == "__main__":
    main()
