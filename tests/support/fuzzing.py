"""Small data sets of each format to be damaged, and slow literal readers that say what a damaged one still means.

A reference gives what must be read, raises ``WrongError`` where reading must be refused, and ``UnclearError`` where the
damage leads away from what it understands (another layout, another file); then only the kind of error matters.
"""

from __future__ import annotations

import csv
import io
import json
import math
import random
import re
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from folders import fill, found, pack, png

from varifocal.data.load import load_dataset
from varifocal.utils.errors import DataError

SIZES = {"a.png": (100, 50), "b.png": (40, 30)}
IMAGES = {name: png(*size) for name, size in SIZES.items()}
Objects = dict[str, list[tuple[str, list[float]]]]


class WrongError(Exception):
    """Reading must be refused."""


class UnclearError(Exception):
    """The reference cannot tell."""


@dataclass(frozen=True)
class Target:
    """A data set: its files, the ones that are damaged, words that damage them, and what they then mean."""

    format: str
    files: dict[str, str | bytes]
    damaged: tuple[str, ...]
    words: tuple[str, ...]
    reference: Callable[[dict[str, bytes]], Objects]
    pack: str = ""  # the archive that the files are packed into


WORDS = (
    *("0", "1", "-1", "2", "3", "99", "0.5", "1e5", "1e999", "-0", "nan", "inf", "-inf", "1_0", "0x1", "\u0661", ""),
    *(" ", "\n", "\r\n", "\r", "\t", "\x00", "\x0b", "\x85", "\u2028", "\ufeff", "\ufffd", "\xe9", "\U0001f989"),
    *("null", "true", "false", "None", "NaN", "Infinity", "a.png", "b.png", "../a.png", "/etc/passwd", "C:\\a.png"),
    *("cat", "owl", "9" * 400, "9" * 5000, "[" * 50, "{" * 50, "-", "+", ".", "e", "\\", "\\u00e9", "'", '"', ",", ";"),
)
JSON_WORDS = (
    '"1"',
    '"abc"',
    "1.0",
    "[",
    "]",
    "{",
    "}",
    ":",
    '"id"',
    '"bbox"',
    "[]",
    "{}",
    '""',
    '"x"',
    "[1,2,3,4]",
    ",,",
    '"iscrowd": 2,',
    "//",
)
XML_WORDS = (
    "<",
    ">",
    "/",
    "&",
    "&amp;",
    "&x;",
    "<!--",
    "-->",
    "<![CDATA[",
    "]]>",
    "<object>",
    "</object>",
    "<!DOCTYPE x>",
)
XML_WORDS += ("<!ENTITY a 'b'>", "<?x?>", "<image/>", "<box/>", ' xtl="3"', "</annotation>", "<name>", "<bndbox/>", "=")


def damage(content: bytes, edits: list[tuple[int, int, int, str]]) -> bytes:
    """Content with some edits: kind, place in thousandths, length, word."""
    for kind, place, length, word in edits:
        at = len(content) * place // 1000
        inserted = word.encode("utf-8", "surrogatepass")
        if kind == 0:
            content = content[:at] + inserted + content[at:]
        elif kind == 1:
            content = content[:at] + inserted + content[at + length :]
        elif kind == 2:
            content = content[:at] + content[at + length :]
        elif kind == 3:
            content = content[:at] + content[at : at + 4 * length] * 2 + content[at + 4 * length :]
        elif kind == 4:
            content = content[:at]
        elif kind == 5:
            content = content[:at] + bytes([(length * 37 + place) % 256]) + content[at + 1 :]
        else:
            content = _replace_token(content, place, inserted)
    return content


def _replace_token(content: bytes, place: int, word: bytes) -> bytes:
    """Another word for one number or name."""
    tokens = list(re.finditer(rb"-?[\w.]+", content))
    if not tokens:
        return content
    token = tokens[len(tokens) * place // 1001]
    return content[: token.start()] + word + content[token.end() :]


def random_edits(rng: random.Random, target: Target) -> list[tuple[int, int, int, str]]:
    """Edits, half of them only another word for a word, most often a number, so that many data sets stay readable."""
    words = (*WORDS, *target.words)
    edits = []
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 5))):
        kind, word = rng.choice((0, 1, 2, 3, 4, 5, *[6] * 6)), rng.choice(words)
        if kind == 6 and rng.random() < 0.7:
            word = rng.choice(
                (str(rng.randrange(-3, 60)), f"{rng.uniform(-0.2, 1.2):.3f}", f"{rng.uniform(-9, 99):.2f}")
            )
        edits.append((kind, rng.randrange(1001), rng.randrange(1, 12), word))
    return edits


def attempt(target: Target, root: Path, name: str, content: bytes) -> str:
    """Read a damaged data set, and fail on anything but a DataError or what the reference says; how it ended."""
    files = {key: text.encode() if isinstance(text, str) else text for key, text in target.files.items()}
    files[name] = content
    if target.pack:
        path = pack(root / target.pack, files)
    else:
        fill(root, {name: content})
        path = root
    try:
        expected: Objects | None = target.reference(files)
        wrong = ""
    except UnclearError:
        expected, wrong = None, ""
    except WrongError as error:
        expected, wrong = None, str(error) or "wrong"
    refusal: DataError | None = None
    try:
        data = load_dataset(path, format=target.format)
    except DataError as error:
        refusal = error
    if refusal is not None:
        message = str(refusal)
        assert message, "an empty message"
        assert "\n" not in message, f"several lines: {message!r}"
        assert refusal.__cause__ is None
        assert len(message) < 4000, "a message without end"
        assert expected is None, f"refused ({message}) what means {expected}"
        return "refused"
    assert not wrong, f"read {found(data)} of what is wrong: {wrong}"
    if expected is None:
        return "unclear"
    read = {key: sorted(boxes) for key, boxes in found(data).items()}
    assert read == {key: sorted(boxes) for key, boxes in expected.items()}
    return "read"


def check(condition: Any, text: str = "") -> None:
    if not condition:
        raise WrongError(text)


def decoded(content: bytes, *, strict: bool = False) -> str:
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8"), (b"\xff\xfe", "utf-16-le"), (b"\xfe\xff", "utf-16-be")):
        if content.startswith(mark):
            try:
                return content[len(mark) :].decode(encoding)
            except UnicodeDecodeError:
                raise WrongError("encoding") from None
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        check(not strict, "encoding")
        return content.decode("latin-1")


def image(name: str, folder: str = "") -> str:
    """The image that a name means: one of the two, however the path to it is written."""
    name = name.replace("\\", "/")
    check(name and not name.startswith("/") and ".." not in name.split("/") and name[1:2] != ":", f"name {name!r}")
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if folder and parts[:1] == [folder]:
        parts = parts[1:]
    check(len(parts) == 1 and parts[0] in SIZES, f"no image {name!r}")
    check("\x00" not in name)
    return parts[0]


def last_of(name: str) -> str:
    """The last part of a path."""
    return name.replace("\\", "/").rpartition("/")[2]


def images(names: Iterable[Any], folder: str = "", *, stems: bool = False) -> dict[str, str]:
    """The image that each name means: exactly, or by its end where no other name means that image.

    With ``stems`` a name without its suffix is as good as one with it.
    """
    meant: dict[str, str] = {}
    others = []
    for name in dict.fromkeys(names):
        try:
            meant[name] = image(f"{name}.png" if stems and f"{last_of(name)}.png" in SIZES else name, folder)
        except WrongError:
            others.append(name)
    taken = set(meant.values())
    ends: dict[str, str] = {}
    for name in others:
        if not name.isascii() or set(name) & set("%?") or "://" in name:
            raise UnclearError
        drive = 2 if name[1:2] == ":" and name[0].isalpha() else 0
        parts = [part for part in name[drive:].replace("\\", "/").split("/") if part not in ("", ".", "..")]
        last = parts[-1].lower() if parts else ""
        stem = last in ("a", "b")  # a name without suffix
        check(stem or last in SIZES, f"no image {name!r}")
        ends[name] = f"{last}.png" if stem else last
    for name, end in ends.items():
        same = [other for other, its in ends.items() if its == end]
        check(end not in taken and len({other.replace("\\", "/") for other in same}) == 1, f"{name!r} may be several")
    return meant | ends


def number(value: Any) -> float:
    check(type(value) in (int, float), f"{value!r} is no number")
    try:
        value = float(value)
    except OverflowError:
        raise WrongError("too large") from None
    check(math.isfinite(value), f"{value} is not finite")
    return value


def text_number(text: str) -> float:
    text = text.strip()
    check("_" not in text, f"{text!r} is no number")
    try:
        return number(float(text))
    except ValueError:
        raise WrongError(f"{text!r} is no number") from None


def inside(name: str, x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """A box clipped to its image."""
    width, height = SIZES[name]
    check(x2 > x1 and y2 > y1, "no area")
    check(x1 < width and y1 < height and x2 > 0 and y2 > 0, "outside")
    box = np.clip(np.array([x1, y1, x2, y2]), 0, [width, height, width, height]).astype(np.float32)
    check(box[2] > box[0] and box[3] > box[1], "no area")
    return [round(float(value), 4) for value in box]


def in_order(name: str, x1: float, y1: float, x2: float, y2: float) -> list[float]:
    """A box whose corners may be any two that lie opposite each other."""
    return inside(name, min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))


def from_xywh(name: str, box: Any) -> list[float]:
    check(isinstance(box, list) and len(box) == 4, f"box {box!r}")
    x, y, width, height = map(json_number, box)
    return in_order(name, x, y, x + width, y + height)


def small(value: Any) -> int:
    check(type(value) is int and -(2**63) <= value < 2**63, f"{value!r} is no id")
    return value


def loaded(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise WrongError("no JSON") from None


def unique(values: list[Any]) -> None:
    check(len(set(values)) == len(values), "twice")


def coco_id(value: Any) -> str:
    """What an id is told apart by: 1, 1.0, "1" and "01" are one, where nothing else is called so."""
    check(type(value) in (int, float, str) and str(value).strip(), f"{value!r} is no id")
    check(not isinstance(value, float) or math.isfinite(value), f"{value!r} is no id")
    text = str(int(value)) if isinstance(value, float) and value == int(value) and abs(value) < 2**53 else str(value)
    found = re.fullmatch(r"([+-]?)([0-9]{1,18})(\.0*)?", text.strip(), re.ASCII)
    return text if found is None else str(int(found[1] + found[2]))


def coco_ids(values: list[Any]) -> list[str]:
    """Of the records of a section; texts that only look like the number of another are not followed."""
    ids = [coco_id(value) for value in values]
    if len({str(value) for value in values}) > len(set(ids)):
        raise UnclearError
    unique(ids)
    return ids


def json_number(value: Any) -> float:
    """A number, or a text that is one."""
    return text_number(value) if isinstance(value, str) else number(value)


def coco_box(name: str, one: dict[str, Any]) -> list[float]:
    """The box of an annotation, with its corners in any order."""
    given = one.get("bbox")
    sound = isinstance(given, list) and len(given) == 4
    numbers = sound and all(type(v) in (int, float) and abs(v) < 1e308 for v in given)
    flat = numbers and 0 in given[2:]  # an outline stands in for a box that has no area, too
    if one.get("segmentation") and (flat or not numbers):
        if sound and not flat:
            raise UnclearError
        polygons = one["segmentation"]
        if not isinstance(polygons, list) or not all(isinstance(polygon, list) and polygon for polygon in polygons):
            raise UnclearError
        if any(len(polygon) % 2 or not all(type(v) in (int, float) for v in polygon) for polygon in polygons):
            raise UnclearError
        xs, ys = ([number(v) for polygon in polygons for v in polygon[start::2]] for start in (0, 1))
        check(all(abs(v) < 1e15 for v in (*xs, *ys)), "outline")
        return inside(name, min(xs), min(ys), max(xs), max(ys))
    if isinstance(given, dict):
        raise UnclearError
    check(sound, f"box {given!r}")
    x, y, width, height = map(json_number, given)
    return in_order(name, x, y, x + width, y + height)


def coco_flag(value: Any) -> None:
    if value is None or value == "":
        return
    check(type(value) in (int, float, str, bool), "flag")
    check((text_number(value) if isinstance(value, str) else value) in (0, 1), "flag")


def coco_reference(files: dict[str, bytes]) -> Objects:
    pairs: list[Any] = []

    def keep(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = found
        return dict(found)

    try:
        content = json.loads(decoded(files["train.json"], strict=True), object_pairs_hook=keep)
    except (ValueError, RecursionError):
        raise WrongError("no JSON") from None
    check(isinstance(content, dict), "no object")
    for key in ("images", "annotations", "categories"):
        # the last object that ends is the outermost one
        check(sum(name == key for name, _ in pairs) == 1, "sections")
        check(isinstance(content[key], list) and all(isinstance(one, dict) for one in content[key]), "sections")
    check(content["images"] and content["categories"], "empty")
    once_each(content["images"], ("id", "file_name", "width", "height"))
    once_each(content["annotations"], ("id", "image_id", "category_id", "bbox"))
    names, known, result = coco_names(content), {}, {}
    for one in content["images"]:
        if not isinstance(one.get("file_name"), str) or not one["file_name"].strip():
            check(not isinstance(one.get("file_name"), str) or one["file_name"] != "", "file_name")
            raise UnclearError
    meant = images((one["file_name"] for one in content["images"]), "images")
    for id, one in zip(coco_ids([one.get("id") for one in content["images"]]), content["images"], strict=True):
        known[id] = name = meant[one["file_name"]]
        if coco_size(one) not in (None, SIZES[name]) or name in result:
            raise UnclearError
        result[name] = []
    for one in content["annotations"]:
        image, category = coco_id(one.get("image_id")), coco_id(one.get("category_id"))
        check(image in known and category in names, "unknown")
        for flag in ("iscrowd", "difficult"):
            coco_flag(one.get(flag))
        name = known[image]
        result[name].append((names[category], coco_box(name, one)))
    return result


def once_each(records: list[dict[str, Any]], keys: tuple[str, ...]) -> None:
    """What is there twice in these fields may be the same once more."""
    if len({json.dumps([one.get(key) for key in keys]) for one in records}) < len(records):
        raise UnclearError


def coco_names(content: dict[str, Any]) -> dict[str, str]:
    """The name of each class; of two that are called the same one may have no box."""
    found: dict[str, str] = {}
    ids = [coco_id(one.get("id")) for one in content["categories"]]
    if len(set(ids)) < len(ids) or len({str(one.get("id")) for one in content["categories"]}) > len(set(ids)):
        raise UnclearError  # the same once more, or not
    for id, one in zip(ids, content["categories"], strict=True):
        check(one.get("name") is None or type(one["name"]) in (str, int, float), "name")
        found[id] = str(one["name"]) if one.get("name") is not None else ""
        if not found[id].strip():
            if not id.lstrip("-").isdecimal():
                raise UnclearError
            found[id] = f"class_{id}"
    used = {coco_id(one.get("category_id")) for one in content["annotations"]}
    for name in set(found.values()):
        check(sum(found.get(id) == name for id in used) < 2, "two classes of one name")
    return found


def coco_size(one: dict[str, Any]) -> tuple[float, float] | None:
    """The size of an image, None where it is not said or cannot be."""
    sides = []
    for key in ("width", "height"):
        try:
            sides.append(json_number(one.get(key)))
        except WrongError:
            return None
    return (sides[0], sides[1]) if all(1 <= side < 2**31 and side == int(side) for side in sides) else None


def yolo_reference(files: dict[str, bytes]) -> Objects:
    try:
        content = yaml.safe_load(decoded(files["data.yaml"]).replace("\r\n", "\n").replace("\r", "\n"))
    except Exception:
        raise WrongError("no YAML") from None
    if not isinstance(content, dict) or content.get("train") != "images" or set(content) - {"train", "names"}:
        raise UnclearError
    names = content.get("names")
    if names is not None:  # else classes are called by their numbers
        check(isinstance(names, list) and names, "names")
        check(all(name is None or type(name) in (str, int, float) for name in names), "names")
        names = called(names, list(range(len(names))))
    return {name: yolo_objects(name, files[f"labels/{name[0]}.txt"], names) for name in SIZES}


def unix(content: bytes) -> str:
    return decoded(content).replace("\r\n", "\n").replace("\r", "\n")


def decimal_number(text: str) -> float:
    """A number with a point or a comma; 1,234 may be a thousand and is none."""
    whole, comma, fraction = text.strip().removeprefix("-").partition(",")
    if comma and (whole + fraction).isdecimal() and (whole + fraction).isascii() and whole and fraction:
        check(whole[0] == "0" or len(whole) > 3 or len(fraction) != 3, "thousands")
        return text_number(text.replace(",", "."))
    return text_number(text)


def called(names: list[Any], numbers: list[int]) -> list[str]:
    """Names, with that of the number for those that have none."""
    found = [
        str(name) if name is not None and str(name).strip() else f"class_{number}"
        for name, number in zip(names, numbers, strict=True)
    ]
    if len(set(found)) < len(found):
        raise UnclearError  # one class where only one of them has boxes
    return found


def yolo_objects(name: str, content: bytes, names: list[str] | None) -> list[tuple[str, list[float]]]:
    found = []
    for line in unix(content).split("\n"):
        words = line.split()
        if not words:
            continue
        check(len(words) == 5 or (len(words) >= 7 and len(words) % 2), f"{len(words)} values")
        label, *values = map(decimal_number, words)
        check(label == int(label) and label >= 0 and (names is None or label < len(names)), f"class {label}")
        check(all(-4 <= value <= 5 for value in values), "no fraction")
        if len(values) == 4:
            x, y, w, h = values
            shares = [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
        else:
            shares = [min(values[::2]), min(values[1::2]), max(values[::2]), max(values[1::2])]
        box = [share * side for share, side in zip(shares, SIZES[name] * 2, strict=True)]
        found.append((str(int(label)) if names is None else names[int(label)], in_order(name, *box)))
    return found


def darknet_reference(files: dict[str, bytes]) -> Objects:
    if files["obj.data"] != DARKNET.encode():
        raise UnclearError
    names = [line.strip() for line in unix(files["obj.names"]).rstrip().split("\n")]
    check(len(names) == 2, "names")
    names = called(names, [0, 1])
    lines = [line.strip() for line in unix(files["train.txt"]).split("\n")]
    lines = [line for line in lines if line]
    if not lines or any("/" not in line or set(line) & set("\"'\\") for line in lines):
        raise UnclearError
    meant = images(lines, "obj_train_data")
    if len(set(meant.values())) < len(lines):
        raise UnclearError
    result = {}
    for name in meant.values():
        result[name] = yolo_objects(name, files[f"obj_train_data/{name[0]}.txt"], names)
    return result


def voc_lists_reference(files: dict[str, bytes]) -> Objects:
    lines = [line.strip() for line in unix(files["ImageSets/Main/train.txt"]).split("\n")]
    lines = [line for line in lines if line]
    if not lines or not all(re.fullmatch(r"[a-z0-9_]+", line) for line in lines):
        raise UnclearError
    check(all(line in ("a", "b") for line in lines), "no XML")
    if len(set(lines)) < len(lines):
        raise UnclearError
    return {f"{line}.png": [("cat", inside(f"{line}.png", 10, 10, 30, 20))] for line in lines}


def xml_root(content: bytes) -> ET.Element:
    text = decoded(content)
    if "<?" in text:
        raise UnclearError
    check("<!DOCTYPE" not in text and "<!ENTITY" not in text, "document type")
    try:
        return ET.fromstring(text)
    except (ET.ParseError, ValueError):
        raise WrongError("no XML") from None


FLAGS = ("", "0", "1", "true", "false", "unspecified")


def voc_reference(files: dict[str, bytes]) -> Objects:
    root = xml_root(files["Annotations/a.xml"])
    if root.tag.startswith("{"):
        raise UnclearError
    check(root.tag == "annotation", "tag")
    given = (root.findtext("filename") or "").strip()
    if given != "a.png":
        raise UnclearError
    size = [(root.findtext(f"size/{side}") or "").strip() for side in ("width", "height")]
    if size != ["100", "50"] or len(root.findall("size")) > 1:
        raise UnclearError
    rows = []
    for node in root.findall("object"):
        name = (node.findtext("name") or "").strip()
        check(name, "name")
        box = node.find("bndbox")
        if box is None and {"polygon", "robndbox"} & {child.tag for child in node}:
            raise UnclearError
        check(box is not None, "bndbox")
        words = [(box.findtext(side) or "").strip() for side in ("xmin", "ymin", "xmax", "ymax")]
        check((node.findtext("difficult") or "0").strip().lower() in FLAGS, "difficult")
        rows.append((name, [decimal_number(word) for word in words]))
    check(rows, "nothing")
    rows = [(name, (min(x1, x2), min(y1, y2), max(x1, x2), max(y1, y2))) for name, (x1, y1, x2, y2) in rows]
    one = 0 if any(0 <= value < 1 for _, box in rows for value in box[:2]) else 1
    return {"a.png": [(name, inside("a.png", x1 - one, y1 - one, x2, y2)) for name, (x1, y1, x2, y2) in rows]}


def cvat_reference(files: dict[str, bytes]) -> Objects:
    root = xml_root(files["annotations.xml"])
    if root.tag != "annotations" or [node.tag for node in root] != ["meta", "image", "image"]:
        raise UnclearError
    if [node.tag for node in root[0].iter()] != ["meta", "task", "labels", "label", "name", "label", "name"]:
        raise UnclearError
    labels = [(node.text or "").strip() for node in root.iter("name")]
    labels = list(filter(None, labels))
    if not labels:
        raise UnclearError
    result: Objects = {}
    for node in root[1:]:
        if set(node.attrib) != {"id", "name", "width", "height"} or node.get("name") not in SIZES:
            raise UnclearError
        name = node.get("name", "")
        if (node.get("width"), node.get("height")) != tuple(map(str, SIZES[name])):
            raise UnclearError
        check(name not in result, "twice")
        result[name] = []
        for one in node:
            if one.tag != "box" or set(one.attrib) - {"label", "xtl", "ytl", "xbr", "ybr"}:
                raise UnclearError
            box = [text_number(one.get(side, "nothing")) for side in ("xtl", "ytl", "xbr", "ybr")]
            check(one.get("label") in labels, "label")
            result[name].append((one.get("label", ""), in_order(name, *box)))
    return result


def label_studio_reference(files: dict[str, bytes]) -> Objects:
    content = files["e.json"]
    try:
        tasks = json.loads(content.decode(json.detect_encoding(content)))
    except (ValueError, RecursionError):
        raise WrongError("no JSON") from None
    check(isinstance(tasks, list) and all(isinstance(task, dict) for task in tasks), "tasks")
    result: Objects = {}
    for task in tasks:
        if set(task) != {"id", "data", "annotations"} or not isinstance(task["data"], dict):
            raise UnclearError
        if task["data"].get("image") not in SIZES or not isinstance(task["annotations"], list):
            raise UnclearError
        name = task["data"]["image"]
        check(name not in result, "twice")
        if len(task["annotations"]) != 1 or set(task["annotations"][0]) != {"result"}:
            raise UnclearError
        check(isinstance(task["annotations"][0]["result"], list), "result")
        result[name] = []
        for one in task["annotations"][0]["result"]:
            if not isinstance(one, dict) or set(one) != {"type", "value", "original_width", "original_height"}:
                raise UnclearError
            size = (one["original_width"], one["original_height"])
            if one["type"] != "rectanglelabels" or size != SIZES[name] or not isinstance(one["value"], dict):
                raise UnclearError
            value = one["value"]
            if set(value) - {"x", "y", "width", "height", "rectanglelabels"}:
                raise UnclearError
            labels = value.get("rectanglelabels")
            check(isinstance(labels, list) and len(labels) == 1 and isinstance(labels[0], str), "label")
            check(labels[0].strip(), "label")
            x, y, w, h = (json_number(value.get(key)) / 100 for key in ("x", "y", "width", "height"))
            box = [share * side for share, side in zip((x, y, x + w, y + h), size * 2, strict=True)]
            result[name].append((labels[0], in_order(name, *box)))
    check(any(result.values()), "nothing")
    return result


def csv_reference(files: dict[str, bytes]) -> Objects:
    text = decoded(files["b.csv"]).replace("\r\n", "\n").replace("\r", "\n")
    header, _, rest = text.partition("\n")
    if header != "image,xmin,ymin,xmax,ymax,label":
        raise UnclearError
    result: Objects = {}
    shares = []
    try:
        rows = list(csv.reader(io.StringIO(rest, newline=""), skipinitialspace=True, strict=True))
    except csv.Error:
        raise WrongError("no CSV") from None
    rows = [row for row in rows if any(cell.strip() for cell in row)]
    check(all(row[0].strip() for row in rows), "no image")
    meant = images((row[0].strip() for row in rows), stems=True)
    for row in rows:
        written, *words, label = [cell.strip() for cell in (row + [""] * 6)[:6]]
        name = meant[written]
        result.setdefault(name, [])
        if all(word.lower() in ("", "nan", "na", "n/a", "null", "none", "no_box") for word in words):
            continue
        check(label and all(words), "a cell is missing")
        values = [decimal_number(word) for word in words]
        shares.append(all(0 <= value <= 1 for value in values))
        result[name].append((label, in_order(name, *values)))
    check(shares, "nothing")
    if all(shares):  # which are read as such
        raise UnclearError
    return result


def record_objects(name: str, record: Any) -> list[tuple[str, list[float]]]:
    if set(record) - {"file_name", "objects"} or not isinstance(record.get("objects"), dict):
        raise UnclearError
    if set(record["objects"]) != {"bbox", "categories"}:
        raise UnclearError
    boxes, categories = record["objects"]["bbox"], record["objects"]["categories"]
    check(isinstance(boxes, list) and isinstance(categories, list) and len(boxes) == len(categories), "lists")
    for category in categories:
        check(isinstance(category, (str, int)) and not isinstance(category, bool), "class")
        if isinstance(category, int):
            raise UnclearError
        check(category != "", "class")
    return [(category, from_xywh(name, box)) for category, box in zip(categories, boxes, strict=True)]


def image_folder_reference(files: dict[str, bytes]) -> Objects:
    result: Objects = {}
    text = decoded(files["metadata.jsonl"]).replace("\r\n", "\n").replace("\r", "\n")
    records = [loaded(line) for line in text.split("\n") if line.strip()]
    for record in records:
        check(isinstance(record, dict) and isinstance(record.get("file_name"), str) and record["file_name"], "record")
    names = [record["file_name"] for record in records]
    unique(names)
    meant = images(names)
    for record in records:
        name = meant[record["file_name"]]
        if name in result:
            raise UnclearError
        result[name] = record_objects(name, record)
    check(any(result.values()), "nothing")
    return result


def webdataset_reference(files: dict[str, bytes]) -> Objects:
    result: Objects = {}
    for name in SIZES:
        content = files[f"{name[0]}.json"]
        try:
            record = json.loads(content)
        except (ValueError, RecursionError):
            raise WrongError("no JSON") from None
        check(isinstance(record, dict), "no object")
        result[name] = record_objects(name, record)
    check(any(result.values()), "nothing")
    return result


def _lines(*lines: str) -> str:
    return "\n".join(lines) + "\n"


def _coco() -> str:
    images = [{"id": i, "file_name": n, "width": w, "height": h} for i, (n, (w, h)) in enumerate(SIZES.items(), 1)]
    boxes = [(1, 3, [10, 20.5, 30, 5]), (1, 7, [0, 0, 100, 50]), (2, 3, [1.25, 2, 3, 4])]
    annotations = [
        {"id": i, "image_id": a, "category_id": c, "bbox": b, "iscrowd": 0} for i, (a, c, b) in enumerate(boxes)
    ]
    categories = [{"id": 3, "name": "cat"}, {"id": 7, "name": "owl"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def _coco_odd() -> str:
    """What can be understood: ids that are texts, no sizes, no ids of annotations, outlines in place of boxes."""
    images = [{"id": f"img_{name[0]}", "file_name": name} for name in SIZES]
    annotations = [
        {"image_id": "img_a", "category_id": "c", "bbox": ["10", 20.5, 30, 5]},
        {"image_id": "img_a", "category_id": 7.0, "bbox": [100, 50, -100, -50]},
        {"image_id": "img_b", "category_id": "c", "bbox": None, "segmentation": [[1, 2, 4, 2], [3, 5, 9.5, 6]]},
    ]
    categories = [{"id": 0, "name": "cat"}, {"id": "c", "name": "cat"}, {"id": "7", "name": "owl"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def _voc() -> str:
    objects = ""
    for name, corners in (("cat", (11, 21, 40, 25)), ("owl", (1, 1, 100, 50))):
        sides = "".join(f"<{s}>{v}</{s}>" for s, v in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True))
        objects += f"<object><name>{name}</name><difficult>0</difficult><bndbox>{sides}</bndbox></object>\n"
    size = "<size><width>100</width><height>50</height></size>"
    return f"<annotation>\n<filename>a.png</filename>\n{size}\n{objects}</annotation>\n"


def _cvat() -> str:
    box = '<box label="{}" xtl="{}" ytl="{}" xbr="{}" ybr="{}"></box>'
    head = '<image id="{}" name="{}" width="{}" height="{}">'
    return _lines(
        "<annotations>",
        "<meta><task><labels><label><name>cat</name></label><label><name>owl</name></label></labels></task></meta>",
        head.format(0, "a.png", 100, 50),
        box.format("cat", 10, 20.5, 40, 25.5),
        box.format("owl", 0, 0, 100, 50),
        "</image>",
        head.format(1, "b.png", 40, 30),
        box.format("cat", 1.25, 2, 4.25, 6),
        "</image>",
        "</annotations>",
    )


def _csv() -> str:
    lines = ("a.png,10,20.5,40,25.5,cat", "a.png,0,0,100,50,owl", 'b.png,1,2,3,4,"cat"', "b.png,,,,,")
    return _lines("image,xmin,ymin,xmax,ymax,label", *lines)


def _label_studio() -> str:
    def result(label: str, x: float, y: float, width: float, height: float, size: tuple[int, int]) -> dict[str, Any]:
        value = {"x": x, "y": y, "width": width, "height": height, "rectanglelabels": [label]}
        return {"type": "rectanglelabels", "value": value, "original_width": size[0], "original_height": size[1]}

    tasks = []
    for i, (name, size) in enumerate(SIZES.items()):
        results = [result("cat", 10, 41, 30, 10, size), result("owl", 0, 0, 100, 100, size)]
        tasks.append({"id": i, "data": {"image": name}, "annotations": [{"result": results}]})
    return json.dumps(tasks)


def _record(**more: str) -> str:
    objects = {"bbox": [[10, 10.5, 20, 5], [0, 0, 40, 30]], "categories": ["cat", "owl"]}
    return json.dumps({**more, "objects": objects})


def _one_box(name: str) -> str:
    sides = "<xmin>11</xmin><ymin>11</ymin><xmax>30</xmax><ymax>20</ymax>"
    size = "<size><width>{}</width><height>{}</height></size>".format(*SIZES[name])
    box = f"<object><name>cat</name><bndbox>{sides}</bndbox></object>"
    return f"<annotation><filename>{name}</filename>{size}{box}</annotation>"


DARKNET = _lines("classes = 2", "train = data/train.txt", "names = data/obj.names", "backup = backup/")
FLAT = dict(IMAGES)
INNER = {f"images/{name}": content for name, content in IMAGES.items()}
YOLO_LABEL = _lines("0 0.25 0.45 0.3 0.1", "1 0.5 0.5 1 1", "0 0.1 0.1 0.9 0.1 0.5 0.8")

TARGETS = {
    "coco": Target("coco", {"train.json": _coco(), **INNER}, ("train.json",), JSON_WORDS, coco_reference),
    "coco-odd": Target("coco", {"train.json": _coco_odd(), **INNER}, ("train.json",), JSON_WORDS, coco_reference),
    "yolo": Target(
        "yolo",
        {
            "data.yaml": "train: images\nnames: [cat, owl]\n",
            "labels/a.txt": YOLO_LABEL,
            "labels/b.txt": "1 0.5 0.5 0.25 0.125",
            **INNER,
        },
        ("labels/a.txt", "labels/b.txt", "data.yaml"),
        ("\n", "0.5 ", " 0.5", "1.0", "1.5", "2", "#", ":", "- ", "names:", "&a", "*a", "!!python/object:x"),
        yolo_reference,
    ),
    "darknet": Target(
        "yolo",
        {
            "obj.data": DARKNET,
            "obj.names": "cat\nowl\n",
            "train.txt": "data/obj_train_data/a.png\ndata/obj_train_data/b.png\n",
            "obj_train_data/a.txt": YOLO_LABEL,
            "obj_train_data/b.txt": "1 0.5 0.5 0.25 0.125",
            **{f"obj_train_data/{name}": content for name, content in IMAGES.items()},
        },
        ("obj.data", "obj.names", "train.txt", "obj_train_data/a.txt"),
        ("data/", "obj_train_data/", "./", "C:\\x\\b.png", "%20", "valid = ", "classes = ", "#", "=", ".PNG"),
        darknet_reference,
    ),
    "voc-lists": Target(
        "voc",
        {
            **{f"Annotations/{name[0]}.xml": _one_box(name) for name in SIZES},
            **{f"JPEGImages/{name}": content for name, content in IMAGES.items()},
            "ImageSets/Main/train.txt": "a\nb\n",
        },
        ("ImageSets/Main/train.txt",),
        ("a", "b", " 1", " -1", '"', "a.png", "JPEGImages/", "Annotations/b.xml", "\\", "c d"),
        voc_lists_reference,
    ),
    "voc": Target(
        "voc",
        {"Annotations/a.xml": _voc(), "JPEGImages/a.png": IMAGES["a.png"]},
        ("Annotations/a.xml",),
        XML_WORDS,
        voc_reference,
    ),
    "cvat": Target("cvat", {"annotations.xml": _cvat(), **INNER}, ("annotations.xml",), XML_WORDS, cvat_reference),
    "label-studio": Target(
        "label-studio", {"e.json": _label_studio(), **FLAT}, ("e.json",), JSON_WORDS, label_studio_reference
    ),
    "csv": Target(
        "csv",
        {"b.csv": _csv(), **FLAT},
        ("b.csv",),
        (",", ";", "\t", "|", '"', '""', "a.png,", ",cat\n", ",,,,,", "xmin"),
        csv_reference,
    ),
    "image-folder": Target(
        "image-folder",
        {"metadata.jsonl": _lines(*(_record(file_name=name) for name in SIZES)), **FLAT},
        ("metadata.jsonl",),
        (*JSON_WORDS, '"objects"', '"categories"', "\n{}"),
        image_folder_reference,
    ),
    "webdataset": Target(
        "webdataset",
        {"a.json": _record(), "b.json": _record(), **FLAT},
        ("a.json", "b.json"),
        (*JSON_WORDS, '"objects"', '"categories"'),
        webdataset_reference,
        pack="x.tar",
    ),
}
