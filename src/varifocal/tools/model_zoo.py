"""The command ``list-models``: the recipes of the paper with their published results, sizes and commands."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import torch

from varifocal.inference.published.names import FILES
from varifocal.models.flops import count_flops
from varifocal.recipes.build import build_model
from varifocal.recipes.recipe import load_recipe, recipe_names
from varifocal.types import Category
from varifocal.utils.errors import ConfigError

if TYPE_CHECKING:
    from rich.table import Table

CLASSES = 80
SIZE = (800, 1344)  # a COCO image at 1333x800, padded to a multiple of 32


@dataclass(frozen=True)
class PublishedResult:
    """The results that the authors, or mmdetection for the other detectors, report for a recipe.

    ``file`` is the name of the published weights, "" if it is not public. ``ap`` is box AP on COCO val2017, ``ap_test``
    on test-dev, and ``fps`` the images per second on a V100 with batch size 1.
    """

    file: str = ""
    ap: float | None = None
    ap_test: float | None = None
    fps: float | None = None


# recipe: AP on val2017 and on test-dev, images per second
_REPORTED: dict[str, tuple[float | None, float | None, float | None]] = {
    "vfnet_r50_1x": (41.6, 41.6, 19.4),
    "vfnet_r50_ms_2x": (44.5, 44.8, 19.3),
    "vfnet_r50_mdconv_ms_2x": (47.8, 48.0, 16.3),
    "vfnet_r101_1x": (43.0, 43.6, 15.5),
    "vfnet_r101_2x": (43.5, 43.9, 15.6),
    "vfnet_r101_ms_2x": (46.2, 46.7, 15.6),
    "vfnet_r101_mdconv_ms_2x": (49.0, 49.2, 12.6),
    "vfnet_x101_32x4d_ms_2x": (47.4, 47.6, 13.1),
    "vfnet_x101_32x4d_mdconv_ms_2x": (49.7, 50.0, 10.1),
    "vfnet_x101_64x4d_ms_2x": (48.2, 48.5, 9.2),
    "vfnet_x101_64x4d_mdconv_ms_2x": (50.4, 50.8, 6.7),
    "vfnet_r2_101_ms_2x": (49.2, 49.3, 13.0),
    "vfnet_r2_101_mdconv_ms_2x": (51.1, 51.3, 10.3),
    "vfnetx_r2_101_59e": (53.4, 53.7, 8.0),
    "vfnet_raw_r50_1x": (39.0, None, None),
    "vfnet_raw_vfl_r50_1x": (40.1, None, None),
    "vfl_atss_r50_1x": (40.2, None, None),
    "vfl_foveabox_r50_1x": (37.2, None, None),
    "vfl_reppoints_r50_1x": (39.7, None, None),
    "vfl_retinanet_r50_1x": (37.4, None, None),
    "atss_r50_1x": (39.4, None, 19.7),
    "fcos_r50_1x": (36.6, None, 22.7),
    "fcos_r50_ms_2x": (38.5, None, 22.9),
    "fcos_improved_r50_1x": (38.7, None, None),
    "fcos_atss_r50_1x": (39.2, None, None),
    "foveabox_r50_1x": (36.5, None, 24.1),
    "gfl_r50_1x": (40.2, None, 19.5),
    "gfl_r50_ms_2x": (42.9, None, 19.5),
    "reppoints_r50_1x": (38.1, None, 17.5),
    "retinanet_r50_1x": (36.5, None, 19.0),
    "vfnet_r50_1x_tta": (None, None, None),
}
PUBLISHED = {name: PublishedResult(FILES.get(name, ""), *numbers) for name, numbers in _REPORTED.items()}


@dataclass(frozen=True)
class Entry:
    """A recipe of the paper: its size, with ``gflops`` in billions of multiply-adds, and its published results."""

    recipe: str
    detector: str
    backbone: str
    epochs: int
    parameters: int
    gflops: float
    published: PublishedResult


def list_zoo(names: Sequence[str] = ()) -> list[Entry]:
    """Return the entries of these recipes, or of all recipes that train on COCO.

    Raises:
        ConfigError: there is no such recipe.
    """
    known = [name for name in recipe_names() if name in PUBLISHED]
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(
            f"{unknown[0]!r} is not a recipe of the paper; choose from {', '.join(known)}.",
            code="no-recipe-of-the-paper",
        )
    return [_entry(name) for name in names or known]


def _entry(name: str) -> Entry:
    recipe = load_recipe(name)
    parameters, gflops = count(name)
    epochs = round(recipe.train.epochs) + recipe.train.swa_epochs
    return Entry(name, recipe.detector, recipe.model.backbone.name, epochs, parameters, gflops, PUBLISHED[name])


def count(name: str, size: tuple[int, int] = SIZE) -> tuple[int, float]:
    """Return parameters and billions of multiply-adds of a recipe's network for 80 classes and one image of ``size``.

    Multiply-adds are those of convolutions, including deformable ones, and matrix products, often called "FLOPs".
    Nothing is computed and no weights are loaded: the network has shapes only.
    """
    recipe = load_recipe(name, ["model.backbone.pretrained=none"])
    with torch.device("meta"):
        model = build_model(recipe, [Category(i, str(i)) for i in range(CLASSES)], weights=False).eval()
        operations = count_flops(model.detector, size)[""]
    parameters = sum(parameter.numel() for parameter in model.parameters())
    return parameters, operations / 2 / 1e9


def commands(entry: Entry) -> str:
    """Return the commands that convert the published weights, evaluate them on COCO, and train the recipe."""
    file = entry.published.file or "FILE.pth"
    ours = f"{entry.recipe}.safetensors"
    views = load_recipe(entry.recipe).tta
    return "\n".join(
        [
            f"varifocal convert-weights {file} --out {ours}",
            f"varifocal eval {ours} COCO --split val2017" + (" --tta" if views.count > 1 else ""),
            f"varifocal train COCO --recipe {entry.recipe} data.invalid_boxes=drop",
        ]
    )


def table(entries: Sequence[Entry]) -> Table:
    """Return a table with one row per recipe."""
    from rich.table import Table

    head = ("recipe", "epochs", "M params", "GFLOPs", "AP val", "test", "FPS")
    shown = Table(*head, box=None, caption="sizes for 80 classes at 800x1344; AP and FPS as published")
    for column in shown.columns:
        column.no_wrap = True
    for column in shown.columns[1:]:
        column.justify = "right"
    for entry in entries:
        reported = entry.published
        numbers = ("-" if value is None else f"{value:.1f}" for value in (reported.ap, reported.ap_test, reported.fps))
        counted = (str(entry.epochs), f"{entry.parameters / 1e6:.1f}", f"{entry.gflops:.0f}")
        shown.add_row(entry.recipe, *counted, *numbers)
    return shown


def to_json(entries: Sequence[Entry]) -> list[dict[str, Any]]:
    """Return the entries as plain values, with the commands."""
    return [{**asdict(entry), "commands": commands(entry).splitlines()} for entry in entries]
