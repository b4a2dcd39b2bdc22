"""Verbs on files of models: read published ones, average, describe and export them."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli.options import add_limit, read_names, read_size
from varifocal.cli.verb import Verb
from varifocal.places import check_target, making_checkpoint


def add_convert(verb: argparse.ArgumentParser) -> None:
    """Options of ``convert``."""
    verb.add_argument("file", type=Path, metavar="FILE.pth")
    verb.add_argument("--out", type=Path, required=True, metavar="F.safetensors", help="the checkpoint to write")
    verb.add_argument("--partial", action="store_true", help="keep what fits of a file that does not fit whole")


def run_convert(options: argparse.Namespace, _: list[str]) -> None:
    """Read a published file, check that every weight has its place, write safetensors, say what went where."""
    with making_checkpoint(options.out):
        _convert(options)


def _convert(options: argparse.Namespace) -> None:
    from varifocal.models.convert import is_backbone, read_backbone, read_published, read_state
    from varifocal.models.weights import load_into, write_checkpoint
    from varifocal.predict import build, save

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


CONVERT = Verb(
    "convert",
    "turn a published .pth file, of the authors, mmdetection or a backbone, into safetensors",
    "varifocal convert vfnet_r50_fpn_mstrain_2x_coco.pth --out vfnet_r50.safetensors",
    add_convert,
    run_convert,
)


def add_average(verb: argparse.ArgumentParser) -> None:
    """Options of ``average``."""
    verb.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    verb.add_argument("--out", type=Path, required=True, metavar="F.safetensors", help="the checkpoint to write")


def run_average(options: argparse.Namespace, _: list[str]) -> None:
    """The mean of several checkpoints' weights."""
    from varifocal.predict import save
    from varifocal.train.average import average_checkpoints

    with making_checkpoint(options.out):
        save(average_checkpoints(options.checkpoints), options.out)
    print(f"{options.out}: the mean of {len(options.checkpoints)} checkpoints; measure it with varifocal eval.")


AVERAGE = Verb(
    "average",
    "make one checkpoint of several of the same model, the mean of their weights",
    "varifocal average epoch-10.safetensors epoch-11.safetensors epoch-12.safetensors --out mean.safetensors",
    add_average,
    run_average,
)


def add_info(verb: argparse.ArgumentParser) -> None:
    """Options of ``info``."""
    verb.add_argument("checkpoint", type=Path, metavar="FILE")


def run_info(options: argparse.Namespace, _: list[str]) -> None:
    """Say what a checkpoint or an exported file is."""
    from rich.console import Console

    from varifocal.about import about

    found = about(options.checkpoint)
    print(found) if isinstance(found, str) else Console().print(found)


INFO = Verb(
    "info",
    "say what a checkpoint or an exported file is",
    "varifocal info best.safetensors",
    add_info,
    run_info,
)


def add_zoo(verb: argparse.ArgumentParser) -> None:
    """Options of ``zoo``."""
    verb.add_argument("recipes", nargs="*", metavar="RECIPE", help="show the commands of these; without any, list all")
    verb.add_argument("--json", type=Path, metavar="F", help="write the list here")


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


ZOO = Verb(
    "zoo",
    "list the paper's models: size, reported AP, published file, commands",
    "varifocal zoo vfnet_r50_1x",
    add_zoo,
    run_zoo,
)


def add_export(verb: argparse.ArgumentParser) -> None:
    """Options of ``export``."""
    verb.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    verb.add_argument(
        "--format", choices=("onnx", "openvino", "torch-export"), default="onnx", help="of the file (%(default)s)"
    )
    verb.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="of the network (%(default)s)"
    )
    size = verb.add_mutually_exclusive_group()
    size.add_argument("--size", type=read_size, metavar="HxW", help="pixels of the input, such as 800x1216")
    size.add_argument("--dynamic", action="store_true", help="an input of any size (the default)")
    verb.add_argument(
        "--nms", choices=("in", "out"), default="out", help="suppression in the graph or by its caller (%(default)s)"
    )
    verb.add_argument(
        "--deform",
        choices=("auto", "deformconv", "gridsample"),
        default="auto",
        help="form of deformable convolutions: ONNX's own operator, or look-ups for older runtimes (%(default)s)",
    )
    verb.add_argument("--out", type=Path, metavar="DIR|FILE", help="where it goes (beside the checkpoint)")
    verb.add_argument("--images", metavar="IMAGES", help="pictures to compare on (three of the package)")
    add_limit(verb)
    verb.add_argument("--force", action="store_true", help="overwrite a file that is there")
    int8 = verb.add_argument_group("--precision int8")
    int8.add_argument(
        "--calibrate",
        type=Path,
        metavar="DATA[/SPLIT]",
        help="pictures, at most 128, by which eight bits are laid out (those to train on)",
    )
    int8.add_argument(
        "--val", type=Path, metavar="DATA[/SPLIT]", help="labelled pictures to measure AP on (val or test of DATA)"
    )
    int8.add_argument("--max-drop", type=float, metavar="P", help="points of AP that it may cost (1)")
    int8.add_argument(
        "--keep", type=read_names, default=[], metavar="NAME,NAME", help="parts to keep in floating point, as head.cls"
    )
    int8.add_argument(
        "--int8-target",
        choices=("portable", "vnni"),
        help="portable: the same results on every processor; vnni: one bit more, wrong on x86 without VNNI (portable)",
    )


def run_export(options: argparse.Namespace, _: list[str]) -> None:
    """Write a checkpoint for another runtime, and show how near it is to torch."""
    from varifocal.export.command import FORMATS, run_export
    from varifocal.locks import claimed_file
    from varifocal.places import new_export

    suffixes = FORMATS[options.format][1]
    target = new_export(options.checkpoint, options.out, suffixes, force=options.force)
    with claimed_file(target):
        new_export(options.checkpoint, options.out, suffixes, force=options.force)  # again, now that nobody else can
        run_export(options, target)


EXPORT = Verb(
    "export",
    "write a checkpoint for other runtimes and compare the result with torch",
    "varifocal export best.safetensors --format onnx --size 800x1216 --out deployed/\n"
    "  varifocal predict deployed/best.onnx photos/\n"
    "  varifocal export best.safetensors --format openvino --size 800x1216 --precision int8 --calibrate my_data\n\n"
    "Without --size the file takes pictures of any size. Nothing is kept that gives other numbers than torch, or,\n"
    "with int8, a lower AP.",
    add_export,
    run_export,
)
