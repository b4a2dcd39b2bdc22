"""Recipes: everything about a run except its data and its folder, read from YAML files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import yaml
from pydantic import ByteSize, Field

from varifocal.data.augment import Augmentation, Fraction
from varifocal.data.options import Unlabeled
from varifocal.data.sampler import Sampling
from varifocal.models import DETECTORS
from varifocal.models.vfnet import VFNetConfig
from varifocal.training.optim import TrainConfig
from varifocal.types import TTA, PostProcess, Preprocess, Tiling
from varifocal.utils.atomic_write import atomic_write
from varifocal.utils.config import stored as stored_values
from varifocal.utils.config import to_dict
from varifocal.utils.errors import ConfigError
from varifocal.utils.overrides import merged, override, update


@dataclass(frozen=True)
class DataConfig:
    """The ``data`` section of a recipe: which splits are used, how images are sampled, resized and augmented.

    ``format`` is a name in ``varifocal.data.readers.formats.READERS``, or empty to detect it. ``images`` is the folder
    of the images if it is not the one that the format implies, absolute or relative to the data folder. ``unlabeled``
    images, which have no label file, are left out ("skip"), used as images without objects ("background"), or treated
    as the format defines (empty). ``val_fraction`` of the images of data without splits are held out for validation,
    chosen by ``split_seed``; 0 holds out none. ``invalid_boxes``: "error" stops at the first, "drop" leaves them out
    and reports how many. ``difficult`` boxes of Pascal VOC are neither object nor background ("ignore"), or are trained
    on like the others ("train"); evaluation ignores them in both cases. ``keep_unused_classes`` gives the model outputs
    for classes without any box, too. ``repeat_factor_threshold``, ``max_empty_fraction`` and ``group_by_aspect_ratio``
    are those of :class:`varifocal.data.sampler.Sampling`. ``cache_bytes`` limits the decoded images that all workers of
    a machine together keep in memory, in bytes or as 512MiB, 2GiB; 0 keeps none.
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
    group_by_aspect_ratio: bool = False
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
        """Return how often each image is sampled, and which images share a batch."""
        return Sampling(self.repeat_factor_threshold, self.max_empty_fraction, self.group_by_aspect_ratio)


@dataclass(frozen=True)
class Recipe:
    """The settings of a run; written to the run folder and into every checkpoint.

    ``model`` is the config of the ``detector``. With ``model.num_classes`` 0, the data sets the number of classes.
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
    """Return the names of the built-in recipes."""
    return sorted(path.name[:-5] for path in _folder().iterdir() if path.name.endswith(".yaml"))


def load_recipe(name: str | Path | Mapping[str, Any], overrides: Sequence[str] = ()) -> Recipe:
    """Return a built-in recipe by name, or that of a YAML file or a dictionary, with ``key=value`` overrides.

    A file with ``base: NAME`` holds only what differs from that recipe, which may have a base of its own. A base that
    is a file is relative to the folder of the file that names it, or for a dictionary to the working directory. If a
    file or an override changes the detector, settings of the model that only the former detector has are dropped.

    Raises:
        ConfigError: there is no such recipe (lists them), it is not a mapping, has an unknown key (lists the valid
            ones) or a wrong value, or its base refers back to it.
    """
    if isinstance(name, Mapping):
        return _make_recipe(_with_base(dict(name), Path("recipe"), ()), "recipe", overrides)
    return _load_file(_recipe_path(str(name), Path()), overrides)


def read_stored_recipe(path: Path) -> Recipe:
    """Return a recipe that this or an older version wrote, whose keys may have other names today.

    Raises:
        ConfigError: as :func:`load_recipe`.
    """
    return _load_file(path, stored=True)


def read_recipe_of_run(path: Path) -> Recipe:
    """Return the recipe of a run. Versions before ``data.keep_unused_classes`` existed kept unused classes.

    Raises:
        ConfigError: as :func:`load_recipe`.
    """
    recipe = read_stored_recipe(path)
    data = _read_values(path, ()).get("data")
    if isinstance(data, dict) and "keep_unused_classes" not in data:
        recipe = replace(recipe, data=replace(recipe.data, keep_unused_classes=True))
    return recipe


def write_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with all its keys, defaults included."""
    atomic_write(path, yaml.safe_dump(to_dict(recipe), sort_keys=False).encode())


def _load_file(path: Path, overrides: Sequence[str] = (), *, stored: bool = False) -> Recipe:
    """Return the recipe in a file; ``stored`` accepts the keys of older versions."""
    values = _read_values(path, ())
    return _make_recipe(_with_new_names(values) if stored else values, str(path), overrides)


def _make_recipe(values: dict[Any, Any], source: str, overrides: Sequence[str]) -> Recipe:
    """Return the recipe with these values, after those of its base; ``source`` is named in errors."""
    where = source
    chosen = [word.partition("=")[2] for word in overrides if word.startswith("detector=")]
    if chosen:
        values = {**_for_detector(values, chosen[-1]), "detector": chosen[-1]}
        where = f"override 'detector={chosen[-1]}'"
    return override(update(_defaults(values.get("detector", "vfnet"), where), values, source), overrides)


def _with_new_names(values: dict[Any, Any]) -> dict[Any, Any]:
    """Return the values of an older version under the keys of today."""
    model, detector = values.get("model"), values.get("detector", "vfnet")
    renamed = stored_values(Recipe, values)
    if isinstance(model, dict) and detector in DETECTORS:
        renamed["model"] = stored_values(DETECTORS[detector][1], model)
    return renamed


def _folder() -> Any:
    return files("varifocal") / "recipes"


def _recipe_path(name: str, folder: Path) -> Path:
    path = folder / name if name.endswith((".yaml", ".yml")) else _folder() / f"{name}.yaml"
    if not path.is_file():
        raise ConfigError(
            f"recipe {name!r}: not found; use one of {', '.join(recipe_names())}, or a .yaml file.",
            code="recipe-not-found",
        )
    return path


def _read_values(path: Path, parents: tuple[Path, ...]) -> dict[Any, Any]:
    """Return the values of a file, merged over those of its base; ``parents`` are the files that refer to it."""
    if path.resolve() in parents:
        ring = " -> ".join(file.name for file in (*parents[parents.index(path.resolve()) :], path))
        raise ConfigError(f"{path}: its base refers back to it ({ring}); remove one of them.", code="base-cycle")
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (yaml.YAMLError, ValueError) as error:  # text that is not UTF-8 or a date such as 2020-13-45: ValueError
        raise ConfigError(f"{path}: not YAML ({' '.join(str(error).split())}).", code="not-yaml") from error
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: must be a mapping of keys, not a {type(values).__name__}.", code="not-a-mapping")
    return _with_base(values, path, parents)


def _with_base(values: dict[Any, Any], path: Path, parents: tuple[Path, ...]) -> dict[Any, Any]:
    """Return the values, which come from ``path``, merged over those of their base."""
    base = values.pop("base", None)
    if base is None:
        return values
    if not isinstance(base, str):
        raise ConfigError(
            f"{path}: base: must be the name of a recipe or a .yaml file (got {base!r}).", code="base-not-a-name"
        )
    below = _read_values(_recipe_path(base, path.parent), (*parents, path.resolve()))
    return merged(_for_detector(below, values.get("detector")), values)


def _for_detector(values: dict[Any, Any], detector: Any) -> dict[Any, Any]:
    """Return the values without settings of the model that their own detector has and ``detector`` lacks."""
    own, model = values.get("detector", "vfnet"), values.get("model")
    if not isinstance(model, dict) or not all(isinstance(name, str) and name in DETECTORS for name in (own, detector)):
        return values  # nothing to change, or an error that is raised later
    before, after = ({field.name for field in fields(DETECTORS[name][1])} for name in (own, detector))
    return {**values, "model": {key: value for key, value in model.items() if key in after or key not in before}}


def _defaults(detector: Any, where: str) -> Recipe:
    """Return the default recipe of a detector."""
    if not isinstance(detector, str) or detector not in DETECTORS:
        raise ConfigError(
            f"{where}: detector {detector!r}: choose from {', '.join(sorted(DETECTORS))}.", code="unknown-detector"
        )
    return Recipe(detector, DETECTORS[detector][1](num_classes=0))
