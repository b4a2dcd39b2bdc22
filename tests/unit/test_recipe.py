"""Recipes: read, overridden, written, and refused with the valid keys."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from varifocal.config import override
from varifocal.errors import CheckpointError, ConfigError, DataError
from varifocal.predict import save
from varifocal.recipe import Recipe, make_job, make_model, read_recipe, recipe_names, write_recipe
from varifocal.types import Category

CATEGORIES = (Category(4, "a"), Category(9, "b"))
TINY = override(Recipe(), ["model.backbone.name=test_resnet", "model.width=32", "model.levels=3", "model.convs=1"])


def test_names():
    assert "trees" in recipe_names()
    assert recipe_names() == sorted(recipe_names())


@pytest.mark.parametrize("name", recipe_names())
def test_every_recipe_of_the_package_parses_and_comes_back(name, tmp_path):
    recipe = read_recipe(name)
    write_recipe(recipe, tmp_path / "r.yaml")
    assert read_recipe(str(tmp_path / "r.yaml")) == recipe


def test_write_spells_out_every_default(tmp_path):
    write_recipe(Recipe(), tmp_path / "r.yaml")
    text = (tmp_path / "r.yaml").read_text()
    assert all(key in text for key in ("milestones", "min_visible", "gradient_factor", "max_detections"))


def test_an_empty_file_is_the_defaults(tmp_path):
    (tmp_path / "r.yaml").write_text("# nothing\n")
    assert read_recipe(str(tmp_path / "r.yaml")) == Recipe()


def test_a_file_changes_only_what_it_names(tmp_path):
    (tmp_path / "r.yml").write_text("train: {lr: 0.5}\nmodel:\n  backbone: {name: resnet18}\n")
    recipe = read_recipe(str(tmp_path / "r.yml"), ["train.milestones=[1, 2]", "test.select=points", "train.weights=x"])
    assert recipe.train == replace(Recipe().train, lr=0.5, milestones=(1, 2), weights="x")
    assert recipe.model.backbone == replace(Recipe().model.backbone, name="resnet18")
    assert recipe.test.select == "points"
    assert recipe.data == Recipe().data


@pytest.mark.parametrize(
    ("assignment", "said"),
    [
        ("train.learning=1", r"no 'learning' here.*Valid keys: accumulate, backbone_lr, batch, .*weights"),
        ("train.epoch=1", r"Did you mean 'epochs'\?"),
        ("trian.lr=1", r"no 'trian' here\. Did you mean 'train'\?"),
        ("train.lr.x=1", r"no 'lr' here|no 'x' here"),
        ("train.lr=fast", r"train\.lr: .*number.*got 'fast'"),
        ("train.epochs=1.5", r"train\.epochs: .*got 1\.5"),
        ("model.loss=hinge", r"model\.loss: .*'varifocal', 'focal' or 'quality-focal'"),
        ("train.lr", r"write it as key=value"),
    ],
)
def test_wrong_overrides(assignment, said):
    with pytest.raises(ConfigError, match=said):
        read_recipe("trees", [assignment])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("train: {lr: [}", r"r\.yaml: not YAML \("),
        ("- a\n- b\n", r"must be a mapping of keys, not a list"),
        ("just text", r"must be a mapping of keys, not a str"),
        ("train: {speed: 1}", r"r\.yaml: train: there is no 'speed' here\. .*Valid keys"),
        ("train: {lr: []}", r"r\.yaml: train\.lr"),
        ("\x00", r"not YAML"),
    ],
)
def test_wrong_files(tmp_path, text, said):
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(ConfigError, match=said) as error:
        read_recipe(str(tmp_path / "r.yaml"))
    assert "\n" not in str(error.value)


def test_a_recipe_that_is_not_there_lists_those_that_are():
    with pytest.raises(ConfigError, match=r"recipe 'nothing': not found; there are .*trees"):
        read_recipe("nothing")


def test_the_number_of_classes_comes_from_the_data_or_must_agree_with_it():
    model = make_model(TINY, CATEGORIES)
    assert model.info.config.num_classes == 2
    assert model.info.recipe["model"]["num_classes"] == 0
    with pytest.raises(ConfigError, match=r"model\.num_classes=3 but the data has 2 classes \(a, b\)"):
        make_model(override(TINY, ["model.num_classes=3"]), CATEGORIES)


def test_starting_from_weights(tmp_path):
    torch.manual_seed(0)
    source, path = make_model(TINY, CATEGORIES), tmp_path / "w.safetensors"
    save(source, path)
    start = override(TINY, [f"train.weights={path}"])
    same = make_model(start, CATEGORIES).detector.state_dict()
    for name, tensor in source.detector.state_dict().items():
        assert torch.equal(tensor, same[name]), name
    other = make_model(start, (Category(1, "c"), Category(2, "b"))).detector.state_dict()
    wanted = source.detector.state_dict()
    assert torch.equal(other["neck.lateral.0.weight"], wanted["neck.lateral.0.weight"])
    assert not torch.equal(other["head.cls.weight"], wanted["head.cls.weight"])
    make_model(start, (*CATEGORIES, Category(1, "c")))  # another number of classes is no obstacle
    with pytest.raises(CheckpointError, match="is missing or of another shape"):
        make_model(override(start, ["model.width=64"]), CATEGORIES)


def test_a_job_needs_the_same_classes_in_both_splits(tmp_path):
    for split, name in (("train", "a"), ("val", "b")):
        (tmp_path / split).mkdir()
        Image.fromarray(np.zeros((9, 9, 3), np.uint8)).save(tmp_path / split / "x.png")
        content = {
            "images": [{"id": 1, "file_name": "x.png", "width": 9, "height": 9}],
            "annotations": [],
            "categories": [{"id": 1, "name": name}],
        }
        (tmp_path / split / "annotations.json").write_text(json.dumps(content))
    with pytest.raises(DataError, match="classes b are not in "):
        make_job(TINY, tmp_path, tmp_path / "run")
    alone = make_job(override(TINY, ["data.val_split=''"]), tmp_path, tmp_path / "run")
    assert alone.validation is None
    assert not (tmp_path / "run").exists()
