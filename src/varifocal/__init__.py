"""varifocal: dense object detection whose score is the expected IoU of its box.

``create`` a model, or ``load`` a checkpoint, and ``predict``; the losses, boxes and assigners are plain functions.
Everything is imported when it is first used, so that ``import varifocal`` costs nothing.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # for editors and type checkers; at run time __getattr__ does it
    from varifocal import boxes, losses
    from varifocal.data.load import load_dataset
    from varifocal.errors import CheckpointError, ConfigError, DataError, TrainingError, VarifocalError
    from varifocal.evaluate.run import evaluate_model
    from varifocal.loading import load
    from varifocal.predict import Model, create, save
    from varifocal.recipe import Recipe, read_recipe
    from varifocal.records import Detections
    from varifocal.video import predict_video

_HOMES = {
    "CheckpointError": "varifocal.errors",
    "ConfigError": "varifocal.errors",
    "DataError": "varifocal.errors",
    "Detections": "varifocal.records",
    "Model": "varifocal.predict",
    "Recipe": "varifocal.recipe",
    "TrainingError": "varifocal.errors",
    "VarifocalError": "varifocal.errors",
    "boxes": "",
    "create": "varifocal.predict",
    "evaluate_model": "varifocal.evaluate.run",
    "load": "varifocal.loading",
    "load_dataset": "varifocal.data.load",
    "losses": "",
    "predict_video": "varifocal.video",
    "read_recipe": "varifocal.recipe",
    "save": "varifocal.predict",
}

__all__ = [  # noqa: PLE0604
    *_HOMES,
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'varifocal' has no attribute {name!r}")
    home = _HOMES[name]
    return getattr(import_module(home), name) if home else import_module(f"varifocal.{name}")


def __dir__() -> list[str]:
    return sorted(_HOMES)
