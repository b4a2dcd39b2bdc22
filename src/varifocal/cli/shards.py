"""Prediction over many images: ``predict --output``, in shards and over processes, and ``merge``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varifocal.cli import Command
from varifocal.cli.model_options import load_model
from varifocal.utils.errors import ConfigError, Interrupted
from varifocal.utils.text import count_of, counted

if TYPE_CHECKING:
    from varifocal.inference.sources import Source
    from varifocal.tools.shards.manifest import Manifest
    from varifocal.tools.shards.part import Counts
    from varifocal.tools.shards.run import Shard, Target

_LISTED = 20  # unreadable files that are named on stderr


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``predict`` that write a record for each image, and no annotated images."""
    parser.add_argument(
        "--output",
        type=Path,
        metavar="PATH",
        help="write a record for each image as it is done, and no annotated images: a .jsonl or .parquet file, or a "
        "folder of shards; the same command continues after an interruption. IMAGES may then also be .txt lists, "
        ".tar and .zip archives and .parquet files",
    )
    parser.add_argument("--shard", metavar="K/N", help="only part K of N of the images, into a file of its own")
    parser.add_argument(
        "--output-format", choices=("jsonl", "parquet"), help="format of the shards in a folder (jsonl)"
    )
    parser.add_argument(
        "--fail-on-unreadable", action="store_true", help="with --output, stop at the first image that cannot be read"
    )


def needs_output(options: argparse.Namespace) -> str | None:
    """Return the first option that has a meaning only with ``--output``, if ``--output`` is not given."""
    given = {
        "--shard": options.shard,
        "--output-format": options.output_format,
        "--fail-on-unreadable": options.fail_on_unreadable,
        "torchrun": "WORLD_SIZE" in os.environ and os.environ["WORLD_SIZE"] != "1",
    }
    return None if options.output else next((name for name, value in given.items() if value), None)


def run_output(options: argparse.Namespace) -> int:
    """Write the records of a shard, print what is in it, and return the exit code."""
    from varifocal.inference.sources import list_source
    from varifocal.inference.stream import StreamOptions
    from varifocal.tools.output_paths import ensure_writable_dir
    from varifocal.tools.shards.run import PredictOptions, predict_shard, suffix_of_output, target_of
    from varifocal.utils.progress import no_bar, progress_bar

    _refuse_both(options)
    shard = _shard_of(options)
    given = f".{options.output_format}" if options.output_format else ""
    suffix = suffix_of_output(options.output, shard, given)
    source = list_source(options.images)
    manifest = _manifest(options, source, shard, suffix)
    target = target_of(options.output, shard, manifest)
    start, end = shard.range_of(len(source.items))
    items, notes = source.items[start:end], source.notes
    del source  # the names of the other shards' images
    ensure_writable_dir(target.file.parent)
    if target.done:
        return _already_done(manifest, target, shard)
    model = load_model(options)  # before anything is written that another attempt would have to fit
    manifest.store(target.manifest)
    stream = StreamOptions(options.batch_size, 0, options.score_threshold, options.max_detections)
    limits = PredictOptions(stream, options.frame_stride, options.fail_on_unreadable)
    bar = progress_bar if os.environ.get("LOCAL_RANK", "0") == "0" else no_bar
    try:
        with bar(f"shard {shard}" if shard.count > 1 else "detecting", len(items)) as advance:
            counts, errors = predict_shard(model, items, start, target, limits, advance)
    except KeyboardInterrupt as error:
        raise Interrupted("interrupted; what is done is kept, and the same command goes on.") from error
    _report(notes, errors)
    print(f"{_sentence(counts)}: {target.file}")
    return 0


def _refuse_both(options: argparse.Namespace) -> None:
    """Raise ConfigError for options of the other ways to write detections."""
    other = {"--out": options.out, "--output-json": options.output_json}
    named = next((name for name, value in other.items() if value), None)
    if named:
        raise ConfigError(
            f"{named} and --output exclude each other: --output writes records and no annotated images.",
            code="two-outputs",
        )


def _shard_of(options: argparse.Namespace) -> Shard:
    """Return the shard of the options, or that of this process among those of torchrun."""
    from varifocal.tools.shards.run import WHOLE, Shard, parse_shard

    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and options.shard:
        raise ConfigError("--shard: torchrun already splits the images among its processes.", code="shard-and-torchrun")
    if world > 1:
        return Shard(int(os.environ.get("RANK", "0")) + 1, world)
    return parse_shard(options.shard) if options.shard else WHOLE


def _manifest(options: argparse.Namespace, source: Source, shard: Shard, suffix: str) -> Manifest:
    from importlib.metadata import version

    from varifocal.inference.loading import find_checkpoint, is_exported
    from varifocal.tools.shards.manifest import Manifest, file_digest

    model = Path(options.checkpoint)
    model = model if is_exported(model) else find_checkpoint(options.checkpoint)
    settings: dict[str, Any] = {
        name: getattr(options, name)
        for name in (
            "score_threshold", "max_detections", "tta", "tile", "overlap", "range", "frame_stride", "precision",
        )
    }  # fmt: skip
    settings["max_pixels"] = os.environ.get("VARIFOCAL_MAX_PIXELS")  # also that of --max-pixels
    settings["range"] = list(options.range) if isinstance(options.range, tuple) else options.range
    return Manifest(
        version("varifocal"),
        model.name,
        file_digest(model),
        tuple(options.images),
        len(source.items),
        source.digest(),
        shard.count,
        suffix,
        settings,
    )


def _already_done(manifest: Manifest, target: Target, shard: Shard) -> int:
    from varifocal.tools.shards.part import part_of
    from varifocal.utils.atomic_write import refuse_existing

    if not target.in_folder:
        refuse_existing(target.file, "name another --output or remove it")
    manifest.store(target.manifest)  # which is compared, or was removed although its shards are there
    part_of(target.file, target.digest).unlink(missing_ok=True)  # of a process that was killed at the very end
    print(f"shard {shard}: already done: {target.file}")
    return 0


def _report(notes: tuple[str, ...], errors: list[str]) -> None:
    for note in notes:
        print(note, file=sys.stderr)
    for error in errors[:_LISTED]:
        print(f"varifocal predict: {error}", file=sys.stderr)
    if len(errors) > _LISTED:
        print(f"varifocal predict: {len(errors) - _LISTED} more cannot be read; see their records.", file=sys.stderr)


def _sentence(counts: Counts) -> str:
    unreadable = f", {count_of(counts.unreadable, 'unreadable file')}" if counts.unreadable else ""
    items = counted(counts.items, "(image or video|images and videos)")
    return f"{count_of(counts.detections, 'detection')} in {items}{unreadable}"


def add_merge(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``merge``."""
    parser.add_argument("folder", type=Path, metavar="DIR", help="folder that predict --shard --output wrote")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="a .jsonl or .parquet file of records, or a .json file of COCO results (DIR/detections.jsonl or .parquet)",
    )


def run_merge(options: argparse.Namespace, _: list[str]) -> None:
    """Merge the shards of a folder and print what is in them."""
    from varifocal.tools.shards.manifest import MANIFEST, read_manifest
    from varifocal.tools.shards.merge import merge_shards
    from varifocal.utils.progress import progress_bar

    images = read_manifest(options.folder / MANIFEST).images
    with progress_bar("merging", images) as advance:
        file, counts = merge_shards(options.folder, options.output, advance)
    print(f"{_sentence(counts)}, each once: {file}")


MERGE = Command(
    "merge",
    "join the shards of predict --shard and prove that every image is in them once",
    "varifocal predict best.safetensors photos/ --shard 1/2 --output found\n"
    "  varifocal predict best.safetensors photos/ --shard 2/2 --output found\n"
    "  varifocal merge found",
    add_merge,
    run_merge,
)
