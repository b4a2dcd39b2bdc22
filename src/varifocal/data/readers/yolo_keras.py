"""Text files with a line for each image, ``path x1,y1,x2,y2,class x1,y1,x2,y2,class ...``, in pixels.

Keras's YOLOv3 and PyTorch's YOLOv4 train on them, and Roboflow exports them. Classes are the lines of ``_classes.txt``.
"""

from __future__ import annotations

from collections.abc import Iterator

from varifocal.data.archive import AnyPath
from varifocal.data.paths import TextDecoder
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.items import Entry, Fault, Item, LocationFormat, Shape, number_of
from varifocal.data.readers.json_lists import Add
from varifocal.data.readers.record_files import RecordFiles
from varifocal.data.readers.sniff import text_kind
from varifocal.data.readers.values import read_numbers, to_whole
from varifocal.utils.text import short, short_list

_MAX_CLASSES = 10**6
_CLASS_FILES = ("_classes.txt", "classes.txt", "class_names.txt", "coco_classes.txt", "obj.names")


def _scan(file: AnyPath, columns: ColumnBuilder, add: Add) -> None:
    texts = TextDecoder()
    text = texts.read(file)
    names = _names(file, texts)
    if names:
        columns.declare_classes(names)
    else:
        columns.notes.append(f"{file.name}: classes are numbers without names ({_CLASS_FILES[0]} is not beside it).")
    for number, line in enumerate(text.split("\n"), start=1):
        words = line.split(" ")
        first = next((at for at, word in enumerate(words) if at and "," in word), len(words))
        name = " ".join(words[:first]).strip()
        if line.strip():
            entries = _entries(number, [word for word in words[first:] if word.strip()], names)
            add(Item(name, entries, location=f"line {number}"))
    columns.notes += texts.notes(file)


def _names(file: AnyPath, texts: TextDecoder) -> list[str]:
    """Return the names of the classes 0, 1, ... from the list beside the file or in the folder above."""
    for folder in (file.parent, file.parent.parent):
        for name in _CLASS_FILES:
            if (folder / name).is_file():
                lines = [line.strip() for line in texts.read(folder / name).rstrip().split("\n")]
                return lines if all(lines) and len(set(lines)) == len(lines) else []
    return []


def _entries(line: int, words: list[str], names: list[str]) -> Iterator[Entry]:
    for index, word in enumerate(words):
        yield _entry(number_of(line, index), word.strip(), names)


def _entry(position: int, word: str, names: list[str]) -> Entry:
    cells = word.split(",")
    if len(cells) != 5:
        return Fault(position, f"is {short(word)}", "a box is x1,y1,x2,y2,class without spaces")
    category = to_whole(cells[4])
    if category is None or category not in range(len(names) or _MAX_CLASSES):
        listed = short_list(f"{index} {name}" for index, name in enumerate(names)) or "whole numbers"
        return Fault(position, f"has the class {short(cells[4])}", f"the classes are {listed}", "unknown-class")
    label = names[category] if names else str(category)
    box, odd = read_numbers(cells[:4], ",")
    return Shape(position, label, box, odd=odd)


_LOCATION = LocationFormat("line {record} box {index}")
YOLO_KERAS = RecordFiles("yolo-keras", "YOLO for Keras", (".txt",), text_kind, _scan, _LOCATION)
