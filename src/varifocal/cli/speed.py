"""The command ``bench``."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli import Command
from varifocal.cli.model_options import DEVICES, add_precision, resolve_device
from varifocal.cli.options import add_limit, add_output_json, count, counts, seconds, size
from varifocal.tools.output_paths import ensure_writable_file
from varifocal.utils.errors import ConfigError


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``bench``."""
    parser.add_argument(
        "model",
        nargs="?",
        default="vfnet_r50_1x",
        metavar="FILE|RECIPE",
        help="a checkpoint, a run, an exported file, or a recipe (%(default)s)",
    )
    parser.add_argument(
        "--size", type=size, metavar="HxW", help="height and width of the network's input in pixels, such as 800x1216"
    )
    parser.add_argument("--batch", type=counts, default=[1], metavar="N,N", help="batch sizes (1)")
    add_precision(parser)
    parser.add_argument("--device", default="auto", help=DEVICES)
    parser.add_argument("--threads", type=count, metavar="N", help="number of CPU threads (the runtime's default)")
    length = parser.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds", type=seconds, default=10.0, metavar="S", help="time to spend on each batch size (%(default)g)"
    )
    length.add_argument("--repeats", type=count, metavar="N", help="number of passes, instead of a time")
    parser.add_argument(
        "--images", metavar="IMAGES", help="images: a file, a folder or a glob (a generated image of 640x480)"
    )
    add_limit(parser)
    parser.add_argument(
        "--runtime", choices=("torch", "onnxruntime", "openvino"), help="runtime of the network (that of the file)"
    )
    add_output_json(parser)
    parser.add_argument(
        "--profile", type=Path, metavar="F", help="write a Chrome trace of one pass to this file and list the hot spots"
    )


def run_bench(options: argparse.Namespace, _: list[str]) -> None:
    """Measure and print the speed; output files are checked first."""
    import json

    from rich.console import Console

    from varifocal.inference.exported.formats import runtime_of
    from varifocal.inference.loading import is_exported
    from varifocal.tools import bench
    from varifocal.tools.bench.console import show
    from varifocal.utils.atomic_write import atomic_write

    targets = [target for target in (options.output_json, options.profile) if target is not None]
    if len({target.resolve() for target in targets}) < len(targets):
        raise ConfigError(
            f"{options.output_json}: is named by both --output-json and --profile; name two different files.",
            code="same-output-file",
        )
    for target in targets:
        ensure_writable_file(target)
    settings = bench.Settings(
        options.size,
        tuple(dict.fromkeys(options.batch)),
        options.precision,
        resolve_device(options.device, exported=is_exported(options.model)),
        options.runtime or runtime_of(options.model),
        options.threads,
        options.seconds,
        options.repeats,
        options.images,
    )
    report = bench.bench(options.model, settings, options.profile)
    Console(markup=False, emoji=False).print(show(report))
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(report.to_json(), indent=1).encode())


BENCH = Command(
    "bench",
    "measure how fast a model runs on this machine, and where the time goes",
    "varifocal bench best.safetensors --images photos/ --batch 1,4 --output-json speed.json\n"
    "  varifocal bench vfnet_r50_1x --size 640x640 --precision bf16 --threads 1\n"
    "  varifocal bench best.onnx\n\n"
    "A recipe is measured with random weights and, without --size, at 800x1216 pixels. For a checkpoint, the\n"
    "size of the first image after preprocessing is used, and all images are resized to it. A multiply-add\n"
    "counts as two FLOPs; the peak is the best of a few convolutions on this machine, in the same run and\n"
    "precision.",
    add_bench,
    run_bench,
)
