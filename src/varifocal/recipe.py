"""A recipe says everything about a run but the data and the folder: detector, data preparation, schedule, tests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import ByteSize, Field

from varifocal.config import override, to_dict, update
from varifocal.data.augment import Augment, Share
from varifocal.data.classes import learned_classes
from varifocal.data.finish import check_validation_pixels
from varifocal.data.load import find_splits, load_dataset
from varifocal.data.names import canonical, meant_by, share_images
from varifocal.data.options import Unlabeled
from varifocal.data.preprocess import Preprocess
from varifocal.data.roles import parted_split, training_split, validation_split
from varifocal.data.sampling import Sampling
from varifocal.data.split import load_parts
from varifocal.errors import ConfigError, DataError
from varifocal.models import DETECTORS
from varifocal.models.backbone import pixel_statistics, without_weights
from varifocal.models.info import ModelInfo
from varifocal.models.vfnet import VFNetConfig
from varifocal.models.weights import write_beside
from varifocal.ops.nms import PostProcess
from varifocal.predict import Model, load
from varifocal.progress import progress_bar
from varifocal.tiles import Tiling
from varifocal.train.loop import Job
from varifocal.train.optim import TrainConfig
from varifocal.train.start import start_from
from varifocal.types import Category, DataSet
from varifocal.views import Views


@dataclass(frozen=True)
class DataConfig:
    """Which splits are used, how often pictures come, how they are resized and varied, and what is left out.

    ``format`` is a name of ``varifocal.data.readers.formats.READERS``; empty, it is recognised. ``images`` is the
    folder of the images where it is not the one in which the format keeps them, absolute or from the data folder on.
    ``unlabeled`` images, which have no file of labels, are left out ("skip"), images without objects ("background"), or
    what the format means by them (empty). ``val_share`` of the pictures are held out for validation by ``split_seed``
    where the data was never split; 0 holds none out.
    ``invalid_boxes``: "error" stops at the first, "drop" leaves them out and says how many. ``difficult`` boxes, as
    Pascal VOC marks them, are neither object nor background ("ignore"), or are trained on as the others ("learn");
    evaluation ignores them in both cases. ``keep_unused_classes`` makes classes without any box outputs of the model,
    too, as a fixed list of classes wants it. ``repeat_rare`` and ``background`` are those of
    :class:`varifocal.data.sampling.Sampling`. ``cache`` bounds the decoded pictures that all loading processes of a
    machine keep together, in bytes or as 512MiB, 2GiB; 0 keeps none.
    """

    format: str = ""
    images: str = ""
    unlabeled: Unlabeled = ""
    train_split: str = "train"
    val_split: str = "val"
    val_share: Annotated[float, Field(ge=0, le=0.9)] = 0.0
    split_seed: int = 0
    invalid_boxes: Literal["error", "drop"] = "error"
    difficult: Literal["ignore", "learn"] = "ignore"
    keep_unused_classes: bool = False
    repeat_rare: Share = 0.0
    background: Share = 1.0
    cache: Annotated[ByteSize, Field(ge=0)] = 2**30  # type: ignore[assignment]
    preprocess: Preprocess = field(default_factory=Preprocess)
    augment: Augment = field(default_factory=Augment)

    @property
    def sampling(self) -> Sampling:
        """How often pictures come."""
        return Sampling(self.repeat_rare, self.background)


@dataclass(frozen=True)
class Recipe:
    """One run, whole; written to the run folder and into every checkpoint.

    ``model`` is the config of the ``detector``. ``model.num_classes`` 0 takes the number of classes from the data.
    """

    detector: str = "vfnet"
    model: Any = field(default_factory=lambda: VFNetConfig(num_classes=0))
    data: DataConfig = field(default_factory=DataConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    test: PostProcess = field(default_factory=PostProcess)
    tiling: Tiling = field(default_factory=Tiling)
    views: Views = field(default_factory=Views)


def recipe_names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(path.name[:-5] for path in _folder().iterdir() if path.name.endswith(".yaml"))


def read_recipe(name: str, overrides: Sequence[str] = ()) -> Recipe:
    """A recipe of the package by name, or a YAML file, with ``key=value`` overrides.

    A file with ``base: NAME`` says only what differs from that recipe, which may have a base of its own. A base that is
    a file is found from the folder of the file that names it. Where a file or an override changes the detector, those
    settings of the model that only the former one has go with it.

    Raises:
        ConfigError: no such recipe (lists them), not a mapping, an unknown key (lists the valid ones), a wrong value,
            or a base that leads back to itself.
    """
    path = _recipe_path(name, Path())
    values = _values(path, ())
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("detector=")]
    if chosen:
        values = {**_for_detector(values, chosen[-1]), "detector": chosen[-1]}
    where = f"override 'detector={chosen[-1]}'" if chosen else str(path)
    return override(update(_blank(values.get("detector", "vfnet"), where), values, str(path)), overrides)


def read_recipe_of_run(path: Path) -> Recipe:
    """The recipe that a run has written. One from before there was ``data.keep_unused_classes`` kept them.

    Raises:
        ConfigError: as of :func:`read_recipe`.
    """
    recipe = read_recipe(str(path))
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
    write_beside(path, yaml.safe_dump(to_dict(recipe), sort_keys=False).encode())


def _folder() -> Any:
    return files("varifocal") / "recipes"


def make_model(
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
        backbone = without_weights(backbone)  # about to be replaced: nothing to fetch
    config = replace(recipe.model, num_classes=count)
    detector = DETECTORS[recipe.detector][0](replace(config, backbone=backbone))
    info = ModelInfo(
        recipe.detector,
        config,
        tuple(categories),
        pixels(recipe),
        recipe.test,
        to_dict(recipe),
        tiling=recipe.tiling,
        views=recipe.views,
    )
    model = Model(detector, info)
    if recipe.train.weights and weights:
        tell(start_from(model, load(recipe.train.weights), recipe.train.weights))
    return model


def pixels(recipe: Recipe) -> Preprocess:
    """The recipe's preprocessing; where it says nothing of mean and deviation, those of the backbone's weights."""
    given = recipe.data.preprocess
    if (given.mean, given.std) != (Preprocess().mean, Preprocess().std):
        return given
    mean, std = pixel_statistics(recipe.model.backbone)
    return replace(given, mean=mean, std=std)


def read_splits(path: Path, config: DataConfig, count: int = 0) -> tuple[DataSet, DataSet | None]:
    """The training and the validation split; with ``val_share`` the two parts of the split that there is.

    Which they are :mod:`varifocal.data.roles` says. Where there is no validation, or it is on another split than the
    one that is wanted, the notes of the training set say so. Classes without a box in either are left out unless the
    config keeps them, or the training set lists ``count`` classes, the number that a recipe may say.
    """
    training, validation = _read_splits(path, config)
    keep_all = config.keep_unused_classes or len(training.categories) == count
    return learned_classes(training, validation, keep_all=keep_all)


def _read_splits(path: Path, config: DataConfig) -> tuple[DataSet, DataSet | None]:
    read: dict[str, Any] = {key: getattr(config, key) for key in ("format", "images", "unlabeled", "invalid_boxes")}
    splits = find_splits(path, format=config.format)
    if config.val_share:
        split = parted_split(path, splits, config.train_split, config.val_split)
        with progress_bar("comparing pictures", None) as advance:
            return load_parts(
                path,
                config.val_share,
                config.split_seed,
                split=split,
                difficult=config.difficult,
                progress=advance,
                **read,
            )
    split = training_split(path, splits, config.train_split)
    training = load_dataset(path, split, difficult=config.difficult, **read)
    chosen = validation_split(path, splits, split, config.val_split)
    note = _validation_note(splits, split, chosen, config.val_split)
    if note:
        training = replace(training, notes=(*training.notes, f"{path}: {note}"))
    return training, None if chosen is None else load_dataset(path, chosen, **read)


def _validation_note(splits: Sequence[str], training: str, chosen: str | None, wanted: str) -> str:
    """What a user should know of the validation split, "" where it is the one that is wanted."""
    if not wanted or (chosen is not None and canonical(chosen) == canonical(wanted)):
        return ""
    if chosen is not None:
        return f"no split {wanted!r}, so validation is on {chosen!r}."
    if len(splits) == 1:
        return "there is one split, so there is no validation; hold pictures out for it with --val 0.2."
    shared = [name for name in meant_by(wanted, splits) if share_images(name, training)]
    if shared:
        return f"the split {shared[0]!r} has images of {training!r}, which is trained on, so there is no validation."
    return f"no split {wanted!r} (there are {', '.join(splits)}), so there is no validation."


def make_job(recipe: Recipe, data: Path | str, run: Path, *, resumed: bool = False) -> Job:
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
    model = make_model(recipe, training.categories, weights=not resumed, tell=notes.append)
    config = recipe.data
    return Job(
        model,
        training,
        validation,
        config.augment,
        recipe.train,
        run,
        config.sampling,
        config.cache,
        tuple(notes),
    )
