"""Measure the time and memory to read labels: python benchmarks/data_reading.py

Makes data sets of 100,000 images with 7 boxes each as COCO, YOLO, Pascal VOC, CSV and a zip of the COCO set, and a COCO
set of a million images. Reads each in a separate process until the samples are ready for training, and writes
``data_reading.json`` and the table of ``docs/data.md``. Images are never decoded; for YOLO and CSV, which record no
sizes, every header is read. The files have just been written, so they come from the page cache as far as it suffices.
``--folder`` keeps the data sets for another run, ``--only`` measures one of them. Making them takes about ten minutes
and 3 GB.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import platform
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

TARGET = Path(__file__).with_name("data_reading.json")
PAGE = Path(__file__).parents[1] / "docs" / "data.md"
BEGIN, END = "<!-- reading table: benchmarks/data_reading.py -->", "<!-- end of reading table -->"
SIDES, BOXES, CLASSES = (640, 480), 7, 80
READ = """
import json, resource, sys, time
begun = time.perf_counter()
from varifocal.data.load import load_dataset
imported = time.perf_counter()
empty = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
data = load_dataset(sys.argv[1], format=sys.argv[2])
read = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
boxes = sum(len(sample.boxes) for sample in data.samples)
print(json.dumps({"images": len(data.samples), "boxes": boxes, "seconds": round(read - imported, 1),
                  "seconds_of_import": round(imported - begun, 2), "peak_mib": round((peak - empty) / 2**10)}))
"""


def boxes_of(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes [7, 4], xywh pixels with two digits, and their classes."""
    sides = rng.uniform(5, 100, (BOXES, 2))
    corners = rng.random((BOXES, 2)) * (np.array(SIDES) - sides)
    return np.concatenate([corners, sides], axis=1).round(2), rng.integers(0, CLASSES, BOXES)


def put_images(folder: Path, count: int) -> None:
    """Write one noisy JPEG under many names, as links; a file system limits the number of links to a file."""
    folder.mkdir(parents=True)
    buffer = io.BytesIO()
    Image.effect_noise(SIDES, 60).convert("RGB").save(buffer, "JPEG", quality=75)
    for i in range(count):
        name = folder / f"{i:07}.jpg"
        if i % 50_000 == 0:
            first = name
            first.write_bytes(buffer.getvalue())
        else:
            os.link(first, name)


def make_coco(root: Path, count: int) -> None:
    """Write ``train.json`` like MS COCO's, without outlines."""
    rng = np.random.default_rng(0)
    put_images(root / "images", count)
    with open(root / "train.json", "w", encoding="utf-8") as file:
        width, height = SIDES
        images = (
            {"license": 1, "file_name": f"{i:07}.jpg", "height": height, "width": width, "id": i} for i in range(count)
        )
        file.write('{"info": {}, "images": [' + ", ".join(map(json.dumps, images)) + '], "annotations": [')
        number = 0
        for i in range(count):
            for box, label in zip(*map(np.ndarray.tolist, boxes_of(rng)), strict=True):
                record = {"area": round(box[2] * box[3], 3), "iscrowd": 0, "image_id": i, "bbox": box}
                file.write((", " if number else "") + json.dumps({**record, "category_id": label + 1, "id": number}))
                number += 1
        file.write('], "categories": ' + json.dumps([{"id": i + 1, "name": f"c{i}"} for i in range(CLASSES)]) + "}")


def make_yolo(root: Path, count: int) -> None:
    """Write ``data.yaml`` and a text file per image."""
    rng = np.random.default_rng(0)
    put_images(root / "images", count)
    (root / "labels").mkdir()
    names = ", ".join(f"c{i}" for i in range(CLASSES))
    (root / "data.yaml").write_text(f"train: images\nnames: [{names}]\n")
    for i in range(count):
        boxes, labels = boxes_of(rng)
        shares = np.concatenate([boxes[:, :2] + boxes[:, 2:] / 2, boxes[:, 2:]], axis=1) / np.tile(SIDES, 2)
        lines = (f"{label} " + " ".join(f"{v:.6f}" for v in row) for label, row in zip(labels, shares, strict=True))
        (root / "labels" / f"{i:07}.txt").write_text("\n".join(lines))


def make_voc(root: Path, count: int) -> None:
    """Write an XML file per image, with the elements that labeling programs write."""
    rng = np.random.default_rng(0)
    put_images(root / "JPEGImages", count)
    (root / "Annotations").mkdir()
    for i in range(count):
        objects = ""
        for (x, y, w, h), label in zip(*map(np.ndarray.tolist, boxes_of(rng)), strict=True):
            corners = zip(("xmin", "ymin", "xmax", "ymax"), (x + 1, y + 1, x + w, y + h), strict=True)
            sides = "\n".join(f"\t\t\t<{side}>{int(value)}</{side}>" for side, value in corners)
            objects += (
                f"\t<object>\n\t\t<name>c{label}</name>\n\t\t<pose>Unspecified</pose>\n\t\t<truncated>0</truncated>\n"
                f"\t\t<difficult>0</difficult>\n\t\t<bndbox>\n{sides}\n\t\t</bndbox>\n\t</object>\n"
            )
        size = f"<width>{SIDES[0]}</width><height>{SIDES[1]}</height><depth>3</depth>"
        text = f"<annotation>\n\t<filename>{i:07}.jpg</filename>\n\t<size>{size}</size>\n{objects}</annotation>\n"
        (root / "Annotations" / f"{i:07}.xml").write_text(text)


def make_csv(root: Path, count: int) -> None:
    """Write one table."""
    rng = np.random.default_rng(0)
    put_images(root / "images", count)
    with open(root / "boxes.csv", "w", encoding="utf-8") as file:
        file.write("image,xmin,ymin,xmax,ymax,label\n")
        for i in range(count):
            for (x, y, w, h), label in zip(*map(np.ndarray.tolist, boxes_of(rng)), strict=True):
                file.write(f"{i:07}.jpg,{x:.2f},{y:.2f},{x + w:.2f},{y + h:.2f},c{label}\n")


def make_zip(root: Path, count: int) -> None:
    """Write the COCO set into an archive, with images of a few bytes, because they are never opened."""
    make_coco(root / "set", count)
    with zipfile.ZipFile(root / "set.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(root / "set" / "train.json", "train.json")
        for i in range(count):
            archive.writestr(zipfile.ZipInfo(f"images/{i:07}.jpg"), b"\xff\xd8")


# name -> function that makes it, number of images, path to read, format
SETS: dict[str, tuple[Callable[[Path, int], None], int, str, str]] = {
    "coco": (make_coco, 100_000, "", "coco"),
    "yolo": (make_yolo, 100_000, "", "yolo"),
    "voc": (make_voc, 100_000, "", "voc"),
    "csv": (make_csv, 100_000, "", "csv"),
    "coco.zip": (make_zip, 100_000, "set.zip", "coco"),
    "coco, 1 million": (make_coco, 1_000_000, "", "coco"),
}


def measure(folder: Path, name: str) -> dict[str, object]:
    """Read a data set in a separate process, after making it if it does not exist."""
    make, count, inner, format = SETS[name]
    root = folder / name.replace(", ", "-").replace(" ", "-")
    if not root.exists():
        make(root, count)
    done = subprocess.run(
        [sys.executable, "-c", READ, root / inner, format], capture_output=True, text=True, check=True
    )
    return json.loads(done.stdout)


def table(results: dict[str, Any]) -> str:
    """Return the table for docs/data.md."""
    made = results["made"]
    lines = ["| | images | boxes | seconds | memory |", "|---|---|---|---|---|"]
    for name in SETS:
        one = results[name]
        numbers = f"{one['images']:,} | {one['boxes']:,} | {one['seconds']:.0f} | {one['peak_mib']:,} MiB"
        lines.append(f"| {name} | {numbers} |")
    machine = f"{made['date']}, {made['machine']}, {made['cores']} cores, Python {made['python']}"
    note = (
        "Time from the path to samples that are ready for training; memory is the rise of the process's peak, without\n"
        f"its workers. {machine}, `benchmarks/data_reading.py`."
    )
    return "\n".join([*lines, "", note])


def put_table(page: str, results: dict[str, Any]) -> str:
    """Return the page with the table between its markers."""
    before, rest = page.split(BEGIN)
    return f"{before}{BEGIN}\n{table(results)}\n{END}{rest.split(END)[1]}"


def main() -> None:
    """Measure the selected data sets and merge the results with earlier ones."""
    parser = argparse.ArgumentParser(description="Measure the time and memory to read labels.")
    parser.add_argument("--folder", type=Path, help="folder in which to make and keep the data sets")
    parser.add_argument("--only", choices=list(SETS), action="append", help="measure only this data set")
    parser.add_argument("--make", action="store_true", help="only make the data sets")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        results = json.loads(TARGET.read_text()) if TARGET.exists() else {}
        for name in options.only or list(SETS):
            if options.make:
                root = folder / name.replace(", ", "-").replace(" ", "-")
                SETS[name][0](root, SETS[name][1])
                continue
            results[name] = measure(folder, name)
            print(name, results[name])
    results["made"] = {"date": date.today().isoformat(), "machine": platform.machine(), "cores": os.cpu_count()}
    results["made"]["python"] = platform.python_version()
    if not options.make:
        TARGET.write_text(json.dumps(results, indent=1) + "\n")
        if all(name in results for name in SETS):
            PAGE.write_text(put_table(PAGE.read_text(encoding="utf-8"), results), encoding="utf-8")


if __name__ == "__main__":
    main()
