"""Targets of fuzzing for the formats of ``varifocal.data.readers.items``, and all targets together."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from typing import Any

from fuzzing import (
    IMAGES,
    JSON_WORDS,
    SIZES,
    TARGETS,
    Objects,
    Target,
    UnclearError,
    WrongError,
    check,
    decoded,
    in_order,
    json_number,
    text_number,
)

FLAT = dict(IMAGES)
INNER = {f"images/{name}": content for name, content in IMAGES.items()}
BOXES = {"a.png": [("cat", (10, 20, 40, 25)), ("owl", (0, 0, 100, 50))], "b.png": [("cat", (1, 2, 4, 6))]}


def parsed(content: bytes, *, strict: bool = False) -> Any:
    try:
        return json.loads(decoded(content, strict=strict))
    except (ValueError, RecursionError):
        raise WrongError("no JSON") from None


def numbers(values: Any) -> list[float]:
    check(isinstance(values, list), "no list")
    found = [json_number(value) for value in values]
    check(all(abs(value) < 1e15 for value in found), "no numbers")
    return found


def label(value: Any) -> str:
    check(type(value) in (int, str), "label")
    check(isinstance(value, str) or abs(value) < 10**9, "label")
    check(str(value).strip(), "label")
    return str(value).strip()


def points(value: Any, least: int) -> list[list[float]]:
    check(isinstance(value, list) and len(value) >= least, "points")
    found = [numbers(one) for one in value]
    check(all(len(one) == 2 for one in found), "points")
    return found


def hull(found: list[list[float]]) -> list[float]:
    xs, ys = [x for x, _ in found], [y for _, y in found]
    return [min(xs), min(ys), max(xs), max(ys)]


def known(name: Any, result: Objects) -> str:
    check(isinstance(name, str) and name.strip(), "name")
    if name not in SIZES:
        raise UnclearError
    check(name not in result, "twice")
    result[name] = []
    return name


def objects(value: Any) -> list[dict[str, Any]]:
    check(value is None or isinstance(value, list), "list")
    check(all(isinstance(one, dict) for one in value or []), "objects")
    return value or []


def labelme_reference(files: dict[str, bytes]) -> Objects:
    result: Objects = {}
    for stem in "ab":
        record = parsed(files[f"{stem}.json"])
        check(isinstance(record, dict) and "shapes" in record, "shapes")
        given = record.get("imagePath")
        name = known(given if isinstance(given, str) and given.strip() else f"{stem}.png", result)
        if (record.get("imageWidth"), record.get("imageHeight")) != SIZES[name]:
            raise UnclearError
        check(isinstance(record["shapes"], list) and all(isinstance(one, dict) for one in record["shapes"]), "shapes")
        for one in record["shapes"]:
            kind = one.get("shape_type") or "polygon"
            if kind in ("circle", "mask", "rotation", "oriented_rectangle", "quadrilateral"):
                raise UnclearError
            if kind in ("rectangle", "polygon"):
                corners = points(one.get("points"), 2 if kind == "rectangle" else 3)
                result[name].append((label(one.get("label")), in_order(name, *hull(corners))))
    check(any(result.values()), "nothing")
    return result


def createml_reference(files: dict[str, bytes]) -> Objects:
    content = parsed(files["e.json"], strict=True)
    check(isinstance(content, list) and all(isinstance(one, dict) for one in content), "list")
    result: Objects = {}
    for record in content:
        if "image" not in record and ("imagefilename" in record or "imageURL" in record):
            raise UnclearError
        name = known(record.get("image", ""), result)
        for one in objects(record.get("annotations", record.get("annotation"))):
            box = one.get("coordinates")
            check(isinstance(box, dict), "coordinates")
            x, y, width, height = numbers([box.get(key) for key in ("x", "y", "width", "height")])
            sides = (x - width / 2, y - height / 2, x + width / 2, y + height / 2)
            result[name].append((label(one.get("label")), in_order(name, *sides)))
    check(any(result.values()), "nothing")
    return result


def bdd_reference(files: dict[str, bytes]) -> Objects:
    content = parsed(files["e.json"], strict=True)
    if isinstance(content, dict):
        raise UnclearError
    check(isinstance(content, list) and all(isinstance(one, dict) for one in content), "list")
    result: Objects = {}
    for record in content:
        if "size" in record:
            raise UnclearError
        name = known(record.get("name", ""), result)
        for one in objects(record.get("labels")):
            box = one.get("box2d")
            if box is None:
                continue
            check(isinstance(box, dict), "box2d")
            sides = numbers([box.get(key) for key in ("x1", "y1", "x2", "y2")])
            result[name].append((label(one.get("category")), in_order(name, *sides)))
    check(any(result.values()), "nothing")
    return result


def via_reference(files: dict[str, bytes]) -> Objects:
    content = parsed(files["v.json"], strict=True)
    check(isinstance(content, dict) and "" not in content, "object")
    if "_via_img_metadata" in content:
        raise UnclearError
    check(all(isinstance(one, dict) and "filename" in one for one in content.values()), "records")
    result: Objects = {}
    regions: list[tuple[str, Any]] = []
    for record in content.values():
        name = known(record["filename"], result)
        given = record.get("regions")
        given = list(given.values()) if isinstance(given, dict) else given
        regions += [(name, region) for region in objects(given)]
    attributes = [region.get("region_attributes") for _, region in regions]
    keys = {
        key for own in attributes if isinstance(own, dict) for key, value in own.items() if value not in ("", {}, None)
    }
    if keys - {"class"}:
        raise UnclearError
    for name, region in regions:
        shape, own = region.get("shape_attributes"), region.get("region_attributes")
        check(isinstance(shape, dict), "shape")
        if shape.get("name") in ("circle", "ellipse", "polygon"):
            raise UnclearError
        if shape.get("name") != "rect":
            continue
        if isinstance(own, dict) and isinstance(own.get("class"), dict):
            raise UnclearError
        said = label(own.get("class") if isinstance(own, dict) else None) if keys else "object"
        x, y, width, height = numbers([shape.get(key) for key in ("x", "y", "width", "height")])
        result[name].append((said, in_order(name, x, y, x + width, y + height)))
    check(any(result.values()), "nothing")
    return result


def supervisely_reference(files: dict[str, bytes]) -> Objects:
    result: Objects = {}
    for name in SIZES:
        record = parsed(files[f"ds/ann/{name}.json"])
        check(isinstance(record, dict) and "objects" in record and "size" in record, "keys")
        size = record["size"]
        if not isinstance(size, dict) or (size.get("width"), size.get("height")) != SIZES[name]:
            raise UnclearError
        check(record["objects"] is not None, "objects")
        result[name] = []
        for one in objects(record["objects"]):
            kind = one.get("geometryType", "")
            if "geometryType" not in one or kind in ("bitmap", "alpha_mask"):
                raise UnclearError
            if kind in ("rectangle", "polygon"):
                check(isinstance(one.get("points"), dict), "points")
                x1, y1, x2, y2 = hull(points(one["points"].get("exterior"), 1))
                result[name].append((label(one.get("classTitle")), in_order(name, x1, y1, x2 + 1, y2 + 1)))
    check(any(result.values()), "nothing")
    return result


def lines(content: bytes) -> list[str]:
    text = decoded(content).replace("\r\n", "\n").replace("\r", "\n")
    return [line for line in text.split("\n") if line.strip()]


VISDRONE = ["pedestrian", "people", "bicycle", "car", "van", "truck", "tricycle", "awning-tricycle", "bus", "motor"]


def visdrone_reference(files: dict[str, bytes]) -> Objects:
    result: Objects = {}
    for name in SIZES:
        result[name] = []
        for line in lines(files[f"annotations/{name[0]}.txt"]):
            words = [word.strip() for word in line.strip().rstrip(",").split(",")]
            check(len(words) == 8, "count")
            x, y, width, height = map(text_number, words[:4])
            category = text_number(words[5])
            check(category in range(12), "category")
            box = in_order(name, x, y, x + width, y + height)
            whole = category in (0, 11)
            result[name] += [(one, box) for one in (VISDRONE if whole else [VISDRONE[int(category) - 1]])]
    return result


def regions_last(result: Objects, regions: list[tuple[str, list[float]]]) -> Objects:
    """Each region once for every class that there is."""
    names = sorted({name for boxes in result.values() for name, _ in boxes})
    check(names, "nothing")
    for image, box in regions:
        result[image] += [(name, box) for name in names]
    return result


def kitti_reference(files: dict[str, bytes]) -> Objects:
    result: Objects = {}
    regions: list[tuple[str, list[float]]] = []
    for name in SIZES:
        result[name] = []
        for line in lines(files[f"label_2/{name[0]}.txt"]):
            words = line.split()
            check(len(words) >= 8, "count")
            check(not is_number(words[0]), "class")
            one, numbers = kitti_class(words)
            box = in_order(name, *map(text_number, numbers[3:7]))
            if one == "DontCare":
                regions.append((name, box))
            else:
                result[name].append((one, box))
    return regions_last(result, regions)


def kitti_class(words: list[str]) -> tuple[str, list[str]]:
    """The class of a line, of several words where a whole KITTI line (of 15 or 16 columns) follows the first."""
    if is_number(words[1]):
        return words[0], words[1:]
    first = [is_number(word) for word in words].index(True) if any(map(is_number, words)) else 0
    numbers = words[first:]
    check(first and len(numbers) in (14, 15) and all(map(is_number, numbers)), "truncation")
    check(not any(letter.isdigit() for word in words[1:first] for letter in word), "truncation")
    truncated, occluded, alpha, x1, y1, x2, y2 = map(float, numbers[:7])
    check(truncated == -1 or 0 <= truncated <= 1, "truncation")
    check(occluded in {-1, 0, 1, 2, 3} and -10 <= alpha <= 7 and x1 <= x2 and y1 <= y2, "truncation")
    return " ".join(words[:first]), numbers


def is_number(word: str) -> bool:
    try:
        return "_" not in word and float(word) == float(word)
    except ValueError:
        return False


def dota_reference(files: dict[str, bytes]) -> Objects:
    result: Objects = {}
    for name in SIZES:
        result[name] = []
        text = decoded(files[f"labelTxt/{name[0]}.txt"]).replace("\r\n", "\n").replace("\r", "\n")
        for number, line in enumerate(text.split("\n"), start=1):
            if not line.strip() or (number <= 2 and line.strip().startswith(("imagesource:", "gsd:"))):
                continue
            words = line.split()
            check(len(words) >= 9, "count")
            sides = [text_number(word) for word in words[:8]]
            flagged = len(words) > 9 and words[-1] in ("0", "1", "2")
            said = " ".join(words[8:-1] if flagged else words[8:])
            box = [min(sides[::2]), min(sides[1::2]), max(sides[::2]), max(sides[1::2])]
            result[name].append((said, in_order(name, *box)))
    check(any(result.values()), "nothing")
    return result


def yolo_keras_reference(files: dict[str, bytes]) -> Objects:
    result: Objects = {}
    found = lines(files["_annotations.txt"])
    if not set(found) & set(KERAS.split("\n")):
        raise UnclearError  # nothing may be left by which the file is known
    for line in found:
        if len(line.split()) != len(line.split(" ")):
            raise UnclearError  # other spaces, such as control characters
        words = line.split(" ")
        first = next((at for at, word in enumerate(words) if at and "," in word), len(words))
        name = known(" ".join(words[:first]).strip(), result)
        for word in words[first:]:
            if not word.strip():
                continue
            cells = word.strip().split(",")
            check(len(cells) == 5, "count")
            category = text_number(cells[4])
            check(category in (0, 1), "class")
            box = in_order(name, *map(text_number, cells[:4]))
            result[name].append((("cat", "owl")[int(category)], box))
    return result


def csv_bbox_reference(files: dict[str, bytes]) -> Objects:
    text = decoded(files["b.csv"]).replace("\r\n", "\n").replace("\r", "\n")
    header, _, rest = text.partition("\n")
    if header != "image_id,bbox,class_name":
        raise UnclearError
    try:
        rows = list(csv.reader(io.StringIO(rest, newline=""), skipinitialspace=True, strict=True))
    except csv.Error:
        raise WrongError("no CSV") from None
    result: Objects = {}
    shares = []
    for row in rows:
        if not any(cell.strip() for cell in row):
            continue
        name, cell, said = [cell.strip() for cell in (row + [""] * 3)[:3]]
        check(name, "name")
        if name not in ("a", "b"):
            raise UnclearError
        result.setdefault(f"{name}.png", [])
        cell = cell.strip("[](){}").strip()
        if not cell or cell == "no_box":
            continue
        words = cell.replace(",", " ").split()
        if len(words) != 4 or ",," in cell.replace(" ", "") or cell[0] == "," or cell[-1] == ",":
            raise UnclearError
        check(said, "label")
        x, y, width, height = map(text_number, words)
        shares.append(all(0 <= value <= 1 for value in (x, y, x + width, y + height)))
        result[f"{name}.png"].append((said, in_order(f"{name}.png", x, y, x + width, y + height)))
    if shares and all(shares):
        raise UnclearError
    check(shares, "nothing")
    return result


def minimal_reference(files: dict[str, bytes]) -> Objects:
    content = files["e.json"]
    try:
        records = json.loads(content.decode(json.detect_encoding(content)))
    except (ValueError, RecursionError):
        raise WrongError("no JSON") from None
    result: Objects = {}
    check(isinstance(records, list) and records, "list")
    for record in records:
        if not isinstance(record, dict) or set(record) != {"image", "id", "label", "annotation_id"}:
            raise UnclearError
        if record["image"] not in SIZES or record["image"] in result or not isinstance(record["label"], list):
            raise UnclearError
        name = record["image"]
        result[name] = []
        for value in record["label"]:
            keys = {"x", "y", "width", "height", "rectanglelabels", "original_width", "original_height"}
            if not isinstance(value, dict) or set(value) != keys:
                raise UnclearError
            if (value["original_width"], value["original_height"]) != SIZES[name]:
                raise UnclearError
            said = value["rectanglelabels"]
            check(isinstance(said, list) and len(said) == 1 and isinstance(said[0], str) and said[0].strip(), "label")
            x, y, width, height = numbers([value[key] for key in ("x", "y", "width", "height")])
            shares = [x / 100, y / 100, (x + width) / 100, (y + height) / 100]
            box = [share * side for share, side in zip(shares, SIZES[name] * 2, strict=True)]
            result[name].append((said[0], in_order(name, *box)))
    check(any(result.values()), "nothing")
    return result


def _labelme(name: str) -> str:
    shapes = [
        {"label": said, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle"}
        for said, (x1, y1, x2, y2) in BOXES[name]
    ]
    width, height = SIZES[name]
    return json.dumps({"shapes": shapes, "imagePath": name, "imageHeight": height, "imageWidth": width})


def _createml() -> str:
    def one(said: str, x1: float, y1: float, x2: float, y2: float) -> dict[str, Any]:
        box = {"x": (x1 + x2) / 2, "y": (y1 + y2) / 2, "width": x2 - x1, "height": y2 - y1}
        return {"label": said, "coordinates": box}

    return json.dumps([{"image": name, "annotations": [one(s, *box) for s, box in all]} for name, all in BOXES.items()])


def _bdd() -> str:
    frames = []
    for name, all in BOXES.items():
        labels = [{"category": s, "box2d": dict(zip(("x1", "y1", "x2", "y2"), box, strict=True))} for s, box in all]
        frames.append({"name": name, "labels": [*labels, {"category": "lane", "poly2d": []}]})
    return json.dumps(frames)


def _via() -> str:
    content = {}
    for name, all in BOXES.items():
        regions = [
            {
                "shape_attributes": {"name": "rect", "x": x1, "y": y1, "width": x2 - x1, "height": y2 - y1},
                "region_attributes": {"class": said},
            }
            for said, (x1, y1, x2, y2) in all
        ]
        content[f"{name}9"] = {"filename": name, "size": 9, "regions": regions, "file_attributes": {}}
    return json.dumps(content)


def _supervisely(name: str) -> str:
    found = [
        {"classTitle": s, "geometryType": "rectangle", "points": {"exterior": [[x1, y1], [x2 - 1, y2 - 1]]}}
        for s, (x1, y1, x2, y2) in BOXES[name]
    ]
    return json.dumps({"size": dict(zip(("width", "height"), SIZES[name], strict=True)), "tags": [], "objects": found})


def _each(line: Callable[[str, tuple[int, ...]], str], name: str) -> str:
    return "".join(f"{line(said, box)}\n" for said, box in BOXES[name])


def _visdrone(said: str, box: tuple[int, ...]) -> str:
    x1, y1, x2, y2 = box
    return f"{x1},{y1},{x2 - x1},{y2 - y1},1,{4 if said == 'cat' else 0},0,0"


def _kitti(said: str, box: tuple[int, ...]) -> str:
    return f"{said} 0 0 -10 {' '.join(map(str, box))} 1 2 3 4 5 6 7"


def _dota(said: str, box: tuple[int, ...]) -> str:
    x1, y1, x2, y2 = box
    return f"{x1} {y1} {x2} {y1} {x2} {y2} {x1} {y2} {said} 0"


def _minimal() -> str:
    records = []
    for number, (name, all) in enumerate(BOXES.items()):
        width, height = SIZES[name]
        drawn = [
            {"x": 100 * x1 / width, "y": 100 * y1 / height, "width": 100 * (x2 - x1) / width}
            | {"height": 100 * (y2 - y1) / height, "rectanglelabels": [said]}
            | {"original_width": width, "original_height": height}
            for said, (x1, y1, x2, y2) in all
        ]
        records.append({"image": name, "id": number, "label": drawn, "annotation_id": number})
    return json.dumps(records)


KERAS = "a.png 10,20,40,25,0 0,0,100,50,1\nb.png 1,2,4,6,0\n"
BBOX = 'image_id,bbox,class_name\na,"[10, 20, 30, 5]",cat\na,"[0, 0, 100, 50]",owl\nb,"[1, 2, 3.5, 4]",cat\n'
_AB = (("a.png", "a"), ("b.png", "b"))

MORE = {
    "labelme": Target(
        "labelme",
        {**{f"{stem}.json": _labelme(name) for name, stem in _AB}, **FLAT},
        ("a.json", "b.json"),
        (*JSON_WORDS, '"shapes"', "polygon", '"points"', "[1, 2], "),
        labelme_reference,
    ),
    "createml": Target("createml", {"e.json": _createml(), **FLAT}, ("e.json",), JSON_WORDS, createml_reference),
    "bdd100k": Target("bdd100k", {"e.json": _bdd(), **INNER}, ("e.json",), (*JSON_WORDS, '"box2d"'), bdd_reference),
    "via": Target("via", {"v.json": _via(), **FLAT}, ("v.json",), (*JSON_WORDS, "rect", '"class"'), via_reference),
    "supervisely": Target(
        "supervisely",
        {
            **{f"ds/ann/{name}.json": _supervisely(name) for name in SIZES},
            **{f"ds/img/{name}": content for name, content in IMAGES.items()},
        },
        ("ds/ann/a.png.json", "ds/ann/b.png.json"),
        (*JSON_WORDS, '"exterior"', "polygon"),
        supervisely_reference,
    ),
    "visdrone": Target(
        "visdrone",
        {**{f"annotations/{stem}.txt": _each(_visdrone, name) for name, stem in _AB}, **INNER},
        ("annotations/a.txt", "annotations/b.txt"),
        (",", ",,", "11", "12", "4.0", ",0"),
        visdrone_reference,
    ),
    "kitti": Target(
        "kitti",
        {
            **{f"label_2/{stem}.txt": _each(_kitti, name) for name, stem in _AB},
            **{f"image_2/{name}": content for name, content in IMAGES.items()},
        },
        ("label_2/a.txt", "label_2/b.txt"),
        ("DontCare", "DontCare ", " 0", "0 ", "cat sitting", " sitting 0 0 -10"),
        kitti_reference,
    ),
    "dota": Target(
        "dota",
        {**{f"labelTxt/{s}.txt": f"imagesource:x\ngsd:1\n{_each(_dota, name)}" for name, s in _AB}, **INNER},
        ("labelTxt/a.txt", "labelTxt/b.txt"),
        (" 0", " 1", " 2", "gsd:", "imagesource:", "large vehicle"),
        dota_reference,
    ),
    "yolo-keras": Target(
        "yolo-keras",
        {"_annotations.txt": KERAS, "_classes.txt": "cat\nowl\n", **FLAT},
        ("_annotations.txt",),
        (",", " ", "1,", ",0", " 1,2,3,4,0"),
        yolo_keras_reference,
    ),
    "csv-bbox": Target("csv", {"b.csv": BBOX, **FLAT}, ("b.csv",), (",", '"', "[", "]", "no_box"), csv_bbox_reference),
    "label-studio-min": Target(
        "label-studio", {"e.json": _minimal(), **FLAT}, ("e.json",), JSON_WORDS, minimal_reference
    ),
}
ALL_TARGETS = TARGETS | MORE
