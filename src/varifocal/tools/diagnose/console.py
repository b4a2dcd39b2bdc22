"""The diagnosis as a person reads it in a terminal: the most useful first, on about one screen."""

from __future__ import annotations

from collections.abc import Callable

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from varifocal.analysis.diagnosis import Diagnosis
from varifocal.analysis.diagnosis_plots import percent
from varifocal.analysis.precision import SIZES, by_aspect, by_size
from varifocal.analysis.ranking import APBreakdown
from varifocal.analysis.thresholds import OperatingPoint
from varifocal.tools.diagnose.results_sanity import mixed_pairs

CLASSES, IMAGES = 10, 5
_WORTH: dict[str, Callable[[APBreakdown], float | None]] = {
    "AP as it is": lambda one: one.given,
    "lost to the order of the boxes": lambda one: one.ranking,
    "lost to second boxes of an object": lambda one: one.duplicates,
    "lost to missing and loose boxes": lambda one: one.boxes,
}


def show(found: Diagnosis) -> RenderableType:
    """What separates AP from 100, errors, scores, classes, the worst images."""
    blocks: list[RenderableType] = [_worth(found), _errors(found), _scores(found)]
    if len(found.classes) > 1:
        blocks.append(_classes(found))
    if found.worst:
        blocks.append(_images(found))
    return Group(_head(found), *(Padding(block, (1, 0, 0, 0)) for block in blocks))


def _head(found: Diagnosis) -> Text:
    ap, objects = found.ap, int(found.table.objects.sum())
    images = len(found.table.samples)
    text = Text(f"{found.data.source}: {images:,} images, {objects:,} boxes, {len(found.table.found):,} detections")
    named = ", ".join(f"{name} {percent(ap[name])}" for name in ("AP", "AP50", "AP75"))
    return text.append(f"\n{named}", style="bold")


def _worth(found: Diagnosis) -> Table:
    table = _table("what separates AP from 100", "all", *SIZES)
    ranking = found.ranking
    every = [ranking.worth, *ranking.worth_by_size.values()]
    for name, value in _WORTH.items():
        table.add_row(name, *(percent(value(one)) for one in every))
    near = [ranking.near, *ranking.by_size.values()]
    table.add_row("correlation of score and IoU, Spearman", *(_three(one.spearman) for one in near))
    table.add_row("and Kendall, of detections from IoU 0.1 on", *(_three(one.kendall) for one in near))
    table.add_row("boxes", *_counts(found))
    table.caption = f"AP by shape (boxes): {_shapes(found)}"
    return table


def _counts(found: Diagnosis) -> list[str]:
    """The boxes of each column."""
    sizes = by_size(found.table).values()
    return [f"{int(found.table.objects.sum()):,}", *(f"{int(one.truth.sum()):,}" for one in sizes)]


def _shapes(found: Diagnosis) -> str:
    shapes = by_aspect(found.table).items()
    return ", ".join(f"{name} {percent(found.ap[name])} ({int(one.truth.sum()):,})" for name, one in shapes)


def _errors(found: Diagnosis) -> Table:
    errors = found.errors
    table = _table("errors (TIDE)", "cost, points of AP50", "number")
    for kind, cost in errors.costs.items():
        table.add_row(kind, percent(cost), f"{errors.counts[kind]:,}")
    table.add_row("all false positives", percent(errors.false_positives), "")
    table.add_row("all false negatives", percent(errors.false_negatives), "")
    return table


def _scores(found: Diagnosis) -> Table:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="bold", no_wrap=True)
    grid.add_column()
    calibration, target = found.calibration, found.thresholds.precision
    if calibration is None:
        text = "not reported: scores are not between 0 and 1"
    else:
        text = f"LaECE {percent(calibration.laece_all)}, from the best threshold of each class on "
        text += percent(calibration.laece)
    grid.add_row("calibration", text)
    grid.add_row("best F1", _operating(found.thresholds.f1))
    grid.add_row(f"precision {target:g}", _operating(found.thresholds.target, "no score reaches it"))
    counts = found.confusion.counts
    mixed = int(counts[:-1, :-1].sum() - counts.diagonal()[:-1].sum())
    grid.add_row(
        f"from score {found.confusion.score:.3f} on",
        f"{int(counts.diagonal().sum()):,} boxes found, {mixed:,} as another class, "
        f"{int(counts[:-1, -1].sum()):,} not; {int(counts[-1].sum()):,} detections of nothing",
    )
    pairs = mixed_pairs(found.confusion, [category.name for category in found.data.categories])
    if pairs:
        doubt = "; are the category ids those of the data?" if mixed > counts.diagonal().sum() else ""
        grid.add_row("taken for another", Text(", ".join(pairs) + doubt))
    return grid


def _operating(one: OperatingPoint | None, otherwise: str = "-") -> str:
    if one is None:
        return otherwise
    values = {"precision": one.precision, "recall": one.recall, "F1": one.f1}
    return f"score {one.score:.3f}: " + ", ".join(f"{name} {percent(value)}" for name, value in values.items())


def _classes(found: Diagnosis) -> Table:
    target = f"score for precision {found.thresholds.precision:g}"
    table = _table("class", "boxes", "AP", "AP50", "lost to order", "Kendall", "score of best F1", target)
    whole = found.given.whole
    order = sorted(found.classes, key=lambda k: float(whole.per_class[k]))
    for k in order[:CLASSES]:
        f1, enough = found.thresholds.f1_by_class[k], found.thresholds.target_by_class[k]
        table.add_row(
            Text(found.data.categories[k].name),
            f"{int(found.table.objects[k]):,}",
            percent(float(whole.per_class[k])),
            percent(float(whole.ap[0, k])),
            percent(found.ranking.worth_by_class[k].ranking),
            _three(found.ranking.by_class[k].kendall),
            _three(f1.score if f1 else None),
            _three(enough.score if enough else None),
        )
    if len(order) > CLASSES:
        table.caption = f"the {CLASSES} with the lowest AP of {len(order)}"
    return table


def _images(found: Diagnosis) -> Table:
    table = _table("worst images", "cost", "wrong", "not found", "boxes")
    for one in found.worst[:IMAGES]:
        file = found.data.samples[one.sample].file.name.encode(errors="replace").decode()  # bytes may be no text
        name = Text(file, overflow="fold")
        table.add_row(name, f"{one.cost:.2f}", f"{one.wrong:,}", f"{len(one.missed):,}", f"{one.objects:,}")
    return table


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(*head: str) -> Table:
    table = Table(*head, box=None, pad_edge=False, caption_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    return table
