"""A cleaned copy of a data set in COCO format, and a list of every change; the source is not changed."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from varifocal.data.archive import is_unsafe_path
from varifocal.tools.check.findings import kind_of
from varifocal.tools.check.fix_plan import COPY_DROPPED, MERGED, Change, Plan, make_plans
from varifocal.tools.check.report import Report
from varifocal.types import Category, FileLike
from varifocal.utils.atomic_write import atomic_folder, refuse_existing
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.text import count_of

# Kinds of findings that a cleaned copy does not have; the others are left to the user, and counted.
FIXED = {
    *(
        "missing-image",
        "ambiguous-image",
        "unreadable-image",
        "truncated-image",
        "outside-folder",
        "bad-size",
        "rotated-image",
    ),
    *("no-label", "not-a-number", "no-area", "outside", "over-border", "duplicate-box", "unknown-class"),
    *("size-differs", "swapped-corners"),
    *("unknown-image", "class-mismatch", "malformed", "twice", "bad-category", "no-classes"),
}

# Kinds of issues whose records may have been the labels of a split.
_OF_LABELS = ("missing-labels", "malformed", "unknown-image", "twice", "bad-category")


def check_new(out: Path, data: Path) -> None:
    """Check that the copy can be written to ``out``.

    Raises:
        ConfigError: it already exists, or lies in the data set itself.
    """
    refuse_existing(out, "choose another --fix or remove it")
    folder = data if data.is_dir() else data.parent
    if folder.resolve() in out.resolve().parents and data.is_dir():
        raise ConfigError(
            f"{out}: lies in {data}, which must not be changed; choose a folder beside it.", code="copy-inside-source"
        )
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"{out}: cannot be created ({error.strerror}); choose another folder.", code="copy-not-writable"
        ) from error


def _check_meaning(report: Report) -> None:
    """Raise DataError if classes or boxes seem to have another meaning, which would make the whole copy wrong."""
    for kind, text in {
        "shifted-class": "its class ids seem to be shifted by one, so a copy would have wrong classes",
        "fractions": "its boxes seem to be fractions of the image instead of pixels, so a copy would have wrong boxes",
        "corners": "its boxes seem to be corners instead of width and height, so a copy would have wrong boxes",
    }.items():
        if report.findings.total(kind):
            raise DataError(f"{report.data}: {text}; fix the source first, as described above.", code="other-meaning")


def write_fixed(report: Report, out: Path, *, copy: bool = False, notes: list[str] | None = None) -> list[Change]:
    """Write the cleaned copy to ``out``, completely or not at all, and return the changes.

    Images are links to the source, or with ``copy`` copies of it. ``changes.txt`` and ``changes.json`` list every
    change and count the findings that are left to the user. Sentences about the copy are added to ``notes``.

    Raises:
        ConfigError: ``out`` already exists or cannot be written.
        DataError: no image would be left, or no label of a split, or class ids or boxes seem to have another meaning.
    """
    _check_meaning(report)
    plans = make_plans(report.splits, report.scans)
    kept = [plan for plan in plans if plan.images.any()]
    if not kept:
        raise DataError(
            f"{report.data}: no image can be used, so there is nothing to copy; see the findings above.",
            code="no-usable-image",
        )
    _check_labels(report, kept)
    unlabeled = _without_labels(kept)
    categories = _categories(plans)
    changes = [change for plan in plans for change in (*plan.changes, *_added_classes(plan, categories))]
    changes += [
        Change("split dropped", plan.split.name, "", "", "none of its images can be used")
        for plan in plans
        if plan not in kept
    ]
    with atomic_folder(out) as folder:
        for plan in kept:
            _write_split(plan, categories, folder, copy=copy)
        _write_changes(report, changes, unlabeled, folder)
    if notes is not None:
        notes += unlabeled
    return changes


def _check_labels(report: Report, plans: Sequence[Plan]) -> None:
    """Raise DataError if a split would lose all its labels, so that all its images would become background."""
    for plan in plans:
        raw = plan.split.raw
        labeled = len(raw.boxes) or any(raw.problems.counts[kind] for kind in _OF_LABELS)
        if labeled and not plan.boxes.any():
            raise DataError(
                f"{report.data}: none of the labels of the split {plan.split.name} can be used, so that "
                f"{count_of(int(plan.images.sum()), 'image')} would become background; fix the findings above.",
                code="no-usable-label",
            )


def _without_labels(plans: Sequence[Plan]) -> list[str]:
    """Return a sentence on the images without objects of each split that has some."""
    notes = []
    for plan in plans:
        images = np.flatnonzero(plan.images)
        labeled = np.unique(plan.split.raw.boxes.images[plan.boxes])
        bare = np.setdiff1d(images, labeled)
        if len(bare):
            part = f"all {len(images)}" if len(bare) == len(images) else f"{len(bare)} of {len(images)}"
            first = plan.split.image_name(int(bare[0]))
            notes.append(f"{plan.split.name}: {part} images were written WITHOUT labels, as background, first {first}.")
    return notes


def _categories(plans: Sequence[Plan]) -> list[Category]:
    """Return the classes of all splits by their new names, with their first ids if these are free."""
    ids: dict[str, int] = {}
    for plan in plans:
        for category, name in zip(plan.split.raw.categories, plan.names, strict=True):
            # the class that kept its name also keeps its id
            if category.name == name and name not in ids:
                ids[name] = category.id
    found: list[Category] = []
    taken: set[int] = set()
    for plan in plans:
        for name in plan.names:
            if name in {category.name for category in found}:
                continue
            number = ids.get(name, 1)
            number = number if number not in taken else max(taken) + 1
            taken.add(number)
            found.append(Category(number, name))
    return found


def _added_classes(plan: Plan, categories: Sequence[Category]) -> list[Change]:
    own = set(plan.names)
    return [
        Change("class added", plan.split.name, "", f"class {category.name!r}", "another split has it")
        for category in categories
        if category.name not in own
    ]


def _write_split(plan: Plan, categories: Sequence[Category], folder: Path, *, copy: bool) -> None:
    split, name = plan.split, plan.split.name
    images: list[dict[str, Any]] = []
    numbers: dict[int, int] = {}
    taken: set[str] = set()
    given = split.raw.images.ids
    unique = len(np.unique(given)) == len(given)
    for image in np.flatnonzero(plan.images).tolist():
        source = split.image_file(image)
        assert source is not None, "missing images are not kept"
        file = _free_name(split.image_name(image), source, taken)
        _put(source, folder / "images" / name / file, copy=copy)
        numbers[image] = int(given[image]) if unique else len(images) + 1
        width, height = split.raw.images.sizes[image].tolist()
        images.append({"id": numbers[image], "file_name": file, "width": width, "height": height})
    content = {
        "images": images,
        "annotations": _annotations(plan, categories, numbers),
        "categories": [{"id": category.id, "name": category.name} for category in categories],
    }
    (folder / "annotations").mkdir(exist_ok=True)
    (folder / "annotations" / f"instances_{name}.json").write_text(json.dumps(content), encoding="utf-8")


def _annotations(plan: Plan, categories: Sequence[Category], numbers: dict[int, int]) -> list[dict[str, Any]]:
    """Return the annotations in the order of the source, with new ids, since not every format has ids."""
    ids = {category.name: category.id for category in categories}
    raw, corners = plan.split.raw.boxes, plan.split.verdict.boxes.astype(np.float64)
    entries: list[dict[str, Any]] = []
    for index in np.flatnonzero(plan.boxes).tolist():
        x1, y1, x2, y2 = corners[index].tolist()
        width, height = x2 - x1, y2 - y1
        area = float(raw.areas[index])
        entry = {
            "id": len(entries) + 1,
            "image_id": numbers[int(raw.images[index])],
            "category_id": ids[plan.names[raw.labels[index]]],
            "bbox": [x1, y1, width, height],
            "area": min(area, width * height) if area > 0 else width * height,
            "iscrowd": int(raw.crowd[index]),
        }
        if raw.difficult[index]:
            entry["difficult"] = 1
        entries.append(entry)
    return entries


def _free_name(name: str, file: FileLike, taken: set[str]) -> str:
    """Return the image's name if it is safe and free, else the name of its file, with a number if needed."""
    path = PurePosixPath(name.replace("\\", "/"))
    if is_unsafe_path(name) or path.suffix.lower() != PurePosixPath(file.name).suffix.lower():
        path = PurePosixPath(file.name)
    free, number = path, 1
    while str(free).casefold() in taken:
        number += 1
        free = path.with_name(f"{path.stem}-{number}{path.suffix}")
    taken.add(str(free).casefold())
    return str(free)


def _put(source: FileLike, path: Path, *, copy: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(source, Path) and not copy:
        try:
            path.symlink_to(source.resolve())
            return
        except (OSError, NotImplementedError):  # the file system, or the user's rights, allow no links
            pass
    with source.open("rb") as held, open(path, "wb") as file:
        shutil.copyfileobj(held, file)


def _left(report: Report, changes: Sequence[Change]) -> dict[str, int]:
    """Return the number of findings of each kind that the copy still has."""
    done = {
        "duplicate-image": sum(change.what == COPY_DROPPED for change in changes),
        "twin-classes": len({change.location for change in changes if change.what == MERGED}),
    }
    kinds = (kind for kind in report.findings.kinds("loss", "warning") if kind not in FIXED)
    counts = {kind: report.findings.total(kind) - done.get(kind, 0) for kind in kinds}
    return {kind: count for kind, count in counts.items() if count > 0}


def _write_changes(report: Report, changes: Sequence[Change], unlabeled: Sequence[str], folder: Path) -> None:
    left = _left(report, changes)
    counts = Counter(change.what.split(" with ")[0] for change in changes)
    content = {
        "source": report.data,
        "counts": counts,
        "changes": [change._asdict() for change in changes],
        "left": left,
        "without_labels": list(unlabeled),
        "notes": report.notes,
    }
    (folder / "changes.json").write_text(json.dumps(content, indent=1), encoding="utf-8")
    lines = [f"{count_of(len(changes), 'change')} to {report.data}", *(str(change) for change in changes)]
    if unlabeled:
        lines += ["", *unlabeled]
    if left:
        lines += ["", "Left for you to decide, counted in the source:"]
        lines += [f"{count}: {kind_of(kind).title} ({kind_of(kind).meaning})" for kind, count in left.items()]
    if report.notes:
        lines += ["", "Notes on how the source was read:", *report.notes]
    (folder / "changes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
