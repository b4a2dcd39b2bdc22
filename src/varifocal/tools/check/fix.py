"""A cleaned copy of a data set, as COCO, and a list of every change. The source is not touched."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from tempfile import mkdtemp
from typing import Any

import numpy as np

from varifocal.data.archive import is_unsafe_path
from varifocal.tools.check.findings import kind_of
from varifocal.tools.check.fix_plan import COPY_DROPPED, MERGED, Change, Plan, make_plans
from varifocal.tools.check.messages import count_of
from varifocal.tools.check.report import Report
from varifocal.types import Category, FileLike
from varifocal.utils.errors import ConfigError, DataError

# What a cleaned copy has no more; the other kinds are left for a person, and counted.
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
    *("unknown-image", "class-mismatch", "malformed", "twice", "bad-category"),
}


# Problems of records that may have been the labels of a split.
_OF_LABELS = ("missing-labels", "malformed", "unknown-image", "twice", "bad-category")


def check_new(out: Path, data: Path) -> None:
    """That the copy can be written there.

    Raises:
        ConfigError: there is something already, or it lies in the data set itself.
    """
    if out.exists() or out.is_symlink():
        raise ConfigError(f"{out}: is there already; choose another --fix or remove it.")
    folder = data if data.is_dir() else data.parent
    if folder.resolve() in out.resolve().parents and data.is_dir():
        raise ConfigError(f"{out}: lies in {data}, which is not to be touched; choose a folder beside it.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"{out}: cannot be made ({error.strerror}); choose another folder.") from error


def _check_meaning(report: Report) -> None:
    """That classes and boxes mean what they seem to mean; a copy would be wrong as a whole.

    Raises:
        DataError: they do not.
    """
    for kind, text in {
        "shifted-class": "its class ids seem to be one off, so that a copy would have wrong classes",
        "fractions": "its boxes seem to be fractions of the image instead of pixels",
        "corners": "its boxes seem to hold corners instead of width and height, so that a copy would have wrong boxes",
    }.items():
        if report.findings.total(kind):
            raise DataError(f"{report.data}: {text}; fix them first, as it says above.")


def write_fixed(report: Report, out: Path, *, copy: bool = False, notes: list[str] | None = None) -> list[Change]:
    """Write the cleaned copy to ``out``, whole or not at all, and give the changes.

    Images are links to the source, or with ``copy`` copies of it. ``changes.txt`` and ``changes.json`` list every
    change and count what was left for a person to decide. What a user should know of the copy is added to ``notes``.

    Raises:
        ConfigError: ``out`` is there already, or cannot be written.
        DataError: no image, or of a split no label would be left, or class ids or boxes seem to mean something else.
    """
    _check_meaning(report)
    plans = make_plans(report.splits, report.scans)
    kept = [plan for plan in plans if plan.images.any()]
    if not kept:
        raise DataError(f"{report.data}: no image can be used, so there is nothing to copy; see what is wrong above.")
    _check_labels(report, kept)
    unlabeled = _without_labels(kept)
    categories = _categories(plans)
    changes = [change for plan in plans for change in (*plan.changes, *_added_classes(plan, categories))]
    changes += [
        Change("split dropped", plan.split.name, "", "", "no image of it can be used")
        for plan in plans
        if not plan.images.any()
    ]
    try:
        beside = Path(mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            for plan in kept:
                _write_split(plan, categories, beside, copy=copy)
            _write_changes(report, changes, unlabeled, beside)
            beside.chmod(0o755)
            os.rename(beside, out)
        except BaseException:
            shutil.rmtree(beside, ignore_errors=True)
            raise
    except OSError as error:
        if os.path.lexists(out):
            raise ConfigError(f"{out}: another process has just made it; choose another --fix.") from error
        raise ConfigError(f"{out}: cannot be written ({error.strerror}); nothing was left there.") from error
    if notes is not None:
        notes += unlabeled
    return changes


def _check_labels(report: Report, plans: Sequence[Plan]) -> None:
    """Raises DataError: a split has labels and none would be left, so that all its images would be background."""
    for plan in plans:
        raw = plan.split.raw
        labeled = len(raw.boxes) or any(raw.problems.counts[kind] for kind in _OF_LABELS)
        if labeled and not plan.boxes.any():
            raise DataError(
                f"{report.data}: none of the labels of the split {plan.split.name} can be used, so that "
                f"{count_of(int(plan.images.sum()), 'image')} of it would become background; fix what is wrong above."
            )


def _without_labels(plans: Sequence[Plan]) -> list[str]:
    """A sentence on the images of each split that are written without objects."""
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
    """The classes of all splits by their new names, with the ids they had first where these are free."""
    ids: dict[str, int] = {}
    for plan in plans:
        for category, name in zip(plan.split.raw.categories, plan.names, strict=True):
            # the class that gave the name gives the id, too
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
        assert source is not None, "an image that is missing is not kept"
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
    """In the order of the source; numbered anew, since not every format has ids."""
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
    """The image's own name where it is one below the folder and free, else that of its file with a number."""
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
        except (OSError, NotImplementedError):  # a file system, or a user, without links
            pass
    with source.open("rb") as held, open(path, "wb") as file:
        shutil.copyfileobj(held, file)


def _left(report: Report, changes: Sequence[Change]) -> dict[str, int]:
    """How many of each kind are as they were."""
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
        lines += ["", "Left for you to decide, as counted in the source:"]
        lines += [f"{count}: {kind_of(kind).title} ({kind_of(kind).meaning})" for kind, count in left.items()]
    if report.notes:
        lines += ["", "Read otherwise than it stands in the source:", *report.notes]
    (folder / "changes.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
