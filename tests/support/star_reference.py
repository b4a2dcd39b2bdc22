"""The star convolution twice more, in double precision: as literal loops, and over torch's own bilinear sampling."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def literal_star(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """At each cell the point, its projections on the sides of its box and the corners, weighted and summed."""
    batch, _, height, width = features.shape
    features, weight = features.double(), weight.double()
    output = torch.zeros(batch, weight.shape[0], height, width, dtype=torch.float64)
    for b in range(batch):
        for y in range(height):
            for x in range(width):
                left, top, right, bottom = distances[b, :, y, x].tolist()
                for ky, place_y in enumerate((y - top, y, y + bottom)):
                    for kx, place_x in enumerate((x - left, x, x + right)):
                        output[b, :, y, x] += weight[:, :, ky, kx] @ _sample(features[b], place_y, place_x)
    return output


def _sample(planes: Tensor, y: float, x: float) -> Tensor:
    """Of every plane, bilinear, zero outside the map."""
    total = torch.zeros(planes.shape[0], dtype=torch.float64)
    if not (math.isfinite(y) and math.isfinite(x)):
        return total
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < planes.shape[1] and 0 <= column < planes.shape[2]:
                total += (1 - abs(y - row)) * (1 - abs(x - column)) * planes[:, row, column]
    return total


def sampled_star(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """The nine points by ``grid_sample``, whose gradients are torch's."""
    height, width = features.shape[2:]
    left, top, right, bottom = distances.unbind(dim=1)
    y = torch.arange(height, dtype=distances.dtype, device=distances.device)[:, None]
    x = torch.arange(width, dtype=distances.dtype, device=distances.device)
    columns = []
    for place_y in (y - top, y + torch.zeros_like(top), y + bottom):
        for place_x in (x - left, x + torch.zeros_like(left), x + right):
            grid = torch.stack([(2 * place_x + 1) / width - 1, (2 * place_y + 1) / height - 1], dim=-1)
            columns.append(torch.nn.functional.grid_sample(features, grid, align_corners=False))
    return torch.einsum("nbchw,ocn->bohw", torch.stack(columns), weight.flatten(2))
