"""Options of backbones that change a timm model: deformable and frozen stages, strides, pooling, checkpointing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from varifocal.ops.deform_conv import to_deformable
from varifocal.utils.errors import ConfigError

Stage = dict[str, nn.Module]  # by position in the network


def split_stages(net: nn.Module) -> list[Stage]:
    """Return four stages, stem and first one together, that end in the maps of strides 4, 8, 16 and 32.

    A net whose maps all have one stride is cut into four stages of equal depth. Modules are registered in the order of
    the pass; where timm flattens a model it writes the dots in their names as underscores, where it wraps one it puts
    "model." before them.
    """
    names = [name for name, _ in net.named_modules()]
    flat = [name.removeprefix("model.").replace(".", "_") + "_" for name in names]
    stages, start = [], 0
    for end in _stage_ends(list(net.feature_info)):  # type: ignore[arg-type]
        inside = [i for i, name in enumerate(flat) if end and name.startswith(end.replace(".", "_") + "_")]
        stop = max(inside, default=start - 1) + 1
        stages.append({name: net.get_submodule(name) for name in names[start:stop]})
        start = stop
    return stages


def _stage_ends(maps: list[dict[str, Any]]) -> list[str | None]:
    """Return the modules whose maps end the four stages, or None where no map has the stride."""
    strides = [level["reduction"] for level in maps]
    if strides[0] == strides[-1]:
        return [maps[len(maps) * quarter // 4 - 1]["module"] for quarter in (1, 2, 3, 4)]
    return [maps[strides.index(stride)]["module"] if stride in strides else None for stride in (4, 8, 16, 32)]


def freeze_stages(net: nn.Module, name: str, count: int) -> None:
    """Freeze everything up to the map of the last of ``count`` stages.

    Raises:
        ConfigError: the backbone has fewer stages.
    """
    stages = split_stages(net)
    if count > len(stages) or not all(stages[:count]):
        raise ConfigError(f"backbone {name}: frozen_stages={count} is too many.", code="backbone-frozen-stages")
    for stage in stages[:count]:
        for module in stage.values():
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)


def deform_stages(net: nn.Module, name: str, numbers: Sequence[int]) -> None:
    """Replace the 3x3 convolutions of the stages of these numbers by DCNv2.

    Raises:
        ConfigError: there is no such stage, or its convolutions have no deformable form.
    """
    stages = split_stages(net)
    for number in numbers:
        where = f"backbone {name}: dcn_stages={number}"
        if number not in (3, 4, 5):
            raise ConfigError(
                f"{where}: the stages are 3, 4 and 5, of strides 8, 16 and 32.", code="backbone-dcn-stage"
            )
        convs = {
            layer: module
            for layer, module in stages[number - 2].items()
            if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
        }
        if not convs:
            raise ConfigError(
                f"{where}: this stage has no 3x3 convolutions; leave it out.", code="backbone-dcn-no-conv"
            )
        for location, conv in convs.items():
            parent, _, child = location.rpartition(".")
            try:
                setattr(net.get_submodule(parent), child, to_deformable(conv))
            except ConfigError as error:
                raise ConfigError(f"{where}: {location}: {error}", code="backbone-dcn-conv") from error


def skip_first_pool(net: nn.Module, name: str) -> None:
    """Remove the average pooling of a Res2Net's first block, which mmdetection lacks.

    Raises:
        ConfigError: the backbone is not a Res2Net.
    """
    block = next((m for m in net.modules() if hasattr(m, "num_scales") and hasattr(m, "pool")), None)
    if block is None:
        raise ConfigError(
            f"backbone {name}: res2net_pool=mmdet is for a Res2Net; leave it out.", code="backbone-res2net-pool"
        )
    block.pool = nn.Identity()


def switch_checkpointing_on(net: nn.Module, name: str) -> None:
    """Let the backbone compute its activations again in the backward pass instead of keeping them.

    Raises:
        ConfigError: timm has no checkpointing for the model.
    """
    wrapped = getattr(net, "model", None)  # timm wraps some models in a module without the switch
    switch = getattr(net, "set_grad_checkpointing", getattr(wrapped, "set_grad_checkpointing", None))
    try:
        supported = switch is not None and switch(True) is None
    except AssertionError:  # timm's way to refuse
        supported = False
    if not supported:
        raise ConfigError(
            f"backbone {name}: timm has no checkpointing for it; leave out grad_checkpointing.",
            code="backbone-checkpointing",
        )


def stride_first(net: nn.Module, name: str) -> None:
    """Move each stage's stride from the 3x3 convolution of its first block to the 1x1 before it, as in Caffe.

    Raises:
        ConfigError: the backbone is not a ResNet with bottlenecks.
    """
    from timm.models.resnet import Bottleneck

    blocks = [module for module in net.modules() if isinstance(module, Bottleneck) and module.conv2.stride == (2, 2)]
    if not blocks:
        raise ConfigError(
            f"backbone {name}: style caffe is for ResNets with bottlenecks, such as resnet50.", code="backbone-style"
        )
    for block in blocks:
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)
