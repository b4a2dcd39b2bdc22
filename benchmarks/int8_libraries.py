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

Latencies are of one image and one thread, by turns; ``ratio`` is the median over rounds of the ratio to the package's
own file of that runtime and target. A library replaces the package's own quantizer if AP is at most 0.3 points lower
and the ratio at most 1.05. Results are kept in ``int8_libraries.json``, and printed without arguments.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np

from deploy import megabytes
from harness import by_turns, machine
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
    files: list[Path] = []
    rows: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    floats = [Variant("fp32", runtime, None, lambda *_: 0.0) for runtime in SUFFIXES]
    _, truth = evaluated(case, case.float_file("onnx"))
    for number, variant in enumerate([*floats, *variants]):
        row = {"runtime": variant.runtime, "name": variant.name, "target": variant.target}
        file = case.folder / str(number) / f"int8{SUFFIXES[variant.runtime]}"
        file.parent.mkdir()
        file = case.float_file(variant.runtime) if variant in floats else file
        try:
            row["seconds"] = variant.make(case, file, variant.target)
            row |= distance(case, file) if case.validation is None else accuracy(case, file, truth)
            rows.append({**row, "megabytes": megabytes(file)})
            files.append(file)
            print(rows[-1], flush=True)
        except Exception as error:  # the reason why a library fails is a result, too
            failed.append({**row, "error": f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"})
            print(failed[-1], flush=True)
    return with_latency(rows, files, case.size, rounds) + failed


def with_latency(
    rows: list[dict[str, Any]], files: list[Path], size: tuple[int, int], rounds: int
) -> list[dict[str, Any]]:
    """Add milliseconds of one image on one thread, and the ratios to the package's own file and to float32."""
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32)
    sessions = [load_exported(file, threads=1).session for file in files]
    calls = {str(i): partial(session.run, pixels) for i, session in enumerate(sessions)}
    times = by_turns(calls, rounds, warmup=2)
    base = {(row["runtime"], row["name"], row["target"]): times[str(i)] for i, row in enumerate(rows)}
    for i, row in enumerate(rows):
        row["milliseconds"] = statistics.median(times[str(i)])
        peers = {"ratio": ("ours", row["target"]), "ratio_to_fp32": ("fp32", None)}
        for key, peer in peers.items():
            of_peer = base.get((row["runtime"], *peer))
            if of_peer is not None:
                row[key] = statistics.median(a / b for a, b in zip(times[str(i)], of_peer, strict=True))
    return judged(rows)


def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Add whether each library would replace the package's own file of its runtime and target."""
    own = {(row["runtime"], row["target"]): row for row in rows if row["name"] == "ours"}
    for row in rows:
        peer = own.get((row["runtime"], row["target"]))
        if peer is not None and peer is not row and "AP" in row:
            row["qualifies"] = row["AP"] >= peer["AP"] - MAX_DROP and row["ratio"] <= MAX_RATIO
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
    """Return the rows as a Markdown table."""
    head = (
        "| runtime | quantizer | target | AP | confident, matched | ms | times ours | times fp32 | MB | s | verdict |"
    )
    lines = [head, "|" + "---|" * head.count(" | ") + "---|"]
    for row in rows:
        words = [row["runtime"], row["name"], row["target"] or "-"]
        if "error" in row:
            lines.append(f"| {' | '.join(words)} | failed: {row['error']} |" + " |" * 7)
            continue
        far = "AP" not in row
        words.append(f"{row['box_pixels']:.2f} px" if far else f"{row['AP']:.2f}")
        words.append(f"{row['logit_error']:.3f}" if far else f"{row['confident']}, {row['matched']} of {row['of']}")
        ratios = [f"{row[key]:.2f}" if key in row else "-" for key in ("ratio", "ratio_to_fp32")]
        words += [f"{row['milliseconds']:.1f}", *ratios, f"{row['megabytes']:.1f}", f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(words)} | {({True: 'would do', False: 'no'}).get(row.get('qualifies'), '-')} |")
    return "\n".join(lines)


def cases(options: argparse.Namespace) -> Iterator[Callable[[Path], Case]]:
    """Yield what makes each requested case in a folder."""
    for name, checkpoint, *more in options.model:
        data, images = Path(more[0]) if more else sample_dataset_dir(), int(more[1]) if more[1:] else None
        yield partial(case_of, name, load(checkpoint), data, images, options.calibrate)
    for name, recipe, size in options.random:
        views = choose_views(load_dataset(sample_dataset_dir(), "train"), Tiling(256, 0), options.calibrate)
        height, width = (int(side) for side in size.split("x"))
        yield partial(Case, name, random_model(recipe), (height, width), views, None)


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
    options = parser.parse_args()
    logging.getLogger().setLevel(logging.ERROR)  # ONNX Runtime warns of every bias that has no second axis
    variants = [one for one in VARIANTS if not options.only or any(word in one.name for word in options.only)]
    for make in cases(options):
        with tempfile.TemporaryDirectory() as folder:
            case = make(Path(folder))
            rows = measure(case, variants, options.rounds)
        settings = {"calibrated": len(case.views), "rounds": options.rounds, "threads": 1, "nncf": nncf_version()}
        if case.validation is not None:
            settings["images"] = len(case.validation.samples)
        content = kept()
        content["models"][case.name] = {**settings, "size": case.size, "machine": machine(), "rows": rows}
        RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for name, result in kept()["models"].items():
        print(f"\n{name}, {result['machine']['date']}\n\n{table(result['rows'])}")


def nncf_version() -> str | None:
    """Return the version of NNCF, or None where it is not installed."""
    try:
        return version("nncf")
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()
