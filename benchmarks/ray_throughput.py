"""Compare Ray Data with two actors with ``varifocal predict`` over the same images.

    python benchmarks/ray_throughput.py [--images 300]

The JPEGs are those of ``data_loading.py`` (640 x 480), repeated; the model is the preset nano with random weights in
ONNX Runtime, on 2 cores. Whole commands are timed (``examples/ray_predict.py`` and ``varifocal predict --output``),
with their start, in alternation, and medians are compared. Ray's start, without any image, is timed as well.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

from data_loading import make_images
from harness import Row, write
from throughput import input_size, make_model
from varifocal.export.config import ExportSettings
from varifocal.export.onnx import export_onnx

ROUNDS = 3
EXAMPLE = Path(__file__).parents[1] / "examples" / "ray_predict.py"
START = "import ray; ray.init(num_cpus=2, include_dashboard=False); import ray.data; ray.shutdown()"


def seconds(words: list[str]) -> float:
    """Return the seconds of a process, which must succeed."""
    environment = {**os.environ, "RAY_raylet_start_wait_time_s": "120"}
    begun = time.perf_counter()
    subprocess.run([sys.executable, *words], check=True, capture_output=True, env=environment)
    return time.perf_counter() - begun


def main() -> None:
    """Measure and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=300)
    count = parser.parse_args().images
    times: dict[str, list[float]] = {"ray": [], "predict": [], "start": []}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photographs = make_images(folder)
        (folder / "images").mkdir()
        for i in range(count):
            os.link(photographs[i % len(photographs)], folder / "images" / f"{i:04d}.jpg")
        model = make_model("nano", photographs[0])
        file = str(folder / "nano.onnx")
        export_onnx(model, Path(file), ExportSettings(size=input_size(model)), [Image.open(photographs[0])])
        for number in range(ROUNDS):
            images = str(folder / "images")
            times["start"].append(seconds(["-c", START]))
            times["ray"].append(seconds([str(EXAMPLE), file, images, str(folder / f"ray{number}")]))
            output = str(folder / f"predict{number}.jsonl")
            times["predict"].append(seconds(["-m", "varifocal", "predict", file, images, "--output", output]))
    median = {key: statistics.median(values) for key, values in times.items()}
    note = f"{count} JPEGs of 640 x 480, nano, ONNX Runtime, whole commands"
    ray, own = count / median["ray"], count / median["predict"]
    rows = [
        Row("Ray Data, two actors", ray, "images/s", None, "varifocal predict", own, note),
        Row("Ray, start and stop alone", median["start"], "s"),
    ]
    write("ray_throughput", rows)


if __name__ == "__main__":
    main()
