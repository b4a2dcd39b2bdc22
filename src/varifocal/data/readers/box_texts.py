"""Formats with a text file for each image and a line for each object: VisDrone, KITTI and DOTA.

- VisDrone (http://aiskyeye.com): ``left,top,width,height,score,category,truncation,occlusion``. Category 0 is a region
  to be ignored, 11 is "others", which its evaluation leaves out as well; a score of 0 marks one object to be ignored.
- KITTI (https://www.cvlibs.net/datasets/kitti): ``type truncated occluded alpha left top right bottom`` and the
  position of the object in space. ``DontCare`` is a region to be ignored.
- DOTA (https://captain-whu.github.io/DOTA): ``x1 y1 x2 y2 x3 y3 x4 y4 category difficult``, after two lines that
  describe the image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from varifocal.data.archive import AnyPath
from varifocal.data.readers.columns import line_of
from varifocal.data.readers.items import IGNORED, TURNED, Entry, Fault, Item, Shape
from varifocal.data.readers.label_files import LabelFiles
from varifocal.data.readers.shapes import enclosing_box
from varifocal.data.readers.sniff import text_kind
from varifocal.data.readers.values import read_numbers, to_number
from varifocal.utils.text import counted, short

_VISDRONE = (
    *("pedestrian", "people", "bicycle", "car", "van", "truck"),
    *("tricycle", "awning-tricycle", "bus", "motor"),
)
_OTHERS = len(_VISDRONE) + 1
_KITTI = "type truncated occluded alpha left top right bottom, then seven or eight numbers"
_DIGIT = re.compile(r"\d")


def _lines(entry: Callable[[int, str], Entry | None]) -> Callable[[str, AnyPath], Item]:
    """Return a parser of text files; ``entry(number, line)`` returns the object of a line, None where it holds none."""

    def entries(text: str) -> Iterator[Entry]:
        for number, line in enumerate(text.split("\n"), start=1):
            if line.strip() and (found := entry(number, line)) is not None:
                yield found

    def parse(text: str, file: AnyPath) -> Item:
        return Item(file.stem, entries(text))

    return parse


def _wrong_count(number: int, count: int, expected: str) -> Fault:
    return Fault(number, f"has {counted(count, '(value|values)')}", f"a line is: {expected}")


def _visdrone(number: int, line: str) -> Entry:
    words = [word.strip() for word in line.strip().rstrip(",").split(",")]
    if len(words) != 8:
        return _wrong_count(number, len(words), "left,top,width,height,score,category,truncation,occlusion")
    (x, y, width, height), unread = read_numbers(words[:4], ",")
    score, category = map(to_number, words[4:6])
    if category not in range(_OTHERS + 1):
        hint = f"the categories are 0 to {_OTHERS}"
        return Fault(number, f"has the category {short(words[5])}", hint, "unknown-class")
    label = _VISDRONE[int(category) - 1] if 0 < category < _OTHERS else IGNORED
    return Shape(number, label, (x, y, x + width, y + height), odd=unread, crowd=score == 0)


def _kitti(number: int, line: str) -> Entry:
    words = line.split()
    if len(words) < 8:
        return _wrong_count(number, len(words), _KITTI)
    if to_number(words[0]) == to_number(words[0]):
        text, hint = f"begins with {short(words[0])}", "a line begins with the name of a class"
        return Fault(number, text, hint, "unknown-class")
    end = _class_length(words)
    if not end:
        return Fault(number, f"has {short(words[1])} where a number should follow the class", f"a line is: {_KITTI}")
    box, unread = read_numbers(words[end + 3 : end + 7])
    label = " ".join(words[:end])
    return Shape(number, IGNORED if label.lower() == "dontcare" else label, box, odd=unread)


def _class_length(words: Sequence[str]) -> int:
    """Return how many words the class of a KITTI line has: several only if all that follows is as KITTI defines it.

    Otherwise a damaged first number would become part of the class, and the numbers after it another box; 0 says so.
    """
    end = next((index for index, word in enumerate(words) if to_number(word) == to_number(word)), 0)
    values, unread = read_numbers(words[end:])
    if end == 1:
        return 1
    is_name = not any(map(_DIGIT.search, words[1:end]))
    return end if end and is_name and not unread and len(values) in (14, 15) and _is_object(values) else 0


def _is_object(values: Sequence[float]) -> bool:
    """Return whether truncation, occlusion, angle and corners of a KITTI object are in their ranges."""
    truncated, occluded, alpha, left, top, right, bottom = values[:7]
    is_pose = truncated in (-1, min(max(truncated, 0), 1)) and occluded in (-1, 0, 1, 2, 3) and -10 <= alpha <= 7
    return is_pose and left <= right and top <= bottom


def _dota(number: int, line: str) -> Entry | None:
    words = line.split()
    if number <= 2 and line.strip().startswith(("imagesource:", "gsd:")):
        return None
    if len(words) < 9:
        return _wrong_count(number, len(words), "x1 y1 x2 y2 x3 y3 x4 y4 category difficult")
    # 2 marks an object that the border of a tile cuts
    flag = words.pop() if len(words) > 9 and words[-1] in ("0", "1", "2") else "0"
    label = " ".join(words[8:])
    sides, unread = read_numbers(words[:8])
    if unread:
        return Shape(number, label, (), odd=unread)
    corners = list(zip(sides[::2], sides[1::2], strict=True))
    box = enclosing_box(corners)
    is_upright = all(x in box[::2] and y in box[1::2] for x, y in corners)
    return Shape(number, label, box, note="" if is_upright else TURNED, difficult=flag != "0")


VISDRONE = LabelFiles("visdrone", "VisDrone", ".txt", text_kind, _lines(_visdrone), line_of, _VISDRONE)
KITTI = LabelFiles("kitti", "KITTI", ".txt", text_kind, _lines(_kitti), line_of)
DOTA = LabelFiles("dota", "DOTA", ".txt", text_kind, _lines(_dota), line_of)
