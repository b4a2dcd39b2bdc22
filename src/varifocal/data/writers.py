"""Datasets written as COCO, YOLO or Pascal VOC; each writer returns notes on what its format cannot hold."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TextIO
from xml.sax.saxutils import escape

import numpy as np
import yaml
from jaxtyping import Bool, Int64

from varifocal.data.annotations import RawDataset, region_numbers
from varifocal.data.splits import STANDARD, is_to_train, normalize_split
from varifocal.types import Category
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted

_DIFFICULT = ', "difficult": 1'
_EQUAL = 1e-6  # relative difference of an area that is only width times height, written with a few digits


@dataclass(frozen=True, eq=False)
class Part:
    """Images of a split that are written: their indices in ``raw`` and their new file names.

    ``keep`` marks the boxes that are written, ``labels`` index the categories of all parts together.
    """

    split: str
    raw: RawDataset
    images: Int64[np.ndarray, "K"]
    names: Sequence[str]
    keep: Bool[np.ndarray, "N"]
    labels: Int64[np.ndarray, "N"]

    def __iter__(self) -> Iterator[tuple[int, str, np.ndarray]]:
        """Yield the index and the file name of each image, and the indices of its boxes."""
        boxes = np.flatnonzero(self.keep)
        boxes = boxes[np.argsort(self.raw.boxes.images[boxes], kind="stable")]
        ends = np.searchsorted(self.raw.boxes.images[boxes], np.arange(len(self.raw.images) + 1))
        for image, name in zip(self.images.tolist(), self.names, strict=True):
            yield image, name, boxes[ends[image] : ends[image + 1]]

    def count(self, which: np.ndarray) -> int:
        """Return how many of the boxes ``which``, a mask over all boxes of the split, are written."""
        inside = np.zeros(len(self.raw.images), bool)
        inside[self.images] = True
        return int((which & self.keep & inside[self.raw.boxes.images]).sum())


def _has_class_ids(part: Part) -> bool:
    """Return whether the source gives ids to its classes; otherwise the reader has counted them from 1."""
    ids = [one.id for one in part.raw.categories]
    return part.raw.format == "coco" or ids != list(range(1, len(ids) + 1))


def _digits(value: float) -> str:
    """Return a number in at most twelve digits, which removes the rounding errors of sums and differences."""
    return f"{value:.12g}"


def write_coco(folder: Path, parts: Sequence[Part], categories: Sequence[Category]) -> list[str]:
    """Write ``annotations/instances_SPLIT.json``; difficult boxes get a field of that name, which COCO lacks."""
    (folder / "annotations").mkdir()
    for part in parts:
        with open(folder / "annotations" / f"instances_{part.split}.json", "w", encoding="utf-8") as file:
            _write_coco(file, part, categories)
    return []


def _write_coco(file: TextIO, part: Part, categories: Sequence[Category]) -> None:
    raw, boxes = part.raw, part.raw.boxes
    listed = json.dumps([{"id": one.id, "name": one.name} for one in categories], ensure_ascii=False)
    file.write(f'{{"categories": {listed},\n"images": [')
    mark = "\n"
    for image, name, _ in part:
        width, height = raw.images.sizes[image].tolist()
        record = {"id": int(raw.images.ids[image]), "file_name": name, "width": width, "height": height}
        file.write(mark + json.dumps(record, ensure_ascii=False))
        mark = ",\n"
    file.write('],\n"annotations": [')
    mark, number = "\n", 0
    for image, _, box_indices in part:
        for box in box_indices.tolist():
            number += 1
            x1, y1, x2, y2 = boxes.xyxy[box].tolist()
            given = float(boxes.areas[box])
            area = given if given > 0 and np.isfinite(given) else (x2 - x1) * (y2 - y1)
            numbers = ", ".join(map(_digits, (x1, y1, x2 - x1, y2 - y1)))
            file.write(
                f'{mark}{{"id": {number}, "image_id": {raw.images.ids[image]}, '
                f'"category_id": {categories[part.labels[box]].id}, "bbox": [{numbers}], "area": {_digits(area)}, '
                f'"iscrowd": {int(boxes.crowd[box])}{_DIFFICULT if boxes.difficult[box] else ""}}}'
            )
            mark = ",\n"
    file.write("]}\n")


def write_yolo(folder: Path, parts: Sequence[Part], categories: Sequence[Category]) -> list[str]:
    """Write ``data.yaml``, and a text file for each image in ``labels/SPLIT``; boxes are clipped to their image.

    Raises:
        DataError: YOLO has no name for a split.
    """
    notes = []
    folders: dict[str, list[str]] = {}
    for whole in parts:
        part, region_notes = _without_regions(whole)
        key = yolo_split(part.split)
        folders.setdefault(key, []).append(f"images/{part.split}")
        _write_yolo_labels(folder / "labels" / part.split, part)
        notes += [*region_notes, *_yolo_notes(part, key), *_lost_areas(part)]
    description: dict[str, object] = {key: paths[0] if len(paths) == 1 else paths for key, paths in folders.items()}
    description |= {"nc": len(categories), "names": [category.name for category in categories]}
    _write(folder / "data.yaml", yaml.safe_dump(description, sort_keys=False, allow_unicode=True))
    if any(map(_has_class_ids, parts)) and [category.id for category in categories] != list(range(len(categories))):
        ids = "id became 0" if len(categories) == 1 else f"ids became 0 to {len(categories) - 1}"
        notes.append(f"the class {ids}, because YOLO counts classes from 0.")
    return notes


def _write_yolo_labels(folder: Path, part: Part) -> None:
    folder.mkdir(parents=True)
    for image, name, boxes in part:
        lines = "".join(_yolo_line(part, image, box) for box in boxes.tolist())
        _write(folder / f"{Path(name).stem}.txt", lines)


def _yolo_notes(part: Part, key: str) -> list[str]:
    """Return notes on a split under another name, and on boxes whose flags are lost."""
    notes = []
    if normalize_split(part.split) not in (key, "all"):
        notes.append(f"{part.split}: is called {key} in data.yaml, because YOLO has only train, val and test.")
    flagged = part.count(part.raw.boxes.crowd | part.raw.boxes.difficult)
    if flagged:
        boxes = counted(flagged, "crowd or difficult (box is an ordinary object|boxes are ordinary objects)")
        notes.append(f"{part.split}: {boxes} in YOLO.")
    return notes


def _without_regions(part: Part) -> tuple[Part, list[str]]:
    """Return the part without regions that are ignored for several classes, and a note on them.

    In YOLO they would be objects of each of these classes, which are not there.
    """
    boxes = part.raw.boxes
    numbers = region_numbers(boxes.images, boxes.labels, boxes.xyxy, boxes.crowd)
    regions = numbers >= 0
    count = len(np.unique(numbers[regions & part.keep & np.isin(boxes.images, part.images)]))
    if not count:
        return part, []
    left_out = counted(count, "(region|regions) to be ignored for several classes (is|are) left out")
    note = f"{part.split}: {left_out}, because YOLO has none."
    return replace(part, keep=part.keep & ~regions), [note]


def yolo_split(split: str) -> str:
    """Return the key of a split in ``data.yaml``.

    Raises:
        DataError: there is none.
    """
    name = "train" if is_to_train(split) else normalize_split(split)
    if name not in STANDARD:
        raise DataError(
            f"the split {split!r} has no name in YOLO, which has train, val and test; choose one with --split",
            code="split-without-yolo-name",
        )
    return name


def _yolo_line(part: Part, image: int, box: int) -> str:
    x1, y1, x2, y2 = (_clipped(part, image, box) / np.tile(part.raw.images.sizes[image], 2)).tolist()
    numbers = " ".join(map(_digits, ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)))
    return f"{part.labels[box]} {numbers}\n"


def _clipped(part: Part, image: int, box: int) -> np.ndarray:
    return np.clip(part.raw.boxes.xyxy[box], 0, np.tile(part.raw.images.sizes[image], 2))


def write_voc(folder: Path, parts: Sequence[Part], categories: Sequence[Category]) -> list[str]:
    """Write ``Annotations``, with an XML file for each image, and ``ImageSets/Main``.

    Pixels count from 1, and boxes are clipped to their image.

    Crowd boxes are marked as difficult, and by an element ``crowd``, which VOC does not have.

    Raises:
        DataError: XML cannot hold the name of a class.
    """
    for one in categories:
        if not one.name.isprintable() or one.name != one.name.strip():
            raise DataError(
                f"the class name {one.name!r} cannot be written as VOC; rename the class", code="class-name-not-xml"
            )
    for name in ("Annotations", "ImageSets/Main"):
        (folder / name).mkdir(parents=True)
    notes = []
    used: set[int] = set()
    for part in parts:
        stems = []
        for image, name, boxes in part:
            stems.append(Path(name).stem)
            _write(folder / "Annotations" / f"{stems[-1]}.xml", _voc_xml(part, categories, image, name, boxes.tolist()))
            used.update(part.labels[boxes].tolist())
        _write(folder / "ImageSets" / "Main" / f"{part.split}.txt", "".join(f"{stem}\n" for stem in stems))
        notes += _lost_areas(part)
    unused = [one.name for label, one in enumerate(categories) if label not in used]
    if unused:
        notes.append(f"classes without a box are lost, because VOC has no list of classes: {', '.join(unused[:5])}.")
    return notes


def _voc_xml(part: Part, categories: Sequence[Category], image: int, name: str, indices: list[int]) -> str:
    width, height = part.raw.images.sizes[image].tolist()
    objects = "".join(_voc_object(part, categories, image, box) for box in indices)
    return (
        f"<annotation>\n\t<filename>{escape(name)}</filename>\n\t<size>\n\t\t<width>{width}</width>\n"
        f"\t\t<height>{height}</height>\n\t\t<depth>3</depth>\n\t</size>\n{objects}</annotation>\n"
    )


def _voc_object(part: Part, categories: Sequence[Category], image: int, box: int) -> str:
    boxes = part.raw.boxes
    x1, y1, x2, y2 = _clipped(part, image, box).tolist()
    corners = zip(("xmin", "ymin", "xmax", "ymax"), (x1 + 1, y1 + 1, x2, y2), strict=True)
    sides = "".join(f"\t\t\t<{side}>{_digits(value)}</{side}>\n" for side, value in corners)
    crowd = "\t\t<crowd>1</crowd>\n" if boxes.crowd[box] else ""
    return (
        f"\t<object>\n\t\t<name>{escape(categories[part.labels[box]].name)}</name>\n"
        f"\t\t<difficult>{int(boxes.difficult[box] or boxes.crowd[box])}</difficult>\n{crowd}"
        f"\t\t<bndbox>\n{sides}\t\t</bndbox>\n\t</object>\n"
    )


def _lost_areas(part: Part) -> list[str]:
    """Return a note on areas of outlines, which are not width times height."""
    boxes = part.raw.boxes
    plain = (boxes.xyxy[:, 2:] - boxes.xyxy[:, :2]).prod(axis=1)
    lost = part.count(
        np.isfinite(boxes.areas) & (boxes.areas > 0) & (np.abs(boxes.areas - plain) > _EQUAL * np.abs(plain))
    )
    return [f"{part.split}: the {counted(lost, '(area of an outline is|areas of outlines are)')} lost."] if lost else []


def _write(path: Path, text: str) -> None:
    with open(path, "w", encoding="utf-8", newline="\n") as file:
        file.write(text)


# format -> the function that writes the labels, and the folder of the images of a split
WRITERS: dict[str, tuple[Callable[[Path, Sequence[Part], Sequence[Category]], list[str]], str]] = {
    "coco": (write_coco, "images/{split}"),
    "yolo": (write_yolo, "images/{split}"),
    "voc": (write_voc, "JPEGImages"),
}
