"""Write docs/models.md: python scripts/make_models_doc.py

Parameters and multiply-adds are counted, the parity errors measured: every network is filled by the rule of
tests/reference/fill.py and its outputs for image a compared with the authors' in tests/reference/data. A few minutes.
"""

from __future__ import annotations

import gzip
import json
import platform
import sys
from dataclasses import dataclass
from datetime import date
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "tests" / "reference" / "data"
sys.path.insert(0, str(ROOT / "tests" / "reference"))

from fill import filled, images  # noqa: E402  (beside the tests, not installed)

from varifocal.models import DETECTORS  # noqa: E402
from varifocal.models.published.convert import convert_state_dict  # noqa: E402
from varifocal.models.published.identify import identify  # noqa: E402
from varifocal.tools.models import Entry, list_zoo  # noqa: E402

TARGET = ROOT / "docs" / "models.md"
# the stored network of a recipe; recipes of the same network share one
STORED = {
    "vfnet_r50": ("vfnet_r50_1x", "vfnet_r50_ms_2x", "vfnet_r50_1x_tta"),
    "vfnet_r50_mdconv": ("vfnet_r50_mdconv_ms_2x",),
    "vfnet_r101": ("vfnet_r101_1x", "vfnet_r101_2x", "vfnet_r101_ms_2x"),
    "vfnet_r101_mdconv": ("vfnet_r101_mdconv_ms_2x",),
    "vfnet_x101_32x4d": ("vfnet_x101_32x4d_ms_2x",),
    "vfnet_x101_32x4d_mdconv": ("vfnet_x101_32x4d_mdconv_ms_2x",),
    "vfnet_x101_64x4d": ("vfnet_x101_64x4d_ms_2x",),
    "vfnet_x101_64x4d_mdconv": ("vfnet_x101_64x4d_mdconv_ms_2x",),
    "vfnet_r2_101": ("vfnet_r2_101_ms_2x",),
    "vfnet_r2_101_mdconv": ("vfnet_r2_101_mdconv_ms_2x",),
    "vfnetx_r2_101": ("vfnetx_r2_101_59e",),
    "vfnet_raw_r50": ("vfnet_raw_r50_1x", "vfnet_raw_vfl_r50_1x"),
    "atss_r50": ("atss_r50_1x", "vfl_atss_r50_1x"),
    "fcos_r50": ("fcos_r50_1x", "fcos_r50_ms_2x"),
    "gfl_r50": ("gfl_r50_1x", "gfl_r50_ms_2x"),
    "retinanet_r50": ("retinanet_r50_1x", "vfl_retinanet_r50_1x"),
    "fovea_r50": ("foveabox_r50_1x", "vfl_foveabox_r50_1x"),
    "reppoints_r50": ("reppoints_r50_1x", "vfl_reppoints_r50_1x"),
}
# the authors' names of the outputs, and ours
MAPS = {
    "vfnet": {"cls": "logits", "bbox": "initial", "bbox_refine": "refined"},
    "fcos": {"cls": "logits", "bbox": "distances", "centerness": "centerness"},
    "atss": {"cls": "logits", "bbox": "deltas", "centerness": "centerness"},
    "gfl": {"cls": "logits", "reg_dist": "sides"},
    "retinanet": {"cls": "logits", "bbox": "deltas"},
    "foveabox": {"cls": "logits", "bbox": "logs"},
    "reppoints": {"cls": "logits", "pts_init": "initial_points", "pts_refine": "refined_points"},
}
HEAD = """\
# The models

Every recipe of the paper, counted and compared with the authors' implementation. Made by
`scripts/make_models_doc.py` on {date}, {machine}, torch {torch}; not typed.

- **Parameters** of the network for 80 classes, beside those of the authors' state dict (without running statistics).
- **GFLOPs**: billions of multiply-adds at 800 x 1344, deformable convolutions and stars included.
- **Parity**: the largest deviation of an output (scores, boxes, and what else the head gives) from the authors'
  float64 values on the same weights and image, in float32, as a fraction of that map's largest magnitude. The tests
  hold it below 1e-5, and losses, gradients and detections to their own bounds (`tests/reference`).
- **AP** and **FPS** are what the authors, or mmdetection for the relatives, report on COCO val2017 and a V100. They
  are not measured here: no weights and no COCO travel with the project. `varifocal models RECIPE` prints the commands
  that do it.
- **State**: every recipe builds, trains two steps and is measured in the tests at a reduced size; "compared" says that
  its network also gives the authors' numbers.

| recipe | parameters, M | authors, M | GFLOPs | parity | AP | FPS | state |
|---|---|---|---|---|---|---|---|
"""


@dataclass(frozen=True)
class Measured:
    """Of one stored network: the authors' number of parameters and our largest deviation."""

    parameters: int
    error: float


def main() -> None:
    """Measure every stored network once and write the table."""
    torch.set_num_threads(2)
    rows, measured = [], {}
    for entry in list_zoo():
        name = next((name for name, recipes in STORED.items() if entry.recipe in recipes), None)
        if name is not None and name not in measured:
            measured[name] = measure(name)
            print(f"{name}: {measured[name].error:.1e}", flush=True)
        rows.append(row(entry, measured.get(name or "")))
    head = HEAD.format(date=date.today().isoformat(), machine=platform.machine(), torch=torch.__version__)
    TARGET.write_text(head + "\n".join(rows) + "\n", encoding="utf-8")


def row(entry: Entry, measured: Measured | None) -> str:
    """One line of the table; a dash where the authors gave no network or number."""
    theirs, parity = ("-", "-")
    if measured is not None:
        theirs, parity = f"{measured.parameters / 1e6:.3f}", f"{measured.error:.1e}"
    reported = [f"{x:.1f}" if x is not None else "-" for x in (entry.published.ap, entry.published.fps)]
    counted = [f"{entry.parameters / 1e6:.3f}", theirs, f"{entry.gflops:.0f}", parity]
    state = "compared" if measured is not None else "no numbers to compare with"
    return "| " + " | ".join([f"`{entry.recipe}`", *counted, *reported, state]) + " |"


@cache
def keys(name: str) -> dict[str, list[int]]:
    """Names and shapes of a stored state dict."""
    single = DATA / "keys" / f"{name}.json"
    if single.exists():
        return json.loads(single.read_text())
    family = json.loads(gzip.decompress((DATA / "keys" / "vfnet_family.json.gz").read_bytes()))
    return family[name]


def measure(name: str) -> Measured:
    """Fill the network, look at image a, compare every stored head map."""
    state = {key: torch.from_numpy(filled(key, tuple(shape))) for key, shape in keys(name).items()}
    found = identify(state, "", name)
    model = DETECTORS[found.detector][0](found.config).eval()
    model.load_state_dict(convert_state_dict(state, found.detector)[0])
    with torch.no_grad():
        outputs = model(torch.from_numpy(images()["a"]))
    stored = np.load(DATA / "forward" / f"{name}.npz")
    errors = []
    for theirs, ours in MAPS[found.detector].items():
        if ours in outputs.tensors:
            for level, maps in enumerate(per_level(outputs.tensors[ours], outputs.shapes)):
                errors.append(deviation(stored, f"a.{theirs}.{level}", maps))
    return Measured(sum(np.prod(shape, dtype=int) for key, shape in keys(name).items() if learned(key)), max(errors))


def learned(key: str) -> bool:
    """Whether it is a parameter rather than a statistic or a constant."""
    return not key.endswith(("running_mean", "running_var", "num_batches_tracked", "integral.project"))


def per_level(values: Tensor, shapes: tuple[tuple[int, int], ...]) -> list[np.ndarray]:
    """The maps [1, C, H, W] from the list of all points; several anchors of a cell are channels there."""
    cells = sum(height * width for height, width in shapes)
    values = values.reshape(1, cells, -1)
    parts = values.split([height * width for height, width in shapes], dim=1)
    return [
        part.reshape(1, height, width, -1).permute(0, 3, 1, 2).numpy()
        for part, (height, width) in zip(parts, shapes, strict=True)
    ]


def deviation(stored: Any, key: str, ours: np.ndarray) -> float:
    """Largest difference over the largest magnitude, at the stored places."""
    if key in stored:
        difference = np.abs(ours - stored[key]).max()
    else:
        difference = np.abs(np.ascontiguousarray(ours).reshape(-1)[stored[f"{key}.idx"]] - stored[f"{key}.val"]).max()
    return float(difference / stored[f"{key}.stats"][2])


if __name__ == "__main__":
    main()
