"""Write the demo table of README.md from ``trees_vs_fcos.json``: python benchmarks/trees_table.py"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("trees_vs_fcos.json")
NOISE = Path(__file__).with_name("trees_label_noise.json")
SHOWN = (0.1, 0.15, 0.2)  # of the fractions that were measured
BEGIN, END = "<!-- demo table: benchmarks/trees_table.py -->", "<!-- end of demo table -->"
TITLES = {
    "vfnet": "varifocal VFNet, varifocal loss",
    "vfnet-focal": "varifocal VFNet, focal loss",
    "vfnet-quality-focal": "varifocal VFNet, quality focal loss",
    "fcos": "torchvision FCOS, same backbone, crops, steps",
}


def table() -> str:
    """Mean and range over the seeds of every model, in percent."""
    results = [r for r in json.loads(RESULTS.read_text()) if not r["overrides"]]
    lines = ["| | AP50 | AP | AP75 | seeds |", "|---|---|---|---|---|"]
    for name, title in TITLES.items():
        runs = [r for r in results if r["model"] == name]
        if runs:
            cells = [spread([100 * r[key] for r in runs]) for key in ("AP50", "AP", "AP75")]
            seeds = ", ".join(str(seed) for seed in sorted(r["seed"] for r in runs))
            lines.append(f"| {title} | {' | '.join(cells)} | {seeds} |")
    return "\n".join([*lines, "", *remarks(results)])


def remarks(results: list[dict[str, Any]]) -> list[str]:
    """What the numbers are of, where and when."""
    last = results[-1]
    return [
        "Held-out scene, 279 boxes, read in overlapping windows whose detections are merged; mean over the seeds (and",
        f"range); {max(r['date'] for r in results)}, {last['machine']}, torch {last['torch']}; made by",
        "`benchmarks/trees_vs_fcos.py`. One scene is little: two points are within chance.",
        "",
        *_bound(),
    ]


def _bound() -> list[str]:
    """What the looseness of the labels leaves to a detector without any error, from ``trees_label_noise.json``."""
    content = json.loads(NOISE.read_text(encoding="utf-8"))
    by_fraction = {one["fraction"]: one for one in content["noise"]}
    left = [f"{100 * at:g} % AP {by_fraction[at]['AP']:.0f} and AP75 {by_fraction[at]['AP75']:.1f}" for at in SHOWN]
    own = ", ".join(f"{100 * one['fraction']:.1f} %" for one in content["detectors"])
    return [
        "Few tree crowns have a sharp edge. Labels whose edges are off by this fraction of a side leave a detector",
        f"without any error: {', '.join(left)}. The demo's detections",
        f"and the labels differ by {own} an edge, so that AP75, and with it AP, is low by nature",
        f"(`benchmarks/trees_label_noise.py`, {content['machine']['date']}, {content['machine']['cpu']}).",
    ]


def spread(values: list[float]) -> str:
    """Mean, and the range where there is one."""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f}-{max(values):.1f})"


def main() -> None:
    """Replace what stands between the two marks."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
