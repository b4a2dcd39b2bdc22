"""Boxes in a table: a line for each, with the picture, the corners in pixels and the class.

The columns are found by their names, in any order; without a header they are image, xmin, ymin, xmax, ymax, label. A
picture without objects is a line with empty corners and an empty label.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from varifocal.data.archive import Tree
from varifocal.data.find import finder_of
from varifocal.data.names import STANDARD, canonical
from varifocal.data.options import ReadOptions
from varifocal.data.raw import Place, RawSet, short, short_list
from varifocal.data.readers.columns import NAN, Columns, to_number
from varifocal.data.tree import PictureFinder, Texts, decode, names_in
from varifocal.errors import DataError

_NAMES = {
    "image": ("image", "filename", "imagename", "imagepath", "imagefile", "path", "file", "img", "imageid"),
    "xmin": ("xmin", "x1", "left", "bboxxmin", "xtl"),
    "ymin": ("ymin", "y1", "top", "bboxymin", "ytl"),
    "xmax": ("xmax", "x2", "right", "bboxxmax", "xbr"),
    "ymax": ("ymax", "y2", "bottom", "bboxymax", "ybr"),
    "label": ("label", "class", "classname", "category", "name", "labelname", "categoryname"),
    "width": ("width", "imagewidth", "imgwidth"),
    "height": ("height", "imageheight", "imgheight"),
    "split": ("split", "set", "subset", "usage"),
}
_ROLES = {name: role for role, names in _NAMES.items() for name in names}
_WANTED = ("image", "xmin", "ymin", "xmax", "ymax", "label")
_SIDES = _WANTED[1:5]
_DELIMITERS = (",", ";", "\t", "|")
_MAX_SIDE = 2**31 - 1
SUFFIXES = (".csv", ".tsv")


@dataclass
class _Table:
    """How a file is to be read: its delimiter, the column of each role, and the line where boxes begin."""

    delimiter: str
    place: dict[str, int]
    header: bool

    def cell(self, row: Sequence[str], role: str) -> str:
        """The text of a column, "" where the row is too short."""
        index = self.place.get(role, -1)
        return row[index].strip() if 0 <= index < len(row) else ""


@dataclass
class _Reading:
    """What is shared by all lines of a file."""

    columns: Columns
    table: _Table
    finder: PictureFinder
    images: dict[str, int] = field(default_factory=dict)
    sizes: dict[int, tuple[int, int]] = field(default_factory=dict)
    shares: int = 0  # boxes within 0 and 1
    numbers: int = 0  # boxes that are numbers


def read_csv(source: Tree, data: Tree, split: str, options: ReadOptions) -> RawSet:
    """The lines of a split: of the whole file, or those whose column "split" says so.

    Raises:
        DataError: the file cannot be read, or its columns are not understood.
    """
    columns = Columns("csv", source, split)
    texts = Texts()
    text = texts.read(source)
    table = _table_of(text, source)
    base = data if data.is_dir() else source.parent
    roots = [source.parent / split, source.parent / "images" / split, base / split, base / "images" / split]
    roots += [source.parent / "images", source.parent, base / "images", base]
    reading = _Reading(columns, table, finder_of(roots, base, split, options))
    for number, row in _rows(text, table, source):
        if "split" in table.place and canonical(table.cell(row, "split") or "all") != split:
            continue
        _read_row(reading, row, number)
    if not columns.names and not columns.problems:
        columns.problem("malformed", source, "", "there are no boxes in it", "give it a line for each box")
    if reading.numbers and reading.shares == reading.numbers:
        text = "all boxes lie between 0 and 1, which are shares of the picture and not pixels"
        columns.problem("malformed", source, "", text, "multiply x by the width and y by the height of the picture")
    columns.no_classes()
    columns.notes += texts.notes(source)
    return columns.finish([source])


def _table_of(text: str, file: Tree) -> _Table:
    """Read the header, or guess that there is none.

    Raises:
        DataError: it says which columns are missing or there twice.
    """
    line = next((line for line in text.split("\n") if line.strip()), "")
    delimiter = max(_DELIMITERS, key=lambda one: len(_split(line, one)))
    cells = _split(line, delimiter)
    roles = [_role(cell) for cell in cells]
    if not any(roles) and _is_row(cells, delimiter):
        return _Table(delimiter, {role: index for index, role in enumerate(_WANTED)}, header=False)
    return _Table(delimiter, _places(cells, roles, file), header=True)


def _is_row(cells: list[str], delimiter: str) -> bool:
    """Whether the first line is one of the table: a picture with four numbers or with nothing."""
    numbers = all(to_number(_dot(cell, delimiter)) == to_number(cell) for cell in cells[1:5])
    return len(cells) >= len(_WANTED) and (numbers or not any(cells[1:6]))


def _places(cells: list[str], roles: list[str | None], file: Tree) -> dict[str, int]:
    """Where each column stands by what it means."""
    place: dict[str, int] = {}
    for index, role in enumerate(roles):
        if role is not None and place.setdefault(role, index) != index:
            raise DataError(
                f"{file}: the columns {cells[place[role]]!r} and {cells[index]!r} both mean {role}; keep one"
            )
    missing = [role for role in _WANTED if role not in place]
    if missing:
        raise DataError(
            f"{file}: the header has no {' and no '.join(missing)} (found: {short_list(cells)}); "
            f"the columns are {', '.join(_WANTED)}, in any order"
        )
    return place


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return []


def _role(cell: str) -> str | None:
    return _ROLES.get(re.sub(r"[^a-z0-9]", "", cell.lower()))


def _dot(cell: str, delimiter: str) -> str:
    """A number with a decimal comma, where that does not end a cell."""
    return cell.replace(",", ".") if delimiter != "," else cell


def _rows(text: str, table: _Table, file: Tree) -> Iterator[tuple[int, list[str]]]:
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
        raise DataError(f"{file}: line {reader.line_num} is not CSV ({error}); mend its quotes") from None


def _read_row(reading: _Reading, row: list[str], number: int) -> None:
    columns, table = reading.columns, reading.table
    words = [table.cell(row, side) for side in _SIDES]
    name, label = table.cell(row, "image"), table.cell(row, "label")

    def report(kind: str, text: str, mend: str, image: int = -1) -> None:
        columns.problem(kind, columns.source, f"line {number}", text, mend, image=image)

    if not name:
        report("malformed", "names no picture", "add it, or take the line out")
        return
    image = _picture(reading, row, name, number)
    if not any(words) and not label:
        return
    if not all(words):
        report("malformed", f"has no {_SIDES[words.index('')]}", "give all four corners, or none and no label", image)
        return
    if not label:
        report("unknown-class", "has a box without a label", "add it, or take the line out", image)
        return
    values = [to_number(_dot(word, table.delimiter)) for word in words]
    odd = "" if all(value == value for value in values) else " ".join(words)
    columns.box(image, columns.label(label), [NAN] * 4 if odd else values, number, odd=odd)
    if not odd:
        reading.numbers += 1
        reading.shares += all(0 <= value <= 1 for value in values)


def _picture(reading: _Reading, row: list[str], name: str, number: int) -> int:
    """The index of a picture, which is looked for where it is named first."""
    columns, table = reading.columns, reading.table
    size = _size(table, row)
    if name in reading.images:
        image = reading.images[name]
        if size != reading.sizes[image]:
            text = f"gives the picture {short(name)} another size than a line before"
            columns.problem(
                "bad-size", columns.source, f"line {number}", text, "mend the one that is wrong", image=image
            )
        return image
    image = columns.named(reading.finder, name, Place(columns.source, f"line {number}"), size=size)
    reading.images[name], reading.sizes[image] = image, size
    return image


def _size(table: _Table, row: list[str]) -> tuple[int, int]:
    sides = [to_number(table.cell(row, side)) for side in ("width", "height")]
    if all(1 <= side <= _MAX_SIDE and side == int(side) for side in sides):
        return int(sides[0]), int(sides[1])
    return 0, 0


def find_csv(path: Tree) -> dict[str, Tree]:
    """The splits: a column, or a file for each, or a single file.

    Raises:
        DataError: there is none that is understood.
    """
    files = [path] if path.is_file() else box_tables(path)
    if not files:
        raise DataError(f"{path}: there is no CSV file of boxes in it; the columns are {', '.join(_WANTED)}")
    if len(files) == 1:
        return _splits_in(files[0], path)
    found: dict[str, Tree] = {}
    for file in files:
        name = canonical(file.stem if file.parent == path else file.parent.name)
        if name in found:
            raise DataError(f"{path}: {found[name]} and {file} are both the split {name}; name one of them")
        found[name] = file
    return found


def _splits_in(file: Tree, path: Tree) -> dict[str, Tree]:
    text = Texts().read(file)
    table = _table_of(text, file)
    if "split" in table.place:
        names = {canonical(table.cell(row, "split") or "all"): None for _, row in _rows(text, table, file)}
        return dict.fromkeys(names or ["all"], file)
    name = canonical(file.stem if file.parent == path or path.is_file() else file.parent.name)
    return {name if name in STANDARD else "all": file}


def box_tables(folder: Tree) -> list[Tree]:
    """The tables of boxes in a folder, or else in those right below it."""
    for places in ([folder], [folder / name for name in names_in(folder)[0]]):
        files = [place / name for place in places for name in names_in(place)[1] if name.lower().endswith(SUFFIXES)]
        found = [file for file in files[:1000] if has_boxes(file)]
        if found:
            return found
    return []


def has_boxes(file: Tree) -> bool:
    """Whether a table has the columns of boxes, or no header and looks like it."""
    try:
        with file.open("rb") as stream:
            text, _ = decode(stream.read(1 << 16), file)
        _table_of(text, file)
    except (OSError, ValueError, DataError):
        return False
    return True
