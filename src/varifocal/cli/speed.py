"""The verb that measures speed."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli.common import usable_device
from varifocal.cli.options import add_limit, read_count, read_counts, read_seconds, read_size
from varifocal.cli.verb import Verb
from varifocal.errors import ConfigError
from varifocal.places import check_target


def add_bench(verb: argparse.ArgumentParser) -> None:
    """Options of ``bench``."""
    verb.add_argument(
        "model", nargs="?", default="vfnet_r50_1x", metavar="FILE|RECIPE", help="what to measure (%(default)s)"
    )
    verb.add_argument("--size", type=read_size, metavar="HxW", help="pixels of the network's input, such as 800x1216")
    verb.add_argument("--batch", type=read_counts, default=[1], metavar="N,N", help="pictures at once (1)")
    verb.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (%(default)s)"
    )
    verb.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (%(default)s)")
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
    verb.add_argument("--images", metavar="IMAGES", help="pictures, a folder or a glob (one made picture of 640x480)")
    add_limit(verb)
    verb.add_argument(
        "--runtime", choices=("torch", "onnxruntime", "openvino"), help="what runs the network (the file's own)"
    )
    verb.add_argument("--json", type=Path, metavar="F", help="write the numbers here")
    verb.add_argument(
        "--profile", type=Path, metavar="F", help="write a Chrome trace of one pass here, and show what costs most"
    )


def run_bench(options: argparse.Namespace, _: list[str]) -> None:
    """Measure and show; both files are tried before the measuring."""
    import json

    from rich.console import Console

    from varifocal import bench
    from varifocal.bench.show import show
    from varifocal.files import write_beside
    from varifocal.runtime import is_exported, runtime_of

    targets = [target for target in (options.json, options.profile) if target is not None]
    if len({target.resolve() for target in targets}) < len(targets):
        raise ConfigError(f"{options.json}: is named by --json and by --profile; give each a file of its own.")
    for target in targets:
        check_target(target)
    settings = bench.Settings(
        options.size,
        tuple(dict.fromkeys(options.batch)),
        options.precision,
        options.device if is_exported(options.model) else usable_device(options.device),
        options.runtime or runtime_of(options.model),
        options.threads,
        options.seconds,
        options.repeats,
        options.images,
    )
    report = bench.bench(options.model, settings, options.profile)
    Console().print(show(report))
    if options.json is not None:
        write_beside(options.json, json.dumps(report.to_json(), indent=1).encode())


BENCH = Verb(
    "bench",
    "measure how fast a model is here, and where the time goes",
    "varifocal bench best.safetensors --images photos/ --batch 1,4 --json speed.json\n"
    "  varifocal bench vfnet_r50_1x --size 640x640 --precision bf16 --threads 1\n"
    "  varifocal bench best.onnx\n\n"
    "A recipe gets random weights and, without --size, 800x1216 pixels. A checkpoint's own preprocessing sizes\n"
    "the first picture, and all are resized to that. A GFLOP counts two operations a multiply-add; the peak is\n"
    "the best of a few convolutions on this machine, in the same run and precision.",
    add_bench,
    run_bench,
)
