"""The meaning of each column of a table of boxes, by its name or, without a header, by its position."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from varifocal.data.archive import AnyPath
from varifocal.data.paths import is_image
from varifocal.data.readers.values import to_number, with_points
from varifocal.utils.errors import DataError
from varifocal.utils.text import quoted, short_list

_NAMES = {
    "image": (
        *("image", "filename", "imagename", "imagepath", "imagefile", "path", "file", "img", "frame"),
        *("imgpath", "imgname", "filepath", "picture", "imagefilename"),
    ),
    "image id": ("imageid", "imgid", "patientid", "fileid"),
    "xmin": ("xmin", "x1", "left", "bboxxmin", "bboxx1", "roix1", "xtl", "minx", "bboxleft"),
    "ymin": ("ymin", "y1", "top", "bboxymin", "bboxy1", "roiy1", "ytl", "miny", "bboxtop"),
    "xmax": ("xmax", "x2", "right", "bboxxmax", "bboxx2", "roix2", "xbr", "maxx", "bboxright"),
    "ymax": ("ymax", "y2", "bottom", "bboxymax", "bboxy2", "roiy2", "ybr", "maxy", "bboxbottom"),
    "x": ("x", "bboxx", "boxx"),
    "y": ("y", "bboxy", "boxy"),
    "x middle": ("xcenter", "xcentre", "cx", "centerx"),
    "y middle": ("ycenter", "ycentre", "cy", "centery"),
    "box width": ("w", "bboxwidth", "bboxw", "boxwidth", "boxw"),
    "box height": ("h", "bboxheight", "bboxh", "boxheight", "boxh"),
    "bbox": ("bbox", "box", "boundingbox", "bboxxywh"),
    "corners": ("bboxxyxy", "boxxyxy"),
    "boxes": ("boxesstring",),
    "label": ("label", "class", "classname", "category", "name", "labelname", "categoryname", "objectclass"),
    "object": ("object", "objectname"),
    "label id": ("classid", "categoryid", "labelid"),
    "width": ("width", "imagewidth", "imgwidth", "imgw", "imagew"),
    "height": ("height", "imageheight", "imgheight", "imgh", "imageh"),
    "split": ("split", "set", "subset", "usage"),
    "crowd": ("isgroupof", "iscrowd"),
    "difficult": ("difficult", "isdifficult"),
    "confidence": ("confidence",),
}
_ROLES = {name: role for role, names in _NAMES.items() for name in names}
EXPECTED = ("image", "xmin", "ymin", "xmax", "ymax", "label")
_DELIMITERS = (",", ";", "\t", "|")
_MISSING = frozenset(["", "nan", "na", "n/a", "null", "none", "no_box"])  # cells of pandas and others without a box
# The columns in which a box can be written; the first way of which a table has all columns counts.
_WAYS = (
    ("xmin", "ymin", "xmax", "ymax"),
    ("bbox",),
    ("corners",),
    ("boxes",),
    ("x", "y", "box width", "box height"),
    ("xmin", "ymin", "box width", "box height"),
    ("x middle", "y middle", "box width", "box height"),
    ("x", "y", "width", "height"),
    ("xmin", "ymin", "width", "height"),
    ("x middle", "y middle", "width", "height"),
)
_MAKE_SENSE = ("label", "x", "y", "box width", "box height", "image", "width", "height")


@dataclass(frozen=True)
class Table:
    """How a file is read.

    ``column`` is the index of the column of each role, ``header`` whether the first line names the columns. ``box`` are
    the roles of the columns that hold a box, ``unread`` the names of columns without a meaning.
    """

    delimiter: str
    column: dict[str, int]
    header: bool
    box: tuple[str, ...]
    unread: tuple[str, ...] = ()

    def cell(self, row: Sequence[str], role: str) -> str:
        """Return the text of a column, "" where the row is too short."""
        index = self.column.get(role, -1)
        return row[index].strip() if 0 <= index < len(row) else ""

    def boxes(self, row: Sequence[str]) -> list[list[str]]:
        """Return the words of each box in a row, four where the box is complete; none where there is no box."""
        if len(self.box) == 4:
            words = [self.cell(row, role) for role in self.box]
            return [] if all(map(_is_missing, words)) else [words]
        cell = self.cell(row, self.box[0])
        parts = cell.split(";") if self.box == ("boxes",) else [cell.strip("[](){}")]
        return [re.split(r"[,\s]+", part.strip()) for part in parts if not _is_missing(part)]

    def corners(self, words: Iterable[str]) -> list[float]:
        """Return a box as x1, y1, x2, y2, with NaN for what is no number."""
        a, b, c, d = map(to_number, map(self.with_point, words))
        if self.box[0] in ("corners", "boxes") or self.box[-1] == "ymax":
            return [a, b, c, d]
        if self.box[0] == "x middle":
            a, b = a - c / 2, b - d / 2
        return [a, b, a + c, b + d]

    def with_point(self, cell: str) -> str:
        """Return a number with a decimal point where it has a decimal comma; between commas it has quotes."""
        return cell.replace(",", ".") if self.delimiter != "," else with_points([cell])[0]

    @property
    def of_open_images(self) -> bool:
        """Whether the columns are those of Open Images."""
        return {"image id", "label", "crowd", "confidence"} <= set(self.column)


def table_of(text: str, file: AnyPath) -> Table:
    """Return how a table is to be read, by its header or, without one, by its first line.

    Raises:
        DataError: a column is missing or there twice; the message names it.
    """
    line = next((line for line in text.split("\n") if line.strip() and not names_delimiter(line)), "")
    delimiter = max(_DELIMITERS, key=lambda sign: len(_split(line, sign)))
    cells = _split(line, delimiter)
    return _without_header(delimiter, cells) or _with_header(delimiter, cells, list(map(_role_of, cells)), file)


def _without_header(delimiter: str, cells: list[str]) -> Table | None:
    """Return how a table is to be read whose first line is a row; None where it is a header, which has no numbers.

    The class of a row may be called like a column.
    """
    if any(map(_role_of, cells)) and all(map(math.isnan, map(to_number, cells))):
        return None
    for order in (_MAKE_SENSE, EXPECTED):
        table = Table(delimiter, {role: index for index, role in enumerate(order)}, False, order[1:5])
        # makesense.ai has the image behind the box, where others have the class
        fits = order == EXPECTED or is_image(table.cell(cells, "image"))
        if fits and len(cells) >= len(order) and _is_row(table, cells):
            return table
    return None


def names_delimiter(line: str) -> bool:
    """Return whether a line is the one by which Excel knows the delimiter, ``sep=;``."""
    return re.fullmatch(r'"?sep=."?', line.strip(), re.IGNORECASE) is not None


def _is_missing(cell: str) -> bool:
    return cell.strip().lower() in _MISSING


def names_images(line: str) -> bool:
    """Return whether a line is a header with a column of images."""
    cells = max((_split(line, delimiter) for delimiter in _DELIMITERS), key=len)
    return any(_role_of(cell) in ("image", "image id") for cell in cells)


def _role_of(cell: str) -> str | None:
    return _ROLES.get(re.sub(r"[^a-z0-9]", "", cell.lower()))


def _is_row(table: Table, cells: list[str]) -> bool:
    """Return whether a line can be of the table: an image that is no number, and four numbers or nothing."""
    name = table.cell(cells, "image")
    if not name or to_number(name) == to_number(name):
        return False
    sides = [to_number(table.with_point(table.cell(cells, role))) for role in table.box]
    return all(side == side for side in sides) or not any(cells[1 : len(table.column)])


def _with_header(delimiter: str, cells: list[str], roles: list[str | None], file: AnyPath) -> Table:
    """Return how a table with a header is to be read.

    Raises:
        DataError: a column is missing or there twice.
    """
    column_of = _columns(cells, roles, file)
    box = next((way for way in _WAYS if column_of.keys() >= set(way)), None)
    missing = [role for role in EXPECTED[:5] if role not in column_of and (role == "image" or box is None)]
    if box is None or missing:
        text = f"the header has no {', '.join(missing)} (found: {short_list(cells)})"
        hint = f"the columns are {', '.join(EXPECTED)}, in any order"
        raise DataError(f"{file}: {text}; {hint}", code="csv-missing-column")
    if "width" in box:  # then it is the width of the box, not of the image
        column_of |= {"box width": column_of.pop("width"), "box height": column_of.pop("height")}
        box = (*box[:2], "box width", "box height")
    unread = tuple(cell for cell, role in zip(cells, roles, strict=True) if role is None and cell)
    return Table(delimiter, column_of, True, box, unread)


def _columns(cells: list[str], roles: list[str | None], file: AnyPath) -> dict[str, int]:
    """Return the index of the column of each role.

    Raises:
        DataError: two columns have one role.
    """
    column_of: dict[str, int] = {}
    for index, role in enumerate(roles):
        if role is not None and (first := column_of.setdefault(role, index)) != index:
            text = f"the columns {quoted(cells[first])} and {quoted(cells[index])} both mean {role}; keep one"
            raise DataError(f"{file}: {text}", code="csv-duplicate-column")
    for role, other in (("image", "image id"), ("label", "object"), ("label", "label id")):
        if role not in column_of and other in column_of:
            column_of[role] = column_of[other]
    return column_of


def _split(line: str, delimiter: str) -> list[str]:
    try:
        return [cell.strip() for cell in next(csv.reader([line], delimiter=delimiter, skipinitialspace=True), [])]
    except csv.Error:
        return []
