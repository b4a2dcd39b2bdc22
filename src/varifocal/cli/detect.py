"""Verbs that run a trained model: on labeled images to measure it, on any others to find things."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varifocal.cli.command import Command
from varifocal.cli.common import load_model
from varifocal.cli.options import add_device, add_evaluation_options, add_font, add_inference_options, add_limit
from varifocal.tools.output_paths import (
    ensure_writable_dir,
    ensure_writable_file,
    exclude_output_dir,
    output_image_paths,
    save_image,
)
from varifocal.utils.errors import ConfigError, DataError

if TYPE_CHECKING:
    from varifocal.inference.pipeline import Predictor


def add_eval(verb: argparse.ArgumentParser) -> None:
    """Options of ``eval``."""
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    add_evaluation_options(verb)


def run_eval(options: argparse.Namespace, _: list[str]) -> None:
    """Evaluate and show the metrics."""
    import json

    from rich.console import Console

    from varifocal.evaluation.evaluate import evaluate, fit_classes
    from varifocal.tools.datasets import eval_data
    from varifocal.utils.atomic_write import atomic_write
    from varifocal.utils.progress import progress_bar

    if options.output_json is not None:
        ensure_writable_file(options.output_json)
    model = load_model(options)
    data = fit_classes(model, eval_data(options))
    with progress_bar("evaluating", len(data.samples)) as advance:
        metrics, _found = evaluate(model, data, advance)
    for note in data.notes:
        print(note, file=sys.stderr)
    Console().print(metrics.table())
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(metrics.to_json(), indent=1).encode())


def _tell(detections: int, done: int, errors: Sequence[str], notes: Sequence[str], target: Path) -> int:
    for note in notes:
        print(note, file=sys.stderr)
    if done:
        print(f"{detections} detections in {done} {'image' if done == 1 else 'images'}: {target}")
    for message in errors:
        print(f"varifocal predict: {message}", file=sys.stderr)
    return 2 if errors else 0


def _predict_one(
    model: Predictor, file: Path, image_id: int, path: Path | None, options: argparse.Namespace
) -> list[dict[str, Any]]:
    from varifocal.inference.draw import draw_detections
    from varifocal.inference.pipeline import read_for

    image = read_for(model.info, file)
    found = model.predict(image, score_threshold=options.score_threshold, max_detections=options.max_detections)
    if path is not None:
        save_image(draw_detections(image, found), path)
    return found.to_coco(image_id, str(file))


def _predict_all(
    model: Predictor, files: Sequence[Path], paths: Mapping[Path, Path], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str], dict[Path, int]]:
    """What is found in images, what is wrong with those that cannot be read, and which files hold how many images."""
    from varifocal.data.image_scan import count_frames
    from varifocal.utils.progress import progress_bar

    entries: list[dict[str, Any]] = []
    errors: list[str] = []
    stacks: dict[Path, int] = {}
    with progress_bar("detecting", len(files)) as advance:
        for i, file in enumerate(files, start=1):
            try:
                entries += _predict_one(model, file, i, paths.get(file), options)
            except DataError as error:
                errors.append(str(error))
            else:
                if (frames := count_frames(file)) > 1:
                    stacks[file] = frames
            advance(i)
    return entries, errors, stacks


def _frames_note(stacks: dict[Path, int]) -> list[str]:
    """A sentence on files that hold several images."""
    if not stacks:
        return []
    file, count = next(iter(stacks.items()))
    files = "1 file holds" if len(stacks) == 1 else f"{len(stacks)} files hold"
    return [f"{files} several pages or frames, of which only the first was looked at; {file} holds {count}."]


def _predict_video(model: Predictor, file: Path, path: Path, options: argparse.Namespace) -> None:
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


def _check_limits(options: argparse.Namespace) -> None:
    from varifocal.inference.tiling import tiling_from_options
    from varifocal.types import Tiling

    tiling_from_options(Tiling(), options.tile, options.overlap)
    least, most = options.score_threshold, options.max_detections
    if (least is not None and not 0 <= least <= 1) or (most is not None and most < 1):
        raise ConfigError("--score-threshold lies between 0 and 1, and --max-detections is at least 1.")
    if options.frame_stride < 1:
        raise ConfigError(
            f"--frame-stride {options.frame_stride}: 1 looks at every frame of a video, 2 at every second, ..."
        )


EVAL = Command(
    "eval",
    "measure a checkpoint with the COCO metrics",
    "varifocal eval runs/vfnet-1/best.safetensors my_data --split val --output-json metrics.json",
    add_eval,
    run_eval,
)


def add_predict(verb: argparse.ArgumentParser) -> None:
    """Options of ``predict``."""
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    verb.add_argument("images", nargs="+", metavar="IMAGES", help="images and videos: files, folders and globs")
    verb.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="annotated images and detections.json; of a video an .mp4 without sound and a .jsonl (detections)",
    )
    verb.add_argument(
        "--frame-stride",
        type=int,
        default=1,
        metavar="N",
        help="detect in every Nth frame of a video, write only these (1)",
    )
    verb.add_argument("--output-json", type=Path, metavar="F", help="write the list of detections here instead")
    verb.add_argument(
        "--score-threshold", type=float, metavar="P", help="least score (0.05 unless the model's recipe says more)"
    )
    verb.add_argument(
        "--max-detections", type=int, metavar="N", help="most boxes an image (100 unless the model's recipe says more)"
    )
    add_inference_options(verb)
    add_limit(verb)
    add_font(verb)
    add_device(verb)


def run_predict(options: argparse.Namespace, _: list[str]) -> int:
    """Detect in every image and video; one that cannot be read is named at the end, the others are still done."""
    from varifocal.data.image_kinds import SUFFIXES, UNREAD
    from varifocal.data.listing import list_images
    from varifocal.inference import video
    from varifocal.utils.locks import claimed_folder

    _check_limits(options)
    out = options.out or (None if options.output_json else Path("detections"))
    odd: list[Path] = []
    files = exclude_output_dir(list_images(options.images, SUFFIXES | UNREAD | video.SUFFIXES, odd=odd), out)
    videos = video.select_videos(files, out)
    target = options.output_json or Path(out or ".") / "detections.json"
    paths = dict(zip(files, output_image_paths(files, out, videos), strict=False))  # none without a folder
    ensure_writable_file(target)
    if out is None:
        return _predict(options, files, videos, paths, target, odd)
    ensure_writable_dir(out)
    with claimed_folder(out):
        return _predict(options, files, videos, paths, target, odd)


def _predict(
    options: argparse.Namespace,
    files: Sequence[Path],
    videos: Container[Path],
    paths: Mapping[Path, Path],
    target: Path,
    odd: Sequence[Path],
) -> int:
    import json

    from varifocal.data.listing import odd_images
    from varifocal.utils.atomic_write import atomic_write
    from varifocal.utils.fonts import font_note

    model = load_model(options)
    images = [file for file in files if file not in videos]
    entries, errors, stacks = _predict_all(model, images, paths, options)
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
        *(font_note(one.name for one in model.categories) if paths else ()),
    ]
    return _tell(len(entries), done, errors, notes, target)


PREDICT = Command(
    "predict",
    "detect in images and videos, write them annotated, and what was found as JSON",
    "varifocal predict best.safetensors photos/ 'more/*.jpg' --out found --score-threshold 0.3",
    add_predict,
    run_predict,
)
