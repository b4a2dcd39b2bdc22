"""The box of an object of Pascal VOC, also of an object that has only an outline or a turned box."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from varifocal.data.annotations import NO_BOX
from varifocal.data.readers.items import OUTLINE, TURNED
from varifocal.data.readers.shapes import Box, enclosing_box, rotate_box
from varifocal.data.readers.values import COMMAS, NAN, read_numbers, to_number, with_points, written

SIDES = ("xmin", "ymin", "xmax", "ymax")
_NONE = (NAN, NAN, NAN, NAN)


def text_of(node: ET.Element, name: str) -> str:
    """Return the text of a child, "" where there is none."""
    return (node.findtext(name) or "").strip()


def corners_of(node: ET.Element) -> tuple[Box, str, str]:
    """Return corners as VOC counts them, the text of the source or "", and a note on another shape or "".

    The text is what the source has where numbers should be; the corners are NaN then. Without a ``bndbox`` the upright
    box around a ``robndbox`` (roLabelImg) or a ``polygon`` is taken, with its note.
    """
    box = node.find("bndbox")
    if box is None:
        return _other_shape(node)
    texts = {
        child.tag.lower(): (child.text or "").strip() for child in reversed(box)
    }  # of several children of one name the first counts
    words = [texts.get(side, "") for side in SIDES]
    note = ""
    (x1, y1, x2, y2), unread = read_numbers(words)
    if unread:
        (x1, y1, x2, y2), unread = read_numbers(with_points(words))
        note = COMMAS
    return (_NONE, written(words), "") if unread else ((x1, y1, x2, y2), "", note)


def _other_shape(node: ET.Element) -> tuple[Box, str, str]:
    for corners, note in ((_turned(node.find("robndbox")), TURNED), (_around(node.find("polygon")), OUTLINE)):
        if corners is not None:
            return corners, "", note
    return _NONE, NO_BOX, ""


def _turned(node: ET.Element | None) -> Box | None:
    """Return the upright box around a box that is turned by radians about its middle; None where it is none."""
    if node is None:
        return None
    x, y, width, height, angle = (to_number(text_of(node, name)) for name in ("cx", "cy", "w", "h", "angle"))
    if not all(map(math.isfinite, (x, y, width, height, angle))) or width <= 0 or height <= 0:
        return None
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return rotate_box(box, math.degrees(angle), (x, y))


def _around(node: ET.Element | None) -> Box | None:
    """Return the box around a polygon of x1, y1, x2, y2, ... or of points with x and y each; None where it is none."""
    if node is None:
        return None
    if node.find("x1") is not None:
        tags = [child.tag[1:] for child in node if child.tag[:1] == "x"]
        points = [(to_number(text_of(node, f"x{tag}")), to_number(text_of(node, f"y{tag}"))) for tag in tags]
    else:
        points = [
            (to_number(text_of(point, "x")), to_number(text_of(point, "y")))
            for point in node
            if point.find("x") is not None
        ]
    is_polygon = len(points) >= 3 and all(math.isfinite(value) for point in points for value in point)
    return enclosing_box(points) if is_polygon else None
