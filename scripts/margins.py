"""A pytest plugin that measures how close each numeric comparison in the tests comes to its bound.

    PYTHONPATH=scripts MARGINS=margins.txt python -m pytest -p margins -p no:xdist tests/unit/ops

Writes a line for each test line that compares a number with a bound, the closest first: 1.0 is at the bound, 0.5 is
half of it. It watches ``assert a < b``, ``pytest.approx``, ``torch.testing.assert_close`` and NumPy's ``allclose`` and
``assert_allclose``. An assertion that is close to its bound, and whose number depends on the processor's rounding,
needs a wider bound or float64. With pytest-xdist each process writes a separate file.
"""

from __future__ import annotations

import ast
import builtins
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import _pytest.assertion.rewrite as rewrite
import numpy as np
import pytest
import torch

HERE = Path(__file__).resolve().parents[1] / "tests"
ORDERS = (ast.Lt, ast.LtE, ast.Gt, ast.GtE)
DEFAULTS = {torch.float64: (1e-7, 1e-7), torch.float32: (1.3e-6, 1e-5), torch.bfloat16: (1.6e-2, 1e-5)}
nearest: dict[str, tuple[float, str]] = {}
ApproxScalar = type(pytest.approx(1.0))
_approx_equal, _rewrite = ApproxScalar.__eq__, rewrite.rewrite_asserts


def note(place: str | None, ratio: float, words: str) -> None:
    """Record a comparison unless a closer one was recorded at this line."""
    if place is not None and ratio == ratio and ratio > nearest.get(place, (-1.0, ""))[0]:
        nearest[place] = (float(ratio), words)


def caller() -> str | None:
    """Return the innermost line of the test that is running."""
    frame = sys._getframe(1)
    while frame is not None:
        file = Path(frame.f_code.co_filename)
        if HERE in file.parents:
            return f"{file.relative_to(HERE.parent)}:{frame.f_lineno}"
        frame = frame.f_back
    return None


def compare(left: Any, order: str, right: Any) -> Any:
    """Return ``left < right``, or the comparison in ``order``; record it if its numbers are not negative."""
    small, large = (left, right) if order.startswith("Lt") else (right, left)
    try:
        least, most = float(small), float(large)
    except (TypeError, ValueError, RuntimeError):
        return _ask(left, order, right)
    if least >= 0 and most > 0 and not (isinstance(left, int) and isinstance(right, int)):
        note(caller(), least / most, f"{left!r} {order} {right!r}"[:90])
    return _ask(left, order, right)


def _ask(left: Any, order: str, right: Any) -> Any:
    return {
        "Lt": lambda: left < right,
        "LtE": lambda: left <= right,
        "Gt": lambda: left > right,
        "GtE": lambda: left >= right,
    }[order]()


class _Orders(ast.NodeTransformer):
    """Replace ``a < b`` in an assertion by a call of ``compare``."""

    def visit_Assert(self, node: ast.Assert) -> ast.Assert:
        node.test = _Within().visit(node.test)
        return node


class _Within(ast.NodeTransformer):
    def visit_Compare(self, node: ast.Compare) -> ast.expr:
        self.generic_visit(node)
        if len(node.ops) != 1 or not isinstance(node.ops[0], ORDERS):
            return node
        words = [node.left, ast.Constant(type(node.ops[0]).__name__), node.comparators[0]]
        return ast.copy_location(ast.Call(ast.Name("_margins_compare", ast.Load()), words, []), node)


def _watched(call: Callable[..., Any], relative: float | None, absolute: float | None, names: tuple[str, str]) -> Any:
    """Wrap the array comparison ``call`` to record it; ``names`` are its arguments for relative and absolute bound."""

    def watched(found: Any, wanted: Any, *rest: Any, **words: Any) -> Any:
        for one, other in zip(_flat(found), _flat(wanted), strict=False):
            a, b = (torch.as_tensor(value).detach() for value in (one, other))
            if a.is_floating_point() and a.shape == b.shape and a.numel():
                usual = DEFAULTS.get(torch.promote_types(a.dtype, b.dtype), (1e-5, 1e-5))
                r = words.get(names[0], relative) if words.get(names[0], relative) is not None else usual[0]
                t = words.get(names[1], absolute) if words.get(names[1], absolute) is not None else usual[1]
                off = (a.double() - b.double()).abs()
                ratio = torch.where(off == 0, off, off / (t + r * b.double().abs()))
                note(
                    caller(),
                    ratio[ratio.isfinite()].max().item() if ratio.isfinite().any() else 0.0,
                    f"off {off.max()}",
                )
        return call(found, wanted, *rest, **words)

    return watched


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [one for key in sorted(value) for one in _flat(value[key])]
    if isinstance(value, (tuple, list)) and not (value and isinstance(value[0], (int, float))):
        return [one for part in value for one in _flat(part)]
    return [value]


def _approx(scalar: Any, found: Any) -> bool:
    tolerance = getattr(scalar, "tolerance", None) if not isinstance(scalar.expected, (bool, str)) else None
    try:
        off = abs(float(found) - float(scalar.expected))
    except (TypeError, ValueError):
        tolerance = None
    if tolerance:
        note(caller(), off / float(tolerance), f"{found!r} ~ {scalar.expected!r}"[:90])
    return _approx_equal(scalar, found)


def _rewrite_asserts(module: ast.Module, source: bytes, *rest: Any) -> None:
    _Orders().visit(module)
    ast.fix_missing_locations(module)
    _rewrite(module, source, *rest)


def pytest_configure() -> None:
    """Install the watchers before any test is imported."""
    sys.dont_write_bytecode = True  # do not cache the rewritten tests
    builtins._margins_compare = compare  # type: ignore[attr-defined]
    rewrite.rewrite_asserts = _rewrite_asserts
    ApproxScalar.__eq__ = _approx  # type: ignore[method-assign, assignment]
    torch.testing.assert_close = _watched(torch.testing.assert_close, None, None, ("rtol", "atol"))
    np.testing.assert_allclose = _watched(np.testing.assert_allclose, 1e-7, 0.0, ("rtol", "atol"))
    np.allclose = _watched(np.allclose, 1e-5, 1e-8, ("rtol", "atol"))


def pytest_sessionfinish() -> None:
    """Write the recorded comparisons."""
    file = os.environ.get("MARGINS", "margins.txt") + os.environ.get("PYTEST_XDIST_WORKER", "")
    rows = sorted(nearest.items(), key=lambda item: -item[1][0])
    Path(file).write_text("".join(f"{ratio:.3f} {place} {words}\n" for place, (ratio, words) in rows), encoding="utf-8")
