"""What a checkpoint says beside its weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any, ClassVar, TypeVar

from varifocal.models import DETECTORS
from varifocal.types import TTA, Category, PostProcess, Preprocess, Tiling
from varifocal.utils.config import from_dict, stored, to_dict
from varifocal.utils.errors import CheckpointError, ConfigError

T = TypeVar("T")


@dataclass(frozen=True)
class ModelInfo:
    """What builds a detector, and what its scores and boxes mean.

    ``name`` and ``config`` build it, ``categories`` are the classes that its labels index. ``recipe`` and ``metrics``
    tell how it was trained and how good it was.
    """

    name: str
    config: Any
    categories: tuple[Category, ...]
    preprocess: Preprocess = field(default_factory=Preprocess)
    postprocess: PostProcess = field(default_factory=PostProcess)
    recipe: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, float] = field(default_factory=dict)
    tiling: Tiling = field(default_factory=Tiling)
    tta: TTA = field(default_factory=TTA)

    RENAMED: ClassVar = {
        "views": "tta",
    }


def to_metadata(info: ModelInfo) -> dict[str, Any]:
    """Plain values for the checkpoint's JSON."""
    return {
        "kind": "model",
        "version": version("varifocal"),
        "detector": info.name,
        "config": to_dict(info.config),
        "categories": [[category.id, category.name] for category in info.categories],
        "preprocess": to_dict(info.preprocess),
        "postprocess": to_dict(info.postprocess),
        "tiling": to_dict(info.tiling),
        "tta": to_dict(info.tta),
        "recipe": info.recipe,
        "metrics": info.metrics,
    }


def from_metadata(values: Mapping[str, Any], source: str) -> ModelInfo:
    """The opposite of :func:`describe`.

    Raises:
        CheckpointError: not a model, a detector this version does not know, or class names that do not fit.
    """
    if values.get("kind") == "backbone":
        raise CheckpointError(
            f"{source}: a backbone by itself ({values.get('name')}), not a detector; train one from it with "
            f"model.backbone.weights={source}."
        )
    if values.get("kind") != "model" or str(values.get("detector")) not in DETECTORS:
        kind = values.get("detector", values.get("kind"))
        raise CheckpointError(f"{source}: holds {kind!r}, not a model that this version knows.")
    try:
        info = _read(values, source)
    except (KeyError, TypeError, ValueError, AttributeError, ConfigError) as error:
        raise CheckpointError(
            f"{source}: its description, written by varifocal {values.get('version', 'of an unknown version')}, cannot "
            f"be read by {version('varifocal')} ({' '.join(str(error).split())})."
        ) from error
    if len(info.categories) != info.config.num_classes:
        raise CheckpointError(
            f"{source}: names {len(info.categories)} classes but its network has {info.config.num_classes}."
        )
    return info


def _read(values: Mapping[str, Any], source: str) -> ModelInfo:
    def read(kind: type[T], part: Mapping[str, Any]) -> T:
        return from_dict(kind, stored(kind, part), source)

    return ModelInfo(
        values["detector"],
        read(DETECTORS[values["detector"]][1], values["config"]),
        tuple(Category(int(number), name) for number, name in values["categories"]),
        read(Preprocess, values["preprocess"]),
        read(PostProcess, values["postprocess"]),
        values["recipe"],
        values["metrics"],
        read(Tiling, values.get("tiling", {})),
        read(TTA, values.get("tta", values.get("views", {}))),
    )
