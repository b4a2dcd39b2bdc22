"""Verbs that run a trained model: on labelled pictures to measure it, on any others to find things."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Container, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varifocal.cli.common import load_model
from varifocal.cli.options import add_device, add_font, add_limit, add_looks, add_measured
from varifocal.cli.verb import Verb
from varifocal.errors import ConfigError, DataError
from varifocal.places import check_folder, check_target, outside, picture_places, save_picture

if TYPE_CHECKING:
    from varifocal.pictures import Predictor


def add_eval(verb: argparse.ArgumentParser) -> None:
    """Options of ``eval``."""
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    add_measured(verb)


def run_eval(options: argparse.Namespace, _: list[str]) -> None:
    """Evaluate and show the metrics."""
    import json

    from rich.console import Console

    from varifocal.datasets import eval_data
    from varifocal.evaluate.run import evaluate_model, fit_classes
    from varifocal.files import write_beside
    from varifocal.progress import progress_bar

    if options.json is not None:
        check_target(options.json)
    model = load_model(options)
    data = fit_classes(model, eval_data(options))
    with progress_bar("evaluating", len(data.samples)) as advance:
        metrics, _found = evaluate_model(model, data, advance)
    for note in data.notes:
        print(note, file=sys.stderr)
    Console().print(metrics.table())
    if options.json is not None:
        write_beside(options.json, json.dumps(metrics.to_json(), indent=1).encode())


def _tell(detections: int, done: int, errors: Sequence[str], notes: Sequence[str], target: Path) -> int:
    for note in notes:
        print(note, file=sys.stderr)
    if done:
        print(f"{detections} detections in {done} {'picture' if done == 1 else 'pictures'}: {target}")
    for message in errors:
        print(f"varifocal predict: {message}", file=sys.stderr)
    return 2 if errors else 0


def _predict_one(
    model: Predictor, file: Path, image_id: int, place: Path | None, options: argparse.Namespace
) -> list[dict[str, Any]]:
    from varifocal.pictures import read_for

    image = read_for(model.info, file)
    found = model.predict(image, score_threshold=options.score_threshold, max_detections=options.max_detections)
    if place is not None:
        save_picture(found.draw(image), place)
    return found.to_coco(image_id, str(file))


def _predict_all(
    model: Predictor, files: Sequence[Path], places: Mapping[Path, Path], options: argparse.Namespace
) -> tuple[list[dict[str, Any]], list[str], dict[Path, int]]:
    """What is found in images, what is wrong with those that cannot be read, and which files hold how many images."""
    from varifocal.data.images import count_frames
    from varifocal.progress import progress_bar

    entries: list[dict[str, Any]] = []
    errors: list[str] = []
    stacks: dict[Path, int] = {}
    with progress_bar("detecting", len(files)) as advance:
        for i, file in enumerate(files, start=1):
            try:
                entries += _predict_one(model, file, i, places.get(file), options)
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


def _predict_film(model: Predictor, file: Path, place: Path, options: argparse.Namespace) -> None:
    from varifocal.progress import progress_bar
    from varifocal.video import annotate_video, read_film

    with progress_bar(file.name, read_film(file).frames, "frames a second") as advance:
        frames, objects = annotate_video(
            model,
            file,
            place,
            every=options.every,
            score_threshold=options.score_threshold,
            max_detections=options.max_detections,
            progress=advance,
        )
    print(f"{objects} detections in {frames} frames: {place} (no sound), {place.with_suffix('.jsonl')}")


def _check_limits(options: argparse.Namespace) -> None:
    from varifocal.tiles import Tiling, chosen

    chosen(Tiling(), options.tile, options.overlap)
    least, most = options.score_threshold, options.max_detections
    if (least is not None and not 0 <= least <= 1) or (most is not None and most < 1):
        raise ConfigError("--score-threshold lies between 0 and 1, and --max-detections is at least 1.")
    if options.every < 1:
        raise ConfigError(f"--every {options.every}: 1 looks at every frame of a video, 2 at every second, ...")


EVAL = Verb(
    "eval",
    "measure a checkpoint with the COCO metrics",
    "varifocal eval runs/vfnet-1/best.safetensors my_data --split val --json metrics.json",
    add_eval,
    run_eval,
)


def add_predict(verb: argparse.ArgumentParser) -> None:
    """Options of ``predict``."""
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    verb.add_argument("images", nargs="+", metavar="IMAGES", help="pictures and videos: files, folders and globs")
    verb.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="annotated pictures and detections.json; of a video an .mp4 without sound and a .jsonl (detections)",
    )
    verb.add_argument(
        "--every", type=int, default=1, metavar="N", help="detect in every Nth frame of a video, write only these (1)"
    )
    verb.add_argument("--json", type=Path, metavar="F", help="write the list of detections here instead")
    verb.add_argument(
        "--score-threshold", type=float, metavar="P", help="least score (0.05 unless the model's recipe says more)"
    )
    verb.add_argument(
        "--max-detections", type=int, metavar="N", help="most boxes a picture (100 unless the model's recipe says more)"
    )
    add_looks(verb)
    add_limit(verb)
    add_font(verb)
    add_device(verb)


def run_predict(options: argparse.Namespace, _: list[str]) -> int:
    """Detect in every picture and video; one that cannot be read is named at the end, the others are still done."""
    from varifocal import video
    from varifocal.data.image_kinds import SUFFIXES, UNREAD
    from varifocal.data.listing import list_images
    from varifocal.locks import claimed_folder

    _check_limits(options)
    out = options.out or (None if options.json else Path("detections"))
    odd: list[Path] = []
    files = outside(list_images(options.images, SUFFIXES | UNREAD | video.SUFFIXES, odd=odd), out)
    films = video.find_videos(files, out)
    target = options.json or Path(out or ".") / "detections.json"
    places = dict(zip(files, picture_places(files, out, films), strict=False))  # none without a folder
    check_target(target)
    if out is None:
        return _predict(options, files, films, places, target, odd)
    check_folder(out)
    with claimed_folder(out):
        return _predict(options, files, films, places, target, odd)


def _predict(
    options: argparse.Namespace,
    files: Sequence[Path],
    films: Container[Path],
    places: Mapping[Path, Path],
    target: Path,
    odd: Sequence[Path],
) -> int:
    import json

    from varifocal.data.listing import odd_images
    from varifocal.files import write_beside
    from varifocal.fonts import font_note

    model = load_model(options)
    pictures = [file for file in files if file not in films]
    entries, errors, stacks = _predict_all(model, pictures, places, options)
    write_beside(target, json.dumps(entries, indent=1).encode())
    done = len(pictures) - len(errors)
    for film in (file for file in files if file in films):
        try:
            _predict_film(model, film, places[film], options)
        except DataError as error:
            errors.append(str(error))
    notes = [
        *odd_images(odd, "IMAGES"),
        *_frames_note(stacks),
        *(font_note(one.name for one in model.categories) if places else ()),
    ]
    return _tell(len(entries), done, errors, notes, target)


PREDICT = Verb(
    "predict",
    "detect in pictures and videos, write them annotated, and what was found as JSON",
    "varifocal predict best.safetensors photos/ 'more/*.jpg' --out found --score-threshold 0.3",
    add_predict,
    run_predict,
)
