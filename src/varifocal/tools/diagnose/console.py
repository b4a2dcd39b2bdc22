"""The diagnosis in the terminal: the most useful numbers first, on about one screen."""

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
    "AP": lambda breakdown: breakdown.given,
    "lost to ranking": lambda breakdown: breakdown.ranking,
    "lost to duplicates": lambda breakdown: breakdown.duplicates,
    "lost to missing or imprecise boxes": lambda breakdown: breakdown.boxes,
}


def show(found: Diagnosis) -> RenderableType:
    """Return the AP breakdown, the errors, the scores, the classes and the worst images of a diagnosis."""
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
    breakdowns = [ranking.worth, *ranking.worth_by_size.values()]
    for name, value in _WORTH.items():
        table.add_row(name, *(percent(value(breakdown)) for breakdown in breakdowns))
    near = [ranking.near, *ranking.by_size.values()]
    table.add_row("correlation of score and IoU, Spearman", *(_three(part.spearman) for part in near))
    table.add_row("and Kendall, of detections from IoU 0.1 on", *(_three(part.kendall) for part in near))
    table.add_row("boxes", *_counts(found))
    table.caption = f"AP by shape (boxes): {_shapes(found)}"
    return table


def _counts(found: Diagnosis) -> list[str]:
    """Return the number of boxes of each column."""
    sizes = by_size(found.table).values()
    return [f"{int(found.table.objects.sum()):,}", *(f"{int(size.truth.sum()):,}" for size in sizes)]


def _shapes(found: Diagnosis) -> str:
    shapes = by_aspect(found.table).items()
    return ", ".join(f"{name} {percent(found.ap[name])} ({int(shape.truth.sum()):,})" for name, shape in shapes)


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
        text = "not computed: scores are not between 0 and 1"
    else:
        text = f"LaECE {percent(calibration.laece_all)}; from the best threshold of each class on "
        text += percent(calibration.laece)
    grid.add_row("calibration", text)
    grid.add_row("best F1", _operating(found.thresholds.f1))
    grid.add_row(f"precision {target:g}", _operating(found.thresholds.target, "no score reaches it"))
    confusion = found.confusion
    grid.add_row(
        f"from score {confusion.score:.3f} on",
        f"{confusion.correct:,} boxes detected, {confusion.confused:,} as another class, "
        f"{int(confusion.counts[:-1, -1].sum()):,} missed; {int(confusion.counts[-1].sum()):,} detections of nothing",
    )
    pairs = mixed_pairs(confusion, [category.name for category in found.data.categories])
    if pairs:
        question = "; are the category ids those of the data?" if confusion.confused > confusion.correct else ""
        grid.add_row("confused classes", Text(", ".join(pairs) + question))
    return grid


def _operating(point: OperatingPoint | None, otherwise: str = "-") -> str:
    if point is None:
        return otherwise
    values = {"precision": point.precision, "recall": point.recall, "F1": point.f1}
    return f"score {point.score:.3f}: " + ", ".join(f"{name} {percent(value)}" for name, value in values.items())


def _classes(found: Diagnosis) -> Table:
    target = f"score for precision {found.thresholds.precision:g}"
    table = _table("class", "boxes", "AP", "AP50", "lost to ranking", "Kendall", "score of best F1", target)
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
    table = _table("worst images", "cost", "wrong", "missed", "boxes")
    for image in found.worst[:IMAGES]:
        file = found.data.samples[image.sample].file.name.encode(errors="replace").decode()  # bytes may be no text
        counts = (image.wrong, len(image.missed), image.objects)
        table.add_row(Text(file, overflow="fold"), f"{image.cost:.2f}", *(f"{count:,}" for count in counts))
    return table


def _three(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _table(*head: str) -> Table:
    table = Table(*head, box=None, pad_edge=False, caption_justify="left")
    for column in table.columns[1:]:
        column.justify = "right"
    return table
