"""Sample the memory of ``varifocal predict --output`` over 100,000 images.

    python benchmarks/stream_memory.py [--images 100000]

100 images of 64 x 64 pixels are linked under many names and predicted with the smallest network (ONNX Runtime), because
the work of an image does not matter here. The resident memory of the process is read ten times a second; the highest
value of each tenth of the images is printed and stored in ``stream_memory.json``.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from harness import machine
from varifocal.export.config import ExportSettings
from varifocal.export.onnx import export_onnx
from varifocal.inference.model import create_model

RESULTS = Path(__file__).with_suffix(".json")
SIDE = 64


def write_images(folder: Path, count: int) -> Image.Image:
    """Write the images and return one of them."""
    rng = np.random.default_rng(0)
    originals = []
    for i in range(100):
        originals.append(folder.parent / f"{i}.jpg")
        Image.fromarray(rng.integers(0, 255, (SIDE, SIDE, 3), dtype=np.uint8)).save(originals[-1])
    for i in range(count):
        inner = folder / f"{i // 10_000:03d}"
        inner.mkdir(parents=True, exist_ok=True)
        os.link(originals[i % 100], inner / f"{i:06d}.jpg")
    return Image.open(originals[0])


def resident(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS")), 0.0)


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=100_000)
    count = parser.parse_args().images
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        example = write_images(folder / "images", count)
        model = create_model("vfnet", backbone="test_resnet", num_classes=2, channels=16, num_levels=3, num_convs=1)
        export_onnx(model, folder / "model.onnx", ExportSettings(size=(SIDE, SIDE)), [example])
        words = ["predict", str(folder / "model.onnx"), str(folder / "images"), "--output", str(folder / "out")]
        begun = time.monotonic()
        process = subprocess.Popen([sys.executable, "-m", "varifocal", *words], stderr=subprocess.DEVNULL)
        samples: list[tuple[int, float]] = []  # bytes written, MiB
        while process.poll() is None:
            time.sleep(0.1)
            for part in (folder / "out").glob(".*.part.jsonl"):
                samples.append((part.stat().st_size, resident(process.pid)))
        seconds = time.monotonic() - begun
        assert process.returncode == 0
        written = next((folder / "out").glob("shard-*.jsonl")).stat().st_size
    tenths = [[memory for size, memory in samples if i <= 10 * size / written <= i + 1] for i in range(10)]
    peaks = [round(max(some), 1) for some in tenths if some]
    print(f"{count} images in {seconds:.0f} s; MiB in each tenth: {peaks}")
    content = {"images": count, "seconds": round(seconds, 1), "peaks_mib": peaks, "machine": machine()}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
