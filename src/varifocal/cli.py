"""The command line. Heavy imports wait until a verb needs them, so that help answers at once."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from varifocal.errors import ConfigError, DataError, VarifocalError
from varifocal.parser import parse
from varifocal.places import check_folder, check_target, new_checkpoint, outside, picture_places, save_picture

if TYPE_CHECKING:
    from varifocal.evaluate.coco_ap import CocoMetrics
    from varifocal.pictures import Predictor

# what an installation that only runs exported files may be without, and what brings it
PACKAGES = {"yaml": "pyyaml", "hotcoco": "hotcoco"} | dict.fromkeys(
    ("torch", "torchvision", "timm", "safetensors", "pydantic", "lightning_fabric"), "varifocal"
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the exit code: 0 done, 2 something the user can mend (one sentence on stderr), 130 interrupted."""
    options, overrides = parse(arguments)
    try:
        code: int = VERBS[options.verb](options, overrides) or 0
    except VarifocalError as error:
        print(f"varifocal {options.verb}: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        if error.name not in PACKAGES:
            raise
        install = f"pip install {PACKAGES[error.name]}"
        print(f"varifocal {options.verb}: needs the package {error.name}: {install}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nvarifocal {options.verb}: interrupted.", file=sys.stderr)
        return 130
    return code


def run_train(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train, or go on with a run, and show the metrics."""
    from varifocal.recipe import read_recipe
    from varifocal.run import first_process, free_folder, resume_run, run_recipe

    if options.resume is not None:
        if any((overrides, options.recipe, options.out, options.format, options.val, options.strict)):
            raise ConfigError("--resume goes on with the run's own recipe in its own folder; leave the rest out.")
        metrics, run = resume_run(options.data, options.resume), options.resume
    else:
        name = options.recipe or "vfnet_r50_1x"
        if options.out is None and "WORLD_SIZE" in os.environ:
            raise ConfigError("several processes need the same run folder: name it with --out.")
        run = options.out or free_folder(Path(name).stem)
        strict = ["train.bad_pictures=0"] if options.strict else []
        metrics = run_recipe(read_recipe(name, [*_data_words(options), *strict, *overrides]), options.data, run)
    if first_process():
        _show(metrics, run)


def _data_words(options: argparse.Namespace) -> list[str]:
    """What --format and --val mean in a recipe."""
    words = {"data.format": options.format, "data.val_share": options.val}
    return [f"{key}={value}" for key, value in words.items() if value]


def run_demo(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train and test on the embedded pictures."""
    from varifocal.demo import EXPLANATION, run_demo
    from varifocal.run import free_folder

    run = options.out or free_folder("trees")
    metrics, seconds = run_demo(run, [f"model.loss={options.loss}", *overrides])
    _show(metrics, run)
    print(f"{seconds / 60:.1f} minutes. {EXPLANATION}")


def _show(metrics: CocoMetrics | None, run: Path) -> None:
    from rich.console import Console

    from varifocal.train.bad_pictures import LIST as BAD_PICTURES

    if metrics is not None:
        Console().print(metrics.table())
    bad = run / BAD_PICTURES
    if bad.is_file():
        count = len(bad.read_text(encoding="utf-8").splitlines())
        print(f"{count} {'picture' if count == 1 else 'pictures'} could not be used: {bad}")
    print(f"Run folder: {run} (best.safetensors, metrics.json, log.jsonl, recipe.yaml, pictures/)")
    print(f"Try: varifocal predict {run / 'best.safetensors'} IMAGES")


def run_eval(options: argparse.Namespace, _: list[str]) -> None:
    """Evaluate and show the metrics."""
    import json

    from rich.console import Console

    from varifocal.datasets import eval_data
    from varifocal.evaluate.run import evaluate_model
    from varifocal.files import write_beside
    from varifocal.progress import progress_bar

    if options.json is not None:
        check_target(options.json)
    model = _load(options)
    data = eval_data(options)
    with progress_bar("evaluating", len(data.samples)) as advance:
        metrics, _found = evaluate_model(model, data, advance)
    for note in data.notes:
        print(note, file=sys.stderr)
    Console().print(metrics.table())
    if options.json is not None:
        write_beside(options.json, json.dumps(metrics.to_json(), indent=1).encode())


def run_predict(options: argparse.Namespace, _: list[str]) -> int:
    """Detect in every picture and video; one that cannot be read is named at the end, the others are still done."""
    import json

    from varifocal import video
    from varifocal.data.images import SUFFIXES, list_images
    from varifocal.files import write_beside
    from varifocal.progress import progress_bar

    _check_limits(options)
    out = options.out or (None if options.json else Path("detections"))
    files = outside(list_images(options.images, SUFFIXES | video.SUFFIXES), out)
    films = video.find_videos(files, out)
    target = options.json or Path(out or ".") / "detections.json"
    places = dict(zip(files, picture_places(files, out, films), strict=False))  # none without a folder
    check_target(target)
    if out is not None:
        check_folder(out)
    model = _load(options)
    pictures = [file for file in files if file not in films]
    entries: list[dict[str, Any]] = []
    errors: list[str] = []
    with progress_bar("detecting", len(pictures)) as advance:
        for i, file in enumerate(pictures, start=1):
            try:
                entries += _predict_one(model, file, i, places.get(file), options)
            except DataError as error:
                errors.append(str(error))
            advance(i)
    write_beside(target, json.dumps(entries, indent=1).encode())
    done = len(pictures) - len(errors)
    for film in films:
        try:
            _predict_film(model, film, places[film], options)
        except DataError as error:
            errors.append(str(error))
    return _tell(len(entries), done, errors, target)


def _tell(detections: int, done: int, errors: Sequence[str], target: Path) -> int:
    if done:
        print(f"{detections} detections in {done} {'picture' if done == 1 else 'pictures'}: {target}")
    for message in errors:
        print(f"varifocal predict: {message}", file=sys.stderr)
    return 2 if errors else 0


def _predict_one(
    model: Predictor, file: Path, image_id: int, place: Path | None, options: argparse.Namespace
) -> list[dict[str, Any]]:
    from varifocal.data.images import read_image

    image = read_image(file)
    found = model.predict(image, score_threshold=options.score_threshold, max_detections=options.max_detections)
    if place is not None:
        save_picture(found.draw(image), place)
    return found.to_coco(image_id, str(file))


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


def run_convert(options: argparse.Namespace, _: list[str]) -> None:
    """Read a published file, check that every weight has its place, write safetensors, say what went where."""
    from varifocal.models.convert import is_backbone, read_backbone, read_published, read_state
    from varifocal.models.weights import load_into, write_checkpoint
    from varifocal.predict import build, save

    new_checkpoint(options.out)
    if is_backbone(read_state(options.file)[0]):
        name, tensors = read_backbone(options.file)
        write_checkpoint(options.out, tensors, {"kind": "backbone", "name": name})
        print(f"{options.out}: {len(tensors)} weights of the backbone {name}; train with")
        print(f"  model.backbone.name={name} model.backbone.pretrained=none model.backbone.weights={options.out}")
        return
    found = read_published(options.file, partial=options.partial)
    model = build(found.info)
    load_into(model.detector, found.tensors, options.file)
    save(model, options.out)
    classes = ", ".join(category.name for category in found.info.categories[:3])
    fitted = f"{len(found.tensors)} weights, all in place"
    if found.missing:
        fitted = f"{len(found.tensors) - len(found.missing)} of {len(found.tensors)} weights in place"
    print(f"{options.out}: {found.info.name} on {found.info.config.backbone.name}, {fitted}, ", end="")
    print(f"{len(found.info.categories)} classes ({classes}{', ...' if len(found.info.categories) > 3 else ''}).")
    for note in found.notes:
        print(f"note: {note}.")
    for what, names in (("without a place here", found.unknown), ("not in the file, left random", found.missing)):
        if names:
            print(f"{len(names)} {what}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}")


def run_convert_data(options: argparse.Namespace, _: list[str]) -> None:
    """Write a data set in another format, and say what that loses."""
    from varifocal.datasets import convert_data

    convert_data(options)


def run_average(options: argparse.Namespace, _: list[str]) -> None:
    """The mean of several checkpoints' weights."""
    from varifocal.predict import save
    from varifocal.train.average import average_checkpoints

    new_checkpoint(options.out)
    save(average_checkpoints(options.checkpoints), options.out)
    print(f"{options.out}: the mean of {len(options.checkpoints)} checkpoints; measure it with varifocal eval.")


def run_info(options: argparse.Namespace, _: list[str]) -> None:
    """Say what a checkpoint or an exported file is."""
    from rich.console import Console

    from varifocal.about import about

    found = about(options.checkpoint)
    print(found) if isinstance(found, str) else Console().print(found)


def _load(options: argparse.Namespace) -> Any:
    """The checkpoint or exported file on the device, with the windows and the views that are asked for."""
    from dataclasses import replace

    from varifocal.loading import load
    from varifocal.runtime import is_exported
    from varifocal.settings import PAPER_VIEWS
    from varifocal.tiles import chosen

    device = options.device if is_exported(options.checkpoint) else _device(options.device)
    model = load(options.checkpoint, device, options.precision)
    model.info = replace(model.info, tiling=chosen(model.info.tiling, options.tile, options.overlap))
    if options.tta:
        model.info = replace(model.info, views=PAPER_VIEWS)
    return model


def run_zoo(options: argparse.Namespace, _: list[str]) -> None:
    """List the paper's models, or say what to type for some."""
    import json

    from rich.console import Console

    from varifocal import zoo
    from varifocal.files import write_beside

    if options.json is not None:
        check_target(options.json)
    entries = zoo.list_zoo(options.recipes)
    Console().print(zoo.table(entries))
    for entry in entries if options.recipes else ():
        weights = entry.published.file or "in the authors' list, under no fixed name"
        print(f"\n{entry.recipe}: {entry.detector} on {entry.backbone}; published weights: {weights}")
        print(zoo.commands(entry))
    if options.json is not None:
        write_beside(options.json, json.dumps(zoo.to_json(entries), indent=1).encode())


def run_sweep(options: argparse.Namespace, overrides: list[str]) -> None:
    """Train the rows of a table and show them side by side."""
    from rich.console import Console

    from varifocal import sweep

    out = options.out or Path("runs") / options.table
    results = sweep.run_sweep(
        options.table,
        options.data,
        out,
        recipe=options.recipe,
        seeds=options.seeds,
        overrides=[*_data_words(options), *overrides],
    )
    Console().print(sweep.table(results, options.table))
    print(f"Runs and results.json: {out}")


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
        options.device if is_exported(options.model) else _device(options.device),
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


def run_export(options: argparse.Namespace, _: list[str]) -> None:
    """Write a checkpoint for another runtime, and show how near it is to torch."""
    from varifocal.export.command import FORMATS, run_export
    from varifocal.places import new_export

    run_export(options, new_export(options.checkpoint, options.out, FORMATS[options.format][1], force=options.force))


def run_preview(options: argparse.Namespace, overrides: list[str]) -> None:
    """Draw what training will see, and say what was drawn."""
    from varifocal.preview import preview
    from varifocal.recipe import read_recipe

    name = options.recipe or "vfnet_r50_1x"
    if options.out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise ConfigError(f"--out {options.out}: the name of a picture ends in .png or .jpg.")
    check_target(options.out)
    drawn = preview(
        read_recipe(name, [*_data_words(options), *overrides]),
        options.data,
        name,
        count=options.count,
        epoch=options.epoch,
    )
    for note in drawn.notes:
        print(note, file=sys.stderr)
    save_picture(drawn.image, options.out)
    print(f"{options.out}: {drawn.summary}")


def run_check(options: argparse.Namespace, overrides: list[str]) -> int:
    """Look at a data set, and at its labels with a model's eyes."""
    from varifocal.check.command import run_check

    return run_check(options, overrides, lambda: _load(options))


def run_diagnose(options: argparse.Namespace, _: list[str]) -> None:
    """Say what separates a detector's AP from 100."""
    from varifocal.diagnose.command import run_diagnose

    run_diagnose(options, lambda: _load(options))


def _device(name: str) -> str:
    import torch

    try:
        torch.zeros(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"--device {name}: not usable here ({str(error).splitlines()[0]}).") from error
    return name


VERBS: dict[str, Callable[[argparse.Namespace, list[str]], int | None]] = {
    "train": run_train,
    "eval": run_eval,
    "diagnose": run_diagnose,
    "predict": run_predict,
    "convert": run_convert,
    "convert-data": run_convert_data,
    "average": run_average,
    "info": run_info,
    "demo": run_demo,
    "zoo": run_zoo,
    "sweep": run_sweep,
    "bench": run_bench,
    "export": run_export,
    "preview": run_preview,
    "check": run_check,
}
