"""COCO annotations: a JSON of any size for each split, read in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from varifocal.data.annotations import (
    NO_LABEL,
    BoxColumns,
    Files,
    ImageColumns,
    Issue,
    Problems,
    RawDataset,
    SourceLocation,
    first_copies,
    in_order,
)
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import Lost, finder_of
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder
from varifocal.data.readers.classes import clash, join_duplicates, joined_notes, name_unnamed
from varifocal.data.readers.coco_layout import find_coco, image_roots, left_out_notes
from varifocal.data.readers.coco_records import HINT, SECTIONS, Found
from varifocal.data.readers.json_stream import Count, read_object
from varifocal.data.readers.lookup import Lookup, Words
from varifocal.data.sibling_folders import siblings_of_source
from varifocal.types import Category, SourceIds
from varifocal.utils.errors import DataError
from varifocal.utils.text import counted, short, short_list

_TWICE = "(image is|images are) listed once more under another id; what one entry labels is background in the other"
_NAMES = Words("has the file_name", "add it, or remove its entry from the JSON")


@dataclass(frozen=True, eq=False)
class _Where:
    """The location of each annotation: its id and that of its image."""

    found: Found
    ids: Int64[np.ndarray, "N"]
    image_ids: Int64[np.ndarray, "N"]

    def __call__(self, index: int) -> SourceLocation:
        image = self.found.ids["images"].show(int(self.image_ids[index]))
        return SourceLocation(self.found.file, f"{self.annotation(index)} of image {image}")

    def annotation(self, index: int) -> str:
        """Return the location without the image."""
        return self.found.annotation(int(self.ids[index]))


def read_coco(file: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read one JSON of a data set that lies in ``data``, which is the folder or the JSON itself.

    Raises:
        DataError: the file cannot be read, is not JSON or not COCO. Whatever else is wrong is a problem of the set.
    """
    found = Found(file)
    left_out = left_out_notes(file, data)  # before the file is in memory, as folders of a million names are listed
    _check_sections(read_object(file, SECTIONS, found.add_records), file)
    categories = _read_categories(found)
    roots = image_roots(file, data, split)
    images = _read_images(found, finder_of(roots, roots[-1], split, options, siblings_of_source(data, file, find_coco)))
    boxes = _read_boxes(found, images, categories)
    joined = join_duplicates(boxes.labels, categories)
    for name in joined.clashes:
        found.report("twice", "categories", "", *clash(name, "category name"))
    problems = Problems()
    for key in ("categories", "images", "annotations"):
        problems.extend(found.problems[key])
    notes = (*_notes(found), *joined_notes(file.name, joined.names), *left_out)
    ids = SourceIds(found.ids["images"].numbers, found.ids["categories"].numbers)
    boxes = replace(boxes, labels=joined.labels)
    return RawDataset("coco", file, split, images, boxes, joined.categories, problems, notes, ids=ids)


def _check_sections(content: dict[str, Any], file: AnyPath) -> None:
    """Raise an error where a section of COCO is missing or no list."""
    if "" in content and len(content) == 1:
        _refuse_value(content[""], file)
    for key in SECTIONS:
        if key not in content:
            text = f"this is not COCO, '{key}' is missing (found: {short_list(content) or 'nothing'})"
            raise DataError(f"{file}: {text}; {HINT}", code="coco-missing-section")
        if not isinstance(content[key], Count):
            text = f"'{key}' is {short(content[key])} and should be a list"
            raise DataError(f"{file}: {text}; {HINT}", code="coco-section-type")


def _refuse_value(content: Any, file: AnyPath) -> None:
    """Raise an error that names what a file holds that is no object."""
    if not isinstance(content, list):
        raise DataError(f"{file}: this is not COCO but {short(content)}; {HINT}", code="coco-no-object")
    first = content[0] if content else None
    if isinstance(first, dict) and "image_id" in first:
        text = "this is a list of detection results, not a data set"
        raise DataError(f"{file}: {text}; {HINT}", code="coco-results")
    hint = f"{HINT}; of Label Studio export JSON and not JSON-MIN" if isinstance(first, dict) else HINT
    raise DataError(f"{file}: this is not COCO but a list of {len(content)}; {hint}", code="coco-list")


def _notes(found: Found) -> list[str]:
    """Return notes on what was understood but not taken as it is, with counts."""
    notes = [*found.notes, *(f"{found.file.name}: {counted(count, what)}." for what, count in found.changed.items())]
    for key, what in (("images", "image (id|ids)"), ("categories", "category (id|ids)")):
        numbers = found.ids[key].numbers
        if numbers:
            text, number = next(iter(numbers.items()))
            changed = counted(
                len(numbers), f"{what} (is no whole number and got one|are no whole numbers and got some)"
            )
            notes.append(f"{found.file.name}: {changed}, for example {short(text)} the number {number}.")
    return notes


def _read_categories(found: Found) -> tuple[Category, ...]:
    """Return the categories sorted by id; of those whose id is there twice the first."""
    if not found.categories and not found.problems["categories"]:
        found.report("bad-category", "categories", "", "'categories' is empty", "add the classes of the boxes")
    pairs = list(dict.fromkeys(found.categories))
    if len(pairs) < len(found.categories):
        copies = len(found.categories) - len(pairs)
        found.changed["(category is|categories are) there once more, with the same id and name"] += copies
    ids = found.ids["categories"]
    codes = np.array([code for code, _ in pairs], np.int64)
    ids.assign_numbers(codes, (column[2] for column in found.columns))
    numbers = ids.numbered(codes).tolist()
    repeated = _report_copies(found, "categories", numbers, "category id")
    kept = (index for index in range(len(pairs)) if index not in repeated)
    categories = sorted((Category(numbers[index], pairs[index][1]) for index in kept), key=lambda category: category.id)
    named, notes = name_unnamed(categories, found.file.name)
    found.notes += notes
    return named


def _report_copies(found: Found, section: str, values: Sequence[int], what: str) -> set[int]:
    """Report ids that are there twice, and return the indices of the later ones."""
    copies = list(first_copies(values))
    for index in copies:
        text = f"the {what} {found.ids[section].show(values[index])} is there twice"
        found.report("twice", section, "", text, "each must be its own")
    return set(copies)


def _read_images(found: Found, finder: ImageFinder) -> ImageColumns:
    if not found.names and not found.problems["images"] and not found.idless:
        found.report("malformed", "images", "", "'images' is empty", "a data set needs at least one image")
    codes = np.concatenate([np.empty(0, np.int64), *found.image_ids])
    found.ids["images"].assign_numbers(codes, (column[1] for column in found.columns))
    ids = found.ids["images"].numbered(codes)
    sizes = np.concatenate([np.empty((0, 2), np.int64), *found.sizes])
    if not (np.diff(np.sort(ids)) > 0).all():
        ids, sizes = _once(found, ids, sizes)
        _report_copies(found, "images", ids.tolist(), "image id")
    files = _find(found, ids, finder)
    copies = len(files) - len(files.missing) - sum(len(names) for _, names in files.by_folder().values())
    if copies:
        found.changed[_TWICE] += copies  # also as a.png and ./a.png
    return ImageColumns(found.names, files, sizes, ids)


def _once(
    found: Found, ids: Int64[np.ndarray, "M"], sizes: Int64[np.ndarray, "M 2"]
) -> tuple[Int64[np.ndarray, "M2"], Int64[np.ndarray, "M2 2"]]:
    """Return ids and sizes without those of images whose complete record is there once more, as in joined files."""
    if found.nameless:  # problems refer to images by their index
        return ids, sizes
    records = zip(ids.tolist(), found.names, map(tuple, sizes.tolist()), strict=True)
    copies = list(first_copies(list(records)))
    if copies:
        found.changed["(image is|images are) listed once more with the same id, name and size"] += len(copies)
        keep = np.ones(len(ids), bool)
        keep[copies] = False
        found.names = [name for name, kept in zip(found.names, keep.tolist(), strict=True) if kept]
        ids, sizes = ids[keep], sizes[keep]
    return ids, sizes


def _find(found: Found, ids: Int64[np.ndarray, "M"], finder: ImageFinder) -> Files:
    """Return the file of each image, by its name or else by the end of it; images without a file are problems."""
    files = Files.of(_location(found, index, name, finder) for index, name in enumerate(found.names))
    lookup = Lookup()
    for index in files.missing.tolist():
        if index not in found.nameless:
            location = SourceLocation(found.file, f"image {found.ids['images'].show(int(ids[index]))}")
            lookup.add(Lost(index, (found.names[index],), finder), location, _NAMES)
    outcome = lookup.finish(found.file, lambda: set(files.locations()))
    found.problems["images"].extend(outcome.problems)
    found.notes += outcome.notes
    return files.placed(outcome.locations) if outcome.locations else files


def _location(found: Found, index: int, name: str, finder: ImageFinder) -> tuple[AnyPath, str] | None:
    """Return the folder and the name of an image's file; None where it is not where its name says."""
    return None if index in found.nameless or is_unsafe_path(name) else finder.find(name)


def _read_boxes(found: Found, images: ImageColumns, categories: Sequence[Category]) -> BoxColumns:
    """Return the boxes of known images, and report the annotations of unknown images and classes."""
    parts = list(zip(_NO_COLUMNS, *found.columns, strict=True))
    found.columns.clear()
    columns = [np.concatenate(parts.pop(0)) for _ in range(len(parts))]  # each is freed before the next is made
    odd = found.odd
    if (np.diff(np.sort(columns[0])) == 0).any():
        columns, odd = _without_copies(found, columns)
    ids, image_ids, category_ids, crowd, difficult, areas, xyxy = columns
    image_ids = found.ids["images"].numbered(image_ids)
    category_ids = found.ids["categories"].numbered(category_ids)
    known = np.array([category.id for category in categories], np.int64)
    where = _Where(found, ids, image_ids)
    image_of, label_of = _look_up(image_ids, images.ids), _look_up(category_ids, known)
    label_of[found.ids["categories"].are_none(category_ids)] = NO_LABEL
    _report_lost(found, images, image_of)
    if not found.idless:
        _report_unknown(found, "unknown-image", image_of, image_ids, images.ids, where)
    _report_unknown(found, "unknown-class", label_of, category_ids, known, where)
    if (image_of < 0).any():
        keep = image_of >= 0
        odd = _kept(odd, keep)
        where = _Where(found, ids[keep], image_ids[keep])
        image_of, label_of, xyxy, crowd, difficult, areas = (
            column[keep] for column in (image_of, label_of, xyxy, crowd, difficult, areas)
        )
    xyxy, swapped = in_order(xyxy)
    return BoxColumns(image_of, label_of, xyxy, crowd, difficult, areas, where, xywh=True, odd=odd, swapped=swapped)


def _without_copies(found: Found, columns: list[np.ndarray]) -> tuple[list[np.ndarray], dict[int, str]]:
    """Return the columns without annotations that are there once more in all fields, as in joined files.

    Others that have the id of another annotation stay, and are counted.
    """
    order = np.argsort(columns[0], kind="stable")
    pairs = order[:-1], order[1:]
    alike = columns[0][pairs[0]] == columns[0][pairs[1]]
    whole = alike & np.all([_equal(column[pairs[0]], column[pairs[1]]) for column in columns], axis=0)
    keep = np.ones(len(order), bool)
    keep[pairs[1][whole]] = False
    for count, text in (
        (int(whole.sum()), "(annotation is|annotations are) listed once more with the same id and box"),
        (
            int((alike & ~whole).sum()),
            "(annotation has|annotations have) the id of another, and (is a box of its|are boxes of their) own",
        ),
    ):
        if count:
            found.changed[text] += count
    return [column[keep] for column in columns], _kept(found.odd, keep)


def _equal(first: np.ndarray, second: np.ndarray) -> Bool[np.ndarray, "N"]:
    """Return which rows are equal; NaN equals NaN."""
    same = (first == second) | ((first != first) & (second != second))
    return np.asarray(same if same.ndim == 1 else same.all(axis=1))


def _kept(odd: Mapping[int, str], keep: Bool[np.ndarray, "N"]) -> dict[int, str]:
    """Return the texts in place of boxes, by the indices of these among the boxes that are kept."""
    new_index = np.cumsum(keep) - 1
    return {int(new_index[index]): text for index, text in odd.items() if keep[index]}


_NO_COLUMNS = (
    *(np.empty(0, np.int64) for _ in range(3)),
    *(np.empty(0, bool) for _ in range(2)),
    np.empty(0, np.float64),
    np.empty((0, 4), np.float64),
)


def _report_lost(found: Found, images: ImageColumns, image_of: Int64[np.ndarray, "N"]) -> None:
    """Mark the images of refused annotations as damaged, and report the images that have no id.

    Boxes of unknown images may belong to those without an id, and are reported with them.
    """
    lost = _look_up(found.ids["images"].numbered(np.array(found.lost, np.int64)), images.ids)
    found.problems["annotations"].damaged.update(lost[lost >= 0].tolist())
    idless, unknown = found.idless, int((image_of < 0).sum())
    if idless and unknown:
        text = f"{idless[0].text}, and {counted(unknown, '(annotation is|annotations are)')} of no image that is listed"
        idless = Problems([replace(idless[0], text=text), *idless[1:]])
        idless.counts.update(found.idless.counts - idless.counts)
    found.problems["images"].extend(idless)


def _look_up(values: Int64[np.ndarray, "N"], known: Int64[np.ndarray, "K"]) -> Int64[np.ndarray, "N"]:
    """Return the index of each value among the known ones, -1 for the others."""
    if not len(known):
        return np.full(len(values), -1, np.int64)
    order = np.argsort(known, kind="stable")
    indices = np.minimum(np.searchsorted(known[order], values), len(known) - 1)
    return np.where(known[order][indices] == values, order[indices], -1)


def _report_unknown(
    found: Found,
    kind: str,
    index_of: Int64[np.ndarray, "N"],
    values: Int64[np.ndarray, "N"],
    known: Int64[np.ndarray, "K"],
    where: _Where,
) -> None:
    key, section = {"unknown-image": ("image_id", "images"), "unknown-class": ("category_id", "categories")}[kind]
    show = found.ids[section].show
    listed = short_list(map(show, known[:8].tolist())) + (f" and {len(known) - 8} more" if len(known) > 8 else "")

    hint = _shifted(np.unique(values[index_of != NO_LABEL]), known)
    of_class = kind == "unknown-class"
    if hint and of_class:
        kind = "shifted-class"

    def make(index: int) -> Issue:
        location = where(index) if of_class else SourceLocation(found.file, where.annotation(index))
        text = f"has the {key} {show(int(values[index]))}, which is not in '{section}' ({listed})"
        return Issue(kind, location, text, hint or "add it there or remove the annotation")

    found.problems["annotations"].add_many(kind, np.flatnonzero(index_of == -1).tolist(), make)


def _shifted(used: Int64[np.ndarray, "U"], known: Int64[np.ndarray, "K"]) -> str:
    """Return how to fix ids that would all be known if they were one more or one less; "" for others."""
    for step, word in ((1, "low; add 1 to each"), (-1, "high; subtract 1 from each")):
        if len(used) > 1 and np.isin(used + step, known).all():
            return f"all of them seem one too {word}"
    return ""
