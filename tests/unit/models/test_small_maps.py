"""Small images and narrow networks, down to a last map of one cell with one channel in each group of its norms."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from varifocal.inference.model import Model
from varifocal.models import DETECTORS
from varifocal.recipes.build import build_model
from varifocal.recipes.recipe import load_recipe, recipe_names
from varifocal.structures import Targets
from varifocal.types import Category
from varifocal.utils.errors import ConfigError

CATEGORIES = (Category(1, "a"), Category(2, "b"))
NARROW = ["model.backbone={name: test_resnet, pretrained: none}", "model.channels=32"]
SWITCHES = [["model.star_norm=group"], ["detector=reppoints", "model.star_norm=group"], ["model.neck=pafpn"]]


def heads() -> list[tuple[str, list[str]]]:
    """A recipe and words for every head that a recipe of the package has, each once."""
    found: dict[str, tuple[str, list[str]]] = {}
    for name in recipe_names():
        recipe = load_recipe(name, NARROW)
        found.setdefault(f"{recipe.detector} {recipe.model}", (name, NARROW))
    return list(found.values())


HEADS = [*heads(), *(("vfnet_r50_1x", [*NARROW, *words]) for words in SWITCHES)]


def learn(model: Model, size: int) -> None:
    """One step on an image alone, with an object and then without."""
    model.train()
    for boxes in (1, 0):
        target = Targets(
            torch.tensor([[4.0, 4.0, 20.0, 24.0]])[:boxes],
            torch.tensor([1])[:boxes],
            torch.tensor([False])[:boxes],
            (size, size),
        )
        losses = model.detector.loss(model.detector(torch.randn(1, 3, size, size)), [target])
        total = sum(losses.values())
        assert total.isfinite()
        total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.detector.parameters())


def detect(model: Model, size: int) -> None:
    """In one and in an image of one pixel."""
    model.eval()
    model.info = replace(
        model.info, preprocess=replace(model.info.preprocess, scale=None, short_side=size, max_long_side=size)
    )
    for shape in ((size, size, 3), (1, 1, 3)):
        found = model.predict(Image.fromarray(np.full(shape, 90, np.uint8)), score_threshold=0.0)
        assert np.isfinite(found.boxes).all()


def make(recipe: str, words: list[str]) -> Model:
    torch.manual_seed(0)
    return build_model(load_recipe(recipe, words), CATEGORIES, weights=False)


@pytest.mark.parametrize(("recipe", "words"), HEADS, ids=[" ".join([name, *words[2:]]) for name, words in HEADS])
def test_every_head_learns_from_and_detects_in_a_image_of_32_pixels(recipe, words):
    """Its coarsest map has one cell, of 32 channels in 32 groups."""
    model = make(recipe, words)
    learn(model, 32)
    detect(model, 32)


@pytest.mark.parametrize("levels", [3, 4, 5])
@pytest.mark.parametrize("detector", DETECTORS)
def test_every_detector_in_images_of_64_and_96_pixels(detector, levels):
    model = make("vfnet_r50_1x", [f"detector={detector}", *NARROW, f"model.num_levels={levels}", "model.num_convs=1"])
    for size in (64, 96):
        learn(model, size)
        detect(model, size)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize(
    "word", [f"model.{key}" for key in ("channels=0", "num_levels=0", "num_levels=-1", "num_convs=-1")]
)
def test_sizes_that_make_no_network_are_refused(detector, word):
    key, _, value = word.removeprefix("model.").partition("=")
    with pytest.raises(ConfigError, match=rf"model: {key}: Input should be greater than .* \(got {value}\)"):
        load_recipe("vfnet_r50_1x", [f"detector={detector}", word])


@pytest.mark.parametrize(
    "words",
    [
        ["detector=gfl", "model.bins=1"],
        ["detector=retinanet", "model.ratios=[]"],
        ["detector=retinanet", "model.ratios=[0]"],
        ["detector=retinanet", "model.octave_steps=0"],
    ],
    ids=" ".join,
)
def test_so_are_those_of_single_detectors(words):
    with pytest.raises(ConfigError, match=r"model: .* \(got "):
        load_recipe("vfnet_r50_1x", words)
