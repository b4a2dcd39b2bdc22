"""A COCO data set in which every kind of defect is there a known number of times."""

import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 192, 128

# How often each kind is found when pictures are decoded, but for "unmatched-box", which is asked of literal loops.
EXPECTED = {
    "missing-image": 1,
    "unreadable-image": 1,
    "truncated-image": 1,
    "rotated-image": 1,
    "size-differs": 1,
    "turned-image": 1,
    "leaked-image": 1,
    "near-leak": 1,
    "duplicate-image": 1,
    "near-duplicate": 1,
    "no-boxes": 2,
    "not-a-number": 1,
    "no-area": 1,
    "outside": 1,
    "over-border": 1,
    "swapped-corners": 1,
    "duplicate-box": 1,
    "near-duplicate-box": 1,
    "two-classes": 1,
    "tiny-box": 1,
    "huge-box": 1,
    "thin-box": 1,
    "unknown-class": 1,
    "unknown-image": 1,
    "class-mismatch": 1,
    "empty-class": 1,
    "twin-classes": 2,
    "rare-class": 4,
    "malformed": 1,
}
CATEGORIES = ["car", "Car", "truck", "trucks", "ghost"]  # ids 1, 2, ...; the validation split has "boat" too


def picture(seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Image.Image:
    """A picture with a structure of its own, as photographs have it."""
    small = np.random.default_rng(seed).integers(0, 255, (8, 12, 3), dtype=np.uint8)
    return Image.fromarray(small).resize(size, Image.Resampling.BICUBIC)


class Writer:
    """Pictures, boxes and defects of one split, one after the other."""

    def __init__(self, folder: Path, split: str, seed: int, categories: list[str]) -> None:
        self.folder, self.split, self.seed = folder / "images" / split, split, seed
        self.folder.mkdir(parents=True)
        self.images: list[dict] = []
        self.annotations: list[dict] = []
        self.categories = [{"id": i, "name": name} for i, name in enumerate(categories, start=1)]

    def add(self, name: str, boxes: list[tuple] = (), size: tuple[int, int] = (WIDTH, HEIGHT), **more) -> int:
        """A record with boxes (category id, x, y, width, height); its id."""
        self.images.append({"id": len(self.images) + 1, "file_name": name, "width": size[0], "height": size[1], **more})
        for category, *bbox in boxes:
            self.box(len(self.images), category, bbox)
        return len(self.images)

    def box(self, image: int, category: int, bbox: list, **more) -> None:
        number = 100 + len(self.annotations)
        self.annotations.append(
            {"id": number, "image_id": image, "category_id": category, "bbox": list(bbox), "iscrowd": 0, **more}
        )

    def draw(self, name: str, boxes: list[tuple] = (), **more) -> int:
        """A new picture with boxes."""
        self.seed += 1
        picture(self.seed).save(self.folder / name, **more)
        return self.add(name, boxes)

    def write(self, file: Path) -> None:
        content = {"images": self.images, "annotations": self.annotations, "categories": self.categories}
        file.write_text(json.dumps(content))


def make_messy(folder: Path) -> Path:
    """The data set, with the splits train and val; ``EXPECTED`` says what is wrong with it."""
    train = Writer(folder, "train", 0, CATEGORIES)
    for i in range(12):  # sound: three cars each, one of them large enough for every grid
        train.draw(f"sound-{i}.png", [(1, 8 + i, 10, 50, 40), (1, 80, 20 + i, 44, 50), (1, 130, 70, 40, 36)])
    _pictures(train)
    _boxes(train)
    val = Writer(folder, "val", 1000, [*CATEGORIES, "boat"])
    val.draw("sound.png", [(1, 20, 20, 60, 60), (6, 100, 30, 50, 50)])
    shutil.copy(train.folder / "sound-1.png", val.folder / "leak.png")
    val.add("leak.png", [(1, 9, 10, 50, 40)])
    Image.open(train.folder / "sound-2.png").save(val.folder / "near.jpg", quality=85)
    val.add("near.jpg", [(1, 10, 10, 50, 40)])
    train.write(folder / "train.json")
    val.write(folder / "val.json")
    return folder


def _pictures(train: Writer) -> None:
    box = [(1, 30, 30, 40, 40)]
    train.draw("background.png")
    (train.folder / "empty.png").touch()
    train.add("empty.png", box)
    whole = train.draw("cut.jpg", box, quality=90)
    assert whole
    content = (train.folder / "cut.jpg").read_bytes()
    (train.folder / "cut.jpg").write_bytes(content[: len(content) // 2])
    train.add("missing.png", box)
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(501).save(train.folder / "rotated.jpg", exif=exif)
    train.add("rotated.jpg", box)  # with the size before the rotation
    picture(502).save(train.folder / "turned.jpg", exif=exif)
    train.add("turned.jpg", box, (HEIGHT, WIDTH))
    picture(503, (WIDTH // 2, HEIGHT // 2)).save(train.folder / "smaller.png")
    train.add("smaller.png", box)
    shutil.copy(train.folder / "sound-3.png", train.folder / "copy.png")
    train.add("copy.png", [(1, 11, 10, 50, 40)])
    Image.open(train.folder / "sound-4.png").resize((WIDTH - 10, HEIGHT - 6)).save(train.folder / "near.png")
    train.add("near.png", [(1, 12, 10, 48, 38)], (WIDTH - 10, HEIGHT - 6))


def _boxes(train: Writer) -> None:
    image = train.draw("boxes.png", [(1, 10, 10, 50, 40)])
    train.box(image, 1, [10, 10, 50, 40])  # there twice
    train.box(image, 1, [100, 20, 60, 50])
    train.box(image, 1, [101, 20, 60, 50])  # nearly the same
    train.box(image, 1, [20, 70, 50, 50])
    train.box(image, 3, [20, 70, 50, 50])  # of two classes
    train.box(image, 2, [60, 60, 30, 30])
    image = train.draw("impossible.png", [(1, 40, 40, 60, 60)])
    train.box(image, 1, [float("nan"), 1, 2, 3])
    train.box(image, 1, [10, 10, 0, 20])
    train.box(image, 1, [10, 10, 20, -5])
    train.box(image, 1, [WIDTH + 5, 10, 20, 20])
    train.box(image, 1, [WIDTH - 40, 60, 60, 40])  # over the border
    train.box(image, 99, [10, 10, 30, 30])
    train.box(image, 4, [5, 5, 30, 30])
    train.box(999, 1, [10, 10, 30, 30])
    train.annotations.append({"id": 9000, "image_id": image, "category_id": [1], "bbox": [1, 2, 3, 4]})
    image = train.draw("sizes.png", [(1, 100, 100, 1, 1.5)])
    train.box(image, 1, [0, 0, WIDTH, HEIGHT])
    train.box(image, 1, [4, 30, 150, 6])
    train.box(image, 1, [20, 50, 60, 60], iscrowd=1)
    train.box(image, 1, [120, 50, 60, 60], difficult=1)
    train.draw("also-background.png")
