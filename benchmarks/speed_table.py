"""Write docs/speed.md and the tables of README.md and docs/deploy.md from ``results/*.json``.

python benchmarks/speed_table.py
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).with_name("results")
INT8 = Path(__file__).with_name("int8_targets.json")
PAGE = ROOT / "docs" / "speed.md"
DEPLOY = ROOT / "docs" / "deploy.md"
BEGIN, END = "<!-- {}: benchmarks/speed_table.py -->", "<!-- end of {} -->"
# the rows in README.md: results file, row, beginning of the peer's name
FRONT = (
    ("network", "VFNet-R50, 800x1216", "torchvision FCOS"),
    ("network", "VFNet-R50, 800x1216", "torchvision RetinaNet"),
    ("network", "VFNet-R50, 800x1216", "ATSS"),
    ("network", "VFNet-R50, 800x1216, bf16", ""),
    ("network", "VFNet-R50, 800x1216, fp32, arithmetic", ""),
    ("star_conv", "pair of stars, P3", ""),
    ("training_step", "", ""),
    ("data_loading", "training batches, normalized on the CPU", ""),
    ("coco_evaluation", "COCO metrics of detections in memory", ""),
    ("import_time", "import varifocal", ""),
)
# results file -> title, in the order of the page; other files follow in order of their names
TITLES = {
    "star_conv": "Star convolution",
    "network": "Network",
    "assignment": "Assignment",
    "postprocess": "Post-processing",
    "training_step": "Training step",
    "data_loading": "Data loading",
    "sources": "Folders, archives, Parquet",
    "throughput": "Many images",
    "ray_throughput": "Ray Data",
    "coco_evaluation": "COCO evaluation",
    "import_time": "Import time",
    "deploy": "Runtimes",
    "deploy_accuracy": "Accuracy of exported files",
}
# the rows of docs/deploy.md: runtime and precision as in the results, and the file that they use
RUNTIMES = (
    ("torch fp32", "torch fp32"),
    ("torch bf16", "torch fp32"),
    ("ONNX Runtime fp32", "ONNX Runtime fp32"),
    ("ONNX Runtime int8", "ONNX Runtime int8"),
    ("OpenVINO fp32", "OpenVINO fp32"),
    ("OpenVINO bf16", "OpenVINO fp32"),
    ("OpenVINO int8", "OpenVINO int8"),
)
HEAD = """\
# Speed

Each row compares a measurement with another implementation of the same thing (the peer) or with the least that it can
cost (the floor), and shows the goal, if there is one. Rows that miss their goal are kept. `benchmarks/speed_table.py`
generates this page from `benchmarks/results`; do not edit it by hand. `make bench` measures everything again.

A row and its peer are medians of one run, measured in alternation unless a note says otherwise. The ratio is the
measured number divided by the peer's. If it is below 1, a time is shorter than the peer's.
"""


def read(folder: Path) -> dict[str, Any]:
    """Read the results and return them by name, in the order of the page."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    names = [name for name in TITLES if name in found] + [name for name in found if name not in TITLES]
    return {name: found[name] for name in names}


def page(results: dict[str, Any]) -> str:
    """Return the content of docs/speed.md."""
    return "\n".join([HEAD, *(group(name, result) for name, result in results.items())])


def group(name: str, result: dict[str, Any]) -> str:
    """Return the section of one script: machine and versions, its rows, and the notes on rows."""
    lines = [
        f"## {TITLES.get(name, name)}",
        "",
        f"`{result['script']}`, {made_with(result['machine'])}.",
        "",
        "| what | measured | peer or floor | ratio | goal | met |",
        "|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join([*cells(row), goal(row), met(row)]) + " |" for row in result["rows"]]
    notes = remarks(result["rows"])
    return "\n".join([*lines, "", *notes, *([""] if notes else [])])


def remarks(rows: list[dict[str, Any]]) -> list[str]:
    """Return a bullet for each note, with the rows that it is about and whether they miss their goals."""
    groups: dict[tuple[str, bool], list[str]] = {}
    for row in rows:
        if row["note"] or row["met"] is False:
            groups.setdefault((row["note"], row["met"] is False), []).append(row["what"])
    lines = []
    for (note, missed), names in groups.items():
        what = "; ".join(dict.fromkeys(names))
        if missed:
            goals = "misses its goal" if len(names) == 1 else "miss their goals"
            what = f"**{what} {goals}**"
        lines.append(f"- {what}: {note or 'no reason is noted'}.")
    return lines


def made_with(machine: dict[str, Any]) -> str:
    """Return date, machine and versions in one line."""
    threads = machine["threads"]
    parts = [machine["date"], machine["cpu"], f"{threads} {'thread' if threads == 1 else 'threads'}", machine["gpu"]]
    versions = [f"{name} {version}" for name, version in machine["versions"].items()]
    return ", ".join(part for part in (*parts, *versions) if part)


def cells(row: dict[str, Any]) -> list[str]:
    """Return the cells for name, measurement, peer and ratio."""
    peer = row["peer"] or "-"
    if row["peer_value"] is not None:
        peer += f": {quantity(row['peer_value'], row['unit'])}"
    ratio = "-" if row["ratio"] is None else f"{number(row['ratio'])}x"
    return [row["what"], quantity(row["value"], row["unit"]), peer, ratio]


def goal(row: dict[str, Any]) -> str:
    """Return the goal in words."""
    wanted = row["goal"]
    if wanted is None:
        return "-"
    limit = f"{wanted['limit']:g}x" if wanted["of"] == "ratio" else f"{wanted['limit']:g} {row['unit']}"
    return f"at {wanted['side']} {limit}"


def met(row: dict[str, Any]) -> str:
    """Return whether the goal is met: yes, no, or a dash without a goal."""
    return {True: "yes", False: "**no**", None: "-"}[row["met"]]


def quantity(value: float, unit: str) -> str:
    """Return a value with its unit in three digits; below 0.1 s in milliseconds."""
    if unit == "s" and value < 0.1:
        value, unit = value * 1e3, "ms"
    return f"{number(value)} {unit}"


def number(value: float) -> str:
    """Return a number in three digits, with commas between thousands."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def front(results: dict[str, Any]) -> str:
    """Return the table of README.md."""
    rows = [chosen(results[name]["rows"], what, peer) for name, what, peer in FRONT]
    dates = sorted({results[name]["machine"]["date"] for name, _, _ in FRONT})
    cpus = sorted({results[name]["machine"]["cpu"] for name, _, _ in FRONT})
    return "\n".join(
        [
            "| | measured | peer or floor | ratio |",
            "|---|---|---|---|",
            *("| " + " | ".join(cells(row)) + " |" for row in rows),
            "",
            f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {' and '.join(cpus)}. "
            "[Speed](docs/speed.md) lists goals, versions",
            "and all other rows, including those that miss their goal. `make bench` measures everything again.",
        ]
    )


def chosen(rows: list[dict[str, Any]], what: str, peer: str) -> dict[str, Any]:
    """Return the first row with that name and peer; with an empty name, the first row with that peer."""
    return next(row for row in rows if row["what"] == (what or row["what"]) and row["peer"].startswith(peer))


def runtimes(speed: dict[str, Any], accuracy: dict[str, Any]) -> str:
    """Return the table of docs/deploy.md: latency and size of VFNet-R50, AP of the model of ``make demo``."""
    times = {row["what"]: row["value"] for row in speed["rows"]}
    points = {row["what"]: row["value"] for row in accuracy["rows"]}
    lines = [
        "| runtime | precision | latency | relative to torch fp32 | file | AP, trees |",
        "|---|---|---|---|---|---|",
    ]
    for name, file in RUNTIMES:
        faster = f"{times['torch fp32'] / times[name]:.2f}x as fast"
        size = f"{times[f'size, {file}']:.0f} MB"
        runtime, precision = name.rsplit(" ", 1)
        row = (runtime, precision, f"{times[name]:,.0f} ms", faster, size, f"{points[f'AP, {name}']:.1f}")
        lines.append(f"| {' | '.join(row)} |")
    first, second = (f"`{one['script']}`" for one in (speed, accuracy))
    # results from before this option existed are of this kind
    targets = {one.get("int8_target", "vnni") for one in (speed, accuracy)}
    return "\n".join(
        [
            *lines,
            "",
            f"Latency and file size: VFNet-R50 at 800x1216, one image ({first}, {made_with(speed['machine'])}).",
            f"AP: the model of `make demo` on its held-out scene ({second}, {accuracy['machine']['date']}). "
            f"The int8 files were exported with `--int8-target {' and '.join(sorted(targets))}`.",
        ]
    )


RUNTIME_NAMES = {"torch": "torch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def int8_targets(content: dict[str, Any]) -> str:
    """Return the tables of docs/deploy.md on both int8 targets: accuracy and latency on both kinds of processor."""
    models = list(dict.fromkeys(row["model"] for row in content["rows"]))
    lines = [
        f"| runtime | `--int8-target` | {' | '.join(f'{name}: with VNNI | {name}: AVX2 only' for name in models)} |",
        f"|---|---|{'---|---|' * len(models)}",
    ]
    found = {(row["model"], row["format"], row["target"], row["processor"]): row for row in content["rows"]}
    for format, target in dict.fromkeys((row["format"], row["target"]) for row in content["rows"]):
        cells = [_found(found.get((name, format, target, where))) for name in models for where in ("here", "avx2")]
        lines.append(f"| {RUNTIME_NAMES[format]} | {target or 'fp32'} | {' | '.join(cells)} |")
    few = [f"{name}: the first {images}" for name, images in _numbers(content).items() if images]
    which = f" ({'; '.join(few)})" if few else ""
    lines += [
        "",
        f"Each cell is AP on the validation images{which} / the number of detections with a score above 0.3. *AVX2 "
        f"only* is emulated on the processor with VNNI, in QEMU (`-cpu Haswell`){_restricted(content)}. No processor "
        "without VNNI was available.",
        "",
    ]
    latency = content.get("latency", {"here": {}, "avx2": {}})
    if latency["here"]:
        lines += ["| VFNet-R50, 800x1216 | with VNNI | AVX2 only |", "|---|---|---|"]
    for name, here in latency["here"].items():
        format, target = name.split()
        avx2 = latency["avx2"].get(name)
        cells = (f"{RUNTIME_NAMES[format]}, {target}", f"{here:,.0f} ms", "-" if avx2 is None else f"{avx2:,.0f} ms")
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", f"`{content['script']}`, {made_with(content['machine'])}."])


def _numbers(content: dict[str, Any]) -> dict[str, int | None]:
    """Return the number of images on which each model was measured; None for all."""
    return {row["model"]: row.get("images") for row in content["rows"]}


def _restricted(content: dict[str, Any]) -> str:
    """Return the part of the sentence that names the models measured under a variable instead of in QEMU."""
    rows = [row for row in content["rows"] if row["format"] == "openvino" and row["processor"] == "avx2"]
    names = dict.fromkeys(row["model"] for row in rows if "qemu" not in row.get("how", ""))
    return f", except OpenVINO on {' and '.join(names)}: `ONEDNN_MAX_CPU_ISA=AVX2`" if names else ""


def _found(row: dict[str, Any] | None) -> str:
    return "-" if row is None or row["AP"] is None else f"{row['AP']:.1f} / {row['confident']}"


def with_table(text: str, table: str, name: str = "speed table") -> str:
    """Return the text with the table between the two markers of that name."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = text.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Write docs/speed.md, and the tables of README.md and docs/deploy.md."""
    results, readme = read(RESULTS), ROOT / "README.md"
    PAGE.write_text(page(results), encoding="utf-8")
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), front(results)), encoding="utf-8")
    table = runtimes(results["deploy"], results["deploy_accuracy"])
    deploy = with_table(DEPLOY.read_text(encoding="utf-8"), table, "runtimes")
    targets = int8_targets(json.loads(INT8.read_text(encoding="utf-8")))
    DEPLOY.write_text(with_table(deploy, targets, "int8 targets"), encoding="utf-8")


if __name__ == "__main__":
    main()
