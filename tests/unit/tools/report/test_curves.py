"""Curves of logs, by hand."""

import re
from pathlib import Path

import pytest

from varifocal.tools.report.curves import POINTS, make_curves
from varifocal.tools.report.folders import Run


def run_of(name, steps=(), validations=()):
    """Losses by step, AP by step; steps count from 0."""
    lines = [{"step": step, "loss": loss} for step, loss in steps]
    told = [{"step": step, "validation": {"AP": value}} for step, value in validations]
    return Run(name, Path(name), None, tuple(lines), tuple(told), None, None, None, None, ())


def curves_of(runs):
    """For each chart its title, and the points of each curve in units of the drawing."""
    charts = {}
    for svg in make_curves(runs):
        lines = re.findall(r'<polyline [^>]*points="([^"]*)"', svg)
        points = [[tuple(map(float, pair.split(","))) for pair in line.split()] for line in lines]
        charts[re.search(r"<title [^>]*>(.*?)</title>", svg)[1]] = points
    return charts


@pytest.mark.parametrize("step", [0, 9, 500, 999])
def test_a_single_validation_is_seen_beside_a_long_run(step):
    """Of a run that is still trained, or a short one."""
    long, short = run_of("long", validations=[(499, 0.1), (999, 0.2)]), run_of("short", validations=[(step, 0.1)])
    drawn, single = curves_of([long, short])["Validation AP"]
    (left, low), (right, high) = single
    assert right - left >= 5
    assert low == high == pytest.approx(drawn[0][1])
    pitch = (drawn[1][0] - drawn[0][0]) / 500
    at = drawn[0][0] + (step + 1 - 500) * pitch
    assert left - 0.1 <= at <= right + 0.1
    assert right <= drawn[1][0] + 0.1


def test_long_curves_are_means_of_neighbors():
    steps = [(step, float(step % 2)) for step in range(4 * POINTS)]
    (drawn,) = curves_of([run_of("a", steps)])["Loss, all terms"]
    assert len(drawn) == POINTS
    assert len({y for _, y in drawn}) == 1
