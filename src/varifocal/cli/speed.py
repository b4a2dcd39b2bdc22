"""The verb that measures speed."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli.command import Command
from varifocal.cli.common import resolve_device
from varifocal.cli.options import DEVICES, add_limit, read_count, read_counts, read_seconds, read_size
from varifocal.tools.output_paths import ensure_writable_file
from varifocal.utils.errors import ConfigError


def add_bench(verb: argparse.ArgumentParser) -> None:
    """Options of ``bench``."""
    verb.add_argument(
        "model", nargs="?", default="vfnet_r50_1x", metavar="FILE|RECIPE", help="what to measure (%(default)s)"
    )
    verb.add_argument("--size", type=read_size, metavar="HxW", help="pixels of the network's input, such as 800x1216")
    verb.add_argument("--batch", type=read_counts, default=[1], metavar="N,N", help="images at once (1)")
    verb.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (%(default)s)"
    )
    verb.add_argument("--device", default="auto", help=DEVICES)
    verb.add_argument("--threads", type=read_count, metavar="N", help="threads that compute (the runtime's own choice)")
    length = verb.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds",
        type=read_seconds,
        default=10.0,
        metavar="S",
        help="about so long for each batch size (%(default)g)",
    )
    length.add_argument("--repeats", type=read_count, metavar="N", help="so often instead")
    verb.add_argument("--images", metavar="IMAGES", help="images, a folder or a glob (one made image of 640x480)")
    add_limit(verb)
    verb.add_argument(
        "--runtime", choices=("torch", "onnxruntime", "openvino"), help="what runs the network (the file's own)"
    )
    verb.add_argument("--output-json", type=Path, metavar="F", help="write the numbers here")
    verb.add_argument(
        "--profile", type=Path, metavar="F", help="write a Chrome trace of one pass here, and show what costs most"
    )


def run_bench(options: argparse.Namespace, _: list[str]) -> None:
    """Measure and show; both files are tried before the measuring."""
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
            f"{options.output_json}: is named by --output-json and by --profile; give each a file of its own."
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
    Console().print(show(report))
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(report.to_json(), indent=1).encode())


BENCH = Command(
    "bench",
    "measure how fast a model is here, and where the time goes",
    "varifocal bench best.safetensors --images photos/ --batch 1,4 --output-json speed.json\n"
    "  varifocal bench vfnet_r50_1x --size 640x640 --precision bf16 --threads 1\n"
    "  varifocal bench best.onnx\n\n"
    "A recipe gets random weights and, without --size, 800x1216 pixels. A checkpoint's own preprocessing sizes\n"
    "the first image, and all are resized to that. A GFLOP counts two operations a multiply-add; the peak is\n"
    "the best of a few convolutions on this machine, in the same run and precision.",
    add_bench,
    run_bench,
)
