"""The four presets in numbers, beside torchvision's SSDLite: python benchmarks/presets.py [--rounds 5] [--threads 1]

Parameters and multiply-adds are counted for 80 classes at a preset's own size. Each network is timed on one thread in
alternation with SSDLite320-MobileNetV3: in torch in fp32, from an image tensor to detections, and as int8 file for ONNX
Runtime and for OpenVINO, from pixels to decoded boxes and scores. SSDLite runs in torch and in ONNX Runtime, both fp32,
each to detections. Weights are random: the amount of computation does not depend on them, except that hardly any score
passes the threshold. The ratio is to the faster of SSDLite's two in the same rounds. The table of
``docs/own-data.md`` is written.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

from deploy import in_file, write_int8
from harness import Row, machine, medians, write
from network import CLASSES, model
from varifocal.data.recommend_size import STEP
from varifocal.ops.nms import multiclass_nms
from varifocal.recipes.auto import PRESETS
from varifocal.recipes.recipe import load_recipe
from varifocal.tools.model_zoo import count

PAGE = Path(__file__).parents[1] / "docs" / "own-data.md"
BEGIN, END = "<!-- presets table: benchmarks/presets.py -->", "<!-- end of presets table -->"
SSD = "torchvision SSDLite320-MobileNetV3"
TARGET = "vnni"  # of the int8 files


def size_of(preset: str) -> tuple[int, int]:
    """The height and width of a preset's input for images of 3 : 4, as multiples of 32."""
    short = load_recipe(preset).data.preprocess.short_side
    return short, -(-short * 4 // 3 // STEP) * STEP


def detector(preset: str) -> Any:
    """A function that detects in an image of the preset's size."""
    own, size = model(preset), size_of(preset)
    image = torch.randn(1, 3, *size).to(memory_format=torch.channels_last)

    def detect() -> None:
        with torch.inference_mode():
            decoded = own.detector.decode(own.forward_optimized(image), [size])  # type: ignore[operator]
            multiclass_nms(decoded.boxes[0], decoded.scores[0], decoded.counts, own.info.postprocess)

    return detect


def ssdlite(folder: Path) -> dict[str, Callable[[], Any]]:
    """Functions that detect with SSDLite in torch and in ONNX Runtime."""
    import onnxruntime

    ssd = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES + 1).eval()
    image = torch.rand(3, 320, 320)

    def in_torch() -> None:
        with torch.inference_mode():
            ssd([image])

    file = folder / "ssdlite.onnx"
    torch.onnx.export(ssd, ([image],), file, input_names=["image"], opset_version=17, dynamo=False)
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    session = onnxruntime.InferenceSession(file, settings, providers=["CPUExecutionProvider"])
    pixels = image.numpy()
    return {f"{SSD}, torch": in_torch, f"{SSD}, ONNX Runtime": lambda: session.run(None, {"image": pixels})}


def exported(preset: str, folder: Path) -> dict[str, Callable[[], Any]]:
    """Functions that run the int8 files of a preset."""
    own, size = model(preset), size_of(preset)
    pixels = np.random.default_rng(0).integers(0, 256, (1, 3, *size)).astype(np.float32)
    calls = {}
    for name, suffix in (("ONNX Runtime int8", ".onnx"), ("OpenVINO int8", ".xml")):
        file = folder / f"{preset}{suffix}"
        write_int8(own, file, TARGET, size)
        calls[name] = in_file(file, "fp32", pixels)
    return calls


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        peers = ssdlite(Path(name))
        lines = [
            "| model | backbone | input | M parameters | G multiply-adds | torch fp32, ms | ONNX Runtime int8, ms | "
            "OpenVINO int8, ms | fastest, x SSDLite320 |",
            f"|{'---|' * 9}",
        ]
        for preset in PRESETS:
            forms = {"torch fp32": detector(preset), **exported(preset, Path(name))}
            times = medians({**forms, **peers}, options.rounds)
            lines.append(cells(preset, forms, times))
            peer = min(peers, key=times.__getitem__)
            rows += [Row(f"{preset}, {form}", times[form], "ms", None, peer, times[peer]) for form in forms]
            print(lines[-1], flush=True)
    write("presets", rows, Path(__file__).parent)
    here = machine()
    speeds = " and ".join(f"{times[peer]:,.0f} ms in {peer.rpartition(', ')[2]}" for peer in peers)
    lines.append("")
    lines.append(
        f"80 classes, {options.threads} thread, {here['date']}, {here['cpu']}, torch {torch.__version__}; {SSD} takes "
        f"{speeds}, fp32 (`benchmarks/presets.py`)."
    )
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text("\n".join([before + BEGIN, *lines, END + after]), encoding="utf-8")
    print("\n".join(lines))


def cells(preset: str, forms: Iterable[str], times: Mapping[str, float]) -> str:
    """The row of a preset."""
    size = size_of(preset)
    parameters, operations = count(preset, size)
    backbone = load_recipe(preset).model.backbone.name.partition(".")[0]
    own = min(times[form] for form in forms)
    peer = min(time for name, time in times.items() if name.startswith(SSD))
    shown = " | ".join(f"{times[form]:,.0f}" for form in forms)
    return (
        f"| `{preset}` | {backbone} | {size[0]} x {size[1]} | {parameters / 1e6:.1f} | {operations:.1f} | {shown} | "
        f"{own / peer:.2f} |"
    )


if __name__ == "__main__":
    main()
