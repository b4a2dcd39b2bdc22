"""Boxes in a table: a line for each, with the image, the corners in pixels and the class.

The columns are found by their names, in any order; without a header they are image, xmin, ymin, xmax, ymax, label. A
box may be x, y, width and height as well, also as one cell ``[x, y, width, height]``. An image without objects is a
line without a box. Open Images is such a table, with codes for classes and images of which most people have a part.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from varifocal.data.annotations import NO_BOX, NO_LABEL, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import finder_of
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, TextDecoder, decode, list_dir
from varifocal.data.readers.columns import NAN, ColumnBuilder, to_number
from varifocal.data.readers.csv_columns import EXPECTED, Table, table_of
from varifocal.data.readers.items import ONE_CLASS, absent_note, one_class_note, without_suffix
from varifocal.data.readers.label_files import image_folders, image_roots, split_of_parts
from varifocal.data.readers.open_images import class_names
from varifocal.data.readers.unread import unread_kind
from varifocal.data.sibling_folders import parts_between, siblings_of_source
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import cut, short, short_list

_MAX_SIDE = 2**31 - 1
SUFFIXES = (".csv", ".tsv")


@dataclass
class _Reading:
    """What is shared by all lines of a file."""

    columns: ColumnBuilder
    table: Table
    finder: ImageFinder
    classes: dict[str, str] = field(default_factory=dict)  # code -> name
    images: dict[str, int] = field(default_factory=dict)  # -1 for those that were left out
    locations: dict[tuple[AnyPath, str], int] = field(default_factory=dict)  # of files that lie where they are named
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    normalized: int = 0  # boxes that are fractions: some reach over the border, and pixels are larger numbers
    numbers: int = 0  # boxes that are numbers
    flags: list[str] = field(init=False)  # columns of a box that few tables have, and no cell of theirs is looked at
    sized: bool = field(init=False)

    def __post_init__(self) -> None:
        self.flags = [role for role in ("crowd", "difficult") if role in self.table.column]
        self.sized = "width" in self.table.column and "height" in self.table.column


def read_csv(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """The lines of a split: of the whole file, or those whose column "split" says so.

    Raises:
        DataError: the file cannot be read, or its columns are not understood.
    """
    columns = ColumnBuilder("csv", source, split)
    texts = TextDecoder()
    text = texts.read(source)
    table = table_of(text, source)
    base = data if data.is_dir() else source.parent
    siblings = siblings_of_source(data, source, find_csv)
    reading = _Reading(columns, table, finder_of(_roots(source, base, split, table), base, split, options, siblings))
    if table.of_open_images:
        reading.classes = class_names(source)
    for number, row in _rows(text, table, source):
        if "split" in table.column and normalize_split(table.cell(row, "split") or "all") != split:
            continue
        _read_row(reading, row, number)
    _report(reading)
    columns.notes += texts.notes(source)
    # pixels of a data set are not all below 1
    normalized = reading.numbers > 0 and reading.normalized == reading.numbers
    if normalized:
        columns.notes.append(f"{source.name}: all boxes lie about 0 to 1, which is taken for fractions of the image.")
    return columns.finish([source], normalized=normalized)


def _roots(source: AnyPath, base: AnyPath, split: str, table: Table) -> list[AnyPath]:
    """Where the images of a table may lie."""
    roots = [source.parent / split, source.parent / "images" / split, base / split, base / "images" / split]
    roots += [source.parent / "images", source.parent, base / "images", base]
    return roots + (image_roots(base, source.parent, split, image_folders(base)) if table.of_open_images else [])


def _report(reading: _Reading) -> None:
    """What is known only at the end."""
    columns, source = reading.columns, reading.columns.source
    absent = [name for name, image in reading.images.items() if image < 0]
    if not columns.names and absent:
        names = (
            "the image that it names is not" if len(absent) == 1 else f"none of the {len(absent)} images it names is"
        )
        text = f"{names} there"
        columns.problem("missing-image", source, "", text, "put them into a folder beside it")
    elif not columns.names and not columns.problems:
        columns.problem("malformed", source, "", "there are no boxes in it", "give it a line for each box")
    elif absent:
        columns.notes.append(absent_note(source, absent))
    if "label" not in reading.table.column and columns.boxes:
        unread = reading.table.unread
        columns.notes.append(one_class_note(source) + (f" Columns not read: {short_list(unread)}." if unread else ""))
    columns.no_classes()


def _rows(text: str, table: Table, file: AnyPath) -> Iterator[tuple[int, list[str]]]:
    """Line number and cells of each row that is not empty."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=table.delimiter, skipinitialspace=True, strict=True)
    header = table.header
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if header:
                header = False
                continue
            yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{file}: line {reader.line_num} is not CSV ({error}); fix its quotes") from None


def _read_row(reading: _Reading, row: list[str], number: int) -> None:
    columns, table = reading.columns, reading.table
    name, label = table.cell(row, "image"), table.cell(row, "label")
    if "label" not in table.column:
        label = ONE_CLASS
    if not name:
        text = "names no image"
        columns.problem("malformed", columns.source, f"line {number}", text, "add it, or take the line out")
        return
    image = _image(reading, row, name, number)
    boxes = table.boxes(row)
    if image < 0:
        return
    if not boxes and label and "label" in table.column:
        columns.changed[
            "(line has|lines have) a label and no box, and (counts as an image|count as images) without objects"
        ] += 1
    for words in boxes:
        _read_box(reading, row, words, label, image, number)


def _read_box(reading: _Reading, row: list[str], words: list[str], label: str, image: int, number: int) -> None:
    columns, table = reading.columns, reading.table
    values = table.corners(words) if len(words) == 4 else [NAN] * 4
    written = cut(" ".join(word or NO_BOX for word in words)) if any(words) else NO_BOX
    odd = "" if all(value == value for value in values) else written
    number_of_class = columns.label(reading.classes.get(label, label)) if label else NO_LABEL
    flags = {role: table.cell(row, role).lower() in ("1", "true") for role in reading.flags}
    columns.box(image, number_of_class, [NAN] * 4 if odd else values, number, odd=odd, **flags)
    if not odd:
        reading.numbers += 1
        reading.normalized += all(-1 <= value <= 2 for value in values)


def _image(reading: _Reading, row: list[str], name: str, number: int) -> int:
    """The index of an image, which is looked for where it is named first; -1 where it is left out."""
    columns, size = reading.columns, _size(reading.table, row) if reading.sized else (0, 0)
    if name not in reading.images:
        reading.images[name] = _new_image(reading, name, size, number)
    image = reading.images[name]
    if image >= 0 and size != reading.sizes[image]:
        text = f"gives the image {short(name)} another size than a line before"
        columns.problem("bad-size", columns.source, f"line {number}", text, "fix the one that is wrong", image=image)
    return image


def _new_image(reading: _Reading, name: str, size: tuple[int, int], number: int) -> int:
    """The index of an image that was not called so before: another one's, if both names are of one file."""
    found = _find(reading.finder, name)
    if found in reading.locations:  # a.jpg, ./a.jpg and a
        return reading.locations[found]
    if found is None and reading.table.of_open_images:
        return -1
    columns = reading.columns
    image = columns.named(
        reading.finder, name, SourceLocation(columns.source, f"line {number}"), size=size, found=found
    )
    reading.sizes[image] = size
    if found is not None:
        reading.locations[found] = image
    return image


def _find(finder: ImageFinder, name: str) -> tuple[AnyPath, str] | None:
    """The file that a name means, with its suffix or without."""
    found = without_suffix(finder, name)
    return finder.find(name) if found is None and not is_unsafe_path(name) else found


def _size(table: Table, row: list[str]) -> tuple[int, int]:
    sides = [to_number(table.cell(row, side)) for side in ("width", "height")]
    if all(1 <= side <= _MAX_SIDE and side == int(side) for side in sides):
        return int(sides[0]), int(sides[1])
    return 0, 0


def find_csv(path: AnyPath) -> dict[str, AnyPath]:
    """The splits: a column, or a file for each, or a single file.

    Raises:
        DataError: there is none that is understood.
    """
    files = [path] if path.is_file() else box_tables(path)
    if not files:
        raise DataError(f"{path}: there is no CSV file of boxes in it; the columns are {', '.join(EXPECTED)}")
    if len(files) == 1:
        return _splits_in(files[0], path)
    found: dict[str, AnyPath] = {}
    for file in files:
        name = _split_of(file, path)
        if name in found:
            raise DataError(f"{path}: {found[name]} and {file} are both the split {name}; name one of them")
        found[name] = file
    return found


def _splits_in(file: AnyPath, path: AnyPath) -> dict[str, AnyPath]:
    text = TextDecoder().read(file)
    table = table_of(text, file)
    if "split" in table.column:
        names = {normalize_split(table.cell(row, "split") or "all"): None for _, row in _rows(text, table, file)}
        return dict.fromkeys(names or ["all"], file)
    name = _split_of(file, path)
    return {name if name in NAMED else "all": file}


def _split_of(file: AnyPath, path: AnyPath) -> str:
    """The split that a table is of, by its own name and those of the folders down to it."""
    inner = () if path.is_file() else parts_between(path, file.parent)
    name = split_of_parts([*inner, file.stem])
    return name if name in NAMED else normalize_split(inner[-1] if inner else file.stem)


def box_tables(folder: AnyPath) -> list[AnyPath]:
    """The tables of boxes in a folder, or else in those right below it, or in the folders "labels" of these."""
    inner = [folder / name for name in list_dir(folder)[0]]
    for paths in ([folder], inner, [path / "labels" for path in inner]):
        files = [
            directory / name
            for directory in paths
            for name in list_dir(directory)[1]
            if name.lower().endswith(SUFFIXES)
        ]
        found = [file for file in files[:1000] if not unread_kind(file) and has_boxes(file)]
        if found:
            return found
    return []


def has_boxes(file: AnyPath) -> bool:
    """Whether a table has the columns of boxes, or no header and looks like it."""
    try:
        with file.open("rb") as stream:
            text, _ = decode(stream.read(1 << 16), file)
        table_of(text, file)
    except (OSError, ValueError, DataError):
        return False
    return True
