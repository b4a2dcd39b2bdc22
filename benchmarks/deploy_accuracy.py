"""AP and file size of a trained model in every runtime: python benchmarks/deploy_accuracy.py [CHECKPOINT]

The model of ``make demo`` (runs/demo/best.safetensors unless another is named), exported and measured on the trees
scene that it was not trained on, each file as ``varifocal eval`` measures it. int8 is calibrated on training scenes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from harness import Goal, Row, write
from varifocal.cli import main as varifocal
from varifocal.data.embedded import trees_folder
from varifocal.data.load import load_dataset
from varifocal.evaluate.run import evaluate_model
from varifocal.loading import load

# name, precision at loading, file, arguments of the export
RUNS = (
    ("torch bf16", "bf16", "", ()),
    ("ONNX Runtime fp32", "fp32", "best.onnx", ("--format", "onnx")),
    ("ONNX Runtime int8", "fp32", "int8/best.onnx", ("--format", "onnx", "--precision", "int8")),
    ("OpenVINO fp32", "fp32", "best.xml", ("--format", "openvino")),
    ("OpenVINO bf16", "bf16", "best.xml", ()),
    ("OpenVINO int8", "fp32", "int8/best.xml", ("--format", "openvino", "--precision", "int8")),
)
DROP = Goal(-1.0, of="value", side="least")


def megabytes(file: Path) -> float:
    """Of a model, with the weights that lie beside it."""
    parts = (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)
    return sum(part.stat().st_size for part in parts) / 1e6


def measure(file: Path, precision: str) -> float:
    """AP in points on the held-out scene."""
    metrics, _ = evaluate_model(load(file, precision=precision), load_dataset(trees_folder(), "test"))  # type: ignore[arg-type]
    return 100 * metrics.ap


def main() -> None:
    """Measure and write ``results/deploy_accuracy.json``."""
    parser = argparse.ArgumentParser()
    parser.add_argument("checkpoint", type=Path, nargs="?", default=Path("runs/demo/best.safetensors"))
    checkpoint = parser.parse_args().checkpoint
    truth = measure(checkpoint, "fp32")
    rows = [Row("AP, torch fp32", truth, "AP"), Row("size, torch fp32", megabytes(checkpoint), "MB")]
    with tempfile.TemporaryDirectory() as folder:
        for name, precision, file, words in RUNS:
            place = Path(folder) / file if file else checkpoint
            if words:
                calibrate = ["--calibrate", str(trees_folder())] if "int8" in words else []
                if varifocal(["export", str(checkpoint), *words, *calibrate, "--out", str(place)]) != 0:
                    raise SystemExit(f"{name}: the export failed")
            found = measure(place, precision)
            rows.append(Row(f"AP, {name}", found, "AP", peer="torch fp32", peer_value=truth))
            rows.append(Row(f"drop, {name}", found - truth, "AP", DROP))
            rows.append(Row(f"size, {name}", megabytes(place), "MB"))
    write("deploy_accuracy", rows)


if __name__ == "__main__":
    main()
