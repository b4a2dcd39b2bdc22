"""The package's eight bits beside those of ONNX Runtime and NNCF: python benchmarks/int8_libraries.py

    pip install nncf    # not a dependency; without it, its rows say that it is missing
    python benchmarks/int8_libraries.py --model frames runs/paper/star-refine-norm-seed0/best.safetensors \
        runs/paper/frames 400 --model trees runs/trees-1/best.safetensors
    python benchmarks/int8_libraries.py --random r50 vfnet_r50_1x 512x640 --calibrate 8 --rounds 9

All files of a model have one fixed input size, are calibrated on the same images with the same preprocessing, and are
measured on the validation images (or the first of them) through the exported-model path of ``varifocal eval``. A recipe
with random weights has no AP: the distance of its outputs from those of the float32 file is measured instead.

Libraries quantize the float32 files that the package exports. With ``all`` the library chooses the operators; with
``plan`` those stay in float32 that the package keeps there, which lead to boxes, scores and sampling locations. The
star and deformable convolutions are ``DeformConv`` as exported by default, ``GridSample`` with ``--deform-op
gridsample``, or with ``rows`` the form of ``openvino_bf16.py``, an embedding bag and a product. Weights have seven bits
as with ``--int8-target portable`` (``reduce_range`` in ONNX Runtime, ``OverflowFix.ENABLE`` in NNCF), or eight as with
``vnni``.

Latencies are of one image and one thread, by turns. Wall time is the median of the rounds; ratios are of processor
time in the best round, which on one thread is the latency of a machine without other work. A library replaces the
package's own quantizer if AP is at most 0.3 points lower and the ratio at most 1.05. Results are kept in
``int8_libraries.json``, and printed without arguments. Files are kept with ``--files FOLDER``, and timed again with
``--again NAME``.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from deploy import megabytes
from harness import machine
from int8_quantizers import MAX_DROP, SUFFIXES, Case, with_nncf, with_onnxruntime, with_own
from network import model as random_model
from varifocal.data.load import load_dataset, load_split
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.evaluation.evaluate import evaluate
from varifocal.export.calibrate import choose_views
from varifocal.export.config import multiple_of
from varifocal.export.images import comparison_images
from varifocal.export.quantize_accuracy import count_matched
from varifocal.inference.exported.info import Int8Target
from varifocal.inference.exported.model import load_exported
from varifocal.inference.model import Model, load
from varifocal.types import Detections, Tiling, resized_shape

RESULTS = Path(__file__).with_suffix(".json")
VERDICT = {True: "would do", False: "no", None: "-"}
MAX_RATIO = 1.05  # of the latency to that of the package's own file, with which a library still replaces it


@dataclass(frozen=True)
class Variant:
    """One way to quantize: ``make`` writes a file and returns the seconds without the export of the float32 graph."""

    name: str
    runtime: str
    target: Int8Target | None
    make: Callable[[Case, Path, Any], float]


ORT, NNCF = "ONNX Runtime", "NNCF"
WAYS: tuple[tuple[str, str, Int8Target, Callable[[Case, Path, Int8Target], float]], ...] = (
    ("ours", "onnx", "portable", partial(with_own, "onnx")),
    ("ours", "onnx", "vnni", partial(with_own, "onnx")),
    ("ours", "openvino", "portable", partial(with_own, "openvino")),
    ("ours", "openvino", "vnni", partial(with_own, "openvino")),
    (f"{ORT}, MinMax, all", "onnx", "portable", partial(with_onnxruntime, "MinMax", "all", "deformconv")),
    (f"{ORT}, Percentile, all", "onnx", "portable", partial(with_onnxruntime, "Percentile", "all", "deformconv")),
    (f"{ORT}, MinMax, plan, gridsample", "onnx", "portable", partial(with_onnxruntime, "MinMax", "plan", "gridsample")),
    (
        f"{ORT}, Percentile, plan, gridsample",
        "onnx",
        "portable",
        partial(with_onnxruntime, "Percentile", "plan", "gridsample"),
    ),
    (f"{ORT}, MinMax, plan, gridsample", "onnx", "vnni", partial(with_onnxruntime, "MinMax", "plan", "gridsample")),
    (f"{NNCF}, all", "onnx", "portable", partial(with_nncf, "all", "deformconv")),
    (f"{NNCF}, plan, gridsample", "onnx", "portable", partial(with_nncf, "plan", "gridsample")),
    (f"{NNCF}, all", "openvino", "portable", partial(with_nncf, "all", "deformconv")),
    (f"{NNCF}, plan", "openvino", "portable", partial(with_nncf, "plan", "deformconv")),
    (f"{NNCF}, plan, rows", "openvino", "portable", partial(with_nncf, "plan", "rows")),
    (f"{NNCF}, plan, rows", "openvino", "vnni", partial(with_nncf, "plan", "rows")),
    (f"{NNCF}, accuracy control", "openvino", "portable", partial(with_nncf, "control", "deformconv")),
)
VARIANTS = tuple(Variant(*way) for way in WAYS)


def evaluated(case: Case, file: Path) -> tuple[float, list[Detections]]:
    """Return AP in points and the detections; of random weights nothing."""
    if case.validation is None:
        return 0.0, []
    metrics, found = evaluate(load_exported(file), case.validation)
    return 100 * metrics.AP, found


def accuracy(case: Case, file: Path, truth: Sequence[Detections]) -> dict[str, Any]:
    """Return AP in points, and how many confident detections of the float32 file are found."""
    average, found = evaluated(case, file)
    expected, confident, matched = count_matched(truth, found)
    return {"AP": average, "confident": confident, "matched": matched, "of": expected}


def distance(case: Case, file: Path) -> dict[str, Any]:
    """Return how far outputs are from those of the float32 file: the median of the corners' moves in pixels, and the
    RMS error of the scores' logits over their standard deviation."""
    right, found = load_exported(case.float_file("onnx")), load_exported(file)
    moves, errors = [], []
    for image in comparison_images(None, case.model.info):
        batch = right.batch([image], [right.fitted_shape(image, right.info.preprocess)])
        one, other = right.session.run(batch), found.session.run(batch)
        moves.append(np.median(np.abs(one["boxes"] - other["boxes"])))
        logits = [np.log(part["scores"] / (1 - part["scores"])) for part in (one, other)]
        errors.append(np.sqrt(np.square(logits[0] - logits[1]).mean()) / logits[0].std())
    return {"box_pixels": float(np.mean(moves)), "logit_error": float(np.mean(errors))}


def measure(case: Case, variants: Sequence[Variant], rounds: int) -> list[dict[str, Any]]:
    """Write, measure and time all files of a case, and return a row for each; those that fail are last."""
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    floats = [Variant("fp32", runtime, None, lambda *_: 0.0) for runtime in SUFFIXES]
    _, truth = evaluated(case, case.float_file("onnx"))
    for number, variant in enumerate([*floats, *variants]):
        row = {"runtime": variant.runtime, "name": variant.name, "target": variant.target}
        file = case.folder / str(number) / f"int8{SUFFIXES[variant.runtime]}"
        file.parent.mkdir(exist_ok=True)
        file = case.float_file(variant.runtime) if variant in floats else file
        try:
            row["seconds"] = variant.make(case, file, variant.target)
            row |= distance(case, file) if case.validation is None else accuracy(case, file, truth)
            rows.append({**row, "megabytes": megabytes(file), "file": str(file.relative_to(case.folder))})
            print(rows[-1], flush=True)
        except Exception as error:  # the reason why a library fails is a result, too
            failed.append({**row, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"})
            print(failed[-1], flush=True)
    return with_latency(rows, case.folder, case.size, rounds) + failed


def by_turns(calls: Sequence[Callable[[], Any]], rounds: int) -> np.ndarray:
    """Return milliseconds of wall time and of processor time [rounds, calls, 2]; two rounds go before."""
    times = np.zeros((rounds + 2, len(calls), 2))
    for i, j in itertools.product(range(rounds + 2), range(len(calls))):
        begun = time.perf_counter(), time.process_time()
        calls[j]()
        times[i, j] = time.perf_counter() - begun[0], time.process_time() - begun[1]
    found: np.ndarray = times[2:] * 1e3
    return found


def with_latency(rows: list[dict[str, Any]], folder: Path, size: Sequence[int], rounds: int) -> list[dict[str, Any]]:
    """Add milliseconds of one image on one thread, the ratios to other files of the runtime, and the verdict."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32)
    sessions = [load_exported(folder / row["file"], threads=1).session for row in rows]
    times = by_turns([partial(session.run, pixels) for session in sessions], rounds)
    best = times[..., 1].min(axis=0)  # other work slows a round through the caches, and never makes it faster
    columns = {(row["runtime"], row["name"], row["target"]): i for i, row in enumerate(rows)}
    for i, row in enumerate(rows):
        row["milliseconds"] = float(np.median(times[:, i, 0]))
        row["processor_milliseconds"] = float(best[i])
        for key, peer in {"ratio": ("ours", row["target"]), "ratio_to_fp32": ("fp32", None)}.items():
            j = columns.get((row["runtime"], *peer))
            row[key] = None if j is None else float(best[i] / best[j])
        own = columns.get((row["runtime"], "ours", row["target"]), i)
        if own != i and "AP" in row:
            row["qualifies"] = row["AP"] >= rows[own]["AP"] - MAX_DROP and row["ratio"] <= MAX_RATIO
    return rows


def case_of(name: str, model: Model, data: Path, images: int | None, most: int, folder: Path) -> Case:
    """Return the case of a trained model and a data set; the size is that of its windows or of its first image."""
    split = load_split(data, "val", "--val-fraction")
    validation = replace(split, samples=list(split.samples)[:images])
    side = model.info.tiling.size
    first = validation.samples[0]
    shape = (side, side) if side else resized_shape(first.height, first.width, model.info.preprocess)
    multiple = multiple_of(model.info)
    height, width = (-(-length // multiple) * multiple for length in shape)
    views = choose_views(load_split(data, "train", "--val-fraction"), model.info.tiling, most)
    return Case(name, model, (height, width), views, validation, folder)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table; of random weights with the distance of boxes and of logits for AP."""
    head = [
        "runtime, target",
        "quantizer",
        "AP",
        "confident, matched",
        "wall ms",
        "CPU ms",
        "x ours",
        "x fp32",
        "MB",
        "s",
        "verdict",
    ]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for row in rows:
        words = [f"{row['runtime']}, {row['target']}" if row["target"] else row["runtime"], row["name"]]
        if "error" in row:
            lines.append(f"| {' | '.join(words)} | failed: {row['error']} |" + " |" * 8)
            continue
        if "AP" in row:
            words += [f"{row['AP']:.2f}", f"{row['confident']}, {row['matched']} of {row['of']}"]
        else:
            words += [f"boxes {row['box_pixels']:.2f} px", f"logits {row['logit_error']:.3f}"]
        for key in ("milliseconds", "processor_milliseconds", "ratio", "ratio_to_fp32"):
            words.append("-" if row[key] is None else f"{row[key]:.{1 if 'milli' in key else 2}f}")
        words += [f"{row['megabytes']:.1f}", f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(words)} | {VERDICT[row.get('qualifies')]} |")
    return "\n".join(lines)


def cases(options: argparse.Namespace) -> Iterator[tuple[str, Callable[[Path], Case]]]:
    """Yield the name of each requested case, and what makes it in a folder."""
    for name, checkpoint, *more in options.model:
        data, images = Path(more[0]) if more else sample_dataset_dir(), int(more[1]) if more[1:] else None
        yield name, partial(case_of, name, load(checkpoint), data, images, options.calibrate)
    for name, recipe, size in options.random:
        views = choose_views(load_dataset(sample_dataset_dir(), "train"), Tiling(256, 0), options.calibrate)
        height, width = (int(side) for side in size.split("x"))
        yield name, partial(Case, name, random_model(recipe), (height, width), views, None)


def kept() -> dict[str, Any]:
    """Read the results of earlier runs."""
    if RESULTS.exists():
        content: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8"))
        return content
    return {"script": "benchmarks/int8_libraries.py", "models": {}}


def main() -> None:
    """Measure the models, and keep and print the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", nargs="+", default=[], help="NAME CHECKPOINT [DATA [IMAGES]]")
    parser.add_argument("--random", action="append", nargs=3, default=[], metavar=("NAME", "RECIPE", "HxW"))
    parser.add_argument("--only", action="append", default=[], help="quantizers with this in the name; repeatable")
    parser.add_argument("--calibrate", type=int, default=128, help="images to calibrate on at most")
    parser.add_argument("--rounds", type=int, default=21, help="of the latencies")
    parser.add_argument("--files", type=Path, metavar="FOLDER", help="keep each model's files here, under its name")
    parser.add_argument("--again", action="append", default=[], metavar="NAME", help="time the files of a model again")
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # ONNX Runtime warns of every bias that has no second axis
    variants = [one for one in VARIANTS if not options.only or any(word in one.name for word in options.only)]
    with tempfile.TemporaryDirectory() as scratch:
        files = options.files or Path(scratch)
        for name, make in cases(options):
            (files / name).mkdir(parents=True, exist_ok=True)
            case = make(files / name)
            rows = measure(case, variants, options.rounds)
            images = 0 if case.validation is None else len(case.validation.samples)
            settings = {"size": case.size, "calibrated": len(case.views), "images": images}
            keep(
                name, {**settings, "rounds": options.rounds, "nncf": nncf_version(), "machine": machine(), "rows": rows}
            )
        for name in options.again:
            time_again(name, files / name, options.rounds)
    for name, result in kept()["models"].items():
        print(f"\n{name}, {result['machine']['date']}\n\n{table(result['rows'])}")


def time_again(name: str, folder: Path, rounds: int) -> None:
    """Replace the latencies of a model whose files were kept."""
    result = kept()["models"][name]
    failed = [row for row in result["rows"] if "error" in row]
    timed = [row for row in result["rows"] if "error" not in row]
    rows = with_latency(timed, folder, result["size"], rounds) + failed
    keep(name, {**result, "rounds": rounds, "rows": rows})


def keep(name: str, result: dict[str, Any]) -> None:
    """Write the results of a model in place of earlier ones."""
    content = kept()
    content["models"][name] = result
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def nncf_version() -> str | None:
    """Return the version of NNCF, or None where it is not installed."""
    try:
        return version("nncf")
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
