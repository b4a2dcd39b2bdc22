"""Compare ``predict`` over 1,000 JPEGs with the network alone, and its start with the import of the runtime.

    python benchmarks/throughput.py [--images 1000] [--large 15] [--threads 2]

The JPEGs are those of ``data_loading.py`` (640 x 480, about 140 kB), repeated. ``predict`` means what
``varifocal predict MODEL FOLDER --output found.jsonl`` does with a loaded model: it decodes, resizes, runs the network,
suppresses, and writes a line for each image. The network alone runs as often, in the same runtime with as many threads,
on a tensor that is ready. Both alternate in rounds, and medians are compared. Weights are random, and the score
threshold is such that an image has about as many candidates as with a trained model. The small model is the preset nano
at its own size, the large one VFNet with ResNet-50 at 800 pixels.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from data_loading import HEIGHT, WIDTH, make_images
from harness import Goal, Row, write
from network import model as recipe_model
from varifocal.export.config import ExportSettings
from varifocal.export.onnx import export_onnx
from varifocal.export.openvino import export_openvino
from varifocal.inference.exported.model import load_exported
from varifocal.inference.model import Model
from varifocal.inference.pipeline import tta_passes, whole
from varifocal.inference.sources import Item
from varifocal.inference.stream import StreamOptions
from varifocal.tools.shards.run import PredictOptions, Target, predict_shard
from varifocal.types import resized_shape

ROUNDS = 5
CANDIDATES = 300  # pairs of box and class over the score threshold
RUNTIMES = ("torch", "ONNX Runtime", "OpenVINO")
IMPORTS = {"torch": "import torch, torchvision, timm", "ONNX Runtime": "import numpy, PIL.Image, onnxruntime"}


def make_model(name: str, image: Path) -> Model:
    """Return a model with random weights that has as many candidates in an image as a trained one, CANDIDATES."""
    model = recipe_model({"nano": "nano", "R50": "vfnet_r50_1x"}[name])
    with Image.open(image) as opened:
        batch = next(tta_passes(whole([opened.convert("RGB")]), model.info))
    scores = model.candidates(batch)[0].scores.flatten()
    threshold = float(scores.topk(CANDIDATES).values[-1])
    model.info = replace(model.info, postprocess=replace(model.info.postprocess, score_threshold=threshold))
    return model


def input_size(model: Any) -> tuple[int, int]:
    """Return the height and width of the network's input for the JPEGs."""
    divisor = model.info.preprocess.size_divisor
    height, width = resized_shape(HEIGHT, WIDTH, model.info.preprocess)
    return -(-height // divisor) * divisor, -(-width // divisor) * divisor


def alone(model: Any) -> Callable[[], object]:
    """Return a function that runs the network once on a tensor of the size that the images get."""
    padded = input_size(model)
    if isinstance(model, Model):
        image = torch.randn(1, 3, *padded).to(memory_format=torch.channels_last)
        return lambda: model.forward_optimized(image)
    size = model.info.graph.size or padded  # the file is of a fixed size
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32)
    return lambda: model.session.run(pixels)


def per_second(model: Any, files: list[Path], folder: Path) -> tuple[float, float]:
    """Return the median images a second of predict and of the network alone."""
    run, times = alone(model), ([], [])
    batches = np.array_split(np.arange(len(files)), ROUNDS)
    limits = PredictOptions(StreamOptions())
    for number, batch in enumerate([batches[0][:8], *batches]):  # the first one is not counted
        items = [Item(files[i], str(i), 0) for i in batch]
        target = Target(folder / f"{number}-{time.monotonic_ns()}.jsonl", folder / "run.json", "", in_folder=True)
        begun = time.perf_counter()
        predict_shard(model, items, 0, target, limits)
        middle = time.perf_counter()
        for _ in batch:
            run()
        ended = time.perf_counter()
        if number:
            times[0].append(len(batch) / (middle - begun))
            times[1].append(len(batch) / (ended - middle))
    return statistics.median(times[0]), statistics.median(times[1])


def start_seconds(words: list[str]) -> float:
    """Return the seconds of a process."""
    begun = time.perf_counter()
    subprocess.run(words, check=True, capture_output=True)
    return time.perf_counter() - begun


def starts(model: Path, image: Path, folder: Path, program: str) -> Row:
    """Compare ``predict`` of one image, model and all, with importing what its runtime needs."""
    times: tuple[list[float], list[float]] = ([], [])
    for number in range(ROUNDS + 1):
        target = folder / f"start-{model.suffix[1:]}-{number}.jsonl"
        words = [sys.executable, "-m", "varifocal", "predict", str(model), str(image), "--output", str(target)]
        both = (start_seconds(words), start_seconds([sys.executable, "-c", program]))
        if number:
            for kept, one in zip(times, both, strict=True):
                kept.append(one)
    runtime = "ONNX Runtime" if model.suffix == ".onnx" else "torch"
    mine, peer = map(statistics.median, times)
    note = "the whole process, one image, nano; the import is part of it"
    return Row(f"predict, start to end, {runtime}", mine, "s", None, program, peer, note)


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000, help="JPEGs for nano")
    parser.add_argument("--large", type=int, default=15, help="JPEGs for R50")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs = make_images(folder)
        for size, count in (("nano", options.images), ("R50", options.large)):
            files = [photographs[i % len(photographs)] for i in range(count)]
            model = make_model(size, photographs[0])
            onnx, xml = folder / f"{size}.onnx", folder / f"{size}.xml"
            size_of = ExportSettings(size=input_size(model))
            export_onnx(model, onnx, size_of, [Image.open(photographs[0])])
            export_openvino(model, xml, size_of, [Image.open(photographs[0])])
            for runtime in RUNTIMES:
                file = {"ONNX Runtime": onnx, "OpenVINO": xml}.get(runtime)
                ready = model if file is None else load_exported(file, threads=options.threads)
                mine, peer = per_second(ready, files, folder)
                note = f"{count} JPEGs of {WIDTH} x {HEIGHT}, {options.threads} threads"
                peer_name = f"the network alone ({size}, {runtime})"
                goal = Goal(0.95, side="least")
                rows.append(Row(f"predict, {size}, {runtime}", mine, "images/s", goal, peer_name, peer, note))
                print(f"{size} {runtime}: {mine:.2f} of {peer:.2f} images/s, {mine / peer:.3f}", flush=True)
        rows.append(starts(folder / "nano.onnx", photographs[0], folder, IMPORTS["ONNX Runtime"]))
    write("throughput", rows)


if __name__ == "__main__":
    main()
