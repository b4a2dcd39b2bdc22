"""Compare VFNet with torchvision's FCOS on the embedded trees: same loop, data, crops, backbone, steps and seeds.

    python benchmarks/trees_vs_fcos.py                 # all runs, about six minutes each on two cores
    python benchmarks/trees_vs_fcos.py --models fcos --seeds 0

``--set train.epochs=10`` changes the recipe for all runs. A run that is in the results file is not repeated. Both
detectors start from the same ImageNet weights, freeze the same stages and are evaluated with the same windows and
post-processing (score above 0.05, class-wise NMS at the recipe's IoU, 2000 boxes); torchvision's own threshold of 0.2
would only cost it AP. Besides AP on the whole scene, the results have two earlier measures: the same detections cut
into 16 tiles of 256 pixels (``tiles_AP``, 100 boxes per tile, labels of which more than 40 % is visible), and
detections in each tile processed alone (``alone_AP``). FCOS keeps torchvision's head, assignment, losses and score
(sqrt(class * centerness)), with the recipe's number of pyramid channels. Two differences remain: it has five pyramid
levels where the recipe has four, and it does not support ignored regions, so the remains of truncated boxes are
background to it.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path

import numpy as np
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.detection import FCOS
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from varifocal.data.images import read_image
from varifocal.data.load import load_dataset
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.evaluation.coco_ap import coco_ap
from varifocal.inference.model import Model
from varifocal.models.backbone import Backbone, BackboneConfig
from varifocal.models.checkpoint import load_state_dict_strict, read_checkpoint
from varifocal.ops.boxes import clip_boxes
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.structures import Candidates, Outputs, Targets
from varifocal.training.loop import train
from varifocal.types import Detections, Sample, Tiling

RESULTS = Path(__file__).with_name("trees_vs_fcos.json")
MODELS = ("vfnet", "vfnet-focal", "vfnet-quality-focal", "fcos")
TILE, VISIBLE = 256, 0.4
NAMES = ("cls_logits", "bbox_regression", "bbox_ctrness")


class Pyramid(nn.Module):
    """The recipe's backbone with torchvision's pyramid, in the form that torchvision's detectors expect."""

    def __init__(self, config: BackboneConfig, width: int) -> None:
        super().__init__()
        self.body = Backbone(config)
        self.out_channels = width
        self.fpn = FeaturePyramidNetwork(self.body.channels, width, extra_blocks=LastLevelP6P7(width, width))

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Return the maps P3 to P7."""
        return self.fpn({str(i): level for i, level in enumerate(self.body(images))})


class TorchvisionFCOS(nn.Module):
    """torchvision's FCOS with the three methods that the training loop and prediction call."""

    def __init__(self, config: BackboneConfig, width: int, num_classes: int) -> None:
        super().__init__()
        sizes = tuple((8 * 2**i,) for i in range(5))
        anchors = AnchorGenerator(sizes, ((1.0,),) * 5)
        self.net = FCOS(Pyramid(config, width), num_classes, anchor_generator=anchors)

    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs of the head, together with the anchors."""
        maps = list(self.net.backbone(images).values())
        tensors = dict(self.net.head(maps))
        sizes = [(images.shape[2], images.shape[3])] * len(images)
        tensors["anchors"] = torch.stack(self.net.anchor_generator(ImageList(images, sizes), maps))
        return Outputs(tensors, tuple((level.shape[2], level.shape[3]) for level in maps))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """Return torchvision's losses; ignored boxes are left out, because it does not support ignored regions."""
        labeled = [{"boxes": t.boxes[~t.crowd], "labels": t.labels[~t.crowd]} for t in targets]
        counts = [height * width for height, width in outputs.shapes]
        head = {name: outputs.tensors[name] for name in NAMES}
        return self.net.compute_loss(labeled, head, list(outputs.tensors["anchors"]), counts)

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        """Return boxes, and scores sqrt(class * centerness)."""
        tensors = outputs.tensors
        boxes = [
            clip_boxes(self.net.box_coder.decode(deltas, anchors), *size)
            for deltas, anchors, size in zip(tensors["bbox_regression"], tensors["anchors"], sizes, strict=True)
        ]
        score = (tensors["cls_logits"].sigmoid() * tensors["bbox_ctrness"].sigmoid()).sqrt()
        return Candidates(torch.stack(boxes), score, tuple(height * width for height, width in outputs.shapes))


def run(name: str, seed: int, recipe: Recipe, keep: Path | None) -> dict[str, float]:
    """Train once and return the metrics of the last weights."""
    loss = name.removeprefix("vfnet-") if name.startswith("vfnet-") else "varifocal"
    recipe = replace(
        recipe,
        model=replace(recipe.model, loss=loss),  # type: ignore[arg-type]
        train=replace(recipe.train, seed=seed),
    )
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        job = build_job(recipe, sample_dataset_dir(), Path(folder))
        if name == "fcos":
            width = recipe.model.channels
            detector = TorchvisionFCOS(recipe.model.backbone, width, len(job.model.categories))
            job = replace(job, model=Model(detector, job.model.info))
        begun = time.monotonic()
        metrics = train(job).metrics
        minutes = (time.monotonic() - begun) / 60
        weights = Path(folder) / "last.safetensors"
        if keep is not None:
            keep.mkdir(parents=True, exist_ok=True)
            shutil.copy(weights, keep / f"{name}-{seed}.safetensors")
        load_state_dict_strict(job.model.detector, read_checkpoint(weights)[0], weights)
        return {**metrics, **measure_on_tiles(job.model), "minutes": minutes}


def measure_on_tiles(model: Model) -> dict[str, float]:
    """Return metrics of the scene's detections cut into tiles, and of detections in each tile alone."""
    data = load_dataset(sample_dataset_dir(), "test")
    scene, image = data.samples[0], read_image(data.samples[0].file)
    corners = [(x, y) for y in range(0, 4 * TILE, TILE) for x in range(0, 4 * TILE, TILE)]
    tiles = [cut(scene, x, y) for x, y in corners]
    merged = model.predict(image)
    parts = [cut_detections(merged, x, y) for x, y in corners]
    info = model.info
    model.info = replace(info, tiling=Tiling(), postprocess=replace(info.postprocess, max_detections=100))
    alone = model.predict([image.crop((x, y, x + TILE, y + TILE)) for x, y in corners])
    model.info = info
    rows = {"tiles": coco_ap(tiles, data.categories, parts), "alone": coco_ap(tiles, data.categories, alone)}
    return {f"{name}_{key}": getattr(row, key) for name, row in rows.items() for key in ("AP", "AP50", "AP75")}


def cut(scene: Sample, x: int, y: int) -> Sample:
    """Return the scene's labels in one tile."""
    boxes, kept = cut_boxes(scene.boxes, x, y)
    name = f"x{x:04d}_y{y:04d}"
    return Sample(scene.file.with_stem(name), x * 10000 + y, TILE, TILE, boxes, scene.labels[kept], scene.crowd[kept])


def cut_detections(found: Detections, x: int, y: int) -> Detections:
    """Return the detections in one tile."""
    boxes, kept = cut_boxes(found.boxes, x, y)
    return Detections(boxes, found.scores[kept], found.labels[kept], found.categories)


def cut_boxes(boxes: np.ndarray, x: int, y: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the boxes clipped to the tile that are visible enough, and which ones they are."""
    moved = boxes - np.array([x, y, x, y], boxes.dtype)
    cut = moved.clip(0, TILE)
    shown, whole = ((b[:, 2:] - b[:, :2]).prod(axis=1) for b in (cut, moved))
    kept = shown > VISIBLE * whole
    return cut[kept], kept


def main() -> None:
    """Do the missing runs and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--set", nargs="+", default=[], metavar="key=value", dest="overrides")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="folder for the last weights of each run")
    options = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    recipe = load_recipe("trees", options.overrides)
    for seed in options.seeds:
        for name in options.models:
            if any((r["model"], r["seed"], r["overrides"]) == (name, seed, options.overrides) for r in results):
                continue
            metrics = run(name, seed, recipe, options.keep)
            results.append({"model": name, "seed": seed, "overrides": options.overrides, **metrics, **machine()})
            RESULTS.write_text(json.dumps(results, indent=1))
    for r in results:
        print(f"{r['model']:22} seed {r['seed']}  AP {100 * r['AP']:5.1f}  AP50 {100 * r['AP50']:5.1f}", end="")
        print(f"  AP75 {100 * r['AP75']:5.1f}  {r['minutes']:.1f} min  {' '.join(r['overrides'])}", flush=True)


def machine() -> dict[str, str | int]:
    """Return the date, hardware and versions of a result."""
    return {
        "date": date.today().isoformat(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "torchvision": torchvision.__version__,
    }


if __name__ == "__main__":
    main()
