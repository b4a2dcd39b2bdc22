"""Label Studio's smaller exports, JSON-MIN and CSV, as the tasks of its JSON.

A record has the fields of a task's data, and for each part of the labeling interface a list of what was drawn with it;
in CSV that is one cell of JSON. Records of one image are annotations by several people.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from typing import Any

from varifocal.data.archive import AnyPath
from varifocal.data.paths import TextDecoder
from varifocal.utils.errors import DataError

# What the export adds to the fields of a task.
_META = ("id", "annotator", "annotation_id", "created_at", "updated_at", "lead_time", "sentiment", "agreement")
SHAPES = {"radiusX": "ellipse", "width": "rectangle", "points": "polygon"}  # by a number that describes it


def is_minimal(tasks: list[Any]) -> bool:
    """Return whether a list holds records of JSON-MIN and not tasks; not every record has an ``annotation_id``."""
    records = [task for task in tasks if isinstance(task, dict)]
    fields = {key for record in records for key in record}
    drawn = any(isinstance(value, list) for record in records for value in record.values())
    return not fields & {"data", "annotations", "completions"} and ("annotation_id" in fields or drawn)


def read_csv_records(file: AnyPath) -> list[Any]:
    """Return the records of a CSV export, with the values of those cells that are JSON.

    Raises:
        DataError: it is not CSV.
    """
    reader = csv.DictReader(io.StringIO(TextDecoder().read(file), newline=""), strict=True)
    try:
        return [{key: _value(cell) for key, cell in row.items() if key is not None} for row in reader]
    except csv.Error as error:
        text = f"line {reader.line_num} is not CSV ({error}); export as JSON"
        raise DataError(f"{file}: {text}", code="label-studio-csv-syntax") from None


def _value(cell: Any) -> Any:
    if isinstance(cell, str) and cell.startswith(("[", "{")):
        try:
            return json.loads(cell)
        except (ValueError, RecursionError):
            return cell
    return cell


def to_tasks(records: list[Any]) -> list[Any]:
    """Return a task for each record; several records of one image are one task with several annotations."""
    tasks: list[Any] = []
    known: dict[str, dict[str, Any]] = {}
    for record in records:
        if not isinstance(record, dict):
            tasks.append(record)
            continue
        own = {key: value for key, value in record.items() if key not in _META}
        data = {key: value for key, value in own.items() if isinstance(value, str)}
        annotation = {"id": record.get("annotation_id"), "result": list(_results(own))}
        key = json.dumps(data, sort_keys=True)
        if key in known:
            known[key]["annotations"].append(annotation)
        else:
            known[key] = {"id": record.get("id"), "data": data, "annotations": [annotation]}
            tasks.append(known[key])
    return tasks


def _results(own: dict[str, Any]) -> Iterator[Any]:
    """Yield what was drawn as results; those of one geometry have one id, as a rectangle has with its label."""
    for drawn in own.values():
        for value in drawn if isinstance(drawn, list) else []:
            if not isinstance(value, dict):
                yield value
                continue
            kinds = [key for key in value if key.endswith("labels") or key == "choices"]
            plain = next((kind for key, kind in SHAPES.items() if key in value), "")
            geometry = {key: value.get(key) for key in ("x", "y", "width", "height", "radiusX", "radiusY", "points")}
            yield {
                "id": json.dumps(geometry),
                "type": kinds[0] if kinds else plain,
                "value": value,
                "original_width": value.get("original_width"),
                "original_height": value.get("original_height"),
                "image_rotation": value.get("image_rotation"),
            }
