"""Checkpoints of one model made into one: the mean of their weights (Izmailov et al., arXiv 1803.05407)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from varifocal.inference.model import Model, ModelInfo, build, from_metadata
from varifocal.models.backbone import without_pretrained
from varifocal.models.checkpoint import load_state_dict_strict, read_checkpoint, read_info
from varifocal.utils.errors import CheckpointError


def average_checkpoints(paths: Sequence[Path]) -> Model:
    """The model whose weights are the mean of those of the checkpoints, each counting the same.

    Sums are taken in float64; whole numbers, such as counters of batch norms, are those of the last checkpoint, and so
    are the recipe and how images are read. There are no metrics. Batch norms whose statistics were trained get the
    mean of the statistics, which is not quite right: keep them fixed, or train on for a little.

    Raises:
        CheckpointError: a file cannot be read, or is of another detector, config or set of classes than the first.
    """
    infos = [from_metadata(read_info(path), str(path)) for path in paths]
    for info, path in zip(infos, paths, strict=True):
        _refuse_another(infos[0], info, paths[0], path)
    model = build(replace(infos[-1], metrics={}))
    sums: dict[str, Tensor] = {}
    for path in paths:
        load_state_dict_strict(
            model.detector, read_checkpoint(path)[0], path
        )  # every weight is there, in the right shape
        for name, tensor in model.detector.state_dict().items():
            sums[name] = tensor.double() + sums.get(name, 0.0)
    for name, tensor in model.detector.state_dict().items():
        if tensor.is_floating_point():
            tensor.copy_(sums[name] / len(paths))
    return model


def _refuse_another(first: ModelInfo, info: ModelInfo, first_path: Path, path: Path) -> None:
    def network(one: ModelInfo) -> tuple[object, ...]:
        bare = without_pretrained(one.config.backbone)  # where the weights came from once
        return one.name, replace(one.config, backbone=bare)

    if network(first) != network(info):
        raise CheckpointError(f"{path}: another model than {first_path}; average checkpoints of one recipe.")
    if first.categories != info.categories:
        raise CheckpointError(f"{path}: other classes than {first_path}; average checkpoints of one data set.")
