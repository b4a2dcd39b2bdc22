"""Tables of boxes: a line for each box, with the image, the corners in pixels and the class.

The columns are found by their names, in any order; without a header they are image, xmin, ymin, xmax, ymax, label. A
box may be x, y, width and height as well, also as one cell ``[x, y, width, height]``. An image without objects is a
line without a box. Open Images is such a table, with codes for classes; most people have only some of its images.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from dataclasses import dataclass, field

from varifocal.data.annotations import NO_LABEL, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath, is_unsafe_path
from varifocal.data.find_images import finder_of
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, TextDecoder, decode, list_dir
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.csv_columns import EXPECTED, Table, names_delimiter, names_images, table_of
from varifocal.data.readers.items import ONE_CLASS, absent_note, one_class_note, without_suffix
from varifocal.data.readers.label_files import image_folders, image_roots, split_of_parts
from varifocal.data.readers.open_images import class_names
from varifocal.data.readers.unread import unread_kind
from varifocal.data.readers.values import NAN, whole_size, written
from varifocal.data.sibling_folders import parts_between, siblings_of_source
from varifocal.data.splits import NAMED, normalize_split
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

SUFFIXES = (".csv", ".tsv")


@dataclass
class _Reading:
    """The state that all lines of a file have in common."""

    columns: ColumnBuilder
    table: Table
    finder: ImageFinder
    classes: dict[str, str] = field(default_factory=dict)  # code -> name
    images: dict[str, int] = field(default_factory=dict)  # -1 for those that were left out
    locations: dict[tuple[AnyPath, str], int] = field(default_factory=dict)  # of files that lie where they are named
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    normalized: int = 0  # boxes that are fractions: some reach over the border, and pixels are larger numbers
    numbers: int = 0  # boxes that are numbers
    flags: list[str] = field(init=False)  # the columns of flags that the table has
    has_sizes: bool = field(init=False)

    def __post_init__(self) -> None:
        self.flags = [role for role in ("crowd", "difficult") if role in self.table.column]
        self.has_sizes = "width" in self.table.column and "height" in self.table.column


def read_csv(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read the lines of a split: all lines, or those that have it in the column "split".

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
    _finish(reading)
    columns.notes += texts.notes(source)
    # pixels of a data set are not all below 1
    normalized = reading.numbers > 0 and reading.normalized == reading.numbers
    if normalized:
        columns.notes.append(f"{source.name}: all boxes lie about 0 to 1 and are taken for fractions of the image.")
    return columns.finish([source], normalized=normalized)


def _roots(source: AnyPath, base: AnyPath, split: str, table: Table) -> list[AnyPath]:
    """Return the folders in which the images of a table may lie, the most likely first."""
    roots = [source.parent / split, source.parent / "images" / split, base / split, base / "images" / split]
    roots += [source.parent / "images", source.parent, base / "images", base]
    return roots + (image_roots(base, source.parent, split, image_folders(base)) if table.of_open_images else [])


def _finish(reading: _Reading) -> None:
    """Report what is known only when all lines are read."""
    columns, source = reading.columns, reading.columns.source
    absent = [name for name, image in reading.images.items() if image < 0]
    if absent and columns.names:
        columns.notes.append(absent_note(source, absent))
    elif absent:
        several = f"none of the {len(absent)} images that it names is there"
        text = "the image that it names is not there" if len(absent) == 1 else several
        columns.report("missing-image", source, "", text, "put them into a folder beside it")
    elif not columns.names and not columns.problems:
        columns.report("malformed", source, "", "it has no boxes", "give it a line for each box")
    if "label" not in reading.table.column and columns.boxes:
        columns.notes.append(one_class_note(source, reading.table.unread))
    columns.report_no_classes()


def _rows(text: str, table: Table, file: AnyPath) -> Iterator[tuple[int, list[str]]]:
    """Yield line number and cells of each row that is not empty, without the header."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=table.delimiter, skipinitialspace=True, strict=True)
    header = table.header
    try:
        for row in reader:
            if not any(cell.strip() for cell in row):
                continue
            if reader.line_num == 1 and names_delimiter(table.delimiter.join(row)):
                continue
            if header:
                header = False
                continue
            yield reader.line_num, row
    except csv.Error as error:
        text = f"line {reader.line_num} is not CSV ({error}); correct its quotes"
        raise DataError(f"{file}: {text}", code="csv-syntax") from None


def _read_row(reading: _Reading, row: list[str], number: int) -> None:
    columns, table = reading.columns, reading.table
    has_labels = "label" in table.column
    name, label = table.cell(row, "image"), table.cell(row, "label") if has_labels else ONE_CLASS
    if not name:
        columns.report("malformed", columns.source, f"line {number}", "names no image", "add it, or remove the line")
        return
    image = _image(reading, row, name, number)
    boxes = table.boxes(row)
    if image < 0:
        return
    if not boxes and label and has_labels:
        text = "(line has|lines have) a label and no box, and (counts as an image|count as images) without objects"
        columns.changed[text] += 1
    for words in boxes:
        _read_box(reading, row, words, label, image, number)


def _read_box(reading: _Reading, row: list[str], words: list[str], label: str, image: int, number: int) -> None:
    columns, table = reading.columns, reading.table
    values = table.corners(words) if len(words) == 4 else [NAN] * 4
    odd = "" if all(value == value for value in values) else written(words)
    number_of_class = columns.add_label(reading.classes.get(label, label)) if label else NO_LABEL
    flags = {role: table.cell(row, role).lower() in ("1", "true") for role in reading.flags}
    columns.add_box(image, number_of_class, [NAN] * 4 if odd else values, number, odd=odd, **flags)
    if not odd:
        reading.numbers += 1
        reading.normalized += all(-1 <= value <= 2 for value in values)


def _image(reading: _Reading, row: list[str], name: str, number: int) -> int:
    """Return the index of an image, which is searched for when it is first named; -1 where it is left out."""
    columns, table = reading.columns, reading.table
    size = whole_size(table.cell(row, "width"), table.cell(row, "height")) if reading.has_sizes else (0, 0)
    if name not in reading.images:
        reading.images[name] = _new_image(reading, name, size, number)
    image = reading.images[name]
    if image >= 0 and size != reading.sizes[image]:
        text = f"gives the image {short(name)} another size than a line before"
        columns.report("bad-size", columns.source, f"line {number}", text, "fix the one that is wrong", image=image)
    return image


def _new_image(reading: _Reading, name: str, size: tuple[int, int], number: int) -> int:
    """Return the index of an image that is named so for the first time: a known one if both names are of one file."""
    found = _find(reading.finder, name)
    if found in reading.locations:  # a.jpg, ./a.jpg and a
        return reading.locations[found]
    if found is None and reading.table.of_open_images:
        return -1
    columns = reading.columns
    image = columns.add_named_image(
        reading.finder, name, SourceLocation(columns.source, f"line {number}"), size=size, found=found
    )
    reading.sizes[image] = size
    if found is not None:
        reading.locations[found] = image
    return image


def _find(finder: ImageFinder, name: str) -> tuple[AnyPath, str] | None:
    """Return the file that a name with or without suffix means; None where it is not found."""
    found = without_suffix(finder, name)
    return finder.find(name) if found is None and not is_unsafe_path(name) else found


def find_csv(path: AnyPath) -> dict[str, AnyPath]:
    """Return the splits, each with its file: those in a column "split", or a file for each, or a single file.

    Raises:
        DataError: there is no table of boxes, or two of one split.
    """
    files = [path] if path.is_file() else box_tables(path)
    if not files:
        _refuse_columns(path)
        text = f"there is no CSV file of boxes in it; the columns are {', '.join(EXPECTED)}"
        raise DataError(f"{path}: {text}", code="csv-no-boxes")
    if len(files) == 1:
        return _splits_in(files[0], path)
    found: dict[str, AnyPath] = {}
    for file in files:
        name = _split_of(file, path)
        if name in found:
            text = f"{found[name]} and {file} are both the split {name}; name one of them"
            raise DataError(f"{path}: {text}", code="csv-duplicate-split")
        found[name] = file
    return found


def _refuse_columns(folder: AnyPath) -> None:
    """Raise an error that names the missing columns of the first table of images in a folder.

    Raises:
        DataError: there is a table with a column of images; the columns of a box are missing.
    """
    for file in tables_of_images(folder):
        table_of(TextDecoder().read(file), file)


def _splits_in(file: AnyPath, path: AnyPath) -> dict[str, AnyPath]:
    text = TextDecoder().read(file)
    table = table_of(text, file)
    if "split" in table.column:
        names = {normalize_split(table.cell(row, "split") or "all"): None for _, row in _rows(text, table, file)}
        return dict.fromkeys(names or ["all"], file)
    name = _split_of(file, path)
    return {name if name in NAMED else "all": file}


def _split_of(file: AnyPath, path: AnyPath) -> str:
    """Return the split that a table is of, by its own name and those of the folders down to it."""
    inner = () if path.is_file() else parts_between(path, file.parent)
    name = split_of_parts([*inner, file.stem])
    return name if name in NAMED else normalize_split(inner[-1] if inner else file.stem)


def box_tables(folder: AnyPath) -> list[AnyPath]:
    """Return the tables of boxes in a folder, or else in the folders in it, or in the folders "labels" of these."""
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


def tables_of_images(folder: AnyPath) -> list[AnyPath]:
    """Return the tables in a folder whose headers have a column of images, with boxes or without."""
    files = (folder / name for name in list_dir(folder)[1] if name.lower().endswith(SUFFIXES))
    return list(filter(_has_images, files))


def _has_images(file: AnyPath) -> bool:
    try:
        with file.open("rb") as stream:
            line = decode(stream.read(1 << 12), file)[0].split("\n", 1)[0]
    except (OSError, ValueError, DataError):
        return False
    return names_images(line)


def has_boxes(file: AnyPath) -> bool:
    """Return whether a table has the columns of boxes, or no header and the cells of boxes."""
    try:
        with file.open("rb") as stream:
            text, _ = decode(stream.read(1 << 16), file)
        table_of(text, file)
    except (OSError, ValueError, DataError):
        return False
    return True
