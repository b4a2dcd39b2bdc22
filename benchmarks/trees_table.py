"""Generate the demo table of README.md from ``trees_vs_fcos.json``: python benchmarks/trees_table.py"""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("trees_vs_fcos.json")
NOISE = Path(__file__).with_name("trees_label_noise.json")
SHOWN = (0.1, 0.15, 0.2)  # fractions in the README, of those that were measured
BEGIN, END = "<!-- demo table: benchmarks/trees_table.py -->", "<!-- end of demo table -->"
TITLES = {
    "vfnet": "varifocal VFNet, varifocal loss",
    "vfnet-focal": "varifocal VFNet, focal loss",
    "vfnet-quality-focal": "varifocal VFNet, quality focal loss",
    "fcos": "torchvision FCOS, same backbone, crops, steps",
}


def table() -> str:
    """Return the table: mean and range over the seeds of every model, in percent."""
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
    """Return the notes below the table: what was measured, where and when."""
    last = results[-1]
    return [
        "Held-out scene, 279 boxes, processed in overlapping windows whose detections are merged; mean over the seeds",
        f"(and range); {max(r['date'] for r in results)}, {last['machine']}, torch {last['torch']};",
        "`benchmarks/trees_vs_fcos.py`. One scene is a small sample: differences of two points may be chance.",
        "",
        *_bound(),
    ]


def _bound() -> list[str]:
    """Return the AP that imprecise labels leave to a perfect detector, from ``trees_label_noise.json``."""
    content = json.loads(NOISE.read_text(encoding="utf-8"))
    by_fraction = {one["fraction"]: one for one in content["noise"]}
    rows = [by_fraction[fraction] for fraction in SHOWN]
    percent = _either([f"{100 * row['fraction']:g}" for row in rows])
    ap, ap75 = _either([f"{row['AP']:.0f}" for row in rows]), _either([f"{row['AP75']:.1f}" for row in rows])
    made = content["machine"]
    own = ", ".join(f"{100 * one['fraction']:.1f} %" for one in content["detectors"])
    return [
        f"Few tree crowns have a sharp edge, so labels are imprecise. If label edges are off by {percent} %",
        f"of the side, even a perfect detector only reaches an AP of {ap} and an AP75 of {ap75}.",
        f"The demo's detections differ from the labels by {own} per edge, so AP75, and with it AP, must be low",
        f"(`benchmarks/trees_label_noise.py`, {made['date']}, {made['cpu']}).",
    ]


def _either(words: list[str]) -> str:
    return f"{', '.join(words[:-1])} or {words[-1]}"


def spread(values: list[float]) -> str:
    """Return the mean, with the range if there are several values."""
    mean = f"{statistics.mean(values):.1f}"
    return mean if len(values) == 1 else f"{mean} ({min(values):.1f}-{max(values):.1f})"


def main() -> None:
    """Replace the text between the two markers in README.md."""
    readme = ROOT / "README.md"
    before, rest = readme.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    readme.write_text(f"{before}{BEGIN}\n{table()}\n{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main()
