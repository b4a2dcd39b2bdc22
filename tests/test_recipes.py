"""The built-in recipes: their content, and that each trains and is evaluated at a reduced size."""

import json
import re
from dataclasses import fields, replace
from importlib.resources import files

import pytest
import torch
from tiny_data import make_data

from varifocal.inference.model import load
from varifocal.recipes.auto import PRESETS
from varifocal.recipes.build import build_job
from varifocal.recipes.recipe import load_recipe, recipe_names
from varifocal.training.loop import train

TENTH = 10  # of the sides in pixels


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("recipes") / "data", images=4)


def tenth(sides):
    return tuple(side // TENTH for side in sides)


def reduced(recipe):
    """Return the recipe with a network, images and a length that take a second; all other settings stay."""
    model = recipe.model
    there = {field.name for field in fields(model)}
    small = {"channels": 32, "num_levels": 3, "num_convs": 2}
    backbone = replace(model.backbone, name="test_resnet", pretrained="none", frozen_stages=0)
    model = replace(model, backbone=backbone, **{key: value for key, value in small.items() if key in there})
    old = recipe.data.augment
    augment = replace(
        old,
        crop=64 if old.crop else 0,
        short_range=tenth(old.short_range),
        long_range=tenth(old.long_range),
        short_choices=tenth(old.short_choices),
    )
    preprocess = replace(recipe.data.preprocess, short_side=80, max_long_side=133)
    data = replace(recipe.data, preprocess=preprocess, augment=augment, val_split="val")
    swa = min(recipe.train.swa_epochs, 1)
    length = {"epochs": 1, "batch_size": 2, "swa_epochs": swa, "val_every_epochs": 1, "num_workers": 0, "device": "cpu"}
    return replace(recipe, model=model, data=data, train=replace(recipe.train, **length))


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_trains_and_is_measured(name, data, tmp_path):
    torch.manual_seed(0)
    recipe = reduced(load_recipe(name))
    job = build_job(recipe, data, tmp_path / "run")
    if recipe.data.augment.crop:  # tiles of one image count as several images
        job = replace(job, training=replace(job.training, samples=job.training.samples[:2]))
    metrics = train(job).metrics
    assert {"AP", "AP50", "AP75"} <= set(metrics)
    lines = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    steps = [line for line in lines if "loss" in line]
    assert len(steps) == 2 * (1 + recipe.train.swa_epochs)
    assert all(0 < line["loss"] < 100 for line in steps)
    model = load(tmp_path / "run" / "best.safetensors")
    assert model.info.name == recipe.detector
    assert model.info.tta == recipe.tta
    found = model.predict(job.validation.samples[0].file, score_threshold=0.0)
    assert len(found) <= recipe.postprocess.max_detections


def text(name):
    return (files("varifocal") / "recipes" / f"{name}.yaml").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", [name for name in recipe_names() if name not in ("trees", *PRESETS)])
def test_a_recipe_opens_with_its_length_what_to_expect_and_its_command(name):
    first, second, *_ = text(name).splitlines()
    assert re.search(r"; \d+ epochs; ", first)
    assert " AP" in first
    assert second.endswith(f" -m varifocal train COCO --recipe {name} data.invalid_boxes=drop")
    assert second.startswith("# torchrun --nproc-per-node 8 ")
    schedule = load_recipe(name).train
    assert f"; {schedule.epochs + schedule.swa_epochs} epochs; " in first


def test_there_is_a_row_of_the_papers_tables_for_each():
    """The configs in the authors' README, without _fpn and _coco, ms for mstrain and mdconv for mdconv_c3-c5."""
    backbones = ("r50", "r101", "x101_32x4d", "x101_64x4d", "r2_101")
    rows = {f"vfnet_{backbone}_{kind}" for backbone in backbones for kind in ("ms_2x", "mdconv_ms_2x")}
    rows |= {"vfnet_r50_1x", "vfnet_r101_1x", "vfnet_r101_2x", "vfnetx_r2_101_59e"}
    rows |= {f"vfl_{name}_r50_1x" for name in ("retinanet", "foveabox", "reppoints", "atss")}
    assert rows <= set(recipe_names())


@pytest.mark.parametrize("name", [name for name in recipe_names() if name.startswith("vfnet_")])
def test_what_all_vfnets_of_the_paper_share(name):
    recipe = load_recipe(name)
    config, model = recipe.train, recipe.model
    assert (config.optimizer, config.lr, config.base_batch_size, config.batch_size) == ("sgd", 0.01, 16, 16)
    assert (config.momentum, config.weight_decay, config.bias_lr_mult, config.bias_decay_mult) == (0.9, 1e-4, 2.0, 0.0)
    assert (config.warmup_type, config.warmup_steps, config.warmup_factor, config.clip_grad_norm) == (
        "linear",
        500,
        0.1,
        0.0,
    )
    drops = [round(fraction * config.epochs) for fraction in config.milestones]
    assert drops == ([8, 11] if name.endswith(("_1x", "_tta")) else [16, 22])
    assert config.epochs == (12 if "_1x" in name else 24)
    assert recipe.data.augment.short_range == ((480, 960) if "_ms_" in name else (0, 0))
    assert (recipe.data.preprocess.short_side, recipe.data.preprocess.max_long_side) == (800, 1333)
    assert (model.backbone.pretrained, model.backbone.frozen_stages, model.backbone.norm_eval) == ("timm", 1, True)
    assert model.star == model.refine == ("raw" not in name)
    assert model.loss == ("focal" if name == "vfnet_raw_r50_1x" else "varifocal")
