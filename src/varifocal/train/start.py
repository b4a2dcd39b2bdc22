"""Where a model that is trained begins: with the weights of another one, class by class."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from torch import Tensor

from varifocal.inference.model import Model
from varifocal.utils.errors import CheckpointError

PREDICTOR = "head.cls."  # begins the names of a detector's weights that belong to its classes
NAMED = 5  # classes that a sentence names


def load_compatible_weights(model: Model, source: Model, name: str) -> str:
    """Copy the weights of a trained model, and return a sentence on what was copied and what starts anew.

    The class predictor is copied class by class, by the names, in whatever order the two models have them.

    Raises:
        CheckpointError: any other weight is missing or of another shape, or only one of the two has a norm in its star.
    """
    norms = [_star_norm(one.info.config) for one in (model, source)]
    if norms[0] != norms[1] and None not in norms:  # else a norm that the recipe lacks would be dropped silently
        raise CheckpointError(
            f"{name}: was trained with model.star_norm={norms[1]} and this recipe says {norms[0]}; start from it with "
            f"model.star_norm={norms[1]}."
        )
    target, given = model.detector.state_dict(), source.detector.state_dict()
    names, known = ([category.name for category in one.categories] for one in (model, source))
    for key, tensor in target.items():
        copied = given.get(key)
        if copied is not None and key.startswith(PREDICTOR):
            copied = copy_classes(copied, known, tensor, names)
        if copied is None or copied.shape != tensor.shape:
            raise CheckpointError(
                f"{name}: {key} is missing or of another shape than this recipe's model needs{_unlike(model, source)}."
            )
        tensor.copy_(copied)
    return f"{name}: {_sentence(names, known)}."


def _unlike(model: Model, source: Model) -> str:
    """In what two models differ by their settings, as the end of a sentence."""
    if type(model.info.config) is not type(source.info.config):
        return f"; it holds detector={source.info.name}, and the recipe says {model.info.name}"
    given, target = source.info.config, model.info.config
    names = [one.name for one in fields(given) if one.name != "num_classes"]
    keys = [name for name in names if getattr(given, name) != getattr(target, name)]
    said = [f"{key}={getattr(given, key)}, not {getattr(target, key)}" for key in keys]
    return f"; it was trained with {' and '.join(said)}" if said else ""


def _star_norm(config: Any) -> str | None:
    """The norm in the star of a detector, or None where it has no star."""
    if not getattr(config, "star", True) and not getattr(config, "refine", True):
        return None
    return getattr(config, "star_norm", None)


def copy_classes(given: Tensor, known: Sequence[str], fresh: Tensor, names: Sequence[str]) -> Tensor | None:
    """The rows of a class predictor for the classes ``names``, or None where the two predictors do not fit.

    They are those of ``given``, whose classes are ``known``, or for a class that it does not know those of ``fresh``. A
    detector with several anchors a cell has the rows of all classes for one anchor after the other.
    """
    anchors = len(fresh) // len(names)
    if len(given) != anchors * len(known) or given.shape[1:] != fresh.shape[1:]:
        return None
    old, new = given.unflatten(0, (anchors, len(known))), fresh.clone().unflatten(0, (anchors, len(names)))
    for index, name in enumerate(names):
        if name in known:
            new[:, index] = old[:, known.index(name)]
    return new.flatten(0, 1)


def _sentence(names: Sequence[str], known: Sequence[str]) -> str:
    if list(names) == list(known):
        return "all weights are copied"
    groups = {
        "copied": [name for name in names if name in known],
        "starting anew": [name for name in names if name not in known],
        "not in the data": [name for name in known if name not in names],
    }
    said = "; ".join(f"{words}: {_listed(group)}" for words, group in groups.items() if group)
    return f"weights are copied, those of the class predictor by the names of the classes ({said})"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return f"{', '.join(names[:NAMED])}{more}"
