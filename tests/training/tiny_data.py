"""A COCO data set of a handful of small images with colored rectangles, and the smallest sensible recipe."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

COLORS = [(220, 40, 40), (40, 90, 220)]

# The last three keep the network small enough for a step to take some twenty milliseconds.
TINY = [
    "model.backbone={name: test_resnet, norm_eval: true}",
    "model.channels=32",
    "model.num_levels=3",
    "model.num_convs=1",
    # close to ImageNet's pixels, for which the tolerances of the comparisons were measured
    "data.preprocess={scale: 1.0, mean: [120.0, 120.0, 120.0], std: [60.0, 60.0, 60.0]}",
    "data.augment={crop: 64, crop_on_box_prob: 0.5, scale_jitter: [0.8, 1.25]}",
    "data.augment={hflip: 0.5, rot90: true, color_jitter: 0.4}",
    "train.device=cpu",
    "train.batch_size=4",
    "train.epochs=4",
    "train.lr=0.01",
    "train.warmup_steps=2",
    "train.milestones=[0.75]",
    "train.save_every_steps=2",
    "train.ema=0.9",
    "train.num_workers=0",
]

# All settings for hard data at once; every third image may be unreadable.
HARD = [
    "data.repeat_factor_threshold=1.0",
    "data.max_empty_fraction=0.1",
    "data.augment={mosaic: 0.5, mixup: 0.5, copy_paste: 0.5, random_erasing: 0.5, vflip: 0.5, mixing_epochs: 3}",
    "data.augment.extra_transforms={RandomPhotometricDistort: {}}",
    "train.max_unreadable=0.34",
]


def make_data(folder: Path, *, images: int = 6, empty: tuple[int, ...] = (), crowd: tuple[int, ...] = ()) -> Path:
    """Write ``images`` of 96 x 80 pixels in train and two in val; those in ``empty`` have no boxes, those in
    ``crowd`` only crowd boxes. The category ids are odd and not in the order of the names."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, count in (("train", images), ("val", 2)):
        rng = np.random.default_rng(len(split))
        records, annotations = [], []
        for i in range(count):
            pixels = rng.integers(90, 130, (80, 96, 3), dtype=np.uint8)
            for _ in range(0 if split == "train" and i in empty else 3):
                x, y = int(rng.integers(0, 60)), int(rng.integers(0, 50))
                w, h = (int(side) for side in rng.integers(12, 30, 2))
                kind = int(rng.integers(2))
                pixels[y : y + h, x : x + w] = COLORS[kind]
                annotations.append(
                    {
                        "id": len(annotations),
                        "image_id": i,
                        "category_id": (17, 3)[kind],
                        "bbox": [x, y, w, h],
                        "iscrowd": int(split == "train" and i in crowd),
                    }
                )
            (folder / split).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(folder / split / f"{i}.png")
            records.append({"id": i, "file_name": f"{i}.png", "width": 96, "height": 80})
        categories = [{"id": 17, "name": "apple"}, {"id": 3, "name": "berry"}]
        content = {"images": records, "annotations": annotations, "categories": categories}
        (folder / split / "annotations.json").write_text(json.dumps(content))
    return folder
