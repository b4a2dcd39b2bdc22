"""The star convolution on a GPU as one kernel: points are gathered, weighted and multiplied without a copy in memory.

A plain 3x3 convolution reads nine cells per point, the star 25: one for the point itself, two for each side, four for
each corner. Stored as columns these are nine times the features, and writing and reading them back takes longer than
the product. So each program of :func:`varifocal.ops.kernels.star_triton.forward` makes a tile of columns, 32
channels of one tap for a block of points, in its own memory while the tensor cores multiply the tile before.

Which block sizes are used follows from the shapes, the type and the GPU by a fixed rule (:func:`forward_tile` and its
neighbors), not by trials at run time: a deployment starts without measuring, each process sums in the same order, a
new image size compiles nothing, and a CUDA graph can be captured after one call. A type compiles at most four
kernels for the forward pass, some seconds in all, and Triton keeps them on disk. ``benchmarks/star_conv_gpu.py --tune``
measures other sizes.

The backward pass is three kernels over a list of the 25 locations per point (300 bytes). The gradient of features and
distances needs ``weight^T @ gradient`` for each tap, again without storing it; that of the features is summed by atomic
additions in float32, so that its last bits differ from run to run. That of the weight is summed in parts, and then over
the parts, always in the same order.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass, replace
from typing import Any

import torch
import triton
from jaxtyping import Float
from torch import Tensor

from varifocal.ops.kernels import star_triton as kernels
from varifocal.ops.kernels import star_triton_backward as backward_kernels
from varifocal.ops.kernels.deform_cpu import empty_output

NARROW = 2**31 - 2**20  # offsets up to here are 32 bits wide in the kernels
TYPES = (torch.float32, torch.bfloat16, torch.float16)


def convolve(
    features: Float[Tensor, "B C H W"], distances: Float[Tensor, "B 4 H W"], weight: Float[Tensor, "O C 3 3"]
) -> Float[Tensor, "B O H W"]:
    """Convolve the features at the nine points of each cell's box; bilinear between cells, zero outside the map.

    This is the CUDA kernel of ``varifocal::star_conv``, and :func:`gradients` that of its derivative.

    Args:
        features: float32, bfloat16 or float16; best in channels-last memory.
        distances: (l, t, r, b) from the cell to the sides, in cells of this level, float32 whatever the features are:
            bfloat16 has steps of half a cell at 128.
        weight: in the type of the features.

    Returns:
        In the type of the features and in channels-last memory. Float32 is multiplied as
        ``torch.backends.cuda.matmul`` says, sums are float32.

    Raises:
        TypeError: another type.
        ValueError: shapes that do not belong together.
    """
    if features.dtype not in TYPES:
        raise TypeError(f"the Triton star convolution takes float32, bfloat16 and float16, not {features.dtype}")
    batch, channels, height, width = features.shape
    if distances.shape != (batch, 4, height, width) or weight.shape[1:] != (channels, 3, 3):
        shapes = ", ".join(str(tuple(part.shape)) for part in (features, distances, weight))
        raise ValueError(f"the star convolution takes [B, C, H, W], [B, 4, H, W] and [O, C, 3, 3], not {shapes}")
    # no view of another tensor: what comes after may change it
    output = empty_output(features, weight, (height, width))
    shape = Shape.of(features, weight)
    if shape.empty:
        return output.zero_()
    tile = forward_tile(shape, features.dtype, _gpu(features))
    with torch.cuda.device_of(features):
        kernels.forward[(triton.cdiv(shape.points, tile.points), triton.cdiv(shape.outputs, tile.outputs))](
            _rows(features),
            distances.contiguous(),
            weight.permute(0, 2, 3, 1).contiguous(),
            output,
            shape.points,
            shape.height,
            shape.width,
            **_constants(shape, tile, features.dtype),
        )
    return output


def gradients(
    gradient: Float[Tensor, "B O H W"],
    features: Float[Tensor, "B C H W"],
    distances: Float[Tensor, "B 4 H W"],
    weight: Float[Tensor, "O C 3 3"],
    needed: list[bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the gradients of the last three tensors; one that is not ``needed`` has no elements."""
    _alert_not_deterministic(needed)
    shape = Shape.of(features, weight)
    if shape.empty:
        return _zeros(features, needed[0]), _zeros(distances, needed[1]), _zeros(weight, needed[2])
    with torch.cuda.device_of(features):
        rows = _rows(gradient.to(features.dtype))
        locations = _locations(distances, shape)
        by_features, by_distances = _input_gradients(rows, features, locations, weight, needed, shape)
        by_weight = _weight_gradient(rows, features, locations, shape) if needed[2] else weight.new_empty(0)
    return (
        by_features if needed[0] else features.new_empty(0),
        by_distances if needed[1] else distances.new_empty(0),
        by_weight,
    )


def _zeros(like: Tensor, needed: bool) -> Tensor:
    return torch.zeros_like(like, memory_format=torch.contiguous_format) if needed else like.new_empty(0)


def _locations(distances: Tensor, shape: Shape) -> tuple[Tensor, Tensor, Tensor]:
    """Return for the 25 locations of a point the cell or -1, and the weights by row and column, [25, points] each."""
    index = distances.new_empty(backward_kernels.LOCATIONS, shape.points, dtype=torch.int32)
    rows, columns = distances.new_empty(2, backward_kernels.LOCATIONS, shape.points)
    block = 128
    backward_kernels.locations[(triton.cdiv(shape.points, block),)](
        distances.contiguous(),
        index,
        rows,
        columns,
        shape.points,
        shape.height,
        shape.width,
        point_block=block,
        wide=shape.wide,
        num_warps=4,
        enable_fp_fusion=True,
    )
    return index, rows, columns


def _input_gradients(
    gradient: Tensor,
    features: Tensor,
    locations: tuple[Tensor, Tensor, Tensor],
    weight: Tensor,
    needed: list[bool],
    shape: Shape,
) -> tuple[Tensor, Tensor]:
    size = shape.height * shape.width
    by_features = gradient.new_zeros((shape.points if needed[0] else 0, shape.channels), dtype=torch.float32)
    by_distances = gradient.new_zeros((shape.points // size if needed[1] else 0, 4, size), dtype=torch.float32)
    if needed[0] or needed[1]:
        tile = input_tile(shape, features.dtype)
        grid = (triton.cdiv(shape.points, tile.points), triton.cdiv(shape.channels, tile.channels), 9)
        backward_kernels.input_gradients[grid](
            gradient,
            _rows(features),
            *locations,
            weight.permute(1, 2, 3, 0).contiguous(),
            by_features,
            by_distances,
            shape.points,
            size,
            by_features=needed[0],
            by_distances=needed[1],
            **_constants(shape, tile, features.dtype),
        )
    batch, _, height, width = features.shape
    if needed[0]:
        by_features = by_features.view(batch, height, width, shape.channels).permute(0, 3, 1, 2)
    if needed[1]:
        by_distances = by_distances.view(batch, 4, height, width)
    return by_features.to(features.dtype), by_distances


def _weight_gradient(
    gradient: Tensor, features: Tensor, locations: tuple[Tensor, Tensor, Tensor], shape: Shape
) -> Tensor:
    gpu = _gpu(features)
    tile = weight_tile(shape, features.dtype, gpu)
    blocks = 9 * triton.cdiv(shape.channels, tile.channels), triton.cdiv(shape.outputs, tile.outputs)
    # two programs a processor, as the taps of four locations take longer than that of one
    parts = max(2 * gpu.processors // math.prod(blocks), 1)
    steps = triton.cdiv(triton.cdiv(shape.points, parts), tile.points)
    parts = triton.cdiv(shape.points, steps * tile.points)
    sums = gradient.new_empty((parts, shape.outputs, 3, 3, shape.channels), dtype=torch.float32)
    grid = (*blocks, parts)
    backward_kernels.weight_gradient[grid](
        gradient,
        _rows(features),
        *locations,
        sums,
        shape.points,
        steps * tile.points,
        **_constants(shape, tile, features.dtype),
    )
    return sums.sum(dim=0).permute(0, 3, 1, 2).to(features.dtype)


@dataclass(frozen=True)
class Shape:
    """How much there is to do: points are cells of all images."""

    points: int
    height: int
    width: int
    channels: int
    outputs: int

    @classmethod
    def of(cls, features: Tensor, weight: Tensor) -> Shape:
        """Return the shape of these arguments; ValueError for more points than 32 bits count."""
        batch, channels, height, width = features.shape
        points = batch * height * width
        if points > NARROW:
            raise ValueError(f"the Triton star convolution takes at most {NARROW} points, not {points}")
        return cls(points, height, width, channels, weight.shape[0])

    @property
    def empty(self) -> bool:
        """Whether there is nothing to compute; no kernel can be started then."""
        return 0 in (self.points, self.channels, self.outputs)

    @property
    def wide(self) -> bool:
        """Whether an offset may exceed 32 bits; locations outside the map lie up to two rows before or after it."""
        longest = max(self.channels, self.outputs, backward_kernels.LOCATIONS)
        return (self.points + 3 * self.width + 3) * longest > NARROW or 9 * self.outputs * self.channels > NARROW


@dataclass(frozen=True)
class Gpu:
    """The processors, bytes of shared memory per block and warp-group products on which block sizes depend."""

    processors: int
    shared: int
    grouped: bool


@dataclass(frozen=True)
class Tile:
    """Sizes of a program's block, its warps, and how many steps of its loop are under way at once."""

    points: int
    outputs: int
    channels: int
    warps: int
    stages: int


# A map of 100x168 cells and 256 outputs fills the 132 processors of an H200 once with the first. Smaller maps take
# smaller blocks, so that more processors work on them, and longer ones, as waiting is then what takes time.
FORWARD = (
    Tile(points=128, outputs=256, channels=32, warps=8, stages=3),
    Tile(points=64, outputs=128, channels=32, warps=4, stages=3),
    Tile(points=32, outputs=64, channels=128, warps=4, stages=3),
    Tile(points=16, outputs=32, channels=128, warps=4, stages=3),
)
# without products by groups of warps the first would need more registers than there are
FORWARD_BY_WARP = (Tile(points=64, outputs=256, channels=32, warps=8, stages=3), *FORWARD[1:])
# full float32 has no tensor cores
FORWARD_IEEE = (
    Tile(points=64, outputs=128, channels=16, warps=8, stages=2),
    Tile(points=32, outputs=64, channels=32, warps=4, stages=2),
)


def forward_tile(shape: Shape, dtype: torch.dtype, gpu: Gpu) -> Tile:
    """Return the largest blocks with which at least three quarters of the processors are busy."""
    if _precision(dtype) == "ieee" and dtype == torch.float32:
        tiles = [_trim(tile, shape) for tile in FORWARD_IEEE]
    else:
        halves = FORWARD if gpu.grouped else FORWARD_BY_WARP
        tiles = [_trim(replace(tile, channels=tile.channels * 2 // dtype.itemsize), shape) for tile in halves]
    tile = next((tile for tile in tiles if 4 * _programs(tile, shape) >= 3 * gpu.processors), tiles[-1])
    while tile.stages > 1 and _forward_bytes(tile, dtype.itemsize) > gpu.shared:
        tile = replace(tile, stages=tile.stages - 1)
    return tile


def input_tile(shape: Shape, dtype: torch.dtype) -> Tile:
    """Return blocks for the gradient of features and distances: 64 by 64 leave room for two programs per processor."""
    return _trim(Tile(points=64, outputs=128 // dtype.itemsize, channels=64, warps=8, stages=2), shape)


def weight_tile(shape: Shape, dtype: torch.dtype, gpu: Gpu) -> Tile:
    """Return blocks for the gradient of the weight: all outputs at once, if they fit, to gather columns once."""
    if dtype == torch.float32 and _precision(dtype) == "ieee":
        return _trim(Tile(points=16, outputs=128, channels=64, warps=8, stages=2), shape)
    outputs = 256 if gpu.grouped and dtype != torch.float32 else 128
    return _trim(Tile(points=64 // dtype.itemsize, outputs=outputs, channels=128, warps=8, stages=3), shape)


def _trim(tile: Tile, shape: Shape) -> Tile:
    """Return blocks that do not far exceed the channels and outputs; the product needs 16 of each."""
    outputs, channels = (max(triton.next_power_of_2(size), 16) for size in (shape.outputs, shape.channels))
    return replace(tile, outputs=min(tile.outputs, outputs), channels=min(tile.channels, channels))


def _programs(tile: Tile, shape: Shape) -> int:
    return triton.cdiv(shape.points, tile.points) * triton.cdiv(shape.outputs, tile.outputs)


def _forward_bytes(tile: Tile, itemsize: int) -> int:
    """Return the shared memory of the loop over the corners: weights, four locations ahead, and prefetched columns."""
    gathered = tile.points * tile.channels * (4 * (tile.stages - 1) + 1)
    return (tile.stages * tile.outputs * tile.channels + gathered) * itemsize


def _gpu(tensor: Tensor) -> Gpu:
    if tensor.device.type != "cuda":  # Triton's interpreter
        return Gpu(processors=1, shared=2**17, grouped=False)
    properties = torch.cuda.get_device_properties(tensor.device)
    shared = getattr(properties, "shared_memory_per_block_optin", 2**16)
    return Gpu(properties.multi_processor_count, shared, grouped=properties.major >= 9 and shared > 200 * 2**10)


def _constants(shape: Shape, tile: Tile, dtype: torch.dtype) -> dict[str, Any]:
    """Return the keyword arguments of every kernel that multiplies."""
    return {
        "channels": shape.channels,
        "outputs": shape.outputs,
        "point_block": tile.points,
        "output_block": tile.outputs,
        "channel_block": tile.channels,
        "stages": tile.stages,
        "precision": _precision(dtype),
        "wide": shape.wide,
        "num_warps": tile.warps,
        "num_stages": tile.stages,
        "enable_fp_fusion": True,  # Triton's own default changes between versions
    }


def _precision(dtype: torch.dtype) -> str:
    """Return how float32 is multiplied; once torch's newer switch is set, its older one raises an error."""
    if dtype != torch.float32:
        return "ieee"
    matmul = torch.backends.cuda.matmul
    setting = getattr(matmul, "fp32_precision", None)
    return "tf32" if setting == "tf32" or (setting is None and matmul.allow_tf32) else "ieee"


def _rows(tensor: Tensor) -> Tensor:
    """Return [B, C, H, W] as [B, H, W, C], without a copy if it is channels-last."""
    return tensor.permute(0, 2, 3, 1).contiguous()


def _alert_not_deterministic(needed: list[bool]) -> None:
    """Raise or warn like torch's own operators that add atomically."""
    if not (needed[0] or needed[1]) or not torch.are_deterministic_algorithms_enabled():
        return
    message = "varifocal::star_conv_backward sums gradients in no fixed order: it has no deterministic implementation"
    if not torch.is_deterministic_algorithms_warn_only_enabled():
        raise RuntimeError(message)
    warnings.warn(message, stacklevel=2)
