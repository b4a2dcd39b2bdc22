"""The box of an object of Pascal VOC, also of one that has an outline or a turned box alone."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET

from varifocal.data.annotations import NO_BOX
from varifocal.data.readers.columns import NAN, enclosing_box, rotate_box, to_number
from varifocal.data.readers.items import OUTLINE, TURNED

SIDES = ("xmin", "ymin", "xmax", "ymax")
Corners = tuple[float, float, float, float]
_NONE = (NAN, NAN, NAN, NAN)


def text_of(node: ET.Element, name: str) -> str:
    """What stands in a child, empty where there is none."""
    return (node.findtext(name) or "").strip()


def corners_of(node: ET.Element) -> tuple[Corners, str, str]:
    """Return corners as VOC counts them, what stands there instead of numbers or "", and how another shape was read or
    "".

    Without a ``bndbox`` the upright box around a ``robndbox`` (roLabelImg) or a ``polygon`` is taken.
    """
    box = node.find("bndbox")
    if box is not None:
        texts = {child.tag.lower(): (child.text or "").strip() for child in reversed(box)}  # the first of a name counts
        words = [texts.get(side, "") for side in SIDES]
        values = [to_number(word) for word in words]
        if all(value == value for value in values):
            return (values[0], values[1], values[2], values[3]), "", ""
        return _NONE, " ".join(word or NO_BOX for word in words) if any(words) else NO_BOX, ""
    for corners, note in ((_turned(node.find("robndbox")), TURNED), (_around(node.find("polygon")), OUTLINE)):
        if corners is not None:
            return corners, "", note
    return _NONE, NO_BOX, ""


def _turned(node: ET.Element | None) -> Corners | None:
    """The box around one that is turned by radians about its middle."""
    if node is None:
        return None
    x, y, width, height, angle = (to_number(text_of(node, name)) for name in ("cx", "cy", "w", "h", "angle"))
    if not all(map(math.isfinite, (x, y, width, height, angle))) or width <= 0 or height <= 0:
        return None
    box = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
    return rotate_box(box, math.degrees(angle), (x, y))


def _around(node: ET.Element | None) -> Corners | None:
    """The box around a polygon of x1, y1, x2, y2, ... or of points with x and y each."""
    if node is None:
        return None
    if node.find("x1") is not None:
        tags = [child.tag[1:] for child in node if child.tag[:1] == "x"]
        points = [(to_number(text_of(node, f"x{tag}")), to_number(text_of(node, f"y{tag}"))) for tag in tags]
    else:
        points = [
            (to_number(text_of(one, "x")), to_number(text_of(one, "y"))) for one in node if one.find("x") is not None
        ]
    good = len(points) >= 3 and all(math.isfinite(value) for point in points for value in point)
    return enclosing_box(points) if good else None
