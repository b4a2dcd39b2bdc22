"""Reduce the authors' reference values to those that the tests compare: python scripts/make_reference_data.py FOLDER

FOLDER has the full set of reference values (forward passes, losses, detections and unit values of many models). The
result is written to tests/reference/data, next to its README. The same input gives the same bytes.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

TARGET = Path(__file__).resolve().parents[1] / "tests" / "reference" / "data"
LIMIT = 4.6e6  # bytes in total
MODELS = {
    "vfnet_r50": "",
    "vfnet_raw_r50": "a",
    "vfnet_r50_mdconv": "a",
}  # model -> images of which a sample of the maps suffices
# larger variants of VFNet: their keys, in one file, and a sample of their maps for image a
FAMILY = (
    *(f"vfnet_{net}{dcn}" for net in ("r101", "x101_32x4d", "x101_64x4d", "r2_101") for dcn in ("", "_mdconv")),
    "vfnetx_r2_101",
)
DETECTIONS = (
    "post/vfnet_r50.npz",
    "mmdet33/post_vfnet_r50.npz",
    "post/vfnet_raw_r50.npz",
    "post/vfnet_r50_mdconv.npz",
    "mmdet33/post_vfnet_r50_mdconv.npz",
)
# FCOS, ATSS and GFL: the tests compute the maps of both images in float64 and compare samples
POINT_MODELS = ("fcos_r50", "atss_r50", "gfl_r50")
POINT_KEYS = (*POINT_MODELS, "atss_raw")
POINT_LOSSES = (*POINT_MODELS, "atss_raw", "atss_gfl")
# RetinaNet, FoveaBox and RepPoints: the same, but only the detections of image b, and also the same network with the
# varifocal loss
ANCHOR_MODELS = {"retinanet_r50": "vfl_retinanet", "fovea_r50": "vfl_fovea", "reppoints_r50": "vfl_reppoints"}
SAMPLES = 256
DIGITS = 10  # significant digits of gradients, which are compared to 1e-6
LOSS_UNITS = ("pred", "label", "quality", "vfl", "focal", "qfl", "dfl", "box", "giou", "overlaps.iou")
OTHER_UNITS = ("coder.", "iou.")  # unit values of the other detectors, in a separate file, boxes.npz
NMS_SETS = ("0", "1", "3")  # set 2 has 11000 boxes and is a third of a megabyte


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="folder with the full set of reference values")
    source = parser.parse_args().folder
    for folder in ("keys", "forward", "post", "mmdet33", "units"):
        (TARGET / folder).mkdir(parents=True, exist_ok=True)
    for name, sampled in MODELS.items():
        write_json(TARGET / "keys" / f"{name}.json", keys(source, name))
        maps = forward(np.load(source / "forward" / f"{name}.npz"), sampled)
        write_npz(TARGET / "forward" / f"{name}.npz", maps)
    write_gzip(TARGET / "keys" / "vfnet_family.json.gz", {name: keys(source, name) for name in FAMILY})
    for name in FAMILY:
        values = np.load(source / "forward" / f"{name}.npz")
        write_npz(
            TARGET / "forward" / f"{name}.npz", {key: values[key] for key in values.files if key.startswith("a.")}
        )
    write_losses(source)
    for path in DETECTIONS:
        sampled = MODELS[Path(path).stem.removeprefix("post_")]
        found = dict(np.load(source / path))
        write_npz(TARGET / path, {key: found[key] for key in found if key.split(".")[0] != sampled})
    write_relatives(source)
    write_units(source / "units")
    size = sum(path.stat().st_size for path in TARGET.rglob("*") if path.is_file())
    print(f"{size / 1e6:.2f} MB in {TARGET}")
    if size > LIMIT:
        raise SystemExit(f"more than {LIMIT / 1e6} MB")


def keys(source: Path, name: str) -> dict[str, list[int]]:
    """Return the names and shapes of the state dict."""
    stored = json.loads((source / "keys" / f"{name}.json").read_text())
    return {key: shape for key, (shape, _) in stored.items()}


def forward(values: Mapping[str, np.ndarray], sampled: str) -> dict[str, np.ndarray]:
    """Return all values of one model; for the images in ``sampled``, only a sample of the large maps."""
    kept: dict[str, np.ndarray] = {}
    rng = np.random.default_rng(0)
    for key, value in values.items():
        if key.split(".")[0] in sampled and value.size > SAMPLES and value.ndim == 4:
            places = np.sort(rng.choice(value.size, SAMPLES, replace=False)).astype(np.int32)
            kept[f"{key}.idx"], kept[f"{key}.val"] = places, value.reshape(-1)[places]
        else:
            kept[key] = value
    return kept


def write_losses(source: Path) -> None:
    """Write the cases with their ground truth, and all losses of the models and their variants in one file."""
    cases = json.loads((source / "cases.json").read_text())["cases"]
    write_json(TARGET / "cases.json", cases)
    losses = {
        path.stem: rounded(json.loads(path.read_text()))
        for path in sorted((source / "loss").glob("*.json"))
        if path.name.split(".")[0] in MODELS
    }
    write_gzip(TARGET / "loss.json.gz", losses)


def write_relatives(source: Path) -> None:
    """Write names, samples of the maps, losses in float64 and detections of the other detectors."""
    for name in (*POINT_KEYS, *ANCHOR_MODELS):
        write_json(TARGET / "keys" / f"{name}.json", keys(source, name))
    for name, varifocal in ANCHOR_MODELS.items():
        if keys(source, name) != keys(source, varifocal):
            raise SystemExit(f"{varifocal} is not the same network as {name}")
    for name in (*POINT_MODELS, *ANCHOR_MODELS):
        write_npz(TARGET / "forward" / f"{name}.npz", forward(np.load(source / "forward" / f"{name}.npz"), "ab"))
        for path in (f"post/{name}.npz", f"mmdet33/post_{name}.npz"):
            values = np.load(source / path)
            images = "b" if name in ANCHOR_MODELS else "ab"
            wanted = [key for key in values.files if "prenms" not in key and key[0] in images]
            write_npz(TARGET / path, {key: values[key] for key in wanted})
    (TARGET / "loss").mkdir(exist_ok=True)
    for name in (*POINT_LOSSES, *ANCHOR_MODELS, *ANCHOR_MODELS.values()):
        cases = json.loads((source / "loss" / f"{name}.json").read_text())
        runs = ("model_f64", "head_f64")
        kept = {case: {run: without_levels(values[run]) for run in runs} for case, values in cases.items()}
        write_gzip(TARGET / "loss" / f"{name}.json.gz", rounded(kept))


def without_levels(values: dict[str, Any]) -> dict[str, Any]:
    """Return the losses without their parts per level."""
    return {key: part for key, part in values.items() if not key.endswith(".per_level")}


def rounded(value: Any) -> Any:
    """Return gradients (the lists) with ten digits, and losses unchanged."""
    if isinstance(value, dict):
        return {key: rounded(part) for key, part in value.items()}
    if isinstance(value, list):
        return [float(f"{part:.{DIGITS}g}") if isinstance(part, float) else part for part in value]
    return value


def write_units(source: Path) -> None:
    units = TARGET / "units"
    write_npz(units / "atss.npz", dict(np.load(source / "atss.npz")))
    write_npz(units / "star.npz", dict(np.load(source / "star.npz")))
    losses = np.load(source / "losses.npz")
    write_npz(units / "losses.npz", {key: losses[key] for key in losses.files if key.startswith(LOSS_UNITS)})
    wanted = [key for key in losses.files if key.startswith(OTHER_UNITS)]
    write_npz(units / "boxes.npz", {key: losses[key] for key in wanted})
    nms = np.load(source / "nms.npz")
    wanted = [key for key in nms.files if key[0] in NMS_SETS]
    write_npz(units / "nms.npz", {key: nms[key] for key in wanted})
    # the first configuration is the plain 3x3 with everything else 1; v1 has no mask and no bias
    dcn = np.load(source / "dcn.npz")
    wanted = [key for key in dcn.files if key in ("0.x", "0.w", "0.off", "0.gout") or key.startswith("0.v1.")]
    write_npz(units / "dcn.npz", {key.removeprefix("0."): dcn[key] for key in wanted})


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, separators=(",", ":")) + "\n")


def write_gzip(path: Path, value: Any) -> None:
    path.write_bytes(gzip.compress(json.dumps(value, separators=(",", ":")).encode(), mtime=0))


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write arrays for ``numpy.load``, compressed better than by ``savez_compressed`` and without a date."""
    with zipfile.ZipFile(path, "w") as archive:
        for key, value in arrays.items():
            file = io.BytesIO()
            np.lib.format.write_array(file, np.asarray(value), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{key}.npy")  # dated 1980
            archive.writestr(entry, file.getvalue(), zipfile.ZIP_LZMA)


if __name__ == "__main__":
    main()
