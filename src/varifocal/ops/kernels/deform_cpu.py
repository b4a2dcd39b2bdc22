"""Convolutions with given sampling locations on a CPU: rows are gathered, weighted and summed, and multiplied.

The cells of a channels-last map are the rows of a table. Every tap of every output cell is a weighted sum of a few of
them, which ``embedding_bag`` reads in one pass, and the taps of a run of cells are multiplied by the weights as one
1x1 convolution: oneDNN multiplies more than twice as fast as MKL does on AMD processors. A run is so short that its
columns stay in the cores' caches; they are never all in memory. torchvision's operator is a scalar loop there.

These are the CPU kernels of ``varifocal::star_conv`` and ``varifocal::deform_conv2d``. The tables of cells to read are
plain differentiable PyTorch, made once for all convolutions that read the same cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor

FORWARD_BYTES = 7 * 2**18  # columns of a run, per thread: they fit in a core's own cache


SIDES = ((0, 1), (2,), (3, 4))  # of five cells on an axis: before, at and after the point
STAR_ENTRIES = [5 * y + x for rows in SIDES for columns in SIDES for y in rows for x in columns]
STAR_STARTS = (0, 4, 6, 10, 12, 13, 15, 19, 21)


def autocast_dtype(weight: Tensor) -> torch.dtype:
    """Return the type in which a convolution with this weight computes: autocast's where it is on, or the weight's."""
    kind = weight.device.type
    # torch.compile of torch 2.9 cannot trace this call, and compiles only for devices that have autocast
    available = torch.compiler.is_dynamo_compiling() or torch.amp.is_autocast_available(kind)
    if available and torch.is_autocast_enabled(kind) and weight.dtype != torch.float64:
        return torch.get_autocast_dtype(kind)
    return weight.dtype


class SamplingTable(NamedTuple):
    """The E rows that each output cell reads from the table [B * H * W, C] of a map's cells, and the weight of each.

    ``weight`` is zero outside the map, where ``cells`` holds the index of some other cell.
    """

    cells: Int32[Tensor, "B h w E"]
    weight: Float[Tensor, "B h w E"]

    @classmethod
    def of_levels(cls, cells: Sequence[Tensor], weights: Sequence[Tensor]) -> list[SamplingTable]:
        """Return the tables of all levels from their columns."""
        return [cls(*pair) for pair in zip(cells, weights, strict=True)]


def offset_table(
    offsets: Float[Tensor, "B _ h w"],
    size: tuple[int, int],
    *,
    kernel: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    scale: Float[Tensor, "B K h w"] | None = None,
) -> SamplingTable:
    """Return the table of a deformable convolution: four cells per tap, bilinear, zero outside the map.

    Args:
        offsets: (dy, dx) of each tap from its regular location, in cells, as in torchvision's ``deform_conv2d``.
        size: (H, W) of the map that is read.
        kernel: side of the kernel, which has K taps, its square.
        stride: stride of the convolution.
        padding: zeros around the map.
        dilation: cells between taps.
        scale: a factor for each tap (DCNv2's mask).
    """
    height, width = size
    batch, _, *shape = offsets.shape
    tap = torch.arange(kernel**2, device=offsets.device)[:, None, None, None]
    own_y = torch.arange(shape[0], device=offsets.device)[:, None] * stride + tap // kernel * dilation - padding
    own_x = torch.arange(shape[1], device=offsets.device) * stride + tap % kernel * dilation - padding
    y, weight_y = linear_weights(offsets[:, 0::2].transpose(0, 1) + own_y, height)
    x, weight_x = linear_weights(offsets[:, 1::2].transpose(0, 1) + own_x, width)
    index = (y * width + batch_offsets(batch, height * width, y))[:, None] + x
    weight = weight_y[:, None] * weight_x
    if scale is not None:
        weight = weight * scale.transpose(0, 1)
    # y, x, tap: the entries of a tap must be adjacent
    index, weight = (part.permute(3, 4, 5, 2, 0, 1).flatten(3).contiguous() for part in (index, weight))
    return SamplingTable(index, weight)


def star_table(distances: Float[Tensor, "B 4 H W"]) -> SamplingTable:
    """Return the table of the star, 25 entries per cell: the outer product of five rows and five columns, tap by tap.

    Five rows and five columns of cells hold everything that a star reads: two on either side and the point's own. The
    point needs no interpolation, its projections need two cells, the corners four: 25 entries instead of 36.
    """
    batch, _, height, width = distances.shape
    left, top, right, bottom = distances.unbind(dim=1)
    y, weight_y = _five_cells(top, bottom, height, torch.arange(height, device=distances.device)[:, None])
    x, weight_x = _five_cells(left, right, width, torch.arange(width, device=distances.device))
    y = y * width + batch_offsets(batch, height * width, y)
    entries = torch.tensor(STAR_ENTRIES, device=distances.device)
    # entries come first here and last in the result, because a processor is fast with whole planes of numbers
    index = (y[:, None] + x).flatten(0, 1)[entries].permute(1, 2, 3, 0).contiguous()
    weight = (weight_y[:, None] * weight_x).flatten(0, 1)[entries].permute(1, 2, 3, 0).contiguous()
    return SamplingTable(index, weight)


def _five_cells(
    before: Float[Tensor, "B H W"], after: Float[Tensor, "B H W"], size: int, own: Tensor
) -> tuple[Int32[Tensor, "5 B H W"], Float[Tensor, "5 B H W"]]:
    """Return five cells on one axis and their weights: two around each side of the box, and the point's own between."""
    cell, weight = linear_weights(torch.stack([own - before, own + after]), size)
    middle = own.to(cell.dtype).expand(1, *before.shape)
    cells = torch.cat([cell[:, 0], middle, cell[:, 1]])
    return cells, torch.cat([weight[:, 0], torch.ones_like(weight[:1, 0]), weight[:, 1]])


def linear_weights(position: Float[Tensor, "*n"], size: int) -> tuple[Int32[Tensor, "2 *n"], Float[Tensor, "2 *n"]]:
    """Return the cells before and after a location on an axis and their weights, which are zero outside the map."""
    # any location far outside reads zero, so it is clamped to a range that fits an integer
    position = position.nan_to_num(nan=-2.0).clamp(-2, size + 1)
    before = position.detach().floor()
    after = position - before
    cell = torch.stack([before, before + 1])
    weight = torch.stack([1 - after, after]) * ((cell >= 0) & (cell < size))
    return cell.clamp(0, max(size - 1, 0)).int(), weight


def batch_offsets(batch: int, cells: int, like: Int32[Tensor, "..."]) -> Int32[Tensor, "_ 1 1"]:
    """Return the row at which each image's cells begin, in the type of ``like``."""
    return torch.arange(batch, device=like.device, dtype=like.dtype)[:, None, None] * cells


def star_conv_cpu(
    levels: list[Tensor], weight: Tensor, distances: list[Tensor], cells: list[Tensor], fractions: list[Tensor]
) -> list[Tensor]:
    """Compute ``varifocal::star_conv`` on a CPU, where the tables are not given, from those of the distances."""
    tables = SamplingTable.of_levels(cells, fractions) or [star_table(level) for level in distances]
    return gather_conv(levels, tables, STAR_STARTS, weight)


def gather_conv(
    levels: Sequence[Tensor], tables: Sequence[SamplingTable], starts: Sequence[int], weight: Tensor
) -> list[Tensor]:
    """Sum over the taps, in the order of the kernel's rows, of weight times what the tap reads; on a CPU.

    Args:
        levels: [B, C, H, W] each; all have the same channels and type, in which everything is computed.
        tables: the cells that each level's output cells read; a tap's entries are summed.
        starts: the index, among the E entries, at which each tap begins.
        weight: [O, c, kh, kw], where ``c`` is C, or a divisor of it for a grouped convolution.

    Returns:
        [B, O, h, w] of each level, channels-last in memory.
    """
    outputs = []
    with torch.autocast("cpu", enabled=False):  # the caller has chosen the types
        product = Product(weight.to(levels[0].dtype), levels[0].shape[1])
        for features, table in zip(levels, tables, strict=True):
            output = empty_output(features, weight, table.cells.shape[1:3])
            runs = Runs(features, table, starts, product.run_length(FORWARD_BYTES))
            for i, part in enumerate(runs.split(output.permute(0, 2, 3, 1).view(-1, weight.shape[0]))):
                part.copy_(product(runs.columns(i)))
            outputs.append(output)
    return outputs


def empty_output(features: Tensor, weight: Tensor, size: Any) -> Tensor:
    """Return an empty [B, O, h, w] for a result of ``size`` (h, w), channels-last in memory."""
    shape = (features.shape[0], weight.shape[0], *size)
    return torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=torch.channels_last)


class Product:
    """The multiplication of columns [n * K, C] by a kernel [O, c, kh, kw], computed as a convolution by oneDNN."""

    def __init__(self, weight: Tensor, channels: int) -> None:
        outputs, each, *sides = weight.shape
        self.sides, self.channels, self.groups = sides, channels, channels // each
        self.taps = sides[0] * sides[1]
        self.row_bytes = self.taps * channels * weight.element_size()
        if self.groups == 1:
            self.kernel = weight.permute(0, 2, 3, 1).reshape(outputs, self.taps * channels, 1, 1)
        else:
            self.kernel = weight.reshape(outputs, each, self.taps, 1)
        self.packed = _pack(self.kernel, self.run_length(FORWARD_BYTES)) if self.groups == 1 else None

    def run_length(self, budget: int) -> int:
        """Return how many cells have columns of ``budget`` bytes per thread."""
        return max(budget // self.row_bytes, 1) * torch.get_num_threads()

    def __call__(self, columns: Tensor) -> Tensor:
        """Return [n, O]. Each thread computes an image, from the columns that it has gathered into its own cache."""
        threads = torch.get_num_threads()
        image = self.as_image(columns, threads if len(columns) % (self.taps * threads) == 0 else 1)
        if self.packed is not None:
            one, zero = [1, 1], [0, 0]
            result = torch.ops.mkldnn._convolution_pointwise(
                image, self.packed, None, zero, one, one, 1, "none", [], ""
            )
        else:
            result = F.conv2d(image, self.kernel, groups=self.groups)
        return result.permute(0, 2, 3, 1).flatten(0, 2)

    def as_image(self, columns: Tensor, images: int = 1) -> Tensor:
        """Return the columns as pixels of K * C channels or, with groups, as images of K pixels."""
        if self.groups == 1:
            return columns.view(images, -1, 1, self.taps * self.channels).permute(0, 3, 1, 2)
        return columns.view(-1, self.taps, 1, self.channels).permute(0, 3, 1, 2)


def _pack(kernel: Tensor, cells: int) -> Tensor | None:
    """Return the kernel in oneDNN's layout for runs of this many cells, or None where oneDNN lacks its type."""
    kinds = {torch.float32: _has_onednn, torch.bfloat16: _has_onednn_bf16}
    if kernel.dtype not in kinds or not kinds[kernel.dtype]():
        return None
    threads = torch.get_num_threads()
    # without the size oneDNN would choose another layout, and convert it in each run
    size = [threads, kernel.shape[1], cells // threads, 1]
    return torch.ops.mkldnn._reorder_convolution_weight(kernel, [0, 0], [1, 1], [1, 1], 1, size)


@lru_cache(1)
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")


@lru_cache(1)
def _has_onednn_bf16() -> bool:
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class Runs:
    """The cells of one level in runs of ``step``, with the columns that each run reads."""

    def __init__(self, features: Tensor, table: SamplingTable, starts: Sequence[int], step: int) -> None:
        index, weight = table
        self.step, self.taps, self.entries = step, len(starts), index.shape[-1]
        self.table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        self.index = index.reshape(-1).split(step * self.entries)
        self.weight = weight.to(features.dtype).reshape(-1).split(step * self.entries)
        self.cells = torch.arange(min(step, index.numel() // self.entries), dtype=torch.int32)[:, None]
        self.starts = torch.tensor(starts, dtype=torch.int32)
        self.begins = (self.cells * self.entries + self.starts).view(-1)  # at which entry each bag begins

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """Return the rows of each run; none where the level has no cell."""
        return rows.split(self.step) if len(rows) else ()

    def columns(self, i: int) -> Tensor:
        """Return [n * K, C]: what each tap of each cell of a run reads."""
        begins = self.begins[: len(self.index[i]) // self.entries * self.taps]
        return bag(self.table, self.index[i], begins, self.weight[i])


def bag(table: Tensor, index: Tensor, begins: Tensor, weight: Tensor) -> Tensor:
    """Return the weighted sums of the rows of a table, one sum for each run of the index that ``begins`` somewhere."""
    found: Tensor = torch.embedding_bag(table, index, begins, False, 0, False, weight, False)[0]
    return found
