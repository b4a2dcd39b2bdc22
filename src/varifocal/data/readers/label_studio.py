"""Label Studio's exports as JSON, JSON-MIN and CSV (https://labelstud.io/guide/export): a list of tasks, an image each.

Where the interface has ``<Rectangle>`` and ``<Labels>`` apart, a region is two results with one id, shape and label.
Numbers are percent of the image's width and height; a rectangle is turned clockwise about its top left corner.
Turned rectangles, polygons and ellipses are reduced to the upright boxes around them; brushes, points and the like are
left out and counted. A task that nobody has labeled is not an image without objects, and is left out, too.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

from varifocal.data.annotations import NO_LABEL, RawDataset, SourceLocation
from varifocal.data.archive import AnyPath
from varifocal.data.find_images import finder_of
from varifocal.data.options import ReadOptions
from varifocal.data.paths import ImageFinder, is_image, list_dir, read_bytes
from varifocal.data.readers.columns import ColumnBuilder
from varifocal.data.readers.items import (
    ELLIPSE,
    OUTLINE,
    TURNED,
    LocationFormat,
    number_of,
    to_numbers,
    to_points,
)
from varifocal.data.readers.json_stream import parse_json
from varifocal.data.readers.label_studio_min import SHAPES, is_minimal, read_csv_records, to_tasks
from varifocal.data.readers.lookup import Words
from varifocal.data.readers.record_files import exports_by_split, files_of_exports
from varifocal.data.readers.shapes import ellipse_box, enclosing_box, rotate_box
from varifocal.data.readers.sniff import json_kind, table_kind
from varifocal.data.readers.values import NAN, whole_size
from varifocal.utils.errors import DataError
from varifocal.utils.text import short, short_list

_NAMES = Words(hint="add it, or remove the task", inside="add it, or remove the task")
_LOCATION = LocationFormat("[{record}] result {index}")
_Region = tuple[int, dict[str, Any]]  # index and content of a result
_MAX_FILES = 100  # of a folder that are read to find the export
# Shapes with an area, and the numbers that describe them; a polygon is described by points.
_KEYS: dict[str, tuple[str, ...]] = {
    "rectangle": ("x", "y", "width", "height"),
    "ellipse": ("x", "y", "radiusX", "radiusY"),
    "polygon": (),
}
_IMAGE_FIELDS = ("image", "img", "photo")  # usual names of the field of a task's data that has the image
_NAMING = ("labels", "choices")  # types of results that name a region that another result draws


def read_label_studio(source: AnyPath, data: AnyPath, split: str, options: ReadOptions) -> RawDataset:
    """Read the labeled tasks of an export.

    Raises:
        DataError: not JSON, or not an export.
    """
    columns = ColumnBuilder("label-studio", source, split)
    base = data if data.is_dir() else source.parent
    roots = [base / "images", base, source.parent / "images", source.parent]
    finder = finder_of(roots, base, split, options)
    for number, task in enumerate(read_tasks(source)):
        results = _results_of(columns, task, number, options)
        if results is not None:
            _read_task(columns, finder, task, number, results)
    if not columns.names and not columns.problems:
        columns.report("malformed", source, "", "none of its tasks is labeled", "export the labeled tasks")
    columns.report_no_classes()
    return columns.finish([source], _LOCATION, normalized=True)


def read_tasks(file: AnyPath) -> list[Any]:
    """Return the tasks of an export.

    Raises:
        DataError: not JSON, or not a list; or not CSV.
    """
    if file.name.lower().endswith(".csv"):
        return to_tasks(read_csv_records(file))
    tasks = parse_json(read_bytes(file), file)
    if not isinstance(tasks, list):
        text = f"this is {short(tasks)} and should be a list of tasks; export as JSON"
        raise DataError(f"{file}: {text}", code="label-studio-no-list")
    return to_tasks(tasks) if is_minimal(tasks) else tasks


def is_task(task: Any) -> bool:
    """Return whether a value has the fields of a task of an export."""
    has_annotations = isinstance(task, dict) and ("annotations" in task or "completions" in task)
    return has_annotations and isinstance(task.get("data"), dict)


def _task_problem(task: Any) -> str:
    """Return what is wrong with a task, "" where nothing is."""
    if not is_task(task):
        return f"is {short(task)}, which is no task"
    annotations = task.get("annotations", task.get("completions"))
    if not isinstance(annotations, list) or not all(isinstance(annotation, dict) for annotation in annotations):
        return "has annotations that are no list of objects"
    return ""


def _results_of(columns: ColumnBuilder, task: Any, number: int, options: ReadOptions) -> list[Any] | None:
    """Return the results of a task; None for one that nobody has labeled, which is counted, or a wrong one."""
    if problem := _task_problem(task):
        columns.report("malformed", columns.source, f"[{number}]", problem, "export it again")
        return None
    done = [
        annotation
        for annotation in task.get("annotations", task.get("completions"))
        if not annotation.get("was_cancelled")
    ]
    if not done and options.unlabeled == "background":
        return []
    if not done:
        columns.changed["(task|tasks) that nobody has labeled (was|were) left out"] += 1
        columns.left_out += _image_names(task["data"])
        return None
    if len(done) > 1:
        text = "(task was|tasks were) labeled more than once; the ground truth, or else the first, was taken"
        columns.changed[text] += 1
    result = next((annotation for annotation in done if annotation.get("ground_truth") is True), done[0]).get("result")
    if not isinstance(result, list):
        text = f"has the result {short(result)}"
        columns.report("malformed", columns.source, f"[{number}]", text, "it should be a list")
        return None
    return result


def _read_task(
    columns: ColumnBuilder, finder: ImageFinder, task: dict[str, Any], number: int, results: list[Any]
) -> None:
    location = f"[{number}]" + (f" (id {short(task['id'])})" if "id" in task else "")
    if not _image_names(task["data"]):
        columns.report("malformed", columns.source, location, "names no image in its data", "remove the task")
        return
    for index, result in enumerate(results):
        if not isinstance(result, dict):
            text = f"is {short(result)}"
            columns.report("malformed", columns.source, f"{location} result {index}", text, "it should be an object")
    regions = [(index, result) for index, result in enumerate(results) if isinstance(result, dict)]
    images = _by_image(task["data"], regions)
    if images is None:
        text = f"names several images ({short_list(_fields_of_images(task['data']))}), "
        text += "and its results do not say which of them each box is on"
        hint = "export the whole JSON, whose results name it in to_name, or remove the task"
        columns.report("malformed", columns.source, location, text, hint)
        return
    at = SourceLocation(columns.source, location)
    for name, drawn in images.items():
        size = next(filter(all, (_size(result) for _, result in drawn)), (0, 0))
        image = columns.add_named_image(finder, name, at, _NAMES, size=size, upload=True, record=f"[{number}]")
        _read_regions(columns, image, drawn, number)


def _by_image(data: dict[str, Any], regions: list[_Region]) -> dict[str, list[_Region]] | None:
    """Return the regions on each image of a task, by the image's name; None where it cannot be known.

    Of several images the results name theirs in ``to_name``, which is called like a field of the data, and the page of
    a field with a list of images in ``item_index``. Images on which nothing is drawn are left out, but pages are not.
    """
    fields, pages = _fields_of_images(data), _image_names(data)
    others = {_plain(result.get("to_name")) for _, result in regions if all(_size(result))} - set(fields)
    has_usual = any(isinstance(data.get(key), str) for key in _IMAGE_FIELDS)
    if len(fields) > 1 and len(others) > has_usual:
        return None
    found: dict[str, list[_Region]] = {name: [] for name in pages if len(pages) > 1 or not regions}
    for index, result in regions:
        names, page = fields.get(_plain(result.get("to_name")), pages), result.get("item_index")
        name = names[page] if type(page) is int and page in range(len(names)) else names[0]
        found.setdefault(name, []).append((index, result))
    return found


def _fields_of_images(data: dict[str, Any]) -> dict[str, list[str]]:
    """Return the images that each field of a task's data names, where it names any, by the plain name of the field."""
    lists = {_plain(key): value if isinstance(value, list) else [value] for key, value in data.items()}
    return {key: value for key, value in lists.items() if value and all(map(_is_image, value))}


def _plain(name: Any) -> str:
    """Return a name in lower case with only its letters and digits: img-1 and img1 are the same."""
    return "".join(filter(str.isalnum, name.lower())) if isinstance(name, str) else ""


def _is_image(value: Any) -> bool:
    return isinstance(value, str) and (is_image(value.partition("?")[0]) or is_image(value))


def _read_regions(columns: ColumnBuilder, image: int, regions: list[_Region], number: int) -> None:
    """Add the shapes among the results of a task, each with its own label or that of another result of its region."""
    results = [result for _, result in regions]
    names, drawn = _names_apart(results), _drawn(results)
    used: set[tuple[str, Any]] = set()  # id and type of the results that only name what another has drawn
    for index, result in regions:
        if kind := _shape_of(result, drawn):
            labels = _own_labels(result)
            if not labels and _id_of(result) in names:
                type, labels = names[_id_of(result)]
                used.add((_id_of(result), type))
            _read_shape(columns, image, result, kind, labels, number_of(number, index))
    for result in results:
        if not _shape_of(result, drawn) and (_id_of(result), result.get("type")) not in used:
            columns.changed[f"(result|results) of the type {short(result.get('type'))} (was|were) left out"] += 1


def _id_of(result: dict[str, Any]) -> str:
    return repr(result.get("id"))


def _own_labels(result: dict[str, Any]) -> Any:
    """Return the labels in a result, None where it has none."""
    value, kind = result.get("value"), result.get("type")
    return value.get(kind) if isinstance(value, dict) and isinstance(kind, str) else None


def _drawn(results: list[dict[str, Any]]) -> set[str]:
    """Return the ids of the regions that a result draws."""
    kinds = [*_KEYS, *(f"{kind}labels" for kind in _KEYS)]
    return {_id_of(result) for result in results if result.get("type") in kinds}


def _names_apart(results: list[dict[str, Any]]) -> dict[str, tuple[str, Any]]:
    """Return type and labels of the results that only name a region, by its id; labels come before choices."""
    found: dict[str, tuple[str, Any]] = {}
    for kind in _NAMING:
        for result in results:
            if result.get("type") == kind and result.get("id") and _own_labels(result):
                found.setdefault(_id_of(result), (kind, _own_labels(result)))
    return found


def _shape_of(result: dict[str, Any], drawn: set[str]) -> str:
    """Return the shape that a result draws, "" where it draws none."""
    kind, value = result.get("type"), result.get("value")
    if kind == "labels" and _id_of(result) not in drawn and isinstance(value, dict):
        return next((shape for key, shape in SHAPES.items() if key in value), "")
    kind = kind.removesuffix("labels") if isinstance(kind, str) else ""
    return kind if kind in _KEYS else ""


def _image_names(data: dict[str, Any]) -> list[str]:
    """Return the image of a task, whatever the labeling interface calls it, or the pages in a list of images."""
    words = [data[key] for key in _IMAGE_FIELDS if isinstance(data.get(key), str)]
    words += sorted((value for value in data.values() if isinstance(value, str)), key=lambda word: not _is_image(word))
    words = [word for word in words if word.strip()][:1]
    pages = next(
        (value for value in data.values() if isinstance(value, list) and value and all(map(_is_image, value))), []
    )
    return words if any(map(_is_image, words)) else pages or words


def _size(result: dict[str, Any]) -> tuple[int, int]:
    return whole_size(result.get("original_width"), result.get("original_height"))


def _read_shape(
    columns: ColumnBuilder, image: int, result: dict[str, Any], kind: str, labels: Any, number: int
) -> None:
    """Add the box of a shape for each of its labels."""
    problem = _shape_problem(result, kind, labels)
    if problem is not None:
        what, text, hint = problem
        columns.report(what, columns.source, _LOCATION(columns.source, number), text, hint, image=image)
        return
    names = list(dict.fromkeys(filter(str.strip, labels or [])))
    if len(names) > 1:
        columns.changed["(region has|regions have) several labels; (it is|they are) a box of each"] += 1
    found = [columns.add_label(name) for name in names] or [NO_LABEL]
    raw, numbers = _numbers(kind, result["value"])
    if numbers is None:
        columns.add_box(image, found[0], [NAN] * 4, number, odd=short(raw))
        return
    box = _to_box(columns, kind, numbers, _size(result))
    for label in found:
        columns.add_box(image, label, box, number)


def _shape_problem(result: dict[str, Any], kind: str, labels: Any) -> tuple[str, str, str] | None:
    """Return kind, text and fix of the problem of a result that draws a shape; None where there is none."""
    value = result.get("value")
    if not isinstance(value, dict):
        return "malformed", f"has the value {short(value)}", "it should be an object"
    if result.get("image_rotation"):
        text = f"is of an image turned by {short(result['image_rotation'])} degrees"
        return "malformed", text, "turn the image itself"
    if labels is not None and not (isinstance(labels, list) and all(isinstance(label, str) for label in labels)):
        text = f"has the {result['type']} {short(labels)}"
        return "unknown-class", text, "it should be a list of names of classes"
    _, numbers = _numbers(kind, value)
    if numbers is not None and numbers[-1] and _size(result) == (0, 0):
        return "malformed", "is turned and has no original_width and original_height", "export it again"
    return None


def _numbers(kind: str, value: dict[str, Any]) -> tuple[Any, list[float] | None]:
    """Return what describes a shape, and the same as numbers, the turn in degrees last; None where any is none."""
    if keys := _KEYS[kind]:
        raw = [value.get(key) for key in keys]
        return raw, to_numbers([*raw, value.get("rotation", 0)])
    points = to_points(value.get("points"))
    return value.get("points"), None if points is None else [*chain.from_iterable(points), 0.0]


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
    """Return the export, a file or the only one in a folder, as the split "all"; or several, one for each split.

    Raises:
        DataError: there is none, or there are several whose names or folders do not say their splits.
    """
    files = [path] if path.is_file() else exports(path)
    if len(files) == 1:
        return {"all": files[0]}
    if found := exports_by_split(path, files):
        return found
    names = ", ".join(file.name for file in files) or "none"
    text = f"one export of Label Studio is expected in it and there is {names}; name the file"
    hint = ", or give each file or its folder the name of a split (train, val, test)" if files else ""
    raise DataError(f"{path}: {text}{hint}", code="label-studio-one-export")


def exports(folder: AnyPath) -> list[AnyPath]:
    """Return the files of a folder that are an export, or else of the folders in it that are called like splits."""
    return files_of_exports(folder, _exports_in)


def _exports_in(folder: AnyPath) -> list[AnyPath]:
    files = [folder / name for name in list_dir(folder)[1] if name.lower().endswith((".json", ".csv"))]
    return [file for file in files[:_MAX_FILES] if is_export(file)]


def is_export(file: AnyPath) -> bool:
    """Return whether the beginning of a JSON or CSV file is that of an export."""
    kind = table_kind(file) if file.name.lower().endswith(".csv") else json_kind(file)
    return kind == "label-studio"
