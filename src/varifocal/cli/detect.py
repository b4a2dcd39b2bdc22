"""Commands that run a trained model: measure it on labeled images, or detect in any images and videos."""

from __future__ import annotations

import argparse
import sys
from collections import deque
from collections.abc import Container, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varifocal.cli import Command
from varifocal.cli.model_options import (
    MODEL,
    add_batch_size,
    add_device,
    add_evaluation_options,
    add_inference_options,
    load_model,
)
from varifocal.cli.options import add_font, add_limit, add_output_json
from varifocal.cli.shards import add_output, needs_output, run_output
from varifocal.tools.output_paths import (
    ensure_writable_dir,
    ensure_writable_file,
    exclude_output_dir,
    output_image_paths,
    save_image,
)
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.text import counted

if TYPE_CHECKING:
    from PIL import Image

    from varifocal.inference.pipeline import Predictor
    from varifocal.types import Detections

DRAWN_AHEAD = 4  # images that wait to be drawn
SMALL_PIXELS = 2**24  # a larger image is drawn before the next one is read, as both need much memory


def add_eval(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``eval``."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=MODEL)
    add_evaluation_options(parser)
    add_batch_size(parser)


def run_eval(options: argparse.Namespace, _: list[str]) -> None:
    """Evaluate a model and print the metrics."""
    import json

    from rich.console import Console

    from varifocal.evaluation.evaluate import evaluate_in_processes, fit_classes
    from varifocal.evaluation.processes import Processes
    from varifocal.tools.datasets import eval_data
    from varifocal.utils.atomic_write import atomic_write
    from varifocal.utils.progress import no_bar, progress_bar

    if options.output_json is not None:
        ensure_writable_file(options.output_json)
    model = load_model(options)
    data = fit_classes(model, eval_data(options))
    processes = Processes.of_environment()
    bar = progress_bar if processes.first else no_bar
    with bar("evaluating", len(data.samples[:: processes.world])) as advance:
        metrics = evaluate_in_processes(model, data, advance, options.batch_size)
    if metrics is None:
        return
    _print_lines(data.notes)
    Console(markup=False, emoji=False).print(metrics.table())
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(metrics.to_json(), indent=1).encode())


EVAL = Command(
    "eval",
    "measure a model with the COCO metrics",
    "varifocal eval runs/vfnet-1/best.safetensors my_data --split val --output-json metrics.json\n"
    "  torchrun --nproc-per-node 4 -m varifocal eval runs/vfnet-1/best.safetensors my_data",
    add_eval,
    run_eval,
)


def add_predict(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``predict``."""
    parser.add_argument("checkpoint", nargs="?", metavar="CHECKPOINT", help=MODEL)
    parser.add_argument("images", nargs="*", metavar="IMAGES", help="images and videos: files, folders and globs")
    parser.add_argument("--weights", metavar="CHECKPOINT", help="the same model as an option, in place of the argument")
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="folder for the annotated images and detections.json; for a video, an .mp4 without sound and a .jsonl "
        "of the detections (default: detections)",
    )
    parser.add_argument(
        "--frame-stride",
        type=int,
        default=1,
        metavar="N",
        help="process and write only every Nth frame of a video (1)",
    )
    add_output_json(parser, "write the list of detections to this file instead")
    parser.add_argument(
        "--score-threshold", type=float, metavar="P", help="minimum score (0.05, or that of the model's recipe)"
    )
    parser.add_argument(
        "--max-detections", type=int, metavar="N", help="most boxes per image (100, or that of the model's recipe)"
    )
    add_inference_options(parser)
    add_limit(parser)
    add_font(parser)
    add_device(parser)
    add_batch_size(parser)
    add_output(parser)


def run_predict(options: argparse.Namespace, _: list[str]) -> int:
    """Detect in every image and video; those that cannot be read are reported at the end, and make the exit code 2."""
    from varifocal.data.image_kinds import SUFFIXES, UNREAD
    from varifocal.data.listing import list_images
    from varifocal.inference import video
    from varifocal.utils.locks import claimed_folder

    _check_inputs(options)
    _check_limits(options)
    if name := needs_output(options):
        raise ConfigError(f"{name}: needs --output DIR, where each part of the images gets a file.", code="no-output")
    if options.output is not None:
        return run_output(options)
    out = options.out or (None if options.output_json else Path("detections"))
    odd: list[Path] = []
    files = exclude_output_dir(list_images(options.images, SUFFIXES | UNREAD | video.SUFFIXES, odd=odd), out)
    videos = video.select_videos(files, out)
    target = options.output_json or Path(out or ".") / "detections.json"
    paths = dict(zip(files, output_image_paths(files, out, videos), strict=False))  # empty without a folder
    ensure_writable_file(target)
    if out is None:
        return _predict(options, files, videos, paths, target, odd)
    ensure_writable_dir(out)
    with claimed_folder(out):
        return _predict(options, files, videos, paths, target, odd)


def _check_inputs(options: argparse.Namespace) -> None:
    """Count all words as images if --weights names the model; raise ConfigError if no images are given."""
    if options.weights is not None:
        options.images = [word for word in (options.checkpoint, *options.images) if word is not None]
        options.checkpoint = options.weights
    if not options.images:
        raise ConfigError("no images given; use varifocal predict CHECKPOINT IMAGES.", code="no-images")


def _check_limits(options: argparse.Namespace) -> None:
    """Raise ConfigError for a number that is out of its range."""
    from varifocal.inference.tiling import tiling_from_options
    from varifocal.types import Tiling

    tiling_from_options(Tiling(), options.tile, options.overlap)
    threshold, most = options.score_threshold, options.max_detections
    if threshold is not None and not 0 <= threshold <= 1:
        raise ConfigError(f"--score-threshold {threshold:g}: must be between 0 and 1.", code="score-threshold-range")
    if most is not None and most < 1:
        raise ConfigError(f"--max-detections {most}: must be at least 1.", code="max-detections-range")
    if options.frame_stride < 1:
        raise ConfigError(
            f"--frame-stride {options.frame_stride}: must be at least 1 (1 processes every frame, 2 every second one).",
            code="frame-stride-range",
        )


def _predict(
    options: argparse.Namespace,
    files: Sequence[Path],
    videos: Container[Path],
    paths: Mapping[Path, Path],
    target: Path,
    odd: Sequence[Path],
) -> int:
    """Detect in the files, write the detections, print the notes and errors, and return the exit code."""
    import json

    from varifocal.data.listing import odd_images
    from varifocal.utils.atomic_write import atomic_write
    from varifocal.utils.fonts import font_note

    model = load_model(options)
    images = [file for file in files if file not in videos]
    entries, errors, stacks = _predict_images(model, images, paths, options)
    atomic_write(target, json.dumps(entries, indent=1).encode())
    done = len(images) - len(errors)
    for video in (file for file in files if file in videos):
        try:
            _predict_video(model, video, paths[video], options)
        except DataError as error:
            errors.append(str(error))
    notes = [
        *odd_images(odd, "IMAGES"),
        *_frames_note(stacks),
        *font_note(category.name for category in model.categories if paths),
    ]
    _print_lines(notes)
    if done:
        print(f"{len(entries)} detections in {counted(done, '(image|images)')}: {target}")
    _print_lines(f"varifocal predict: {message}" for message in errors)
    return 2 if errors else 0


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        print(line, file=sys.stderr)


def _predict_images(
    model: Predictor, files: Sequence[Path], paths: Mapping[Path, Path], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str], dict[Path, int]]:
    """Return the detections, the errors of unreadable images, and the number of frames of files with several."""
    from varifocal.data.image_scan import count_frames
    from varifocal.inference.stream import StreamOptions, predict_files
    from varifocal.utils.progress import progress_bar

    entries: list[dict[str, Any]] = []
    errors: list[str] = []
    stacks: dict[Path, int] = {}
    limits = StreamOptions(options.batch_size, 0, options.score_threshold, options.max_detections)
    with (
        progress_bar("detecting", len(files)) as advance,
        closing(predict_files(model, files, limits)) as results,
        _Drawer() as drawer,
    ):
        for i, (file, found) in enumerate(zip(files, results, strict=True), start=1):
            if found.error is not None:
                errors.append(str(found.error))
            elif found.image is not None and found.detections is not None:
                entries += found.detections.to_coco(i, str(file))
                if file in paths:
                    drawer.add(found.image, found.detections, paths[file])
                if (frames := count_frames(file)) > 1:
                    stacks[file] = frames
            advance(i)
    return entries, errors, stacks


class _Drawer:
    """Draws detections and writes the images in a thread while the network runs; few images wait for it."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="draw")
        self._waiting: deque[Future[None]] = deque()

    def __enter__(self) -> _Drawer:
        return self

    def add(self, image: Image.Image, detections: Detections, path: Path) -> None:
        """Draw an image after the ones before it; the error of one that could not be written is raised."""
        from varifocal.inference.draw import draw_detections

        self._waiting.append(self._pool.submit(lambda: save_image(draw_detections(image, detections), path)))
        room = DRAWN_AHEAD if image.width * image.height <= SMALL_PIXELS else 0
        while len(self._waiting) > room:
            self._waiting.popleft().result()

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=kind is not None)
        for drawn in self._waiting if kind is None else ():
            drawn.result()


def _frames_note(stacks: dict[Path, int]) -> list[str]:
    """Return a sentence on files that hold several images, if there are any."""
    if not stacks:
        return []
    file, frames = next(iter(stacks.items()))
    files = counted(len(stacks), "(file holds|files hold)")
    return [f"{files} several pages or frames, of which only the first was used; {file} holds {frames}."]


def _predict_video(model: Predictor, file: Path, path: Path, options: argparse.Namespace) -> None:
    """Write the annotated video and its detections, and print how many there are."""
    from varifocal.inference.video import probe_video, write_annotated_video
    from varifocal.utils.progress import progress_bar

    with progress_bar(file.name, probe_video(file).frames, "frames a second") as advance:
        frames, objects = write_annotated_video(
            model,
            file,
            path,
            every=options.frame_stride,
            score_threshold=options.score_threshold,
            max_detections=options.max_detections,
            progress=advance,
        )
    print(f"{objects} detections in {frames} frames: {path} (no sound), {path.with_suffix('.jsonl')}")


PREDICT = Command(
    "predict",
    "detect objects in images and videos; write annotated copies, and the detections as JSON",
    "varifocal predict best.safetensors photos/ 'more/*.jpg' --out found --score-threshold 0.3\n"
    "  varifocal predict vfnet_r50_ms_2x photo.jpg     # the authors' weights, fetched once\n"
    "  varifocal predict best.safetensors archive.tar --output found --shard 3/16     # then: varifocal merge found",
    add_predict,
    run_predict,
    usage="varifocal predict [-h] [--out DIR] [--score-threshold P] [--tta] [--tile N] [...] CHECKPOINT IMAGES [...]",
)
