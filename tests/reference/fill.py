"""The rule that fills every weight of a network from its name alone, and the images that go in.

Everything follows from numpy's generator and a checksum of the name, so two implementations that share
nothing else can be given the same network. The stored numbers (data/README.md) come from these constants.
"""

from __future__ import annotations

import re
import zlib

import numpy as np

# (pattern searched in the name, gain of its convolution weights, center of its bias); the first found counts.
# They keep activations near one and boxes within the image, so that the numbers can be compared at all.
SCALES: tuple[tuple[str, float, float], ...] = (
    (r"conv_offset", 0.25, 0.0),
    (r"^backbone\..*\.conv3", 0.3, 0.0),
    (r"downsample", 0.7, 0.0),
    (r"^neck\..*lateral", 0.25, 0.0),
    (r"^neck\.", 0.7, 0.0),
    (r"(vfnet_cls|conv_cls|atss_cls|gfl_cls|retina_cls|reppoints_cls_out)\.", 0.5, -4.0),
    (r"vfnet_reg\.", 0.3, -1.2),
    (r"vfnet_reg_refine\.", 0.3, 0.0),
    (r"conv_reg\.", 0.3, 0.3),
    (r"atss_reg\.", 0.5, 0.0),
    (r"retina_reg\.", 0.2, 0.0),
    (r"reppoints_pts_(init|refine)_out\.", 0.7, 0.0),
    (r"_centerness\.", 0.7, 0.0),
)


def random_direction(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """Standard normal numbers in float64 that depend on the name and the shape only."""
    return np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)


def filled(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The value of one entry of a state dict under the authors' name: float32, and int64 for counters."""
    if name.endswith("num_batches_tracked"):
        return np.zeros(shape, np.int64)
    if name.endswith("integral.project"):  # the bins of GFL
        return np.arange(shape[0], dtype=np.float32)
    noise = random_direction(name, shape)
    gain, center = next((row[1:] for row in SCALES if re.search(row[0], name)), (1.0, 0.0))
    if name.endswith("running_mean"):
        value = 0.1 * noise
    elif name.endswith("running_var"):
        value = 1 + 0.1 * np.abs(noise)
    elif name.endswith("moment_transfer"):
        value = 0.5 + 0.1 * noise
    elif name.endswith(".scale"):
        value = 1 + 0.05 * noise
    elif name.endswith(".bias"):
        value = center + 0.1 * noise
    elif len(shape) == 1:
        value = 1 + 0.1 * noise
    else:
        value = noise * (gain * np.sqrt(2.0 / np.prod(shape[1:])))
    return np.asarray(value, np.float32)


def images() -> dict[str, np.ndarray]:
    """The two inputs, ``a`` [1, 3, 256, 320] and ``b`` [2, 3, 192, 224], float32 noise."""
    shapes = {"a": (1, 3, 256, 320), "b": (2, 3, 192, 224)}
    return {
        name: np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
        for seed, (name, shape) in enumerate(shapes.items())
    }
