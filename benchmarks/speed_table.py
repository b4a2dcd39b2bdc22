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
# the rows that README.md shows: file of results, row, beginning of its peer's name
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
# file of results -> title, in the order of the page; what is not named here follows by name
TITLES = {
    "star_conv": "Star convolution",
    "network": "Network",
    "assignment": "Assignment",
    "postprocess": "Post-processing",
    "training_step": "Training step",
    "data_loading": "Data loading",
    "coco_evaluation": "COCO evaluation",
    "import_time": "Import time",
    "deploy": "Runtimes",
    "deploy_accuracy": "Accuracy of exported files",
}
# the rows of docs/deploy.md: runtime and precision as in the results, the file that it is
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

What was measured, beside another implementation of the same (the peer) or the least that it can cost (the floor), and
the goal that it was held to; rows that miss theirs stay. Made by `benchmarks/speed_table.py` from
`benchmarks/results`; not typed. `make bench` measures all of it again.

A row and its peer were measured in one run, by turns where a note says nothing else, and are medians. The ratio is the
measured number over the peer's: below 1, a time is shorter than the peer's.
"""


def read(folder: Path) -> dict[str, Any]:
    """The results by name, in the order of the page."""
    found = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}
    names = [name for name in TITLES if name in found] + [name for name in found if name not in TITLES]
    return {name: found[name] for name in names}


def page(results: dict[str, Any]) -> str:
    """The whole of docs/speed.md."""
    return "\n".join([HEAD, *(group(name, result) for name, result in results.items())])


def group(name: str, result: dict[str, Any]) -> str:
    """One script's rows, what they were made with, and the notes of those that miss their goal."""
    lines = [
        f"## {TITLES.get(name, name)}",
        "",
        f"`{result['script']}`, {made_with(result['machine'])}.",
        "",
        "| what | measured | peer or floor | ratio | goal | met |",
        "|---|---|---|---|---|---|",
    ]
    lines += ["| " + " | ".join([*cells(row), goal(row), met(row)]) + " |" for row in result["rows"]]
    notes = [remark(row) for row in result["rows"] if row["note"] or row["met"] is False]
    return "\n".join([*lines, "", *notes, *([""] if notes else [])])


def remark(row: dict[str, Any]) -> str:
    """What is to be known of a row; the first thing of one that misses its goal is that."""
    if row["met"] is False:
        return f"- **{row['what']} misses its goal**: {row['note'] or 'no reason is noted'}."
    return f"- {row['what']}: {row['note']}."


def made_with(machine: dict[str, Any]) -> str:
    """Date, machine and versions in one line."""
    threads = machine["threads"]
    parts = [machine["date"], machine["cpu"], f"{threads} {'thread' if threads == 1 else 'threads'}", machine["gpu"]]
    versions = [f"{name} {version}" for name, version in machine["versions"].items()]
    return ", ".join(part for part in (*parts, *versions) if part)


def cells(row: dict[str, Any]) -> list[str]:
    """What, measured, peer, ratio."""
    peer = row["peer"] or "-"
    if row["peer_value"] is not None:
        peer += f": {quantity(row['peer_value'], row['unit'])}"
    ratio = "-" if row["ratio"] is None else f"{number(row['ratio'])}x"
    return [row["what"], quantity(row["value"], row["unit"]), peer, ratio]


def goal(row: dict[str, Any]) -> str:
    """The goal in words."""
    wanted = row["goal"]
    if wanted is None:
        return "-"
    limit = f"{wanted['limit']:g}x" if wanted["of"] == "ratio" else f"{wanted['limit']:g} {row['unit']}"
    return f"at {wanted['side']} {limit}"


def met(row: dict[str, Any]) -> str:
    """Yes, no, or a dash without a goal."""
    return {True: "yes", False: "**no**", None: "-"}[row["met"]]


def quantity(value: float, unit: str) -> str:
    """Three digits and the unit; a part of a second in milliseconds."""
    if unit == "s" and value < 0.1:
        value, unit = value * 1e3, "ms"
    return f"{number(value)} {unit}"


def number(value: float) -> str:
    """Three digits, thousands with commas."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def front(results: dict[str, Any]) -> str:
    """The table of README.md."""
    rows = [chosen(results[name]["rows"], what, peer) for name, what, peer in FRONT]
    dates = sorted({results[name]["machine"]["date"] for name, _, _ in FRONT})
    cpus = sorted({results[name]["machine"]["cpu"] for name, _, _ in FRONT})
    return "\n".join(
        [
            "| | measured | peer or floor | ratio |",
            "|---|---|---|---|",
            *("| " + " | ".join(cells(row)) + " |" for row in rows),
            "",
            f"{' to '.join(dict.fromkeys((dates[0], dates[-1])))}, {' and '.join(cpus)}. Goals, versions and all other",
            "rows, also those that miss their goal: [speed](docs/speed.md). `make bench` measures it again.",
        ]
    )


def chosen(rows: list[dict[str, Any]], what: str, peer: str) -> dict[str, Any]:
    """The first row of that name and peer; of an empty name the first at all."""
    return next(row for row in rows if row["what"] == (what or row["what"]) and row["peer"].startswith(peer))


def runtimes(speed: dict[str, Any], accuracy: dict[str, Any]) -> str:
    """The table of docs/deploy.md: latency and size of VFNet-R50, AP of the model of ``make demo``."""
    times = {row["what"]: row["value"] for row in speed["rows"]}
    points = {row["what"]: row["value"] for row in accuracy["rows"]}
    lines = ["| runtime | precision | latency | beside torch fp32 | file | AP, trees |", "|---|---|---|---|---|---|"]
    for name, file in RUNTIMES:
        faster = f"{times['torch fp32'] / times[name]:.2f}x as fast"
        size = f"{times[f'size, {file}']:.0f} MB"
        runtime, precision = name.rsplit(" ", 1)
        row = (runtime, precision, f"{times[name]:,.0f} ms", faster, size, f"{points[f'AP, {name}']:.1f}")
        lines.append(f"| {' | '.join(row)} |")
    first, second = (f"`{one['script']}`" for one in (speed, accuracy))
    # before there was a choice every int8 file was of this kind
    targets = {one.get("int8_target", "vnni") for one in (speed, accuracy)}
    return "\n".join(
        [
            *lines,
            "",
            f"Latency and file of VFNet-R50 at 800x1216, one image ({first}, {made_with(speed['machine'])});",
            f"AP of the model of `make demo` on the scene that it was not trained on ({second}, "
            f"{accuracy['machine']['date']}). The int8 files are of `--int8-target {' and '.join(sorted(targets))}`.",
        ]
    )


RUNTIME_NAMES = {"torch": "torch", "onnx": "ONNX Runtime", "openvino": "OpenVINO"}


def int8_targets(content: dict[str, Any]) -> str:
    """The tables of docs/deploy.md on both kinds of int8: what they find on both kinds of processor, and how fast."""
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
        f"AP on the validation images{which}, and how many detections have a score over 0.3. *AVX2 only* is emulated "
        f"on the processor with VNNI, in QEMU (`-cpu Haswell`){_restricted(content)}. No processor without VNNI was "
        "at hand.",
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
    """On how many images each model was measured; None for all."""
    return {row["model"]: row.get("images") for row in content["rows"]}


def _restricted(content: dict[str, Any]) -> str:
    """The rows whose processor was not emulated but restricted by a variable, as a part of a sentence."""
    rows = [row for row in content["rows"] if row["format"] == "openvino" and row["processor"] == "avx2"]
    names = dict.fromkeys(row["model"] for row in rows if "qemu" not in row.get("how", ""))
    return f", but OpenVINO on {' and '.join(names)} under `ONEDNN_MAX_CPU_ISA=AVX2`" if names else ""


def _found(row: dict[str, Any] | None) -> str:
    return "-" if row is None or row["AP"] is None else f"{row['AP']:.1f} / {row['confident']}"


def with_table(text: str, table: str, name: str = "speed table") -> str:
    """The text with the table between the two marks of that name."""
    begin, end = BEGIN.format(name), END.format(name)
    before, rest = text.split(begin)
    return f"{before}{begin}\n{table}\n{end}{rest.split(end)[1]}"


def main() -> None:
    """Write all four."""
    results, readme = read(RESULTS), ROOT / "README.md"
    PAGE.write_text(page(results), encoding="utf-8")
    readme.write_text(with_table(readme.read_text(encoding="utf-8"), front(results)), encoding="utf-8")
    table = runtimes(results["deploy"], results["deploy_accuracy"])
    deploy = with_table(DEPLOY.read_text(encoding="utf-8"), table, "runtimes")
    targets = int8_targets(json.loads(INT8.read_text(encoding="utf-8")))
    DEPLOY.write_text(with_table(deploy, targets, "int8 targets"), encoding="utf-8")


if __name__ == "__main__":
    main()
