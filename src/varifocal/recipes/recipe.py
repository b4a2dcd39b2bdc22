"""A recipe says everything about a run but the data and the folder: detector, data preparation, schedule, tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import ByteSize, Field

from varifocal.data.augment import Augmentation, Fraction
from varifocal.data.classes import learned_classes
from varifocal.data.load import load_train_val, open_dataset
from varifocal.data.options import Unlabeled
from varifocal.data.sampler import Sampling
from varifocal.data.validate import check_validation_pixels
from varifocal.inference.model import Model, ModelInfo, load
from varifocal.models import DETECTORS
from varifocal.models.backbone import mean_and_std, without_pretrained
from varifocal.models.vfnet import VFNetConfig
from varifocal.train.loop import TrainJob
from varifocal.train.optim import TrainConfig
from varifocal.train.start import load_compatible_weights
from varifocal.types import TTA, Category, Dataset, PostProcess, Preprocess, Tiling
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.config import stored as stored_values
from varifocal.utils.config import to_dict
from varifocal.utils.errors import ConfigError, DataError
from varifocal.utils.overrides import override, update
from varifocal.utils.progress import progress_bar


@dataclass(frozen=True)
class DataConfig:
    """Which splits are used, how often images come, how they are resized and varied, and what is left out.

    ``format`` is a name of ``varifocal.data.readers.formats.READERS``; empty, it is recognized. ``images`` is the
    folder of the images where it is not the one in which the format keeps them, absolute or from the data folder on.
    ``unlabeled`` images, which have no file of labels, are left out ("skip"), images without objects ("background"), or
    what the format means by them (empty). ``val_fraction`` of the images are held out for validation by ``split_seed``
    where the data was never split; 0 holds none out.
    ``invalid_boxes``: "error" stops at the first, "drop" leaves them out and says how many. ``difficult`` boxes, as
    Pascal VOC marks them, are neither object nor background ("ignore"), or are trained on as the others ("train");
    evaluation ignores them in both cases. ``keep_unused_classes`` makes classes without any box outputs of the model,
    too, as a fixed list of classes wants it. ``repeat_factor_threshold`` and ``max_empty_fraction`` are those of
    :class:`varifocal.data.sampler.Sampling`. ``cache_bytes`` bounds the decoded images that all loading processes of a
    machine keep together, in bytes or as 512MiB, 2GiB; 0 keeps none.
    """

    format: str = ""
    images: str = ""
    unlabeled: Unlabeled = ""
    train_split: str = "train"
    val_split: str = "val"
    val_fraction: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    split_seed: int = 0
    invalid_boxes: Literal["error", "drop"] = "error"
    difficult: Literal["ignore", "train"] = "ignore"
    keep_unused_classes: bool = False
    repeat_factor_threshold: Fraction = 0.0
    max_empty_fraction: Fraction = 1.0
    cache_bytes: Annotated[ByteSize, Field(ge=0)] = 2**30  # type: ignore[assignment]
    preprocess: Preprocess = field(default_factory=Preprocess)
    augment: Augmentation = field(default_factory=Augmentation)

    RENAMED: ClassVar = {
        "val_share": "val_fraction",
        "repeat_rare": "repeat_factor_threshold",
        "background": "max_empty_fraction",
        "cache": "cache_bytes",
    }
    RENAMED_VALUES: ClassVar = {"difficult": {"learn": "train"}}

    @property
    def sampling(self) -> Sampling:
        """How often images come."""
        return Sampling(self.repeat_factor_threshold, self.max_empty_fraction)


@dataclass(frozen=True)
class Recipe:
    """One run, whole; written to the run folder and into every checkpoint.

    ``model`` is the config of the ``detector``. ``model.num_classes`` 0 takes the number of classes from the data.
    """

    detector: str = "vfnet"
    model: Any = field(default_factory=lambda: VFNetConfig(num_classes=0))
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    postprocess: PostProcess = field(default_factory=PostProcess)
    tiling: Tiling = field(default_factory=Tiling)
    tta: TTA = field(default_factory=TTA)

    RENAMED: ClassVar = {
        "test": "postprocess",
        "views": "tta",
    }


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.name[:-5] for path in _folder().iterdir() if path.name.endswith(".yaml"))


def load_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of the package by name, or a YAML file, with ``key=value`` overrides.

    A file with ``base: NAME`` says only what differs from that recipe, which may have a base of its own. A base that is
    a file is found from the folder of the file that names it. Where a file or an override changes the detector, those
    settings of the model that only the former one has go with it.

    Raises:
        ConfigError: no such recipe (lists them), not a mapping, an unknown key (lists the valid ones), a wrong value,
            or a base that leads back to itself.
    """
    return _recipe_of(_recipe_path(name, Path()), overrides)


def _recipe_of(path: Path, overrides: Sequence[str] = (), *, stored: bool = False) -> Recipe:
    """The recipe in a file; ``stored`` is one that some version wrote, whose keys may have other names today."""
    values = _values(path, ())
    if stored:
        values = _with_new_names(values)
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("detector=")]
    if chosen:
        values = {**_for_detector(values, chosen[-1]), "detector": chosen[-1]}
    where = f"override 'detector={chosen[-1]}'" if chosen else str(path)
    return override(update(_blank(values.get("detector", "vfnet"), where), values, str(path)), overrides)


def read_stored_recipe(path: Path) -> Recipe:
    """Return the recipe that some version has written, also under the names that its keys had then.

    Raises:
        ConfigError: as of :func:`load_recipe`.
    """
    return _recipe_of(path, stored=True)


def _with_new_names(values: dict[Any, Any]) -> dict[Any, Any]:
    model, detector = values.get("model"), values.get("detector", "vfnet")
    renamed = stored_values(Recipe, values)
    if isinstance(model, dict) and detector in DETECTORS:
        renamed["model"] = stored_values(DETECTORS[detector][1], model)
    return renamed


def read_recipe_of_run(path: Path) -> Recipe:
    """The recipe that a run has written. One from before there was ``data.keep_unused_classes`` kept them.

    Raises:
        ConfigError: as of :func:`load_recipe`.
    """
    recipe = read_stored_recipe(path)
    said = _values(path, ()).get("data")
    if isinstance(said, dict) and "keep_unused_classes" not in said:
        recipe = replace(recipe, data=replace(recipe.data, keep_unused_classes=True))
    return recipe


def _recipe_path(name: str, folder: Path) -> Path:
    path = folder / name if name.endswith((".yaml", ".yml")) else _folder() / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(f"recipe {name!r}: not found; there are {', '.join(recipe_names())}, or give a .yaml file.")
    return path


def _values(path: Path, above: tuple[Path, ...]) -> dict[Any, Any]:
    """What the file says over what its base says; ``above`` are the files that led here."""
    if path.resolve() in above:
        ring = " -> ".join(one.name for one in (*above[above.index(path.resolve()) :], path))
        raise ConfigError(f"{path}: its base leads back to itself ({ring}); take one of them out.")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError) as error:  # neither UTF-8 nor a date such as 2020-13-45 is a YAMLError
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())}).") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, not a {type(values).__name__}.")
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(f"{path}: base: must be the name of a recipe or a .yaml file (got {base!r}).")
    below = _values(_recipe_path(base, path.parent), (*above, path.resolve()))
    return _over(_for_detector(below, values.get("detector")), values)


def _for_detector(values: dict[Any, Any], detector: Any) -> dict[Any, Any]:
    """The values without those settings of the model that their own detector has and this one has not."""
    own, model = values.get("detector", "vfnet"), values.get("model")
    if not isinstance(model, dict) or not all(isinstance(one, str) and one in DETECTORS for one in (own, detector)):
        return values  # nothing to change, or for another check to refuse
    before, after = ({field.name for field in fields(DETECTORS[one][1])} for one in (own, detector))
    return {**values, "model": {key: value for key, value in model.items() if key in after or key not in before}}


def _over(base: dict[Any, Any], values: dict[Any, Any]) -> dict[Any, Any]:
    """Mappings are joined key by key, all else is replaced."""
    joined = {
        key: _over(base[key], value)
        for key, value in values.items()
        if isinstance(value, dict) and isinstance(base.get(key), dict)
    }
    return {**base, **values, **joined}


def _blank(detector: Any, where: str) -> Recipe:
    """The defaults for that detector."""
    if not isinstance(detector, str) or detector not in DETECTORS:
        raise ConfigError(f"{where}: detector {detector!r}: choose from {', '.join(sorted(DETECTORS))}.")
    return Recipe(detector, DETECTORS[detector][1](num_classes=0))


def write_recipe(recipe: Recipe, path: Path) -> None:
    """The whole recipe, every default spelled out."""
    atomic_write(path, yaml.safe_dump(to_dict(recipe), sort_keys=False).encode())


def _folder() -> Any:
    return files("varifocal") / "recipes"


def build_model(
    recipe: Recipe,
    categories: Sequence[Category],
    *,
    weights: bool = True,
    tell: Callable[[str], None] = lambda note: None,
) -> Model:
    """A model with fresh weights for these classes, or with those of ``train.weights``.

    Without ``weights`` neither a pretrained backbone nor ``train.weights`` is looked for. ``tell`` gets a sentence on
    what was taken from ``train.weights``.

    Raises:
        ConfigError: ``model.num_classes`` is neither 0 nor the number of classes.
        CheckpointError: ``train.weights`` does not fit.
    """
    count = recipe.model.num_classes or len(categories)
    if count != len(categories):
        raise ConfigError(
            f"model.num_classes={count} but the data has {len(categories)} classes "
            f"({', '.join(c.name for c in list(categories)[:5])}); leave model.num_classes=0 to take it from the data."
        )
    backbone = recipe.model.backbone
    if recipe.train.weights or not weights:
        backbone = without_pretrained(backbone)  # about to be replaced: nothing to fetch
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
        tell(load_compatible_weights(model, load(recipe.train.weights), recipe.train.weights))
    return model


def resolve_preprocess(recipe: Recipe) -> Preprocess:
    """The recipe's preprocessing; where it says nothing of mean and deviation, those of the backbone's weights."""
    given = recipe.data.preprocess
    if (given.mean, given.std) != (Preprocess().mean, Preprocess().std):
        return given
    mean, std = mean_and_std(recipe.model.backbone)
    return replace(given, mean=mean, std=std)


def read_splits(path: Path, config: DataConfig, count: int = 0) -> tuple[Dataset, Dataset | None]:
    """Return the data to train on and the data to validate on, or None, as ``load_train_val`` chooses them.

    Classes without a box in either are left out unless the config keeps them, or the training data lists ``count``
    classes, the number that a recipe may give.
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


def build_job(recipe: Recipe, data: Path | str, run: Path, *, resumed: bool = False) -> TrainJob:
    """Model, data and schedule of a run; one that is ``resumed`` looks for no weights, they come from its state.

    Raises:
        DataError, ConfigError, CheckpointError: as the parts say; the classes of the two splits must agree.
    """
    training, validation = read_splits(Path(data), recipe.data, recipe.model.num_classes)
    if validation is not None:
        unknown = {c.name for c in validation.categories} - {c.name for c in training.categories}
        if unknown:
            raise DataError(
                f"{validation.source}: classes {', '.join(sorted(unknown))} are not in {training.source}; "
                "the two splits must name the same classes."
            )
        check_validation_pixels(validation.samples, large=recipe.tiling.size > 0)
    notes: list[str] = []
    model = build_model(recipe, training.categories, weights=not resumed, tell=notes.append)
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
