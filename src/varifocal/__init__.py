"""varifocal: dense object detection whose score is the expected IoU of its box.

``create_model`` makes a model, ``load`` reads one from a file, ``Model.predict`` returns its detections, and ``train``
trains one. Losses, box arithmetic and assigners are plain functions. Each name is imported when it is first used, so
``import varifocal`` is fast.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time __getattr__ does it
    from varifocal import losses
    from varifocal.data.load import load_dataset
    from varifocal.evaluation.evaluate import evaluate
    from varifocal.inference.draw import draw_detections
    from varifocal.inference.loading import load
    from varifocal.inference.model import Model, create_model, save
    from varifocal.inference.video import predict_video
    from varifocal.ops import boxes
    from varifocal.recipes.recipe import Recipe, load_recipe
    from varifocal.recipes.train import train
    from varifocal.training.callbacks import Callback
    from varifocal.types import Detections
    from varifocal.utils.errors import CheckpointError, ConfigError, DataError, TrainingError, VarifocalError

_HOMES = {
    "Callback": "varifocal.training.callbacks",
    "CheckpointError": "varifocal.utils.errors",
    "ConfigError": "varifocal.utils.errors",
    "DataError": "varifocal.utils.errors",
    "Detections": "varifocal.types",
    "Model": "varifocal.inference.model",
    "Recipe": "varifocal.recipes.recipe",
    "TrainingError": "varifocal.utils.errors",
    "VarifocalError": "varifocal.utils.errors",
    "create_model": "varifocal.inference.model",
    "draw_detections": "varifocal.inference.draw",
    "evaluate": "varifocal.evaluation.evaluate",
    "load": "varifocal.inference.loading",
    "load_dataset": "varifocal.data.load",
    "load_recipe": "varifocal.recipes.recipe",
    "predict_video": "varifocal.inference.video",
    "save": "varifocal.inference.model",
    "train": "varifocal.recipes.train",
}

_MODULES = {"boxes": "varifocal.ops.boxes", "losses": "varifocal.losses"}

# names before version 0.1.0
_RENAMED = {"create": "create_model", "evaluate_model": "evaluate", "read_recipe": "load_recipe"}

__all__ = [  # noqa: PLE0604
    *sorted([*_HOMES, *_MODULES]),
]


def __getattr__(name: str) -> Any:
    if name in _RENAMED:
        raise AttributeError(f"varifocal.{name} is called varifocal.{_RENAMED[name]} now.")
    if name in _MODULES:
        return import_module(_MODULES[name])
    if name not in _HOMES:
        raise AttributeError(f"module 'varifocal' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
