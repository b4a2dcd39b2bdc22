"""What a recipe builds: the model, the splits of the data, and the job of a training run."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from varifocal.data.classes import learned_classes
from varifocal.data.load import load_train_val, open_dataset
from varifocal.data.validate import check_validation_pixels
from varifocal.inference.loading import find_checkpoint, load_checkpoint
from varifocal.inference.model import Model, ModelInfo
from varifocal.models import DETECTORS
from varifocal.models.backbone import mean_and_std, without_pretrained
from varifocal.recipes.recipe import DataConfig, Recipe
from varifocal.training.batch_size import fitting_batch_size
from varifocal.training.loop import TrainJob
from varifocal.training.start import load_compatible_weights
from varifocal.types import Category, Dataset, Preprocess
from varifocal.utils.config import to_dict
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.progress import progress_bar

Splits = tuple[Dataset, Dataset | None]  # to train on, and to validate on


def build_model(
    recipe: Recipe,
    categories: Sequence[Category],
    *,
    weights: bool = True,
    report: Callable[[str], None] = lambda note: None,
) -> Model:
    """Return a model for these classes with initial weights, or with those of ``train.weights``.

    With ``weights=False``, neither a pretrained backbone nor ``train.weights`` is loaded. ``report`` is called with a
    sentence on what was copied from ``train.weights``.

    Raises:
        ConfigError: ``model.num_classes`` is neither 0 nor the number of classes.
        CheckpointError: ``train.weights`` does not fit.
    """
    count = recipe.model.num_classes or len(categories)
    if count != len(categories):
        raise ConfigError(
            f"model.num_classes={count} but the data has {len(categories)} classes "
            f"({', '.join(c.name for c in list(categories)[:5])}); model.num_classes=0 takes the number from the data.",
            code="num-classes",
        )
    backbone = recipe.model.backbone
    if recipe.train.weights or not weights:
        backbone = without_pretrained(backbone)  # replaced below, so nothing is downloaded
    config = replace(recipe.model, num_classes=count)
    detector = DETECTORS[recipe.detector][0](replace(config, backbone=backbone))
    info = ModelInfo(
        recipe.detector,
        config,
        tuple(categories),
        resolve_preprocess(recipe),
        recipe.postprocess,
        to_dict(recipe),
        tiling=recipe.tiling,
        tta=recipe.tta,
    )
    model = Model(detector, info)
    if recipe.train.weights and weights:
        report(load_compatible_weights(model, load_checkpoint(recipe.train.weights), recipe.train.weights))
    freeze(detector, recipe.train.freeze)
    return model


def with_batch_size(recipe: Recipe, splits: Splits) -> tuple[Recipe, str]:
    """Return the recipe with a number of images per step, and a note on it if that was left to the memory.

    Raises:
        ConfigError: it was, and there are several processes, which might not agree.
        DataError: an image cannot be read.
    """
    if recipe.train.batch_size != "auto":
        return recipe, ""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise ConfigError(
            "train.batch_size=auto: several processes need the same number; write train.batch_size=N.",
            code="auto-batch-processes",
        )
    one = replace(recipe, train=replace(recipe.train, batch_size=1))
    torch.manual_seed(recipe.train.seed)
    size = fitting_batch_size(job_of(one, splits, Path(tempfile.gettempdir()), weights=False))
    scaled = "scaled to it" if recipe.train.base_batch_size else "not scaled to it"
    note = f"batch size {size}: the largest that fits into the memory; the learning rate is {scaled}"
    return replace(recipe, train=replace(recipe.train, batch_size=size)), note


def freeze(detector: nn.Module, parts: Sequence[str]) -> None:
    """Keep the weights of some parts of a detector, children of that name, out of training.

    Raises:
        ConfigError: nothing would be left to train.
    """
    for part in parts:
        detector.get_submodule(part).requires_grad_(False)
    if not any(parameter.requires_grad for parameter in detector.parameters()):
        raise ConfigError(
            f"train.freeze=[{','.join(parts)}]: nothing is left to train; leave one of them out.",
            code="nothing-to-train",
        )


def resolve_preprocess(recipe: Recipe) -> Preprocess:
    """Return the recipe's preprocessing; if it sets no mean and deviation, with those of the backbone's weights."""
    preprocess = recipe.data.preprocess
    if (preprocess.mean, preprocess.std) != (Preprocess().mean, Preprocess().std):
        return preprocess
    mean, std = mean_and_std(recipe.model.backbone)
    return replace(preprocess, mean=mean, std=std)


def read_splits(path: Path, config: DataConfig, count: int = 0) -> Splits:
    """Return the data to train on and the data to validate on, or None, as ``load_train_val`` chooses them.

    Classes without a box in either are left out unless the config keeps them, or the training data lists ``count``
    classes, the number that a recipe may set.
    """
    source = open_dataset(path, format=config.format, images=config.images, unlabeled=config.unlabeled)
    with progress_bar("comparing images", None if config.val_fraction else 0) as advance:
        training, validation = load_train_val(
            source,
            train=config.train_split,
            val=config.val_split,
            fraction=config.val_fraction,
            seed=config.split_seed,
            invalid_boxes=config.invalid_boxes,
            difficult=config.difficult,
            progress=advance,
        )
    keep_all = config.keep_unused_classes or len(training.categories) == count
    return learned_classes(training, validation, keep_all=keep_all)


def read_splits_of(recipe: Recipe, data: Path | str, *, resumed: bool = False) -> Splits:
    """Return the data that a recipe trains and validates on, as :func:`read_splits`.

    Unless the run is ``resumed``, the weights that it starts from are fetched, or reported as unknown, before that.
    """
    if recipe.train.weights and not resumed:
        find_checkpoint(recipe.train.weights)
    return read_splits(Path(data), recipe.data, recipe.model.num_classes)


def build_job(recipe: Recipe, data: Path | str, run: Path, *, resumed: bool = False) -> TrainJob:
    """Return the model, data and settings of a run; a ``resumed`` one gets its weights from its state later.

    Raises:
        DataError: the data cannot be read, or the validation data has classes that the training data lacks.
        ConfigError: as :func:`build_model`.
        CheckpointError: as :func:`build_model`.
    """
    return job_of(recipe, read_splits_of(recipe, data, resumed=resumed), run, weights=not resumed)


def job_of(recipe: Recipe, splits: Splits, run: Path, *, weights: bool = True) -> TrainJob:
    """Return the job of a run on data that is read already; without ``weights`` as :func:`build_model`.

    Raises:
        DataError, ConfigError, CheckpointError: as :func:`build_job`.
    """
    training, validation = splits
    if validation is not None:
        unknown = {c.name for c in validation.categories} - {c.name for c in training.categories}
        if unknown:
            raise DataError(
                f"{validation.source}: classes {', '.join(sorted(unknown))} are not in {training.source}; "
                "the two splits must have the same classes.",
                code="validation-classes",
            )
        check_validation_pixels(validation.samples, large=recipe.tiling.size > 0)
    notes: list[str] = []
    model = build_model(recipe, training.categories, weights=weights, report=notes.append)
    config = recipe.data
    return TrainJob(
        model,
        training,
        validation,
        config.augment,
        recipe.train,
        run,
        config.sampling,
        config.cache_bytes,
        tuple(notes),
    )
