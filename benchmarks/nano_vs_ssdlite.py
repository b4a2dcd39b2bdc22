"""The preset nano beside torchvision's SSDLite: same loop, data, augmentation, steps and seeds.

    python benchmarks/nano_vs_ssdlite.py [--data trees frames] [--seeds 0 1 2] [--threads 1]

SSDLite320-MobileNetV3 keeps torchvision's head, anchors, matching and losses, and gets every batch resized to its own
320 x 320 pixels. Its backbone starts from random weights, because no package ships ImageNet weights of MobileNetV3; the
row ``nano-scratch`` does without them as well. Results are stored in ``nano_vs_ssdlite.json``; what is there is not
repeated. ``presets.py`` has the speeds.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import ssdlite320_mobilenet_v3_large
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import box_iou

sys.path.insert(0, str(Path(__file__).resolve().parent / "paper"))

from cells import gain, interval
from run import make_frames

from harness import machine
from varifocal.data.sample_dataset import sample_dataset_dir
from varifocal.inference.model import Model
from varifocal.ops.boxes import clip_boxes
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import Recipe, load_recipe
from varifocal.structures import Candidates, Outputs, Targets
from varifocal.training.loop import train

RESULTS = Path(__file__).with_name("nano_vs_ssdlite.json")
FRAMES = Path("runs/paper/frames")
SIDE = 320
MODELS = ("nano", "nano-scratch", "ssdlite")
COMMON = ("train.batch_size=4", "train.lr=0.001", "train.num_workers=0")
WORDS = {
    "frames": (
        "train.epochs=3",
        "train.val_every_epochs=3",
        "data.preprocess.short_side=240",
        "data.preprocess.max_long_side=320",
    ),
    "trees": (
        *("train.epochs=26", "train.val_every_epochs=26", "data.val_split=test", "data.preprocess.scale=1.0"),
        *("data.augment.crop=256", "data.augment.crop_on_box_prob=0.7", "postprocess.max_detections=2000"),
        *("tiling.size=256", "tiling.overlap=110", "tiling.vote=0.6"),
    ),
}


class SSDLite(nn.Module):
    """torchvision's SSDLite with the three methods that the training loop and prediction call."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.net = ssdlite320_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes + 1)

    def forward(self, images: Tensor) -> Outputs:
        """Return the outputs of the head, and the anchors in pixels of the images before the resize."""
        small = F.interpolate(images, (SIDE, SIDE), mode="bilinear", antialias=True)
        maps = list(self.net.backbone(small).values())
        tensors = dict(self.net.head(maps))
        anchors = self.net.anchor_generator(ImageList(small, [(SIDE, SIDE)] * len(small)), maps)
        factors = small.new_tensor([images.shape[3] / SIDE, images.shape[2] / SIDE] * 2)
        tensors["anchors"] = torch.stack(anchors) * factors
        return Outputs(tensors, tuple((level.shape[2], level.shape[3]) for level in maps))

    def loss(self, outputs: Outputs, targets: Sequence[Targets]) -> dict[str, Tensor]:
        """Return torchvision's losses; ignored boxes are left out, because it does not support ignored regions."""
        anchors = list(outputs.tensors["anchors"])
        labeled = [{"boxes": t.boxes[~t.crowd], "labels": t.labels[~t.crowd] + 1} for t in targets]
        matched = [self._match(one["boxes"], own) for one, own in zip(labeled, anchors, strict=True)]
        head = {name: outputs.tensors[name] for name in ("bbox_regression", "cls_logits")}
        return self.net.compute_loss(labeled, head, anchors, matched)

    def _match(self, boxes: Tensor, anchors: Tensor) -> Tensor:
        if not len(boxes):
            return torch.full((len(anchors),), -1, dtype=torch.int64)
        return self.net.proposal_matcher(box_iou(boxes, anchors))

    def decode(self, outputs: Outputs, sizes: Sequence[tuple[int, int]]) -> Candidates:
        """Return boxes and the softmax scores of the classes."""
        tensors = outputs.tensors
        boxes = [
            clip_boxes(self.net.box_coder.decode_single(deltas, anchors), *size)
            for deltas, anchors, size in zip(tensors["bbox_regression"], tensors["anchors"], sizes, strict=True)
        ]
        scores = tensors["cls_logits"].softmax(dim=2)[:, :, 1:]
        return Candidates(torch.stack(boxes), scores, (scores.shape[1],))


def run(name: str, data: str, seed: int) -> dict[str, float]:
    """Train once and return the metrics of the last weights."""
    words = [*COMMON, *WORDS[data], f"train.seed={seed}"]
    words += [] if name == "nano" else ["model.backbone.pretrained=none"]
    recipe: Recipe = load_recipe("nano", words)
    if name == "nano-scratch":  # random weights with fixed statistics would not learn
        backbone = replace(recipe.model.backbone, frozen_stages=0, norm_eval=False)
        recipe = replace(recipe, model=replace(recipe.model, backbone=backbone))
    make_frames(FRAMES)
    torch.manual_seed(seed)
    with tempfile.TemporaryDirectory() as folder:
        job = build_job(recipe, sample_dataset_dir() if data == "trees" else FRAMES, Path(folder))
        if name == "ssdlite":
            job = replace(job, model=Model(SSDLite(len(job.model.categories)), job.model.info))
        begun = time.monotonic()
        metrics = train(job).metrics
    return {**metrics, "minutes": (time.monotonic() - begun) / 60}


def main() -> None:
    """Do the missing runs and print all, with the differences over pairs of the same seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--data", nargs="+", choices=list(WORDS), default=list(WORDS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else []
    for seed in options.seeds:
        for data in options.data:
            for name in options.models:
                if any((r["model"], r["data"], r["seed"]) == (name, data, seed) for r in results):
                    continue
                found = run(name, data, seed)
                results.append({"model": name, "data": data, "seed": seed, **found, **machine()})
                RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    for data in WORDS:
        sides = {
            name: {r["seed"]: 100 * r["AP"] for r in results if (r["model"], r["data"]) == (name, data)}
            for name in MODELS
        }
        for name, side in sides.items():
            difference = gain(sides["ssdlite"], side)
            between = "" if difference is None else f", {difference.mean:+.1f} ({interval(difference) or 'one seed'})"
            print(f"{data:7} {name:13} AP {', '.join(f'{ap:.1f}' for ap in side.values())}{between}")


if __name__ == "__main__":
    main()
