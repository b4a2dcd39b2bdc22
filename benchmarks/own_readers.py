"""Compare our readers with libraries that could do the same: python benchmarks/own_readers.py

Archives with ``zipfile.ZipFile``, large JSON with ijson (``pip install ijson``), and the description in an ONNX file
(``--onnx FILE``) with ONNX Runtime and onnx. All files are made in a temporary folder and read from the page cache, by
our code and the library in alternation; medians are printed. ``docs/decisions.md`` states the conclusions.
"""

from __future__ import annotations

import argparse
import io
import json
import multiprocessing
import random
import statistics
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from data_reading import make_coco
from harness import medians
from varifocal.data.archive import open_archive
from varifocal.data.readers.json_stream import read_object
from varifocal.inference.exported.metadata import read_description

IMAGES, WORKERS, COCO_IMAGES = 2000, 2, 20_000
SECTIONS = ("images", "annotations", "categories")


def noise(rng: np.random.Generator, format: str, sides: tuple[int, int], **options: Any) -> bytes:
    """Return an encoded image that does not compress to almost nothing."""
    buffer = io.BytesIO()
    small = Image.fromarray(rng.integers(0, 255, (30, 40, 3), dtype=np.uint8))
    small.resize(sides, Image.Resampling.BICUBIC).save(buffer, format, **options)
    return buffer.getvalue()


def make_zips(folder: Path) -> None:
    """Write archives of stored JPEGs, of the same deflated, and of a TIFF in LZW, which is read strip by strip."""
    rng = np.random.default_rng(0)
    jpegs = [noise(rng, "JPEG", (320, 240), quality=85) for _ in range(IMAGES)]
    for name, method in (("stored", zipfile.ZIP_STORED), ("deflated", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(folder / f"{name}.zip", "w", method) as archive:
            for i, content in enumerate(jpegs):
                archive.writestr(f"{i:06}.jpg", content)
    with zipfile.ZipFile(folder / "tiff.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.tif", noise(rng, "TIFF", (3000, 2000), compression="tiff_lzw"))
        archive.writestr("b.txt", "")


def read_images(job: tuple[str, Path, list[str]]) -> float:
    """Decode every file in one worker; return the seconds."""
    reader, file, names = job
    opener: Callable[[str], Any]
    if reader == "own":
        root = open_archive(file)
        members = {name: (root / name).member() for name in names}
        opener = lambda name: members[name].open()  # noqa: E731
    else:
        opener = zipfile.ZipFile(file).open
    begun = time.perf_counter()
    for name in names:
        with opener(name) as stream, Image.open(stream) as image:
            image.load()
    return time.perf_counter() - begun


def compare_archives(folder: Path) -> None:
    """Compare the archives in random order with two workers and nine rounds."""
    make_zips(folder)
    names = [f"{i:06}.jpg" for i in range(IMAGES)]
    with multiprocessing.get_context("spawn").Pool(WORKERS) as pool:
        for zip_name, files in (("stored", names), ("deflated", names), ("tiff", ["a.tif"] * WORKERS)):
            seconds: dict[str, list[float]] = {"own": [], "zipfile": []}
            for seed in range(9):
                order = random.Random(seed).sample(files, len(files))
                for reader, taken in seconds.items():
                    jobs = [(reader, folder / f"{zip_name}.zip", order[i::WORKERS]) for i in range(WORKERS)]
                    taken.append(max(pool.map(read_images, jobs, 1)))
            print_times(f"{zip_name}.zip", {name: statistics.median(taken) * 1e3 for name, taken in seconds.items()})


def compare_json(folder: Path) -> None:
    """Compare reading three lists; ijson takes several lists in one pass only as events, which are slower."""
    import ijson

    make_coco(folder / "coco", COCO_IMAGES)
    file = folder / "coco" / "train.json"

    def with_ijson() -> None:
        for key in SECTIONS:
            with open(file, "rb") as stream:
                for _ in ijson.items(stream, f"{key}.item", use_float=True, buf_size=1 << 20):
                    pass

    calls = {
        "own": lambda: read_object(file, SECTIONS, lambda *_: None),
        f"ijson ({ijson.backend})": with_ijson,
        "json.load": lambda: json.loads(file.read_text(encoding="utf-8")),
    }
    print_times(f"COCO of {COCO_IMAGES} images", medians(calls, rounds=5, warmup=1))


def compare_descriptions(file: Path) -> None:
    """Compare reading the description in an exported file."""
    import onnx
    import onnxruntime

    def session() -> Any:
        return onnxruntime.InferenceSession(str(file), providers=["CPUExecutionProvider"]).get_modelmeta()

    calls = {"own": lambda: read_description(file), "onnxruntime": session, "onnx": lambda: onnx.load(file)}
    print_times(file.name, medians(calls, rounds=5, warmup=1))


def print_times(what: str, milliseconds: dict[str, float]) -> None:
    """Print one line, with the ratio of each time to ours."""
    own = milliseconds["own"]
    print(what, *(f"{name} {taken:.1f} ms ({taken / own:.2f}x)" for name, taken in milliseconds.items()), sep="; ")


def main() -> None:
    """Run all comparisons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--onnx", type=Path, help="an exported file whose description to read")
    words = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        compare_archives(Path(name))
        compare_json(Path(name))
    if words.onnx:
        compare_descriptions(words.onnx)


if __name__ == "__main__":
    main()
