"""The four presets in numbers, beside torchvision's SSDLite: python benchmarks/presets.py [--rounds 5] [--threads 1]

Parameters and multiply-adds are counted for 80 classes at a preset's own size. Each network is timed on one thread in
alternation with SSDLite320-MobileNetV3, from an image tensor to detections in fp32, with random weights: the amount of
computation does not depend on them, except that hardly any score passes the threshold. The ratio is to SSDLite in the
same rounds. The table of ``docs/own-data.md`` is written.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import torch
from torchvision.models.detection import ssdlite320_mobilenet_v3_large

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


def main() -> None:
    """Measure and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    ssd = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=CLASSES + 1).eval()
    square = [torch.rand(3, 320, 320)]

    def detect_ssd() -> None:
        with torch.inference_mode():
            ssd(square)

    rows, lines = [], ["| model | backbone | input | M parameters | G multiply-adds | ms | x SSDLite320 |"]
    lines.append("|---|---|---|---|---|---|---|")
    for preset in PRESETS:
        size = size_of(preset)
        parameters, operations = count(preset, size)
        times = medians({preset: detector(preset), SSD: detect_ssd}, options.rounds)
        row = Row(f"{preset}, {size[0]}x{size[1]}", times[preset], "ms", None, SSD, times[SSD])
        rows.append(row)
        backbone = load_recipe(preset).model.backbone.name.partition(".")[0]
        lines.append(
            f"| `{preset}` | {backbone} | {size[0]} x {size[1]} | {parameters / 1e6:.1f} | {operations:.1f} | "
            f"{row.value:,.0f} | {row.ratio:.2f} |"
        )
    write("presets", rows, Path(__file__).parent)
    here = machine()
    lines.append("")
    lines.append(
        f"80 classes, fp32, {options.threads} thread, {here['date']}, {here['cpu']}, torch {torch.__version__}; "
        f"{SSD} takes {rows[0].peer_value:,.0f} ms (`benchmarks/presets.py`)."
    )
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    after = rest.split(END)[1]
    PAGE.write_text("\n".join([before + BEGIN, *lines, END + after]), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
