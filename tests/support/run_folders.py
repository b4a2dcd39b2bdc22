"""Run folders without training: a VFNet with random weights, and labels close to some of what it finds."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from varifocal.data.digest import dataset_digest
from varifocal.data.load import load_dataset
from varifocal.inference.model import create_model, load, save
from varifocal.recipes.build import read_splits
from varifocal.recipes.recipe import Recipe, write_recipe
from varifocal.types import PostProcess, Preprocess
from varifocal.utils.overrides import override

EVIL = "<script>alert('1')</script>&\"<b>"
METRICS = {"AP": 0.123, "AP50": 0.2, "AP75": 0.1, "APs": -1, "APm": 0.05, "APl": 0.3, "AR1": 0.1, "AR10": 0.2}
METRICS |= {"AR100": 0.3, "ARs": -1, "ARm": 0.2, "ARl": 0.4}


def make_model(names, seed=0, **options):
    torch.manual_seed(seed)
    model = create_model(
        "vfnet", backbone="test_resnet", classes=names, channels=32, num_levels=3, num_convs=1, **options
    )
    head = model.detector.head
    with torch.no_grad():
        head.cls.bias.zero_()  # scores about a half
        for one in (head.cls, head.reg, getattr(head, "reg_refine", head.reg)):
            one.weight.normal_(0, 0.2)
    post = PostProcess(score_threshold=0.2, max_detections=20)
    model.info = replace(model.info, preprocess=Preprocess(scale=1.0), postprocess=post)
    return model


def make_labels(folder, model, *, images=3, name="{}.png"):
    """COCO, train and val alike: of each image the labels are five detections, three of them moved a little."""
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        (folder / split).mkdir(parents=True)
        records, annotations = [], []
        for i in range(images):
            pixels = rng.integers(0, 255, (80, 96, 3), np.uint8)
            file = name.format(i)
            Image.fromarray(pixels).save(folder / split / file)
            found = model.predict(pixels)
            for j in range(5):
                x1, y1, x2, y2 = (float(side) for side in found.boxes[2 * j])
                shift = 0.0 if j > 2 else 0.2 * min(x2 - x1, 96 - x2 + 1)
                box = [x1 + shift, y1, x2 - x1 - shift / 2, y2 - y1]
                label = int(found.labels[2 * j]) + 1
                annotations.append({"id": len(annotations), "image_id": i, "category_id": label, "bbox": box})
            records.append({"id": i, "file_name": file, "width": 96, "height": 80})
        categories = [{"id": one.id, "name": one.name} for one in model.categories]
        content = {"images": records, "annotations": annotations, "categories": categories}
        (folder / split / "annotations.json").write_text(json.dumps(content))
    return folder


def make_run(folder, data, model, *words, steps=10, shift=0.0):
    """A whole run folder; ``shift`` moves its numbers."""
    folder.mkdir(parents=True)
    recipe = override(Recipe(), ["data.preprocess={scale: 1.0}", "model.channels=32", "model.num_levels=3", *words])
    write_recipe(recipe, folder / "recipe.yaml")
    save(model, folder / "best.safetensors")
    lines = []
    for step in range(steps):
        terms = {"cls": 1 / (step + 1), "initial": 0.5 + shift, "refined": 0.25}
        lines.append({"step": step, "loss": sum(terms.values()), **terms, "lr": 0.01, "memory_mb": 1, "seconds": step})
    lines.append({"step": steps - 1, "validation": {"AP": 0.123 + shift, "AP50": 0.2}})
    (folder / "log.jsonl").write_text("\n".join(map(json.dumps, lines)) + '\n{"step": 1')
    per_class = {one.name: 0.1 * (i + 1) + shift for i, one in enumerate(model.categories)}
    metrics = {key: value if value < 0 else value + shift for key, value in METRICS.items()}
    (folder / "metrics.json").write_text(json.dumps({**metrics, "per_class": per_class}))
    digest = dataset_digest(read_splits(Path(data), recipe.data)[0])
    (folder / "data.json").write_text(json.dumps({"data": str(data), "sha256": digest}))
    return folder


def reread(folder, data):
    """The model of a run and the validation images."""
    return load(folder / "best.safetensors"), load_dataset(data, "val")
