"""The star-shaped deformable convolution: nine points of a box are read, weighted and summed.

From a point's distances to its box (l, t, r, b) follow the nine places that a 3x3 kernel reads: the point itself,
the four projections onto the sides and the four corners (VarifocalNet, section 3.3 and figure 3). Everything is a
3x3 deformable convolution with stride 1 and padding 1 whose offsets are not learned but computed.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int64
from torch import Tensor

CHUNK_BYTES = 16 * 2**20  # gathered rows of this size stay in the last-level cache


def star_offsets(distances: Float[Tensor, "B 4 H W"]) -> Float[Tensor, "B 18 H W"]:
    """Offsets that move a 3x3 kernel's taps onto the nine points of each box.

    Args:
        distances: (l, t, r, b) from the cell to the sides, in cells of this level.

    Returns:
        (dy, dx) for each of the nine taps, row by row: the wanted displacement minus the tap's own place in the
        regular grid, as torchvision's ``deform_conv2d`` takes them.
    """
    left, top, right, bottom = distances.unbind(dim=1)
    zero = torch.zeros_like(left)
    star = [part for dy in (-top, zero, bottom) for dx in (-left, zero, right) for part in (dy, dx)]
    return points_to_offsets(torch.stack(star, dim=1))


def points_to_offsets(points: Float[Tensor, "B 18 H W"]) -> Float[Tensor, "B 18 H W"]:
    """Offsets that move a 3x3 kernel's taps, row by row, to nine (dy, dx) beside each cell, in cells of this level."""
    grid = [place for y in (-1, 0, 1) for x in (-1, 0, 1) for place in (y, x)]
    return points - points.new_tensor(grid)[:, None, None]


def star_conv(
    features: Float[Tensor, "B C H W"], offsets: Float[Tensor, "B 18 H W"], weight: Float[Tensor, "O C 3 3"]
) -> Float[Tensor, "B O H W"]:
    """Convolve the features at the moved taps; bilinear between cells, zero outside the map.

    ``offsets`` are as :func:`star_offsets` gives them and stay in float32 or wider whatever the features are:
    bfloat16 has steps of half a cell at 128. This function alone decides the path: rows gathered by
    ``embedding_bag`` on a CPU, where torchvision's operator is a scalar loop, torchvision's operator elsewhere.
    """
    if features.device.type == "cpu":
        return _gather_and_multiply(features, offsets, weight)
    from torchvision.ops import deform_conv2d

    # the operator wants one type for all; half precision has no place for coordinates
    result = deform_conv2d(features.to(offsets.dtype), offsets, weight.to(offsets.dtype), padding=1)
    return result.to(features.dtype)


def _bilinear_rows(
    offsets: Float[Tensor, "B 18 H W"],
) -> tuple[Int64[Tensor, "n 4"], Float[Tensor, "n 4"]]:
    """For every tap of every cell the four neighbouring cells, as rows of a [B*H*W, C] table, and their weights."""
    batch, _, height, width = offsets.shape
    taps = torch.arange(9, device=offsets.device)
    rows = torch.arange(height, device=offsets.device)[:, None, None] + taps // 3 - 1
    columns = torch.arange(width, device=offsets.device)[None, :, None] + taps % 3 - 1
    y = _bounded(offsets[:, 0::2].permute(0, 2, 3, 1) + rows, height)
    x = _bounded(offsets[:, 1::2].permute(0, 2, 3, 1) + columns, width)
    y0, x0 = y.detach().floor(), x.detach().floor()
    first = torch.arange(batch, device=offsets.device).view(-1, 1, 1, 1) * (height * width)
    index, weight = [], []
    for row, weight_y in ((y0, 1 - (y - y0)), (y0 + 1, y - y0)):
        for column, weight_x in ((x0, 1 - (x - x0)), (x0 + 1, x - x0)):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            cell = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index.append(cell.long() + first)
            weight.append(weight_y * weight_x * inside)
    return torch.stack(index, dim=-1).reshape(-1, 4), torch.stack(weight, dim=-1).reshape(-1, 4)


def _bounded(coordinate: Tensor, size: int) -> Tensor:
    """Far outside reads zero wherever it is exactly, so the place is kept small enough for an integer."""
    return coordinate.nan_to_num(nan=-2.0).clamp(-2, size + 1)


def _gather_and_multiply(
    features: Float[Tensor, "B C H W"], offsets: Float[Tensor, "B 18 H W"], weight: Float[Tensor, "O C 3 3"]
) -> Float[Tensor, "B O H W"]:
    batch, channels, height, width = features.shape
    with torch.autocast("cpu", enabled=False):
        index, share = _bilinear_rows(offsets if offsets.dtype == torch.float64 else offsets.float())
        # embedding_bag has no gradient in half precision
        table = features if features.dtype == torch.float64 else features.float()
        table = table.permute(0, 2, 3, 1).reshape(-1, channels)
        share = share.to(table.dtype)
    kernel = weight.permute(0, 2, 3, 1).reshape(weight.shape[0], 9 * channels, 1, 1)
    cells = batch * height * width
    step = max(CHUNK_BYTES // (9 * channels * table.element_size()), 1)
    outputs = []
    for start in range(0, cells, step):
        taps = slice(9 * start, 9 * min(start + step, cells))
        gathered = F.embedding_bag(index[taps], table, per_sample_weights=share[taps], mode="sum")
        # as a 1x1 convolution: oneDNN multiplies more than twice as fast as MKL does on AMD processors
        columns = gathered.view(1, -1, 1, 9 * channels).permute(0, 3, 1, 2)
        outputs.append(F.conv2d(columns, kernel.to(columns.dtype)).permute(0, 2, 3, 1).flatten(0, 2))
    output = torch.cat(outputs) if len(outputs) > 1 else outputs[0]
    return output.view(batch, height, width, -1).permute(0, 3, 1, 2)
