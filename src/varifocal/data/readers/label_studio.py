"""Label Studio's exports as JSON, JSON-MIN and CSV (https://labelstud.io/guide/export): a list of tasks, one an image.

Where the interface has ``<Rectangle>`` and ``<Labels>`` apart, a region is two results with one id, shape and label.
Numbers are percent of the image's width and height; a rectangle is turned clockwise about its top left corner.
Turned rectangles, polygons and ellipses are reduced to the upright boxes around them; brushes, points and the like are
left out and counted. A task that nobody has labeled is not an image without objects, and is left out, too.
"""

from __future__ import annotations

import json
from typing import Any

from varifocal.data.annotations import NO_LABEL, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import finder_of
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, is_image, list_dir, read_bytes
from varifocal.data.readers.columns import NAN, ColumnBuilder, enclosing_box, rotate_box, whole_side
from varifocal.data.readers.cvat import ellipse_box
from varifocal.data.readers.items import ELLIPSE, OUTLINE, TURNED
from varifocal.data.readers.label_studio_min import SHAPES, is_minimal, read_csv_records, to_tasks
from varifocal.data.readers.lookup import Words
from varifocal.data.readers.sniff import json_kind, table_kind
from varifocal.utils.errors import DataError
from varifocal.utils.text import short

_NAMES = Words(hint="put it there or take the task out", inside="put it there or take the task out")
_SHIFT = 20  # a location is the number of the task and, in the low bits, that of the result in it
_MOST_FILES = 100  # of a folder that are looked at
_MOST = 1e15  # of a number; beyond it a sum of two may be none
# Shapes with an area, and the numbers that describe them; of a polygon these are points.
_KEYS: dict[str, tuple[str, ...] | None] = {
    "rectangle": ("x", "y", "width", "height"),
    "ellipse": ("x", "y", "radiusX", "radiusY"),
    "polygon": None,
}
_NAMING = ("labels", "choices")  # types of results that say what a region is that another has drawn


def read_label_studio(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """The labeled tasks of an export.

    Raises:
        DataError: not JSON, or not an export.
    """
    columns = ColumnBuilder("label-studio", source, split)
    base = data if data.is_dir() else source.parent
    roots = [base / "images", base, source.parent / "images", source.parent]
    finder = finder_of(roots, base, split, options)
    for number, task in enumerate(read_tasks(source)):
        result = _result_of(columns, task, number, options)
        if result is not None:
            _read_task(columns, finder, task, number, result)
    if not columns.names and not columns.problems:
        columns.problem("malformed", source, "", "none of its tasks is labeled", "export the labeled tasks")
    columns.no_classes()
    return columns.finish([source], _location, normalized=True)


def _location(file: AnyPath, number: int) -> str:
    return f"[{number >> _SHIFT}] result {number & ((1 << _SHIFT) - 1)}"


def read_tasks(file: AnyPath) -> list[Any]:
    """The tasks of an export.

    Raises:
        DataError: not JSON, or not a list; or not CSV.
    """
    if file.name.lower().endswith(".csv"):
        return to_tasks(read_csv_records(file))
    content = read_bytes(file)
    try:
        tasks: Any = json.loads(content.decode(json.detect_encoding(content)))
    except json.JSONDecodeError as error:
        location = f"line {error.lineno} column {error.colno}"
        raise DataError(f"{file}: this is not valid JSON at {location} ({error.msg}); export it again") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{file}: the JSON cannot be read ({error}); export it again") from None
    if not isinstance(tasks, list):
        raise DataError(f"{file}: this is {short(tasks)} and should be a list of tasks; export as JSON")
    return to_tasks(tasks) if is_minimal(tasks) else tasks


def is_task(task: Any) -> bool:
    """Whether a value looks like a task of an export."""
    labeled = isinstance(task, dict) and ("annotations" in task or "completions" in task)
    return labeled and isinstance(task.get("data"), dict)


def _result_of(columns: ColumnBuilder, task: Any, number: int, options: ReadOptions) -> list[Any] | None:
    """What was drawn in a task; None where nobody has labeled it and that is no label, or it is no task."""

    def refuse(text: str, hint: str) -> None:
        columns.problem("malformed", columns.source, f"[{number}]", text, hint)

    if not is_task(task):
        refuse(f"is {short(task)}, which is no task", "export it again")
        return None
    given = task.get("annotations", task.get("completions"))
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        refuse("has annotations that are no list of objects", "export it again")
        return None
    done = [one for one in given if not one.get("was_cancelled")]
    if not done and options.unlabeled == "background":
        return []
    if not done:
        columns.changed["(task|tasks) that nobody has labeled (was|were) left out"] += 1
        columns.left_out += [name] if (name := _image_name(task["data"])) else []
        return None
    if len(done) > 1:
        columns.changed[
            "(task was|tasks were) labeled more than once; the ground truth, or else the first, was taken"
        ] += 1
    result = next((one for one in done if one.get("ground_truth") is True), done[0]).get("result")
    if not isinstance(result, list):
        refuse(f"has the result {short(result)}", "it should be a list")
        return None
    return result


def _read_task(
    columns: ColumnBuilder, finder: ImageFinder, task: dict[str, Any], number: int, result: list[Any]
) -> None:
    location = f"[{number}]" + (f" (id {short(task['id'])})" if "id" in task else "")
    name = _image_name(task["data"])
    if name is None:
        columns.problem("malformed", columns.source, location, "names no image in its data", "take the task out")
        return
    at = SourceLocation(columns.source, location)
    image = columns.named(finder, name, at, _NAMES, size=_size(result), upload=True, record=f"[{number}]")
    names, drawn = _names_apart(result), _drawn(result)
    used: set[tuple[str, Any]] = set()  # id and type of the results that only name what another has drawn
    for index, one in enumerate(result):
        if not isinstance(one, dict):
            text = f"is {short(one)}"
            columns.problem("malformed", columns.source, f"{location} result {index}", text, "it should be an object")
        elif kind := _shape_of(one, drawn):
            own = _own_labels(one)
            if not own and _id_of(one) in names:
                type, own = names[_id_of(one)]
                used.add((_id_of(one), type))
            _read_shape(columns, image, one, kind, own, number, index)
    for one in result:
        if isinstance(one, dict) and not _shape_of(one, drawn) and (_id_of(one), one.get("type")) not in used:
            columns.changed[f"(result|results) of the type {short(one.get('type'))} (was|were) left out"] += 1


def _id_of(one: dict[str, Any]) -> str:
    return repr(one.get("id"))


def _own_labels(one: dict[str, Any]) -> Any:
    """What a result says that its region is, None where it says nothing."""
    value, kind = one.get("value"), one.get("type")
    return value.get(kind) if isinstance(value, dict) and isinstance(kind, str) else None


def _drawn(result: list[Any]) -> set[str]:
    """The ids of the regions that are drawn."""
    kinds = {*_KEYS, *(f"{kind}labels" for kind in _KEYS)}
    return {_id_of(one) for one in result if isinstance(one, dict) and one.get("type") in list(kinds)}


def _names_apart(result: list[Any]) -> dict[str, tuple[str, Any]]:
    """Type and value of the results that only say what a region is, by its id; labels come before choices."""
    found: dict[str, tuple[str, Any]] = {}
    for kind in _NAMING:
        for one in result:
            if isinstance(one, dict) and one.get("type") == kind and one.get("id") and _own_labels(one):
                found.setdefault(_id_of(one), (kind, _own_labels(one)))
    return found


def _shape_of(one: dict[str, Any], drawn: set[str]) -> str:
    """The shape that a result draws, "" where it draws none."""
    kind, value = one.get("type"), one.get("value")
    if kind == "labels" and _id_of(one) not in drawn and isinstance(value, dict):
        return next((shape for key, shape in SHAPES.items() if key in value), "")
    kind = kind.removesuffix("labels") if isinstance(kind, str) else ""
    return kind if kind in _KEYS else ""


def _image_name(data: dict[str, Any]) -> str | None:
    """The image of a task, whatever the labeling interface calls it."""
    words = [data[key] for key in ("image", "img", "image", "photo") if isinstance(data.get(key), str)]
    others = [value for value in data.values() if isinstance(value, str)]
    words += sorted(others, key=lambda value: not is_image(value.partition("?")[0]) and not is_image(value))
    return next((word for word in words if word.strip()), None)


def _size(result: list[Any]) -> tuple[int, int]:
    for one in result:
        if isinstance(one, dict):
            width, height = (whole_side(one.get(side)) for side in ("original_width", "original_height"))
            if width and height:
                return width, height
    return 0, 0


def _read_shape(
    columns: ColumnBuilder, image: int, one: dict[str, Any], kind: str, labels: Any, number: int, index: int
) -> None:
    at = number << _SHIFT | index
    value = one.get("value")
    location = _location(columns.source, at)

    def report(what: str, text: str, hint: str) -> None:
        columns.problem(what, columns.source, location, text, hint, image=image)

    if not isinstance(value, dict):
        report("malformed", f"has the value {short(value)}", "it should be an object")
        return
    if one.get("image_rotation"):
        text = f"is of an image turned by {short(one['image_rotation'])} degrees"
        report("malformed", text, "turn the image itself")
        return
    labels = [] if labels is None else labels
    if not isinstance(labels, list) or not all(isinstance(label, str) for label in labels):
        report("unknown-class", f"has the {one['type']} {short(labels)}", "it should be a list of names of classes")
        return
    named = list(dict.fromkeys(label for label in labels if label.strip()))
    if len(named) > 1:
        columns.changed["(region has|regions have) several labels; (it is|they are) a box of each"] += 1
    found = [columns.label(label) for label in named] or [NO_LABEL]
    raw, numbers = _numbers(kind, value)
    if numbers is None:
        columns.box(image, found[0], [NAN] * 4, at, odd=short(raw))
        return
    size = _size([one])
    if numbers[-1] and size == (0, 0):
        report("malformed", "is turned and has no original_width and original_height", "export it again")
        return
    box = _to_box(columns, kind, numbers, size)
    for label in found:
        columns.box(image, label, box, at)


def _numbers(kind: str, value: dict[str, Any]) -> tuple[Any, list[float] | None]:
    """What describes a shape, and the same as numbers, the turn in degrees last; None where any is none."""
    keys = _KEYS[kind]
    if keys is None:
        raw = value.get("points")
        if not isinstance(raw, list) or not raw or not all(isinstance(one, list) and len(one) == 2 for one in raw):
            return raw, None
        flat = [*(item for point in raw for item in point), 0]
    else:
        raw = [value.get(key) for key in keys]
        flat = [*raw, value.get("rotation", 0)]
    if not all(type(item) in (int, float) and abs(item) < _MOST for item in flat):  # NaN is not below it either
        return raw, None
    return raw, [float(item) for item in flat]


def _to_box(columns: ColumnBuilder, kind: str, numbers: list[float], size: tuple[int, int]) -> list[float]:
    """Return the upright box in fractions of the image; a rotation would distort fractions, so it is done in pixels."""
    *fractions, degrees = numbers
    fractions = [fraction / 100 for fraction in fractions]
    if kind == "polygon":
        columns.changed[OUTLINE] += 1
        return list(enclosing_box(list(zip(fractions[::2], fractions[1::2], strict=True))))
    sides = [max(side, 1) for side in size] * 2
    a, b, c, d = (ratio * side for ratio, side in zip(fractions, sides, strict=True))
    box = (a, b, a + c, b + d)
    if kind == "ellipse":
        columns.changed[ELLIPSE] += 1
        box = ellipse_box(a, b, c, d, degrees)
    elif degrees:
        columns.changed[TURNED] += 1
        box = rotate_box(box, degrees, (a, b))
    return [number / side for number, side in zip(box, sides, strict=True)]


def find_label_studio(path: AnyPath) -> dict[str, AnyPath]:
    """The export: a file, or the only one in a folder; it is the split "all".

    Raises:
        DataError: there is none, or several.
    """
    files = [path] if path.is_file() else exports(path)
    if len(files) != 1:
        names = ", ".join(file.name for file in files) or "none"
        raise DataError(f"{path}: one export of Label Studio is expected in it and there is {names}; name the file")
    return {"all": files[0]}


def exports(folder: AnyPath) -> list[AnyPath]:
    """The files of a folder that are an export."""
    files = [folder / name for name in list_dir(folder)[1] if name.lower().endswith((".json", ".csv"))]
    return [file for file in files[:_MOST_FILES] if is_export(file)]


def is_export(file: AnyPath) -> bool:
    """Whether a JSON or CSV file is an export, seen from its beginning."""
    kind = table_kind(file) if file.name.lower().endswith(".csv") else json_kind(file)
    return kind == "label-studio"
