"""Heat maps of tables of fractions: the darker a cell, the larger its fraction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Float

from varifocal.analysis.charts import svg

_NAME_WIDTH = 110.0
_NUMBERED = 22.0  # width from which a cell shows its number


def heat_map(
    title: str,
    description: str,
    rows: Sequence[str],
    columns: Sequence[str],
    fractions: Float[np.ndarray, "R C"],
    tooltips: Sequence[Sequence[str]],
    *,
    down: str = "",
    across: str = "",
) -> str:
    """Return an SVG text.

    With names of rows and columns it is a confusion matrix, whose diagonal has a color of its own and whose numbers are
    percent. Without names it is a map of an area in one color.

    Args:
        title: the heading of the chart.
        description: the chart in words.
        rows: names of the rows, or none.
        columns: names of the columns, or none.
        fractions: the values of the cells, 0..1.
        tooltips: the words shown when the pointer is on a cell.
        down: what the rows are.
        across: what the columns are.
    """
    left = (28 if rows else 12) + min(max(map(svg.length, rows), default=0), _NAME_WIDTH)
    above = min(max(map(svg.length, columns), default=0), _NAME_WIDTH) * 0.75 + 14
    top = 38 + (18 if across else 0) + above
    right = 50 if columns else 12  # the name of the last column leans over its cell
    cell = min((svg.WIDTH - left - right) / max(fractions.shape[1], 1), 64.0)
    size = min(svg.SMALL, cell * 0.95)
    body = [
        *_names(rows, columns, left, top, cell, size),
        *_cells(fractions, tooltips, left, top, cell, named=bool(rows)),
        svg.text(left + cell * fractions.shape[1] / 2, 48, across, "", "middle") if across else "",
        svg.text(16, top + cell * len(fractions) / 2, down, "", "middle", -90) if down else "",
    ]
    return svg.draw(title, description, top + cell * len(fractions) + 14, body)


def _names(
    rows: Sequence[str], columns: Sequence[str], left: float, top: float, cell: float, size: float
) -> Iterator[str]:
    yield f'<g style="font-size:{size:.1f}px">'
    for i, name in enumerate(rows):
        yield svg.text(
            left - 5, top + cell * (i + 0.5) + size * 0.35, svg.ellipsize(name, _NAME_WIDTH, size), "", "end"
        )
    for j, name in enumerate(columns):
        yield svg.text(
            left + cell * (j + 0.5) + size * 0.3, top - 5, svg.ellipsize(name, _NAME_WIDTH, size), "", "start", -48
        )
    yield "</g>"


def _cells(
    fractions: np.ndarray, tooltips: Sequence[Sequence[str]], left: float, top: float, cell: float, *, named: bool
) -> Iterator[str]:
    height, width = fractions.shape
    for i in range(height + 1):
        yield svg.line(left, top + cell * i, left + cell * width, top + cell * i)
    for j in range(width + 1):
        yield svg.line(left + cell * j, top, left + cell * j, top + cell * height)
    for i, j in np.argwhere(fractions > 0).tolist():
        fraction = float(fractions[i, j])
        x, y = left + cell * j, top + cell * i
        tone = "f1" if named and i != j else "f0"
        yield svg.rect(x, y, cell, cell, tone, tooltips[i][j], 0.08 + 0.72 * min(fraction, 1.0))
        if named and cell >= _NUMBERED and fraction >= 0.005:
            yield svg.text(x + cell / 2, y + cell / 2 + 4, f"{100 * fraction:.0f}", "", "middle")
