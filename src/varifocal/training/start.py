"""Starting a training from the weights of another model, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor

from varifocal.inference.model import Model
from varifocal.inference.published.names import FILES
from varifocal.utils.errors import CheckpointError
from varifocal.utils.text import short_list

PREDICTOR = "head.cls."  # prefix of a detector's weights that belong to its classes
LISTED_CLASSES = 5  # in a sentence


def load_compatible_weights(model: Model, source: Model, name: str) -> str:
    """Copy the weights of a trained model, and return a sentence on what was copied and what differs.

    The class predictor is copied class by class, by name, whatever the order of the classes in the two models; classes
    that ``source`` lacks keep their initial weights. ``name`` is that of the checkpoint, for the sentence and errors.

    Raises:
        CheckpointError: another weight is missing or has another shape, or only one of the two has a norm in its star.
    """
    _check_star_norms(model, source, name)
    weights, source_weights = model.detector.state_dict(), source.detector.state_dict()
    classes, source_classes = ([category.name for category in m.categories] for m in (model, source))
    for key, tensor in weights.items():
        copied = source_weights.get(key)
        if copied is not None and key.startswith(PREDICTOR):
            copied = copy_classes(copied, source_classes, tensor, classes)
        if copied is None or copied.shape != tensor.shape:
            raise CheckpointError(
                f"{name}: {key} is missing or differs in shape from this recipe's model{_difference(model, source)}"
                f"{_recipe_hint(name)}.",
                code="incompatible-weights",
            )
        tensor.copy_(copied)
    ours, theirs = _computation(model), _computation(source)
    changes = "".join(
        f"; they were trained with {key}={theirs[key]}, but the recipe has {ours[key]}"
        for key in ours
        if ours[key] != theirs[key]
    )
    return f"{name}: {_summary(classes, source_classes)}{changes}."


def _computation(model: Model) -> dict[str, Any]:
    """Return the settings that change what the same weights compute, by their keys in a recipe."""
    info, backbone = model.info, model.info.config.backbone
    return {
        "detector": info.name,
        "model.backbone.style": backbone.style,
        "model.backbone.res2net_pool": backbone.res2net_pool,
        **{f"data.preprocess.{key}": getattr(info.preprocess, key) for key in ("mean", "std", "bgr")},
    }


def _check_star_norms(model: Model, source: Model, name: str) -> None:
    """Raise CheckpointError if the norms in the star differ: one that the recipe lacks would be dropped silently."""
    norm, source_norm = (_star_norm(m.info.config) for m in (model, source))
    if norm != source_norm and None not in (norm, source_norm):
        raise CheckpointError(
            f"{name}: was trained with model.star_norm={source_norm}, but this recipe has {norm}; to start from it, "
            f"set model.star_norm={source_norm}.",
            code="star-norm",
        )


def _star_norm(config: Any) -> str | None:
    """Return the norm in the star of a detector, or None if it has no star."""
    if not getattr(config, "star", True) and not getattr(config, "refine", True):
        return None
    return getattr(config, "star_norm", None)


def _difference(model: Model, source: Model) -> str:
    """Return which settings of two models differ, as the end of a sentence."""
    config, source_config = model.info.config, source.info.config
    if type(config) is not type(source_config):
        return f"; it holds detector={source.info.name}, but the recipe has {model.info.name}"
    values = [
        f"{field.name}={getattr(source_config, field.name)}, not {getattr(config, field.name)}"
        for field in fields(config)
        if field.name != "num_classes" and getattr(source_config, field.name) != getattr(config, field.name)
    ]
    return f"; it was trained with {' and '.join(values)}" if values else ""


def _recipe_hint(name: str) -> str:
    """Return the recipe of published weights, as the end of a sentence."""
    return f"; use --recipe {name}" if name in FILES else ""


def copy_classes(source: Tensor, known: Sequence[str], initial: Tensor, names: Sequence[str]) -> Tensor | None:
    """Return the rows [anchors * len(names), ...] of a class predictor for the classes ``names``.

    Rows of classes in ``known`` are taken from ``source``, whose classes these are, the others from ``initial``. A
    predictor of several anchors per point has the rows of all classes for one anchor after the other. The result is
    None if the two predictors do not match.
    """
    anchors = len(initial) // len(names)
    if len(source) != anchors * len(known) or source.shape[1:] != initial.shape[1:]:
        return None
    old, new = source.unflatten(0, (anchors, len(known))), initial.clone().unflatten(0, (anchors, len(names)))
    for index, name in enumerate(names):
        if name in known:
            new[:, index] = old[:, known.index(name)]
    return new.flatten(0, 1)


def _summary(names: Sequence[str], known: Sequence[str]) -> str:
    if list(names) == list(known):
        return "all weights were copied"
    groups = {
        "copied": [name for name in names if name in known],
        "initialized": [name for name in names if name not in known],
        "not in the data": [name for name in known if name not in names],
    }
    lists = "; ".join(f"{label}: {short_list(group, LISTED_CLASSES)}" for label, group in groups.items() if group)
    if not groups["copied"]:
        return f"weights were copied, but the class predictor starts anew, because no class has the same name ({lists})"
    return f"weights were copied, those of the class predictor by class name ({lists})"
