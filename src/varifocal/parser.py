"""What the command line takes: verbs, options, examples. Nothing is imported here that takes time."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_DATA = "data set: a folder, an annotation file or an archive; see docs/data.md"
LOSSES = ("varifocal", "focal", "quality-focal")


def parse(arguments: Sequence[str] | None) -> tuple[argparse.Namespace, list[str]]:
    """The options and, for verbs that train, the key=value words, wherever they stand."""
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    takes_overrides = options.verb in ("train", "demo", "sweep", "check", "preview")
    wrong = [word for word in rest if not takes_overrides or "=" not in word or word.startswith("-")]
    if wrong:
        parser.error(f"{options.verb}: {wrong[0]!r} is not understood; see varifocal {options.verb} --help")
    return options, rest


def make_parser() -> argparse.ArgumentParser:
    """All verbs and options."""
    parser = argparse.ArgumentParser(
        prog="varifocal", description="Train, evaluate and run VarifocalNet object detectors."
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")
    _add_train(verbs)
    _add_preview(verbs)
    _add_check(verbs)
    _add_eval(verbs)
    _add_diagnose(verbs)
    _add_predict(verbs)
    convert = _verb(
        verbs,
        "convert",
        "turn a published .pth file, of the authors, mmdetection or a backbone, into safetensors",
        "varifocal convert vfnet_r50_fpn_mstrain_2x_coco.pth --out vfnet_r50.safetensors",
    )
    convert.add_argument("file", type=Path, metavar="FILE.pth")
    convert.add_argument("--out", type=Path, required=True, metavar="F.safetensors")
    convert.add_argument("--partial", action="store_true", help="keep what fits of a file that does not fit whole")
    _add_convert_data(verbs)
    average = _verb(
        verbs,
        "average",
        "make one checkpoint of several of the same model, the mean of their weights",
        "varifocal average epoch-10.safetensors epoch-11.safetensors epoch-12.safetensors --out mean.safetensors",
    )
    average.add_argument("checkpoints", type=Path, nargs="+", metavar="CHECKPOINT")
    average.add_argument("--out", type=Path, required=True, metavar="F.safetensors")
    info = _verb(verbs, "info", "say what a checkpoint or an exported file is", "varifocal info best.safetensors")
    info.add_argument("checkpoint", type=Path, metavar="FILE")
    demo = _verb(
        verbs,
        "demo",
        "train and test on the embedded aerial photographs, in minutes on a CPU",
        "varifocal demo --loss focal train.seed=1",
    )
    demo.add_argument("--loss", choices=LOSSES, default="varifocal", help="classification loss (%(default)s)")
    demo.add_argument("--out", type=Path, metavar="RUN", help="run folder (runs/trees-N)")
    _add_zoo(verbs)
    _add_sweep(verbs)
    _add_bench(verbs)
    _add_export(verbs)
    return parser


def _verb(verbs: Any, name: str, summary: str, example: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name,
        help=summary,
        description=summary[0].upper() + summary[1:] + ".",
        epilog=f"example:\n  {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    return parser


def _add_format(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--format", metavar="NAME", help="of the data set: coco, voc, yolo, ... (recognised by looking)")


def _share(text: str) -> float:
    try:
        share = float(text)
    except ValueError:
        share = 0.0
    if not 0 < share <= 0.9:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and at most 0.9, such as 0.2")
    return share


def _add_train(verbs: Any) -> None:
    train = _verb(
        verbs,
        "train",
        "train a detector on a data set",
        "varifocal train my_data --recipe vfnet_r50_1x train.epochs=24 train.lr=0.005\n"
        "  varifocal train photos_with_labels --val 0.2 --format yolo\n"
        "  torchrun --nproc-per-node 4 -m varifocal train my_data --out runs/four\n\n"
        "key=value words change the recipe; an unknown key lists the valid ones. The default recipe starts from\n"
        "ImageNet weights that timm downloads; model.backbone.pretrained=none or train.weights=FILE fetch nothing.",
    )
    train.usage = (
        "varifocal train [-h] [--recipe NAME] [--out RUN] [--resume RUN] [--format NAME] [--val SHARE] "
        "[--strict] DATA [key=value ...]"
    )
    train.add_argument("data", metavar="DATA", help=_DATA)
    train.add_argument("--recipe", metavar="NAME", help="a recipe of the package or a YAML file (vfnet_r50_1x)")
    train.add_argument("--out", type=Path, metavar="RUN", help="run folder (runs/NAME-N); must be new or empty")
    train.add_argument("--resume", type=Path, metavar="RUN", help="go on with a run exactly where it was cut off")
    _add_format(train)
    train.add_argument("--val", type=_share, metavar="SHARE", help="hold this share of data without a split out (0.2)")
    train.add_argument(
        "--strict", action="store_true", help="stop at the first unreadable picture (train.bad_pictures=0)"
    )


def _add_preview(verbs: Any) -> None:
    preview = _verb(
        verbs,
        "preview",
        "draw what the network will be trained on: augmented, padded, with boxes",
        "varifocal preview my_data --out preview.png\n"
        "  varifocal preview my_data --recipe my.yaml --count 24 --epoch 3 data.augment.mosaic=0.5\n\n"
        "The pictures are the first ones of that epoch, to the pixel, as key=value words and train.seed say. Hatched\n"
        "boxes are ignored by the loss; what is flat grey beyond a white line is the padding of the batch.",
    )
    preview.usage = (
        "varifocal preview [-h] [--recipe NAME] [--out F.png] [--count N] [--epoch N] [--format NAME] [--val SHARE] "
        "DATA [key=value ...]"
    )
    preview.add_argument("data", type=Path, metavar="DATA", help=_DATA)
    preview.add_argument("--recipe", metavar="NAME", help="a recipe of the package or a YAML file (vfnet_r50_1x)")
    preview.add_argument(
        "--out", type=Path, default=Path("preview.png"), metavar="F.png", help="where it goes (%(default)s)"
    )
    preview.add_argument("--count", type=_count, default=12, metavar="N", help="pictures (%(default)s)")
    preview.add_argument("--epoch", type=_count, default=1, metavar="N", help="of this epoch (%(default)s)")
    _add_format(preview)
    preview.add_argument("--val", type=_share, metavar="SHARE", help="without what train --val SHARE holds out")


def _add_convert_data(verbs: Any) -> None:
    convert = _verb(
        verbs,
        "convert-data",
        "write a data set as COCO, YOLO or Pascal VOC; no box is lost",
        "varifocal convert-data export.zip my_data --to yolo --val 0.2",
    )
    convert.add_argument("data", type=Path, metavar="IN", help=_DATA)
    convert.add_argument("out", type=Path, metavar="OUT", help="folder to write, which must not be there")
    convert.add_argument("--to", choices=("coco", "yolo", "voc"), required=True, help="what OUT is")
    convert.add_argument("--split", metavar="S", help="this split alone (all)")
    _add_format(convert)
    convert.add_argument("--val", type=_share, metavar="SHARE", help="hold this share of data without a split out")
    convert.add_argument("--val-seed", type=int, default=0, metavar="N", help="which pictures these are (0)")
    convert.add_argument(
        "--pictures", choices=("link", "copy"), default="link", help="link to the pictures, or copy them (%(default)s)"
    )
    convert.add_argument(
        "--drop-invalid", action="store_true", help="leave boxes out that cannot be, instead of stopping"
    )


def _add_check(verbs: Any) -> None:
    check = _verb(
        verbs,
        "check",
        "say what is wrong with a data set, before training or with a trained model's eyes",
        "varifocal check my_data --html check.html\n"
        "  varifocal check my_data --recipe vfnet_r50_1x data.preprocess.short=640\n"
        "  varifocal check my_data --model runs/first/best.safetensors --html check.html\n\n"
        "key=value words change the recipe whose image size and assignment are tried. The exit code is 0 where\n"
        "nothing would be lost, 1 where training would stop or lose data, 2 where the data cannot be read at all.",
    )
    check.usage = "varifocal check [-h] [--split S] [--recipe NAME] [--model CHECKPOINT] [...] DATA [key=value ...]"
    check.add_argument("data", type=Path, metavar="DATA", help="data set: folder or annotation file")
    check.add_argument("--split", metavar="S", help="look at this split alone (all)")
    _add_format(check)
    check.add_argument("--recipe", metavar="NAME", help="a recipe of the package or a YAML file (vfnet_r50_1x)")
    check.add_argument(
        "--fast", "--no-decode", action="store_true", help="annotations alone; say what decoding would cost"
    )
    check.add_argument(
        "--model",
        type=Path,
        dest="checkpoint",
        metavar="CHECKPOINT",
        help="a checkpoint or exported file, whose doubts of the labels are listed",
    )
    check.add_argument("--json", type=Path, metavar="F", help="write everything here")
    check.add_argument("--html", type=Path, metavar="F", help="write one page with plots and the worst cases here")
    check.add_argument("--fix", type=Path, metavar="OUT", help="write a cleaned copy (COCO) and a list of each change")
    check.add_argument("--copy", action="store_true", help="of --fix: copy pictures; without it they are links")
    check.add_argument("--tta", action="store_true", help="of the model: look eight times, at four sizes and mirrored")
    _add_tiling(check)
    check.add_argument("--device", default="cpu", help="of the model: cpu, cuda, cuda:1, ... (%(default)s)")
    check.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (%(default)s)"
    )


def _add_eval(verbs: Any) -> None:
    evaluate = _verb(
        verbs,
        "eval",
        "measure a checkpoint with the COCO metrics",
        "varifocal eval runs/vfnet-1/best.safetensors my_data --split val --json metrics.json",
    )
    evaluate.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    _add_measured(evaluate)


def _add_diagnose(verbs: Any) -> None:
    diagnose = _verb(
        verbs,
        "diagnose",
        "say why the AP is what it is: ranking, errors, calibration, thresholds, the worst pictures",
        "varifocal diagnose runs/vfnet-1/best.safetensors my_data --plots plots --json diagnosis.json\n"
        "  varifocal diagnose my_data --results coco_results.json\n\n"
        "docs/diagnose.md says what each figure means.",
    )
    diagnose.usage = (
        "varifocal diagnose [-h] [--split S] [--plots DIR] [--json F] [...] (CHECKPOINT DATA | DATA --results F)"
    )
    diagnose.add_argument("checkpoint", type=Path, nargs="?", metavar="CHECKPOINT")
    _add_measured(diagnose)
    diagnose.add_argument(
        "--results", type=Path, metavar="F", help="what any detector found, a COCO results file, in place of CHECKPOINT"
    )
    diagnose.add_argument("--plots", type=Path, metavar="DIR", help="write charts (SVG) here")
    diagnose.add_argument(
        "--wanted-precision", type=float, default=0.9, metavar="P", help="find the scores that give it (%(default)s)"
    )
    diagnose.add_argument(
        "--score",
        type=float,
        metavar="P",
        help="least score in confusion matrix and worst pictures (that of the best F1)",
    )
    diagnose.add_argument(
        "--iou", type=float, default=0.5, metavar="X", help="least IoU in the confusion matrix (%(default)s)"
    )
    diagnose.add_argument(
        "--max-detections",
        type=int,
        metavar="N",
        help="read so many of a class in a picture (100, or what the model gives)",
    )
    diagnose.add_argument("--worst", type=int, default=20, metavar="N", help="pictures in the JSON (%(default)s)")


def _add_measured(verb: argparse.ArgumentParser) -> None:
    """What a model is measured on, and how it looks at pictures."""
    verb.add_argument("data", type=Path, metavar="DATA", help=_DATA)
    verb.add_argument("--split", metavar="S", help="split of the data set (val, or else test)")
    _add_format(verb)
    verb.add_argument("--val", type=_share, metavar="SHARE", help="measure on what train --val SHARE holds out")
    verb.add_argument("--val-seed", type=int, default=0, metavar="N", help="data.split_seed of that run (0)")
    verb.add_argument("--json", type=Path, metavar="F", help="write the numbers here")
    verb.add_argument("--tta", action="store_true", help="look eight times, at four sizes and mirrored: slower, better")
    _add_tiling(verb)
    verb.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (%(default)s)")
    verb.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (%(default)s)"
    )


def _add_predict(verbs: Any) -> None:
    predict = _verb(
        verbs,
        "predict",
        "detect in pictures and videos, write them annotated, and what was found as JSON",
        "varifocal predict best.safetensors photos/ 'more/*.jpg' --out found --score-threshold 0.3",
    )
    predict.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    predict.add_argument("images", nargs="+", metavar="IMAGES", help="pictures and videos: files, folders and globs")
    predict.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help="annotated pictures and detections.json; of a video an .mp4 without sound and a .jsonl (detections)",
    )
    predict.add_argument(
        "--every", type=int, default=1, metavar="N", help="detect in every Nth frame of a video, write only these (1)"
    )
    predict.add_argument("--json", type=Path, metavar="F", help="write the list of detections here instead")
    predict.add_argument(
        "--score-threshold", type=float, metavar="P", help="least score (0.05 unless the model's recipe says more)"
    )
    predict.add_argument(
        "--max-detections", type=int, metavar="N", help="most boxes a picture (100 unless the model's recipe says more)"
    )
    predict.add_argument(
        "--tta", action="store_true", help="look eight times, at four sizes and mirrored: slower, better"
    )
    _add_tiling(predict)
    predict.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (%(default)s)")
    predict.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (%(default)s)"
    )


def _add_tiling(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--tile",
        type=int,
        metavar="N",
        help="read large pictures in windows of N pixels; 0: whole (the model's recipe)",
    )
    verb.add_argument(
        "--overlap",
        type=_share_or_pixels,
        metavar="X",
        help="least overlap of the windows, as a share below 1 or in pixels (0.2)",
    )


def _share_or_pixels(text: str) -> float | int:
    try:
        return float(text) if "." in text else int(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is neither a share such as 0.2 nor whole pixels") from error


def _add_zoo(verbs: Any) -> None:
    zoo = _verb(
        verbs,
        "zoo",
        "list the paper's models: size, reported AP, published file, commands",
        "varifocal zoo vfnet_r50_1x",
    )
    zoo.add_argument("recipes", nargs="*", metavar="RECIPE", help="show the commands of these; without any, list all")
    zoo.add_argument("--json", type=Path, metavar="F", help="write the list here")


def _add_sweep(verbs: Any) -> None:
    sweep = _verb(
        verbs,
        "sweep",
        "train every row of one of the paper's tables and compare them",
        "varifocal sweep table3 my_data --recipe my.yaml --seeds 0,1,2 train.epochs=6\n\n"
        "table2: settings of the varifocal loss; table3: the parts of VFNet; table5: the losses in other detectors.\n"
        "What is finished is not done again, what was cut off goes on: repeat the command.",
    )
    sweep.usage = (
        "varifocal sweep [-h] [--recipe NAME] [--seeds N,N] [--out DIR] {table2,table3,table5} DATA [key=value ...]"
    )
    sweep.add_argument("table", choices=("table2", "table3", "table5"))
    sweep.add_argument("data", metavar="DATA", help="data set with a training and a validation split")
    _add_format(sweep)
    sweep.add_argument("--val", type=_share, metavar="SHARE", help="hold this share of data without a split out")
    sweep.add_argument("--recipe", metavar="NAME", help="where every row starts from (the paper's own of each row)")
    sweep.add_argument("--seeds", type=_numbers, default=[0], metavar="N,N", help="seeds of each row (0)")
    sweep.add_argument("--out", type=Path, metavar="DIR", help="folder of the runs and results.json (runs/TABLE)")


def _numbers(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r} is not numbers with commas between, such as 0,1,2") from error


def _add_bench(verbs: Any) -> None:
    bench = _verb(
        verbs,
        "bench",
        "measure how fast a model is here, and where the time goes",
        "varifocal bench best.safetensors --images photos/ --batch 1,4 --json speed.json\n"
        "  varifocal bench vfnet_r50_1x --size 640x640 --precision bf16 --threads 1\n"
        "  varifocal bench best.onnx\n\n"
        "A recipe gets random weights and, without --size, 800x1216 pixels. A checkpoint's own preprocessing sizes\n"
        "the first picture, and all are resized to that. A GFLOP counts two operations a multiply-add; the peak is\n"
        "the best of a few convolutions on this machine, in the same run and precision.",
    )
    bench.add_argument(
        "model", nargs="?", default="vfnet_r50_1x", metavar="FILE|RECIPE", help="what to measure (%(default)s)"
    )
    bench.add_argument("--size", type=_size, metavar="HxW", help="pixels of the network's input, such as 800x1216")
    bench.add_argument("--batch", type=_counts, default=[1], metavar="N,N", help="pictures at once (1)")
    bench.add_argument(
        "--precision", choices=("fp32", "bf16", "fp16"), default="fp32", help="of the network (%(default)s)"
    )
    bench.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (%(default)s)")
    bench.add_argument("--threads", type=_count, metavar="N", help="threads that compute (the runtime's own choice)")
    length = bench.add_mutually_exclusive_group()
    length.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="S", help="about so long for each batch size (%(default)g)"
    )
    length.add_argument("--repeats", type=_count, metavar="N", help="so often instead")
    bench.add_argument("--images", metavar="IMAGES", help="pictures, a folder or a glob (one made picture of 640x480)")
    bench.add_argument(
        "--runtime", choices=("torch", "onnxruntime", "openvino"), help="what runs the network (the file's own)"
    )
    bench.add_argument("--json", type=Path, metavar="F", help="write the numbers here")
    bench.add_argument(
        "--profile", type=Path, metavar="F", help="write a Chrome trace of one pass here, and show what costs most"
    )


def _names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def _size(text: str) -> tuple[int, int]:
    height, cross, width = text.partition("x")
    if not (cross and height.isdecimal() and width.isdecimal() and int(height) and int(width)):
        raise argparse.ArgumentTypeError(f"{text!r} is not height x width in pixels, such as 800x1216")
    return int(height), int(width)


def _count(text: str) -> int:
    if not text.isdecimal() or not int(text):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(text)


def _counts(text: str) -> list[int]:
    return [_count(part) for part in text.split(",")]


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0")
    return seconds


def _add_export(verbs: Any) -> None:
    export = _verb(
        verbs,
        "export",
        "write a checkpoint for other runtimes and compare the result with torch",
        "varifocal export best.safetensors --format onnx --size 800x1216 --out deployed/\n"
        "  varifocal predict deployed/best.onnx photos/\n"
        "  varifocal export best.safetensors --format openvino --size 800x1216 --precision int8 --calibrate my_data\n\n"
        "Without --size the file takes pictures of any size. Nothing is kept that gives other numbers than torch, or,\n"
        "with int8, a lower AP.",
    )
    export.add_argument("checkpoint", type=Path, metavar="CHECKPOINT")
    export.add_argument(
        "--format", choices=("onnx", "openvino", "torch-export"), default="onnx", help="of the file (%(default)s)"
    )
    export.add_argument(
        "--precision", choices=("fp32", "fp16", "int8"), default="fp32", help="of the network (%(default)s)"
    )
    size = export.add_mutually_exclusive_group()
    size.add_argument("--size", type=_size, metavar="HxW", help="pixels of the input, such as 800x1216")
    size.add_argument("--dynamic", action="store_true", help="an input of any size (the default)")
    export.add_argument(
        "--nms", choices=("in", "out"), default="out", help="suppression in the graph or by its caller (%(default)s)"
    )
    export.add_argument(
        "--deform",
        choices=("auto", "deformconv", "gridsample"),
        default="auto",
        help="form of deformable convolutions: ONNX's own operator, or look-ups for older runtimes (%(default)s)",
    )
    export.add_argument("--out", type=Path, metavar="DIR|FILE", help="where it goes (beside the checkpoint)")
    export.add_argument("--images", metavar="IMAGES", help="pictures to compare on (three of the package)")
    export.add_argument("--force", action="store_true", help="overwrite a file that is there")
    int8 = export.add_argument_group("--precision int8")
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
        "--keep", type=_names, default=[], metavar="NAME,NAME", help="parts to keep in floating point, as head.cls"
    )
