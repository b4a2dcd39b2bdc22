"""Time VFNet-R50 in every runtime, from raw pixels to boxes and scores, in alternation.

    python benchmarks/deploy.py [--rounds 5]

One image of 800x1216, 80 classes, random weights, two threads for each. The peak is that of ``network.py``: the best of
a few convolutions in the same run, in fp32 and in bf16. Cold start is a separate process: import, loading, the first
image. The speed of int8 does not depend on the weights; ``deploy_accuracy.py`` measures its cost in AP with a trained
model.
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
from varifocal.data.load import load_dataset
from varifocal.data.preprocess import normalize
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.export.calibrate import choose_views
from varifocal.export.config import ExportSettings
from varifocal.export.images import comparison_images
from varifocal.export.onnx import export_onnx
from varifocal.export.openvino import build_openvino, save_openvino
from varifocal.export.quantize_formats import int8_format
from varifocal.export.quantize_network import Int8Network
from varifocal.inference.exported.info import Int8Target
from varifocal.inference.exported.model import load_exported
from varifocal.inference.model import Model, save
from varifocal.tools.model_zoo import count
from varifocal.types import Tiling
from varifocal.utils.atomic_write import atomic_write_all

COLD = """
import time; begun = time.perf_counter()
import sys, varifocal, numpy
model = varifocal.load(sys.argv[1])
model.predict(numpy.zeros(({0}, {1}, 3), numpy.uint8))
print(time.perf_counter() - begun)
"""


FLOAT = "norms, prediction layers and the sampling locations of deformable convolutions stay in float32"


def in_torch(own: Model, precision: str, pixels: np.ndarray) -> Callable[[], Any]:
    """Return a call of normalization, network and decoding, as ``Model.predict`` computes them."""
    prepared = Model(own.detector, own.info)
    prepared.precision = precision  # type: ignore[assignment]
    image = torch.from_numpy(pixels).byte()

    def call() -> Any:
        with torch.inference_mode():
            images: Tensor = normalize(image, [SIZE], own.info.preprocess)
            return own.detector.decode(prepared.forward_optimized(images), [SIZE])  # type: ignore[operator]

    return call


def in_file(file: Path, precision: str, pixels: np.ndarray) -> Callable[[], Any]:
    """Return a call of the graph of an exported file."""
    session = load_exported(file, precision=precision, threads=torch.get_num_threads()).session
    return lambda: session.run(pixels)


def write_int8(own: Model, file: Path, target: Int8Target = "portable", size: tuple[int, int] = SIZE) -> None:
    """Write an int8 file that is calibrated on a few windows."""
    views = choose_views(load_dataset(sample_dataset_dir(), "train"), Tiling(256, 0), limit=8)
    with tempfile.TemporaryDirectory() as folder:
        form = int8_format("onnx" if file.suffix == ".onnx" else "openvino")
        network = Int8Network(own, ExportSettings(size), form, file, Path(folder), target)
        network.calibrate(views)
        built = network.build()
        atomic_write_all(built.files(built.info))


def megabytes(file: Path) -> float:
    """Return the size of a model, including a separate weights file."""
    parts = (file, file.with_suffix(".bin")) if file.suffix == ".xml" else (file,)
    return sum(part.stat().st_size for part in parts) / 1e6


def convolution_in(kind: torch.dtype, shape: tuple[int, int, int, int, int]) -> Callable[[], Any]:
    """Return a call of a plain convolution in that type."""
    call = convolution(*shape)

    def lower() -> Any:
        with torch.autocast("cpu", kind, enabled=kind != torch.float32):
            return call()

    return lower


def peak_of(found: dict[str, float], kind: str) -> float:
    """Return the GFLOP/s of the best convolution."""
    work = {str(shape): 2 * shape[0] * shape[1] * shape[2] ** 2 * shape[3] * shape[4] for shape in PEAK}
    return max(work[name] / found[f"{kind} {name}"] / 1e6 for name in work)


def cold_start(file: Path, rounds: int = 5) -> float:
    """Return the median seconds from the start of a Python program to its first detections, over several processes."""
    code = [sys.executable, "-c", COLD.format(*SIZE), str(file)]
    return statistics.median(
        float(subprocess.run(code, capture_output=True, text=True, check=True).stdout) for _ in range(rounds)
    )


def main() -> None:
    """Measure everything and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    torch.set_num_threads(2)
    own = model("vfnet_r50_1x")
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *SIZE)).astype(np.float32)
    with tempfile.TemporaryDirectory() as folder:
        names = ("a.safetensors", "a.onnx", "a.xml", "int8.onnx", "int8.xml")
        checkpoint, onnx, ir, onnx_int8, ir_int8 = (Path(folder) / name for name in names)
        save(own, checkpoint)
        for file in (onnx_int8, ir_int8):
            write_int8(own, file)
        begun = time.perf_counter()
        export_onnx(own, onnx, ExportSettings(SIZE), comparison_images(None, own.info))
        export = time.perf_counter() - begun
        graph, info = build_openvino(own, ExportSettings(SIZE))
        save_openvino(graph, ir, info)
        calls = {
            "torch fp32": in_torch(own, "fp32", pixels),
            "torch bf16": in_torch(own, "bf16", pixels),
            "ONNX Runtime fp32": in_file(onnx, "fp32", pixels),
            "OpenVINO fp32": in_file(ir, "fp32", pixels),
            "OpenVINO bf16": in_file(ir, "bf16", pixels),
            "ONNX Runtime int8": in_file(onnx_int8, "fp32", pixels),
            "OpenVINO int8": in_file(ir_int8, "fp32", pixels),
        }
        kinds = {"fp32": torch.float32, "bf16": torch.bfloat16}
        peaks = {f"{name} {shape}": convolution_in(kind, shape) for name, kind in kinds.items() for shape in PEAK}
        found = medians({**peaks, **calls}, rounds, warmup=2)
        cold = {
            "ONNX Runtime fp32": cold_start(onnx),
            "ONNX Runtime int8": cold_start(onnx_int8),
            "OpenVINO fp32": cold_start(ir),
            "OpenVINO int8": cold_start(ir_int8),
        }
        files = {
            "torch fp32": checkpoint,
            "ONNX Runtime fp32": onnx,
            "OpenVINO fp32": ir,
            "ONNX Runtime int8": onnx_int8,
            "OpenVINO int8": ir_int8,
        }
        sizes = {name: megabytes(file) for name, file in files.items()}
    rows = rows_of(found, calls)
    rows += [Row(f"size, {name}", size, "MB") for name, size in sizes.items()]
    rows += [
        Row(f"cold start, {name}", seconds, "s", Goal(1.5, of="value"), note=f"inference alone takes {own:.2g} s")
        for name, seconds in cold.items()
        for own in [found[name] / 1e3]
    ]
    rows.append(Row("export to ONNX, including the comparison", export, "s", Goal(60, of="value")))
    write("deploy", rows, rounds=rounds, int8_target="portable")


def rows_of(found: dict[str, float], calls: dict[str, Any]) -> list[Row]:
    """Return the rows: latencies relative to torch's, arithmetic relative to the peak."""
    work = 2 * count("vfnet_r50_1x", SIZE)[1]
    goals = {"ONNX Runtime fp32": Goal(1.0), "OpenVINO int8": Goal(1 / 3.5)}
    rows = [Row("torch fp32", found["torch fp32"], "ms")]
    rows += [
        Row(name, found[name], "ms", goals.get(name), "torch fp32", found["torch fp32"], FLOAT * ("int8" in name))
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
