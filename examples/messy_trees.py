"""A folder as labeling leaves it, for docs/tutorial.md: python examples/messy_trees.py

Cuts the aerial photographs of the package into tiles and writes ``trees/``, as a labeling program might export them
in YOLO's format, with what goes wrong in practice: ids that count from 1, a class spelled twice, an image cut short,
the same image under two names, a photograph turned by its EXIF mark, a box outside its image, a line without
numbers, and no split. ``photos/`` holds one larger photograph without labels.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from varifocal import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.types import Sample

SIDE, TILES = 256, 48


def main() -> None:
    """Write both folders where they are not yet."""
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else Path()
    if (root / "trees").exists():
        sys.exit(f"{root / 'trees'} is there already; remove it first.")
    for name in ("trees/images", "trees/labels", "photos"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "trees" / "data.yaml").write_text("train: images\nnames: [tree, Tree]\n")
    scene = load_dataset(sample_dataset_dir(), "train").samples[0]
    tiles = cut(scene)
    for number, (tile, boxes) in enumerate(tiles, start=1):
        # the second person who labeled wrote Tree
        write(root / "trees", f"tile_{number:02}", tile, [(1 + (number % 6 == 0), *box) for box in boxes])
    spoil(root / "trees", tiles)
    other = Image.open(load_dataset(sample_dataset_dir(), "test").samples[0].file)
    other.crop((100, 100, 740, 580)).save(root / "photos" / "valley.jpg", quality=92)
    lines = sum(len(file.read_text().splitlines()) for file in (root / "trees" / "labels").iterdir())
    images = len(list((root / "trees" / "images").iterdir()))
    print(f"trees/ holds {images} images and {lines} lines of labels; photos/ holds valley.jpg.")


def cut(scene: Sample) -> list[tuple[Image.Image, np.ndarray]]:
    """The tiles of a scene that have most boxes, each with the boxes [N, 4] that it shows at least half of, xyxy."""
    image, found = Image.open(scene.file), []
    for top in range(0, image.height - SIDE, SIDE):
        for left in range(0, image.width - SIDE, SIDE):
            corner = np.array([left, top, left, top])
            inside = np.clip(scene.boxes - corner, 0, SIDE)
            shown = area(inside) >= area(scene.boxes) / 2
            found.append((image.crop((left, top, left + SIDE, top + SIDE)), inside[shown]))
    return sorted(found, key=lambda tile: -len(tile[1]))[:TILES]


def area(boxes: np.ndarray) -> np.ndarray:
    """Of boxes [N, 4] in pixels."""
    return np.prod(boxes[:, 2:] - boxes[:, :2], axis=1)


def write(folder: Path, name: str, tile: Image.Image, boxes: list[tuple[float, ...]], **more: object) -> None:
    """An image, and a line for each class, x1, y1, x2, y2."""
    tile.save(folder / "images" / f"{name}.jpg", quality=92, **more)
    lines = ""
    for number, x1, y1, x2, y2 in boxes:
        shares = ((x1 + x2) / 2 / tile.width, (y1 + y2) / 2 / tile.height, (x2 - x1) / tile.width)
        lines += f"{number} " + " ".join(f"{share:.6f}" for share in (*shares, (y2 - y1) / tile.height)) + "\n"
    (folder / "labels" / f"{name}.txt").write_text(lines)


def spoil(folder: Path, tiles: list[tuple[Image.Image, np.ndarray]]) -> None:
    """What goes wrong in practice."""
    images, labels = folder / "images", folder / "labels"
    whole = (images / "tile_05.jpg").read_bytes()
    (images / "tile_05.jpg").write_bytes(whole[: len(whole) // 3])  # the disk was full
    for name in ("tile_07", "tile_08"):  # copied once more
        (images / f"{name} (1).jpg").write_bytes((images / f"{name}.jpg").read_bytes())
        (labels / f"{name} (1).txt").write_text((labels / f"{name}.txt").read_text())
    tile, boxes = tiles[8]
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright: turn clockwise to look at it
    write(folder, "tile_09", tile, [(1, *box) for box in boxes])
    tile.transpose(Image.Transpose.ROTATE_90).save(images / "tile_09.jpg", quality=92, exif=exif)
    with open(labels / "tile_10.txt", "a") as file:
        file.write("1 1.240000 0.500000 0.200000 0.100000\n")  # outside
    with open(labels / "tile_11.txt", "a") as file:
        file.write("1 0.500000 0.500000 0.000000 0.000000\n")  # clicked, not drawn


if __name__ == "__main__":
    main()
