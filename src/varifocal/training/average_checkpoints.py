"""The mean of the weights of several checkpoints (Izmailov et al., arXiv 1803.05407)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from varifocal.inference.loading import load_checkpoint
from varifocal.inference.model import Model, ModelInfo
from varifocal.models.backbone import without_pretrained
from varifocal.utils.errors import CheckpointError


def average_checkpoints(paths: Sequence[Path]) -> Model:
    """Return a model whose weights are the mean of those of the checkpoints, each with the same weight.

    Sums are computed in float64. Integers, such as counters of batch norms, the recipe and the preprocessing are those
    of the last checkpoint. The model has no metrics. Batch norms whose statistics were trained get the mean of the
    statistics, which is only approximately right: keep them fixed, or train a little longer.

    Raises:
        CheckpointError: a file cannot be read, or differs from the first in the detector, its config or the classes.
    """
    sums: dict[str, Tensor] = {}
    first: ModelInfo | None = None
    for path in paths:
        model = load_checkpoint(path)
        first = first or model.info
        _check_same(first, model.info, paths[0], path)
        for name, tensor in model.detector.state_dict().items():
            sums[name] = tensor.double() + sums.get(name, 0.0)
    for name, tensor in model.detector.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(sums[name] / len(paths))
    model.info = replace(model.info, metrics={})
    return model


def _check_same(first: ModelInfo, info: ModelInfo, first_path: Path, path: Path) -> None:
    """Raise CheckpointError if two models differ in more than the pretrained weights that they started from."""

    def network(info: ModelInfo) -> tuple[object, ...]:
        return info.name, replace(info.config, backbone=without_pretrained(info.config.backbone))

    if network(first) != network(info):
        raise CheckpointError(
            f"{path}: not the same model as {first_path}; average checkpoints of one recipe.", code="other-model"
        )
    if first.categories != info.categories:
        raise CheckpointError(
            f"{path}: not the same classes as {first_path}; average checkpoints of one data set.", code="other-classes"
        )
