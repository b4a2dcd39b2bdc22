"""Commands on model files: convert published weights, average, describe, list and export."""

from __future__ import annotations

import argparse
from pathlib import Path

from varifocal.cli import Command
from varifocal.cli.model_options import CHECKPOINT, MODEL
from varifocal.cli.options import add_limit, add_output_json, names, size
from varifocal.cli.renamed import nms_value
from varifocal.tools.output_paths import ensure_writable_file, making_checkpoint


def add_convert_weights(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``convert-weights``."""
    parser.add_argument("file", type=Path, metavar="FILE.pth", help="a published checkpoint, or its name")
    parser.add_argument("--out", type=Path, required=True, metavar="F.safetensors", help="checkpoint to write")
    parser.add_argument("--partial", action="store_true", help="keep the weights that fit if not all of them do")


def run_convert_weights(options: argparse.Namespace, _: list[str]) -> None:
    """Convert a published file to safetensors after checking that every weight fits the model."""
    with making_checkpoint(options.out):
        _convert(options)


def _convert(options: argparse.Namespace) -> None:
    from varifocal.inference.loading import find_checkpoint
    from varifocal.inference.model import save
    from varifocal.inference.published.convert import is_backbone, model_of, read_backbone, read_published, read_state
    from varifocal.models.checkpoint import write_checkpoint

    file = find_checkpoint(options.file)
    if is_backbone(read_state(file)[0]):
        name, tensors = read_backbone(file)
        write_checkpoint(options.out, tensors, {"kind": "backbone", "name": name})
        print(f"{options.out}: {len(tensors)} weights of the backbone {name}; train with")
        print(f"  model.backbone.name={name} model.backbone.pretrained=none model.backbone.weights={options.out}")
        return
    found = read_published(file, partial=options.partial)
    save(model_of(found, file), options.out)
    classes = ", ".join(category.name for category in found.info.categories[:3])
    fitted = f"{len(found.tensors)} weights, all loaded"
    if found.missing:
        fitted = f"{len(found.tensors) - len(found.missing)} of {len(found.tensors)} weights loaded"
    print(f"{options.out}: {found.info.name} on {found.info.config.backbone.name}, {fitted}, ", end="")
    print(f"{len(found.info.categories)} classes ({classes}{', ...' if len(found.info.categories) > 3 else ''}).")
    for note in found.notes:
        print(f"note: {note}.")
    for problem, keys in (("unknown to this model", found.unknown), ("not in the file, left random", found.missing)):
        if keys:
            print(f"{len(keys)} {problem}: {', '.join(keys[:10])}{', ...' if len(keys) > 10 else ''}")


CONVERT_WEIGHTS = Command(
    "convert-weights",
    "convert a published .pth file (of the authors, mmdetection or a backbone) to safetensors",
    "varifocal convert-weights vfnet_r50_fpn_mstrain_2x_coco.pth --out vfnet_r50.safetensors",
    add_convert_weights,
    run_convert_weights,
)


def add_average_checkpoints(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``average-checkpoints``."""
    parser.add_argument(
        "checkpoints", type=Path, nargs="+", metavar="CHECKPOINT", help="checkpoints or runs of one recipe"
    )
    parser.add_argument("--out", type=Path, required=True, metavar="F.safetensors", help="checkpoint to write")


def run_average_checkpoints(options: argparse.Namespace, _: list[str]) -> None:
    """Average the weights of several checkpoints."""
    from varifocal.inference.model import save
    from varifocal.training.average_checkpoints import average_checkpoints

    with making_checkpoint(options.out):
        save(average_checkpoints(options.checkpoints), options.out)
    print(f"{options.out}: the mean of {len(options.checkpoints)} checkpoints; measure it with varifocal eval.")


AVERAGE_CHECKPOINTS = Command(
    "average-checkpoints",
    "average the weights of several checkpoints of the same model",
    "varifocal average-checkpoints 10.safetensors 11.safetensors 12.safetensors --out mean.safetensors",
    add_average_checkpoints,
    run_average_checkpoints,
)


def add_info(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``info``."""
    parser.add_argument("checkpoint", type=Path, metavar="FILE", help=MODEL)


def run_info(options: argparse.Namespace, _: list[str]) -> None:
    """Describe a checkpoint or an exported file."""
    from rich.console import Console

    from varifocal.tools.info import about

    found = about(options.checkpoint)
    print(found) if isinstance(found, str) else Console(markup=False, emoji=False).print(found)


INFO = Command(
    "info",
    "describe a checkpoint or an exported file",
    "varifocal info best.safetensors",
    add_info,
    run_info,
)


def add_models(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``models``."""
    parser.add_argument("recipes", nargs="*", metavar="RECIPE", help="recipes whose commands to print (none: list all)")
    add_output_json(parser, "write the list to this file")


def run_models(options: argparse.Namespace, _: list[str]) -> None:
    """List the paper's models, or print the commands for some."""
    import json

    from rich.console import Console

    from varifocal.inference.published.download import address_of
    from varifocal.inference.published.names import family_of
    from varifocal.tools import model_zoo as zoo
    from varifocal.utils.atomic_write import atomic_write

    if options.output_json is not None:
        ensure_writable_file(options.output_json)
    entries = zoo.list_zoo(options.recipes)
    Console(markup=False, emoji=False).print(zoo.table(entries))
    for entry in entries if options.recipes else ():
        weights = entry.published.file or "listed by the authors without a fixed file name"
        print(f"\n{entry.recipe}: {entry.detector} on {entry.backbone}; published weights: {weights}")
        print(zoo.commands(entry))
        if entry.published.file:
            address = address_of(family_of(entry.recipe), entry.published.file)
            print(f"varifocal predict {entry.recipe} IMAGES  # fetches {address}")
    if options.output_json is not None:
        atomic_write(options.output_json, json.dumps(zoo.to_json(entries), indent=1).encode())


MODELS = Command(
    "models",
    "list the paper's models: size, reported AP, published file, commands",
    "varifocal models vfnet_r50_1x",
    add_models,
    run_models,
)


def add_export(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``export``."""
    parser.add_argument("checkpoint", type=Path, metavar="CHECKPOINT", help=CHECKPOINT)
    parser.add_argument(
        "--format", choices=("onnx", "openvino", "torch-export"), default="onnx", help="file format (%(default)s)"
    )
    parser.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="precision of the network (%(default)s)"
    )
    sizes = parser.add_mutually_exclusive_group()
    sizes.add_argument(
        "--size", type=size, metavar="HxW", help="height and width of the input in pixels, such as 800x1216"
    )
    sizes.add_argument("--dynamic", action="store_true", help="accept images of any size (the default)")
    parser.add_argument(
        "--nms",
        type=nms_value,
        choices=("graph", "host"),
        default="host",
        help="run NMS inside the graph or leave it to the caller (%(default)s)",
    )
    parser.add_argument(
        "--deform-op",
        choices=("auto", "deformconv", "gridsample"),
        default="auto",
        help="deformable convolutions as ONNX's DeformConv, or as GridSample for older runtimes (%(default)s)",
    )
    parser.add_argument("--out", type=Path, metavar="DIR|FILE", help="folder or file to write (beside the checkpoint)")
    parser.add_argument("--images", metavar="IMAGES", help="images to compare with torch on (three built-in ones)")
    add_limit(parser)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing file")
    _add_int8(parser.add_argument_group("--precision int8"))


def _add_int8(int8: argparse._ArgumentGroup) -> None:
    """Options of ``export --precision int8``."""
    int8.add_argument(
        "--calibration-data",
        type=Path,
        metavar="DATA[/SPLIT]",
        help="data to calibrate with, at most 128 images (split train)",
    )
    int8.add_argument(
        "--validation-data",
        type=Path,
        metavar="DATA[/SPLIT]",
        help="labeled images to measure the AP on (split val or test of the calibration data)",
    )
    int8.add_argument("--max-ap-drop", type=float, metavar="P", help="largest acceptable loss, in points of AP (1)")
    int8.add_argument(
        "--fp32-modules",
        type=names,
        default=[],
        metavar="NAME,NAME",
        help="modules to keep in floating point, such as head.cls",
    )
    int8.add_argument(
        "--int8-target",
        choices=("portable", "vnni"),
        help="portable: the same results on every processor; vnni: one more bit, but wrong results on x86 without VNNI "
        "(portable)",
    )


def run_export(options: argparse.Namespace, _: list[str]) -> None:
    """Export a checkpoint for another runtime, and print how close its results are to torch."""
    from varifocal.export.command import FORMATS, run_export
    from varifocal.tools.output_paths import export_path
    from varifocal.utils.locks import claimed_file

    suffixes = FORMATS[options.format][1]
    target = export_path(options.checkpoint, options.out, suffixes, force=options.overwrite)
    with claimed_file(target):
        # again: another process may have written it in the meantime
        export_path(options.checkpoint, options.out, suffixes, force=options.overwrite)
        run_export(options, target)


EXPORT = Command(
    "export",
    "export a checkpoint for other runtimes and compare the results with torch",
    "varifocal export best.safetensors --format onnx --size 800x1216 --out deployed/\n"
    "  varifocal predict deployed/best.onnx photos/\n"
    "  varifocal export best.safetensors --format openvino --size 800x1216 --precision int8 \\\n"
    "      --calibration-data my_data\n\n"
    "Without --size, the file accepts images of any size. A file whose results differ from those of torch, or\n"
    "whose AP with int8 is too low, is deleted.",
    add_export,
    run_export,
)
