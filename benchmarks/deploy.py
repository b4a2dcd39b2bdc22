"""VFNet-R50 in every runtime, from raw pixels to boxes and scores, by turns: python benchmarks/deploy.py [--rounds 5]

800x1216, one picture, 80 classes, random weights, two threads for each. The peak is that of ``network.py``: the best of
a few convolutions in the same run, in fp32 and in bf16. Cold start is a process of its own: import, load, the first
picture.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from harness import Goal, Row, medians, write
from network import PEAK, SIZE, convolution, model
from varifocal.data.preprocess import normalise
from varifocal.export import ExportSettings
from varifocal.export.onnx import export_onnx
from varifocal.export.openvino import build_openvino, save_openvino
from varifocal.export.pictures import comparison_pictures
from varifocal.predict import Model, save
from varifocal.runtime import load_exported
from varifocal.zoo import count

COLD = """
import time; begun = time.perf_counter()
import sys, varifocal, numpy
model = varifocal.load(sys.argv[1])
model.predict(numpy.zeros(({0}, {1}, 3), numpy.uint8))
print(time.perf_counter() - begun)
"""


def in_torch(own: Model, precision: str, pixels: np.ndarray) -> Callable[[], Any]:
    """Normalisation, network and decoding as ``Model.predict`` computes them."""
    prepared = Model(own.detector, own.info)
    prepared.precision = precision  # type: ignore[assignment]
    image = torch.from_numpy(pixels).byte()

    def call() -> Any:
        with torch.inference_mode():
            images: Tensor = normalise(image, [SIZE], own.info.preprocess)
            return own.detector.decode(prepared.fast_forward(images), [SIZE])  # type: ignore[operator]

    return call


def in_file(file: Path, precision: str, pixels: np.ndarray) -> Callable[[], Any]:
    """The graph of an exported file."""
    session = load_exported(file, precision=precision, threads=torch.get_num_threads()).session
    return lambda: session.run(pixels)


def convolution_in(kind: torch.dtype, shape: tuple[int, int, int, int, int]) -> Callable[[], Any]:
    """A plain convolution in that type."""
    call = convolution(*shape)

    def lower() -> Any:
        with torch.autocast("cpu", kind, enabled=kind != torch.float32):
            return call()

    return lower


def peak_of(found: dict[str, float], kind: str) -> float:
    """GFLOP/s of the best convolution."""
    work = {str(shape): 2 * shape[0] * shape[1] * shape[2] ** 2 * shape[3] * shape[4] for shape in PEAK}
    return max(work[name] / found[f"{kind} {name}"] / 1e6 for name in work)


def cold_start(file: Path, rounds: int = 5) -> float:
    """Seconds from the start of a Python program to its first detections, the median of several processes."""
    code = [sys.executable, "-c", COLD.format(*SIZE), str(file)]
    return statistics.median(
        float(subprocess.run(code, capture_output=True, text=True, check=True).stdout) for _ in range(rounds)
    )


def main() -> None:
    """Measure all and keep it."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(2)
    own = model("vfnet_r50_1x")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *SIZE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint, onnx, ir = (Path(folder) / name for name in ("a.safetensors", "a.onnx", "a.xml"))
        save(own, checkpoint)
        begun = time.perf_counter()
        export_onnx(own, onnx, ExportSettings(SIZE), comparison_pictures(None, own.info))
        export = time.perf_counter() - begun
        graph, info = build_openvino(own, ExportSettings(SIZE))
        save_openvino(graph, ir, info)
        calls = {
            "torch fp32": in_torch(own, "fp32", pixels),
            "torch bf16": in_torch(own, "bf16", pixels),
            "ONNX Runtime fp32": in_file(onnx, "fp32", pixels),
            "OpenVINO fp32": in_file(ir, "fp32", pixels),
            "OpenVINO bf16": in_file(ir, "bf16", pixels),
        }
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
        peaks = {f"{name} {shape}": convolution_in(kind, shape) for name, kind in kinds.items() for shape in PEAK}
        found = medians({**peaks, **calls}, rounds, warmup=2)
        cold = {"ONNX Runtime": cold_start(onnx), "OpenVINO": cold_start(ir)}
    rows = rows_of(found, calls)
    rows += [Row(f"cold start, {name}", seconds, "s", Goal(1.5, of="value")) for name, seconds in cold.items()]
    rows.append(Row("export to ONNX, with the comparison", export, "s", Goal(60, of="value")))
    write("deploy", rows, rounds=rounds)


def rows_of(found: dict[str, float], calls: dict[str, Any]) -> list[Row]:
    """Latencies beside torch's, arithmetic beside the peak."""
    work = 2 * count("vfnet_r50_1x", SIZE)[1]
    goals = {"ONNX Runtime fp32": Goal(1.0)}
    rows = [Row("torch fp32", found["torch fp32"], "ms")]
    rows += [
        Row(name, found[name], "ms", goals.get(name), "torch fp32", found["torch fp32"])
        for name in calls
        if name != "torch fp32"
    ]
    for name, least in (("OpenVINO fp32", 0.85), ("OpenVINO bf16", 0.8), ("ONNX Runtime fp32", None)):
        kind = name.split()[-1]
        goal = None if least is None else Goal(least, side="least")
        peak = f"best convolution, {kind}"
        rows.append(Row(f"{name}, arithmetic", work / found[name] * 1e3, "GFLOP/s", goal, peak, peak_of(found, kind)))
    return rows


if __name__ == "__main__":
    main()
