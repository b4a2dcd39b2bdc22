"""Verbs on files of models: read published ones, average, describe and export them."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli.command import Command
from varifocal.cli.options import add_limit, read_names, read_size
from varifocal.cli.renamed import nms_value
from varifocal.tools.output_paths import ensure_writable_file, making_checkpoint


def add_convert(verb: argparse.ArgumentParser) -> None:
    """Options of ``convert``."""
    verb.add_argument("file", type=Path, metavar="FILE.pth")
    verb.add_argument("--out", type=Path, required=True, metavar="F.safetensors", help="the checkpoint to write")
    verb.add_argument("--partial", action="store_true", help="keep what fits of a file that does not fit whole")


def run_convert(options: argparse.Namespace, _: list[str]) -> None:
    """Read a published file, check that every weight fits the model, write safetensors and print what was converted."""
    with making_checkpoint(options.out):
        _convert(options)


def _convert(options: argparse.Namespace) -> None:
    from varifocal.inference.model import build, save
    from varifocal.inference.published.convert import is_backbone, read_backbone, read_published, read_state
    from varifocal.models.checkpoint import load_state_dict_strict, write_checkpoint

    if is_backbone(read_state(options.file)[0]):
        name, tensors = read_backbone(options.file)
        write_checkpoint(options.out, tensors, {"kind": "backbone", "name": name})
        print(f"{options.out}: {len(tensors)} weights of the backbone {name}; train with")
        print(f"  model.backbone.name={name} model.backbone.pretrained=none model.backbone.weights={options.out}")
        return
    found = read_published(options.file, partial=options.partial)
    model = build(found.info)
    load_state_dict_strict(model.detector, found.tensors, options.file)
    save(model, options.out)
    classes = ", ".join(category.name for category in found.info.categories[:3])
    fitted = f"{len(found.tensors)} weights, all loaded"
    if found.missing:
        fitted = f"{len(found.tensors) - len(found.missing)} of {len(found.tensors)} weights loaded"
    print(f"{options.out}: {found.info.name} on {found.info.config.backbone.name}, {fitted}, ", end="")
    print(f"{len(found.info.categories)} classes ({classes}{', ...' if len(found.info.categories) > 3 else ''}).")
    for note in found.notes:
        print(f"note: {note}.")
    for what, names in (("unknown to this model", found.unknown), ("not in the file, left random", found.missing)):
        if names:
            print(f"{len(names)} {what}: {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}")


CONVERT = Command(
    "convert-weights",
    "turn a published .pth file, of the authors, mmdetection or a backbone, into safetensors",
    "varifocal convert-weights vfnet_r50_fpn_mstrain_2x_coco.pth --out vfnet_r50.safetensors",
    add_convert,
    run_convert,
)


def add_average(verb: argparse.ArgumentParser) -> None:
    """Options of ``average``."""
    verb.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    verb.add_argument("--out", type=Path, required=True, metavar="F.safetensors", help="the checkpoint to write")


def run_average(options: argparse.Namespace, _: list[str]) -> None:
    """The mean of several checkpoints' weights."""
    from varifocal.inference.model import save
    from varifocal.train.average_checkpoints import average_checkpoints

    with making_checkpoint(options.out):
        save(average_checkpoints(options.checkpoints), options.out)
    print(f"{options.out}: the mean of {len(options.checkpoints)} checkpoints; measure it with varifocal eval.")


AVERAGE = Command(
    "average-checkpoints",
    "make one checkpoint of several of the same model, the mean of their weights",
    "varifocal average-checkpoints 10.safetensors 11.safetensors 12.safetensors --out mean.safetensors",
    add_average,
    run_average,
)


def add_info(verb: argparse.ArgumentParser) -> None:
    """Options of ``info``."""
    verb.add_argument("checkpoint", type=Path, metavar="FILE")


def run_info(options: argparse.Namespace, _: list[str]) -> None:
    """Say what a checkpoint or an exported file is."""
    from rich.console import Console

    from varifocal.tools.info import about

    found = about(options.checkpoint)
    print(found) if isinstance(found, str) else Console().print(found)


INFO = Command(
    "info",
    "say what a checkpoint or an exported file is",
    "varifocal info best.safetensors",
    add_info,
    run_info,
)


def add_zoo(verb: argparse.ArgumentParser) -> None:
    """Options of ``zoo``."""
    verb.add_argument("recipes", nargs="*", metavar="RECIPE", help="show the commands of these; without any, list all")
    verb.add_argument("--output-json", type=Path, metavar="F", help="write the list here")


def run_zoo(options: argparse.Namespace, _: list[str]) -> None:
    """List the paper's models, or say what to type for some."""
    import json

    from rich.console import Console

    from varifocal.tools import model_zoo as zoo
    from varifocal.utils.atomic_write import atomic_write

    if options.output_json is not None:
        ensure_writable_file(options.output_json)
    entries = zoo.list_zoo(options.recipes)
    Console().print(zoo.table(entries))
    for entry in entries if options.recipes else ():
        weights = entry.published.file or "in the authors' list, under no fixed name"
        print(f"\n{entry.recipe}: {entry.detector} on {entry.backbone}; published weights: {weights}")
        print(zoo.commands(entry))
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(zoo.to_json(entries), indent=1).encode())


ZOO = Command(
    "models",
    "list the paper's models: size, reported AP, published file, commands",
    "varifocal models vfnet_r50_1x",
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
        "--nms",
        type=nms_value,
        choices=("graph", "host"),
        default="host",
        help="suppression in the graph or by its caller (%(default)s)",
    )
    verb.add_argument(
        "--deform-op",
        choices=("auto", "deformconv", "gridsample"),
        default="auto",
        help="form of deformable convolutions: ONNX's own operator, or look-ups for older runtimes (%(default)s)",
    )
    verb.add_argument("--out", type=Path, metavar="DIR|FILE", help="where it goes (beside the checkpoint)")
    verb.add_argument("--images", metavar="IMAGES", help="images to compare on (three of the package)")
    add_limit(verb)
    verb.add_argument("--overwrite", action="store_true", help="overwrite a file that is there")
    _add_int8(verb.add_argument_group("--precision int8"))


def _add_int8(int8: argparse._ArgumentGroup) -> None:
    """Options of ``export --precision int8``."""
    int8.add_argument(
        "--calibration-data",
        type=Path,
        metavar="DATA[/SPLIT]",
        help="images, at most 128, by which eight bits are laid out (those to train on)",
    )
    int8.add_argument(
        "--validation-data",
        type=Path,
        metavar="DATA[/SPLIT]",
        help="labeled images to measure AP on (val or test of DATA)",
    )
    int8.add_argument("--max-ap-drop", type=float, metavar="P", help="points of AP that it may cost (1)")
    int8.add_argument(
        "--fp32-modules",
        type=read_names,
        default=[],
        metavar="NAME,NAME",
        help="parts to keep in floating point, as head.cls",
    )
    int8.add_argument(
        "--int8-target",
        choices=("portable", "vnni"),
        help="portable: the same results on every processor; vnni: one bit more, wrong on x86 without VNNI (portable)",
    )


def run_export(options: argparse.Namespace, _: list[str]) -> None:
    """Write a checkpoint for another runtime, and show how near it is to torch."""
    from varifocal.export import FORMATS
    from varifocal.export.command import run_export
    from varifocal.tools.output_paths import export_path
    from varifocal.utils.locks import claimed_file

    suffixes = FORMATS[options.format][1]
    target = export_path(options.checkpoint, options.out, suffixes, force=options.overwrite)
    with claimed_file(target):
        export_path(
            options.checkpoint, options.out, suffixes, force=options.overwrite
        )  # again, now that nobody else can
        run_export(options, target)


EXPORT = Command(
    "export",
    "write a checkpoint for other runtimes and compare the result with torch",
    "varifocal export best.safetensors --format onnx --size 800x1216 --out deployed/\n"
    "  varifocal predict deployed/best.onnx photos/\n"
    "  varifocal export best.safetensors --format openvino --size 800x1216 --precision int8 \\\n"
    "      --calibration-data my_data\n\n"
    "Without --size the file takes images of any size. Nothing is kept that gives other numbers than torch, or,\n"
    "with int8, a lower AP.",
    add_export,
    run_export,
)
