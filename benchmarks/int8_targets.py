"""Compare int8 files for any processor and for processors with VNNI, on both kinds of processor.

    python benchmarks/int8_targets.py --model trees runs/trees-1/best.safetensors \
        --model frames runs/paper/star-refine-norm-seed0/best.safetensors runs/paper/frames 100

Exports every model to ONNX and OpenVINO with ``--int8-target portable`` and ``vnni``, and evaluates it on its
validation images, or on the first IMAGES of them, on this processor and on one with AVX2 but without VNNI. The latter
is emulated by ``qemu-x86_64 -cpu Haswell``; where that is not installed, OpenVINO alone runs under a variable that
restricts its instructions. Then it measures the latency of VFNet-R50 at 800x1216 with random weights, all files in
alternation in one process, and OpenVINO again restricted to AVX2. Results go to ``int8_targets.json``;
``speed_table.py`` makes the tables of docs/deploy.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "int8_targets.json"
FORMATS = {"onnx": "onnx", "openvino": "xml"}
TARGETS = ("portable", "vnni")
CONFIDENT = 0.3
LIMIT = {"ONEDNN_MAX_CPU_ISA": "AVX2"}
EMULATOR = ("qemu-x86_64", "-cpu", "Haswell")


def accuracy(file: Path, data: Path, images: int | None) -> dict[str, float]:
    """Return the AP in points on the first images of the validation split, and the number of scores above 0.3."""
    from varifocal.data.load import load_split
    from varifocal.evaluation.evaluate import evaluate
    from varifocal.inference.loading import load

    split = load_split(data, "val", "--val-fraction")
    metrics, found = evaluate(load(file), replace(split, samples=split.samples[:images]))
    return {"AP": 100 * metrics.AP, "confident": sum(len(one.filter(CONFIDENT)) for one in found)}


def latency(files: dict[str, Path], rounds: int) -> dict[str, float]:
    """Return the median milliseconds of each file, in alternation, with two threads."""
    import torch

    from deploy import SIZE, in_file
    from harness import medians

    torch.set_num_threads(2)

    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *SIZE)).astype(np.float32)
    return medians({name: in_file(file, "fp32", pixels) for name, file in files.items()}, rounds, warmup=2)


def elsewhere(words: list[str], limit: dict[str, str], emulator: tuple[str, ...] = ()) -> Any:
    """Run this script in a process with these environment variables and this emulator; return what it prints."""
    command = [*emulator, sys.executable, str(HERE / Path(__file__).name), "--worker", *words]
    done = subprocess.run(command, check=False, env={**os.environ, **limit}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def worker(words: list[str]) -> None:
    """Measure in this process and print the result."""
    what, *rest = words
    if what == "accuracy":
        print(json.dumps(accuracy(Path(rest[0]), Path(rest[1]), int(rest[2]) or None)))
    else:
        print(json.dumps(latency({word.split("=")[0]: Path(word.split("=")[1]) for word in rest[1:]}, int(rest[0]))))


def without_vnni(file: Path, data: Path, images: int | None) -> dict[str, Any] | None:
    """Return the accuracy on a processor with AVX2 only; None if it cannot be emulated.

    The emulator is exact; the variable makes OpenVINO crash on some networks.
    """
    words = ["accuracy", str(file), str(data), str(images or 0)]
    if shutil.which(EMULATOR[0]) is not None:
        return {**elsewhere(words, {"OMP_NUM_THREADS": "1"}, EMULATOR), "how": " ".join(EMULATOR)}
    if file.suffix == ".xml":
        return {**elsewhere(words, LIMIT), "how": " ".join(f"{name}={value}" for name, value in LIMIT.items())}
    return None


def measure_model(name: str, checkpoint: Path, data: Path, images: int | None, folder: Path) -> list[dict[str, Any]]:
    """Return a row for the checkpoint in torch, and one for each file on each processor."""
    from varifocal.cli import main as varifocal
    from varifocal.inference.loading import load

    tiling = load(checkpoint).info.tiling
    size = ["--size", f"{tiling.size}x{tiling.size}"] if tiling.size else []
    own = accuracy(checkpoint, data, images)
    rows = [{"model": name, "format": "torch", "target": None, "processor": "here", "images": images, **own}]
    for format, suffix in FORMATS.items():
        for target in TARGETS:
            file = folder / f"{name}-{target}.{suffix}"
            words = [
                "--format",
                format,
                "--precision",
                "int8",
                "--int8-target",
                target,
                "--calibration-data",
                str(data),
            ]
            if varifocal(["export", str(checkpoint), *size, *words, "--max-ap-drop", "100", "--out", str(file)]):
                raise SystemExit(f"{file}: the export failed")
            here, avx2 = accuracy(file, data, images), without_vnni(file, data, images)
            for processor, found in (("here", here), ("avx2", avx2)):
                row = {"model": name, "format": format, "target": target, "processor": processor, "images": images}
                rows.append({**row, **(found or {"AP": None, "confident": None})})
                print(rows[-1], flush=True)
    return rows


def measure_latency(folder: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Return the latencies of VFNet-R50: all files here, and OpenVINO's restricted to AVX2, if they run there."""
    from deploy import SIZE, write_int8
    from network import model
    from varifocal.export.config import ExportSettings
    from varifocal.export.images import comparison_images
    from varifocal.export.onnx import export_onnx
    from varifocal.export.openvino import build_openvino, save_openvino

    own = model("vfnet_r50_1x")
    files = {"onnx fp32": folder / "r50.onnx", "openvino fp32": folder / "r50.xml"}
    export_onnx(own, files["onnx fp32"], ExportSettings(SIZE), comparison_images(None, own.info))
    graph, info = build_openvino(own, ExportSettings(SIZE))
    save_openvino(graph, files["openvino fp32"], info)
    for format, suffix in FORMATS.items():
        for target in TARGETS:
            files[f"{format} {target}"] = folder / f"r50-{target}.{suffix}"
            write_int8(own, files[f"{format} {target}"], target)
    ours = [f"{name}={file}" for name, file in files.items() if file.suffix == ".xml"]
    here = latency(files, rounds)
    try:
        return {"here": here, "avx2": elsewhere(["latency", str(rounds), *ours], LIMIT)}
    except SystemExit as error:  # OpenVINO 2026.4 crashes under the variable on some processors
        print(f"no latency with AVX2 only: {error}", flush=True)
        return {"here": here, "avx2": {}}


def main() -> None:
    """Measure everything and write the results."""
    from harness import machine
    from varifocal.data.sample_dataset import sample_dataset_dir

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--model", action="append", nargs="+", default=[], metavar="WORD", help="NAME CHECKPOINT [DATA [IMAGES]]"
    )
    parser.add_argument("--rounds", type=int, default=5, help="rounds for the latencies; 0 keeps the stored ones")
    parser.add_argument("--worker", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        return worker(options.worker)
    content: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {"rows": []}
    with tempfile.TemporaryDirectory() as folder:
        for name, checkpoint, *more in options.model:
            data, images = Path(more[0]) if more else sample_dataset_dir(), int(more[1]) if more[1:] else None
            found = measure_model(name, Path(checkpoint), data, images, Path(folder))
            content["rows"] = [row for row in content["rows"] if row["model"] != name] + found
        if options.rounds:
            content["latency"] = measure_latency(Path(folder), options.rounds)
    content |= {"script": "benchmarks/int8_targets.py", "machine": machine()}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
