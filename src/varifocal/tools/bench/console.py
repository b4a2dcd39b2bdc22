"""The report of a benchmark in a terminal of 80 columns."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from varifocal.tools.bench.results import BatchResult, Operator, Report
from varifocal.utils.text import count_of


def show(report: Report) -> RenderableType:
    """Return the settings, the latency, the time of each step by batch size, and the notes."""
    blocks: list[RenderableType] = [_head(report), _latency(report)]
    blocks += [_steps(result) for result in report.batches]
    if report.operators:
        blocks.append(_operators(report.operators))
    blocks += [Text(f"note: {note}.") for note in report.notes]
    return Group(blocks[0], *(Padding(block, (1, 0, 0, 0)) for block in blocks[1:]))


def _head(report: Report) -> Table:
    grid = Table.grid(padding=(0, 2))
    for key, value in _facts(report):
        grid.add_row(Text(key, style="bold"), Text(value))
    return grid


def _facts(report: Report) -> Iterator[tuple[str, str]]:
    model, machine, settings = report.model, report.machine, report.settings
    height, width = model["input"]
    weights = ", random weights" if model["random_weights"] else ""
    yield "model", model["name"]
    backbone = f" on {model['backbone']}" if model["backbone"] else ""
    parameters = f", {model['parameters'] / 1e6:.1f} M parameters" if model["parameters"] else ""
    yield "", f"{model['detector']}{backbone}{parameters}, {count_of(model['classes'], 'class')}{weights}"
    yield "input", f"height {height}, width {width}; {settings['images']}"
    if model["gflop"]:
        yield "work", f"{model['gflop']:.4g} GFLOP per image ({model['multiply_adds'] / 1e9:.4g} G multiply-adds)"
    yield (
        "machine",
        f"{_gpu_first(machine)}, {count_of(machine['cores'], 'core')}, {count_of(machine['threads'], 'thread')}",
    )
    versions = report.versions
    yield "with", f"{settings['runtime']} {versions.get(settings['runtime'], '')}, {settings['precision']}"
    for best in report.peak[:1]:
        batch = f", batch {best.batch}" if best.batch > 1 else ""
        yield "peak", f"{best.gflops_per_second:,.0f} GFLOP/s ({best.convolution}{batch})"


def _gpu_first(machine: dict[str, Any]) -> str:
    return f"{machine['gpu']}, {machine['cpu']}" if machine["gpu"] else str(machine["cpu"])


def _latency(report: Report) -> Table:
    table = _table("batch", "", "median", "p10", "p90", "min", "images/s", "extra MiB")
    table.title = "milliseconds"
    table.columns[1].justify = "left"
    digits = _digits(max(result.milliseconds.p90 for result in report.batches))
    for result in report.batches:
        for name, taken in (("whole", result.milliseconds), ("network", result.network.milliseconds)):
            first = name == "whole"
            table.add_row(
                str(result.batch) if first else "",
                name,
                *(f"{value:.{digits}f}" for value in (taken.median, taken.p10, taken.p90, taken.min)),
                f"{result.batch / taken.median * 1e3:.2f}",
                ("-" if result.memory.extra is None else f"{result.memory.extra:.0f}") if first else "",
            )
    return table


def _steps(result: BatchResult) -> Table:
    whole = result.milliseconds.median
    digits, gflop_digits = _digits(whole), _digits(result.network.gflop or 0)
    table = _table("step", "ms", "of total", "GFLOP", "GFLOP/s", "of peak")
    passes = count_of(result.milliseconds.repeats, "pass")
    table.title = f"batch {result.batch}: time of each step, median of {passes}"
    for step in result.steps:
        taken = step.milliseconds.median
        counted = ("", "", "")
        if step.gflop is not None and step.gflops_per_second is not None:
            fraction = "" if step.fraction_of_peak is None else _percent(step.fraction_of_peak)
            counted = (f"{step.gflop:.{gflop_digits}f}", f"{step.gflops_per_second:,.0f}", fraction)
        table.add_row("  " * step.level + step.name, f"{taken:.{digits}f}", _percent(taken / whole), *counted)
    return table


def _operators(operators: tuple[Operator, ...]) -> Table:
    table = _table("operator", "calls", "ms", "of total")
    table.title = "most expensive operators of one profiled pass"
    digits = _digits(operators[0].milliseconds)
    for operator in operators:
        table.add_row(
            operator.name, str(operator.calls), f"{operator.milliseconds:.{digits}f}", _percent(operator.fraction)
        )
    return table


def _table(*head: str) -> Table:
    table = Table(*head, box=None, pad_edge=False, title_justify="left", title_style="bold")
    for column in table.columns[1:]:
        column.justify = "right"
        column.no_wrap = True
    return table


def _digits(largest: float) -> int:
    """Return the decimals for a column of numbers whose largest one gets about four digits."""
    return 1 if largest >= 100 else 2 if largest >= 10 else 3


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"
