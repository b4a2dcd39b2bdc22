"""COCO annotations to samples. What cannot be meant stops with a sentence that names file, place and mend."""

from __future__ import annotations

import json
import reprlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float, Int64
from PIL import Image

from varifocal.data.coco_layout import ImageFinder, choose_split, find_splits, leaves_folder
from varifocal.data.images import read_stored_size
from varifocal.errors import DataError
from varifocal.records import Category, DataSet, Sample

__all__ = ["check_size", "find_splits", "load_dataset"]

_SECTIONS = ("images", "annotations", "categories")
_MAX_SIDE = 2**31 - 1
_ABSENT = object()

# Each way in which a box can be wrong, in the order in which they are looked for.
_NO_NUMBER = "holds something that is not a finite number"
_NO_AREA = "has no area (width and height must be above 0)"
_OUTSIDE = "lies wholly outside its image"


@dataclass(frozen=True, eq=False)
class _Images:
    ids: list[int]
    names: list[str]
    files: list[Path]
    sizes: Float[np.ndarray, "M 2"]


@dataclass(frozen=True, eq=False)
class _Annotations:
    """Columns of the annotations; ``images`` and ``labels`` are indices, ``raw`` the boxes as written."""

    ids: list[int]
    images: Int64[np.ndarray, " N"]
    labels: Int64[np.ndarray, " N"]
    crowd: Bool[np.ndarray, " N"]
    raw: list[list[Any]]


def load_dataset(
    path: Path | str, split: str | None = None, *, invalid_boxes: Literal["error", "drop"] = "error"
) -> DataSet:
    """The samples of one split, in the order of the json, and the categories sorted by id.

    ``path`` is a COCO json file or a folder as ``find_splits`` knows it; ``split`` may be left out where
    there is only one. Boxes become xyxy in pixels, float32, clipped to the recorded size of the picture.
    Boxes without area, wholly outside or with something that is not a finite number stop the load; with
    ``invalid_boxes="drop"`` they are left out. ``notes`` counts what was clipped by more than one pixel and
    what was left out. No picture is opened; ``check_size`` compares sizes once one is.

    Raises:
        DataError: no such data set or split; the json is not valid or not COCO, repeats ids or refers to
            unknown ones; a picture is missing or outside the data folder; a box is invalid.
    """
    if invalid_boxes not in ("error", "drop"):
        raise ValueError(f"invalid_boxes is 'error' or 'drop', not {invalid_boxes!r}")
    path = Path(path)
    name, file = choose_split(path, split)
    content = _read(file)
    categories = _read_categories(content["categories"], file)
    images = _read_images(content["images"], file, ImageFinder(file, path, name))
    annotations = _read_annotations(content["annotations"], file, images, categories)
    boxes, keep, notes = _check_boxes(annotations, images, file, drop=invalid_boxes == "drop")
    areas = _read_areas(content["annotations"], boxes)
    samples = _group(images, annotations, boxes, areas, keep)
    return DataSet(samples, categories, file, tuple(notes))


def check_size(sample: Sample, image: Image.Image) -> None:
    """Compare the recorded size of a sample with its upright picture.

    Raises:
        DataError: they differ, so that the boxes do not fit the picture.
    """
    recorded = (sample.width, sample.height)
    if image.size == recorded:
        return
    problem = (
        f"{sample.file}: the annotations record {sample.width} x {sample.height} pixels for image "
        f"{sample.image_id} but the upright picture has {image.width} x {image.height}"
    )
    if recorded == image.size[::-1] and _stored_size(sample.file) == recorded:
        raise DataError(
            f"{problem}: the recorded size is the one before the EXIF rotation; "
            "rotate the boxes and the size, or remove the EXIF orientation from the file"
        )
    raise DataError(f"{problem}; mend the recorded size, or put the picture that was labelled there")


def _stored_size(file: Path) -> tuple[int, int] | None:
    try:
        return read_stored_size(file)
    except DataError:
        return None


def _read(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_bytes().decode("utf-8-sig"))
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise DataError(f"{file}: this is not valid JSON at {place} ({error.msg}); export it again") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{file}: byte {error.start} is not UTF-8; save the file as UTF-8") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: the JSON cannot be read ({error}); export it again") from None
    except OSError as error:
        raise DataError(f"{file}: the file cannot be read ({error.strerror}); check its permissions") from None
    return _check_sections(content, file)


def _check_sections(content: Any, file: Path) -> dict[str, list[dict[str, Any]]]:
    mend = "a COCO file is an object with images, annotations and categories"
    if isinstance(content, list):
        first = content[0] if content else None
        if isinstance(first, dict) and "image_id" in first:
            raise DataError(f"{file}: this is a list of detection results, not a data set; {mend}")
        raise DataError(f"{file}: this is not COCO but a list of {len(content)}; {mend}")
    if not isinstance(content, dict):
        raise DataError(f"{file}: this is not COCO but {_short(content)}; {mend}")
    for key in _SECTIONS:
        if key not in content:
            found = _short_list(content) or "nothing"
            raise DataError(f"{file}: this is not COCO, {key!r} is missing (found: {found}); {mend}")
        _check_records(content[key], key, file, mend)
    return content


def _check_records(records: Any, key: str, file: Path, mend: str) -> None:
    if not isinstance(records, list):
        raise DataError(f"{file}: {key!r} is {_short(records)} and should be a list; {mend}")
    for index, record in enumerate(records):
        if type(record) is not dict:
            raise DataError(f"{file}: {key}[{index}] is {_short(record)} and should be an object; {mend}")


def _read_categories(records: list[dict[str, Any]], file: Path) -> tuple[Category, ...]:
    if not records:
        raise DataError(f"{file}: 'categories' is empty; add the classes of the boxes")
    ids = _column(records, "id", {int}, "categories", file)
    names = _column(records, "name", {str}, "categories", file)
    for index, name in enumerate(names):
        if not name.strip():
            raise DataError(f"{file}: categories[{index}] has an empty name; give each category a name")
    _check_unique(ids, "category id", file)
    _check_unique(names, "category name", file)
    pairs = sorted(zip(ids, names, strict=True))
    return tuple(Category(id, name) for id, name in pairs)


def _read_images(records: list[dict[str, Any]], file: Path, finder: ImageFinder) -> _Images:
    if not records:
        raise DataError(f"{file}: 'images' is empty; a data set needs at least one image")
    ids = _column(records, "id", {int}, "images", file)
    _check_unique(ids, "image id", file)
    names = _column(records, "file_name", {str}, "images", file)
    sides = [_column(records, side, {int}, "images", file) for side in ("width", "height")]
    for index, (width, height) in enumerate(zip(*sides, strict=True)):
        if not (1 <= width <= _MAX_SIDE and 1 <= height <= _MAX_SIDE):
            raise DataError(
                f"{file}: images[{index}] (id {ids[index]}) has the size {_short(width)} x {_short(height)}; "
                f"width and height are whole numbers of pixels from 1 to {_MAX_SIDE}"
            )
    files = _find_files(ids, names, file, finder)
    return _Images(ids, names, files, np.array(sides, dtype=np.float64).T)


def _find_files(ids: list[int], names: list[str], file: Path, finder: ImageFinder) -> list[Path]:
    for id, name in zip(ids, names, strict=True):
        if leaves_folder(name):
            raise DataError(
                f"{file}: image {id} has the file_name {_short(name)}, which is not a file inside the data "
                "folder; write it relative to that folder, without '..'"
            )
    found = [finder.find(name) for name in names]
    missing = [index for index, place in enumerate(found) if place is None]
    if missing:
        index = missing[0]
        raise DataError(
            f"{file}: image {ids[index]}, {_short(names[index])}, is not found in "
            f"{', '.join(map(str, finder.roots))}; put it there or take it out of the json"
            f"{_more(missing)}"
        )
    return [place for place in found if place is not None]


def _read_annotations(
    records: list[dict[str, Any]], file: Path, images: _Images, categories: Sequence[Category]
) -> _Annotations:
    ids = _column(records, "id", {int}, "annotations", file)
    _check_unique(ids, "annotation id", file)
    image_ids = _column(records, "image_id", {int}, "annotations", file)
    category_ids = _column(records, "category_id", {int}, "annotations", file)
    raw = _column(records, "bbox", {list}, "annotations", file)
    for id, image_id, box in zip(ids, image_ids, raw, strict=True):
        if len(box) != 4:
            raise DataError(
                f"{file}: annotation {id} of image {image_id} has the bbox {_short(box)} of {len(box)} "
                "values; a box is [x, y, width, height]"
            )
    image_index = _look_up(image_ids, images.ids, "image_id", ids, file)
    by_id = [category.id for category in categories]
    label_of = _look_up(category_ids, by_id, "category_id", ids, file, [f" of image {id}" for id in image_ids])
    return _Annotations(ids, image_index, label_of, _read_crowd(records, ids, file), raw)


def _look_up(
    values: list[int], known: list[int], key: str, ids: list[int], file: Path, places: Sequence[str] = ()
) -> Int64[np.ndarray, " N"]:
    """The position of each value among the known ones."""
    position = {value: index for index, value in enumerate(known)}
    found = np.array([position.get(value, -1) for value in values], dtype=np.int64)
    unknown = np.flatnonzero(found < 0)
    if len(unknown):
        first = unknown[0]
        section = "images" if key == "image_id" else "categories"
        raise DataError(
            f"{file}: annotation {ids[first]}{places[first] if places else ''} has the {key} "
            f"{_short(values[first])}, which is not in '{section}' "
            f"({_short_list(known)}); add it there or remove the annotation"
            f"{_more(unknown)}"
        )
    return found


def _read_crowd(records: list[dict[str, Any]], ids: list[int], file: Path) -> Bool[np.ndarray, " N"]:
    values = [record.get("iscrowd", 0) for record in records]
    if not set(map(type, values)) <= {int, bool} or not set(values) <= {0, 1}:
        for id, value in zip(ids, values, strict=True):
            if type(value) not in (int, bool) or value not in (0, 1):
                raise DataError(f"{file}: annotation {id} has the iscrowd {_short(value)}; it is 0 or 1")
    return np.array(values, dtype=bool)


def _check_boxes(
    annotations: _Annotations, images: _Images, file: Path, *, drop: bool
) -> tuple[Float[np.ndarray, "N 4"], Bool[np.ndarray, " N"], list[str]]:
    """Boxes as xyxy inside their pictures, which of them to keep, and the notes."""
    xywh = _to_array(annotations.raw)
    sizes = images.sizes[annotations.images]
    with np.errstate(over="ignore", invalid="ignore"):
        far = xywh[:, :2] + xywh[:, 2:]
        limit = np.concatenate([sizes, sizes], axis=1)
        free = np.concatenate([xywh[:, :2], far], axis=1)
        boxes = np.clip(free, 0, limit).astype(np.float32)
        finite = np.isfinite(xywh).all(axis=1)
        empty = finite & (xywh[:, 2:] <= 0).any(axis=1)
        outside = finite & ~empty & ((xywh[:, :2] >= sizes) | (far <= 0)).any(axis=1)
        # Too thin to be told from nothing in float32.
        empty |= finite & ~outside & (boxes[:, 2:] <= boxes[:, :2]).any(axis=1)
        over = ((free < -1) | (free > limit + 1)).any(axis=1)
    keep = finite & ~empty & ~outside
    notes = []
    for problem, bad in ((_NO_NUMBER, ~finite), (_NO_AREA, empty), (_OUTSIDE, outside)):
        where = np.flatnonzero(bad)
        if not len(where):
            continue
        if not drop:
            _refuse_box(int(where[0]), problem, annotations, images, file, _more(where))
        notes.append(_note(where, "left out", f"it {problem}", annotations, file))
    clipped = np.flatnonzero(keep & over)
    if len(clipped):
        notes.append(_note(clipped, "clipped", "it reaches over the border of its image", annotations, file))
    return boxes, keep, notes


def _to_array(rows: list[list[Any]]) -> Float[np.ndarray, "N 4"]:
    """Float64, with NaN for what is not a number; numpy by itself would read strings as numbers."""
    if set(map(type, chain.from_iterable(rows))) <= {int, float}:
        try:
            return np.array(rows, dtype=np.float64).reshape(-1, 4)
        except OverflowError:
            pass
    return np.array([[_number(value) for value in row] for row in rows], dtype=np.float64).reshape(-1, 4)


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        return float("nan")
    try:
        return float(value)
    except OverflowError:
        return float("inf")


def _refuse_box(index: int, problem: str, annotations: _Annotations, images: _Images, file: Path, more: str) -> None:
    image = annotations.images[index]
    width, height = images.sizes[image].astype(int)
    raise DataError(
        f"{file}: annotation {annotations.ids[index]} of image {images.ids[image]} "
        f"({_short(images.names[image])}, {width} x {height} pixels) has the bbox "
        f"{_short(annotations.raw[index])}, which {problem}; "
        f"mend it, or leave such boxes out with data.invalid_boxes=drop{more}"
    )


def _note(where: np.ndarray, done: str, why: str, annotations: _Annotations, file: Path) -> str:
    boxes = "1 box was" if len(where) == 1 else f"{len(where)} boxes were"
    return f"{file.name}: {boxes} {done}, first that of annotation {annotations.ids[where[0]]}: {why}."


def _read_areas(records: list[dict[str, Any]], boxes: Float[np.ndarray, "N 4"]) -> Float[np.ndarray, " N"]:
    """What the labels say, else width times height."""
    given = np.array([_number(record.get("area")) for record in records], dtype=np.float64)
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    return np.where(np.isfinite(given) & (given > 0), given, sides.prod(axis=1))


def _group(
    images: _Images,
    annotations: _Annotations,
    boxes: Float[np.ndarray, "N 4"],
    areas: Float[np.ndarray, " N"],
    keep: Bool[np.ndarray, " N"],
) -> tuple[Sample, ...]:
    kept = np.flatnonzero(keep)
    order = kept[np.argsort(annotations.images[kept], kind="stable")]
    ends = np.cumsum(np.bincount(annotations.images[order], minlength=len(images.ids))).tolist()
    boxes, labels, crowd, areas = boxes[order], annotations.labels[order], annotations.crowd[order], areas[order]
    samples = []
    start = 0
    sizes = images.sizes.astype(int).tolist()
    for file, id, (width, height), end in zip(images.files, images.ids, sizes, ends, strict=True):
        part = slice(start, end)
        samples.append(Sample(file, id, width, height, boxes[part], labels[part], crowd[part], areas[part]))
        start = end
    return tuple(samples)


def _column(records: list[dict[str, Any]], key: str, types: set[type], section: str, file: Path) -> list[Any]:
    """One field of every record, each of one of the types."""
    values = [record.get(key, _ABSENT) for record in records]
    if set(map(type, values)) <= types:
        return values
    names = {int: "a whole number", str: "a text", list: "a list [x, y, width, height]"}
    wanted = " or ".join(names[type] for type in types)
    index = next(index for index, value in enumerate(values) if type(value) not in types)
    place = f"{section}[{index}]"
    if key != "id" and "id" in records[index]:
        place += f" (id {_short(records[index]['id'])})"
    if values[index] is _ABSENT:
        raise DataError(f"{file}: {place} has no {key!r}; add it, {wanted}")
    raise DataError(f"{file}: {place} has the {key} {_short(values[index])}; it should be {wanted}")


def _check_unique(values: list[Any], what: str, file: Path) -> None:
    if len(set(values)) == len(values):
        return
    seen: set[Any] = set()
    for value in values:
        if value in seen:
            raise DataError(f"{file}: the {what} {_short(value)} is there twice; each must be its own")
        seen.add(value)


def _more(found: Sequence[Any] | np.ndarray) -> str:
    return f" ({len(found) - 1} more like it)" if len(found) > 1 else ""


def _short(value: Any) -> str:
    return reprlib.repr(value)


def _short_list(values: Iterable[Any], most: int = 8) -> str:
    items = [str(value) for value in values]
    return ", ".join(items[:most]) + (f" and {len(items) - most} more" if len(items) > most else "")
