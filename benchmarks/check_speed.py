"""Time ``varifocal check`` on 100,000 images with 700,000 boxes: annotations alone, and the cost of decoding.

    python benchmarks/check_speed.py FOLDER make     # writes the data set (a minute or two, 60 MB and 100,000 links)
    python benchmarks/check_speed.py FOLDER          # measures, on an idle machine

The data set is COCO, with similar sizes: most images are 640 x 480 or 480 x 640, the others of many sizes. It has 80
classes of unequal frequency, log-normal sides around 55 pixels, seven boxes per image on average, and each of a few
defects in a thousandth of the boxes. The image files are links to 20 crops of 640 x 480 pixels from the embedded
photographs. The whole program is timed, from its start in a shell to its end, including writing the JSON. The result is
``check_speed.json``.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

from harness import Goal, Row, write
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.tools.check.image_scan import scan_files, usable_threads

IMAGES, BOXES, CLASSES, FILES = 100_000, 700_000, 80, 20
DECODED = 2000


def make(folder: Path) -> None:
    """Write the data set, the same each time."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir(parents=True)
    sources = _photographs(folder, rng)
    sizes = _sizes(rng)
    names = [f"{i:06d}.jpg" for i in range(IMAGES)]
    for i, name in enumerate(names):
        os.link(sources[i % FILES], folder / "images" / name)
    images = [
        {"id": i + 1, "file_name": name, "width": width, "height": height}
        for i, (name, (width, height)) in enumerate(zip(names, sizes.tolist(), strict=True))
    ]
    content = {"images": images, "annotations": _annotations(rng, sizes), "categories": _categories()}
    (folder / "train.json").write_text(json.dumps(content), encoding="utf-8")


def _photographs(folder: Path, rng: np.random.Generator) -> list[Path]:
    photograph = Image.open(max((sample_dataset_dir() / "images").glob("*.jpg"), key=lambda file: file.stat().st_size))
    sources = []
    for i in range(FILES):
        left, top = int(rng.integers(photograph.width - 640)), int(rng.integers(photograph.height - 480))
        sources.append(folder / f"source-{i}.jpg")
        photograph.crop((left, top, left + 640, top + 480)).save(sources[-1], quality=90)
    return sources


def _sizes(rng: np.random.Generator) -> np.ndarray:
    sizes = rng.integers(300, 641, (IMAGES, 2))
    kind = rng.random(IMAGES)
    sizes[kind < 0.6] = (640, 480)
    sizes[(kind >= 0.6) & (kind < 0.75)] = (480, 640)
    return sizes


def _categories() -> list[dict[str, object]]:
    return [{"id": i + 1, "name": f"class {i + 1}"} for i in range(CLASSES)]


def _annotations(rng: np.random.Generator, sizes: np.ndarray) -> list[dict[str, object]]:
    owner = np.sort(rng.integers(IMAGES, size=BOXES))
    share = 1 / np.arange(1, CLASSES + 1)
    label = rng.choice(CLASSES, BOXES, p=share / share.sum()) + 1
    side, aspect = np.exp(rng.normal(4, 1, BOXES)), np.exp(rng.normal(0, 0.4, BOXES))
    spans = np.minimum(np.stack([side * aspect, side / aspect], axis=1), sizes[owner])
    corners = rng.random((BOXES, 2)) * (sizes[owner] - spans)
    boxes = np.concatenate([corners, spans], axis=1).round(2)
    fault = rng.integers(1000, size=BOXES)
    boxes[fault == 0, 2] = 0
    boxes[fault == 1, 0] += 1000
    boxes[fault == 2, 0] += 30
    boxes[1:][fault[1:] == 3] = boxes[:-1][fault[1:] == 3]
    return [
        {"id": i, "image_id": image + 1, "category_id": number, "bbox": box, "iscrowd": 0, "area": box[2] * box[3]}
        for i, (image, number, box) in enumerate(zip(owner.tolist(), label.tolist(), boxes.tolist(), strict=True))
    ]


def measure(folder: Path) -> None:
    """Time the program, then decode some images, and write the rows."""
    report = folder / "check.json"
    begun = time.perf_counter()
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "varifocal",
            "check",
            str(folder / "train.json"),
            "--annotations-only",
            "--output-json",
            str(report),
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
    )
    seconds = time.perf_counter() - begun
    assert done.returncode == 1, "the set has defects"
    memory = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**10
    content = json.loads(report.read_text(encoding="utf-8"))
    files = [folder / "images" / f"{i:06d}.jpg" for i in range(DECODED)]
    begun = time.perf_counter()
    scan_files(files, lambda done: None)
    decoding = (time.perf_counter() - begun) / DECODED * 1e3
    rows = [
        Row("annotations of 100,000 images, 700,000 boxes", seconds, "s", Goal(60, "value"), note="the whole program"),
        Row("the same, highest memory", memory, "MiB"),
        Row("decoding, 640 x 480, JPEG of 140 kB", decoding, "ms per image", note=f"{usable_threads()} threads"),
    ]
    found = {kind: row["count"] for kind, row in content["counts"].items()}
    write(
        "check_speed",
        rows,
        Path(__file__).parent,
        found=found,
        matching=content["matching"],
        estimate=content["decoding"],
    )


def main() -> None:
    """Make the data set, or measure on it."""
    folder = Path(sys.argv[1])
    if sys.argv[2:] == ["make"]:
        make(folder)
    else:
        measure(folder)


if __name__ == "__main__":
    main()
