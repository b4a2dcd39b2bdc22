"""Formats with a text file for each image, a line for each object: VisDrone, KITTI and DOTA.

- VisDrone (http://aiskyeye.com): ``left,top,width,height,score,category,truncation,occlusion``. Category 0 is a region
  that is to be ignored, 11 "others", which its evaluation leaves out as well; a score of 0 says the same of one object.
- KITTI (https://www.cvlibs.net/datasets/kitti): ``type truncated occluded alpha left top right bottom`` and what is
  known of the object in space. ``DontCare`` is a region that is to be ignored.
- DOTA (https://captain-whu.github.io/DOTA): ``x1 y1 x2 y2 x3 y3 x4 y4 category difficult``, after two lines on the
  image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from varifocal.data.archive import AnyPath
from varifocal.data.readers.columns import enclosing_box, line_of, to_number
from varifocal.data.readers.items import IGNORED, TURNED, Entry, Fault, Item, Shape
from varifocal.data.readers.label_files import LabelFiles
from varifocal.data.readers.sniff import text_kind
from varifocal.utils.text import short

_VISDRONE = (
    *("pedestrian", "people", "bicycle", "car", "van", "truck"),
    *("tricycle", "awning-tricycle", "bus", "motor"),
)
_OTHERS = len(_VISDRONE) + 1


def _lines(entry: Callable[[int, str], Entry | None]) -> Callable[[str, AnyPath], Item]:
    """What parses a text file whose lines ``entry`` understands; None of a line that is no object."""

    def entries(text: str) -> Iterator[Entry]:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip() and (found := entry(number, line)) is not None:
                yield found

    def parse(text: str, file: AnyPath) -> Item:
        return Item(file.stem, entries(text))

    return parse


def _count(number: int, found: int, expected: str) -> Fault:
    return Fault(number, f"has {found} values", f"a line is: {expected}")


def _visdrone(number: int, line: str) -> Entry:
    words = [word.strip() for word in line.strip().rstrip(",").split(",")]
    if len(words) != 8:
        return _count(number, len(words), "left,top,width,height,score,category,truncation,occlusion")
    x, y, width, height, score, category = map(to_number, words[:6])
    if category not in range(_OTHERS + 1):
        hint = f"the categories are 0 to {_OTHERS}"
        return Fault(number, f"has the category {short(words[5])}", hint, "unknown-class")
    label = _VISDRONE[int(category) - 1] if 0 < category < _OTHERS else IGNORED
    odd = "" if x == x and y == y and width == width and height == height else ",".join(words[:4])
    return Shape(number, label, (x, y, x + width, y + height), odd=odd, crowd=score == 0)


def _kitti(number: int, line: str) -> Entry:
    words = line.split()
    if len(words) < 8:
        return _count(number, len(words), "type truncated occluded alpha left top right bottom, and more")
    if to_number(words[0]) == to_number(words[0]):
        return Fault(
            number, f"begins with {short(words[0])}", "a line begins with the name of a class", "unknown-class"
        )
    box = [to_number(word) for word in words[4:8]]
    odd = "" if all(side == side for side in box) else " ".join(words[4:8])
    return Shape(number, IGNORED if words[0].lower() == "dontcare" else words[0], box, odd=odd)


def _dota(number: int, line: str) -> Entry | None:
    words = line.split()
    if number <= 2 and line.strip().startswith(("imagesource:", "gsd:")):
        return None
    if len(words) < 9:
        return _count(number, len(words), "x1 y1 x2 y2 x3 y3 x4 y4 category difficult")
    sides = [to_number(word) for word in words[:8]]
    # 2 marks an object that a window cuts
    flagged = len(words) > 9 and words[-1] in ("0", "1", "2")
    label = " ".join(words[8:-1] if flagged else words[8:])
    if not all(side == side for side in sides):
        return Shape(number, label, (), odd=" ".join(words[:8]))
    box = enclosing_box(list(zip(sides[::2], sides[1::2], strict=True)))
    upright = all(x in box[::2] and y in box[1::2] for x, y in zip(sides[::2], sides[1::2], strict=True))
    return Shape(number, label, box, note="" if upright else TURNED, difficult=flagged and words[-1] != "0")


VISDRONE = LabelFiles("visdrone", "VisDrone", ".txt", text_kind, _lines(_visdrone), line_of, _VISDRONE)
KITTI = LabelFiles("kitti", "KITTI", ".txt", text_kind, _lines(_kitti), line_of)
DOTA = LabelFiles("dota", "DOTA", ".txt", text_kind, _lines(_dota), line_of)
