"""Convolutions with given sampling locations on a CPU: rows are gathered, weighted and summed, and multiplied.

The cells of a channels-last map are the rows of a table. Every tap of every output cell is a weighted sum of a few of
them, which ``embedding_bag`` reads in one pass, and the taps of a run of cells are multiplied by the weights as one
1x1 convolution: oneDNN multiplies more than twice as fast as MKL does on AMD processors. A run is so short that its
columns stay in the cores' caches; they are never all in memory. torchvision's operator is a scalar loop there.

These are the CPU kernels of ``varifocal::star_conv`` and ``varifocal::deform_conv2d``, forward and backward. What is
read, the table, is plain differentiable PyTorch, made once for all convolutions that read the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int32
from torch import Tensor
from torch.nn.grad import conv2d_input

FORWARD_BYTES = 7 * 2**18  # columns of a run, a thread: what a core's own cache holds
BACKWARD_BYTES = 4 * 2**20  # longer runs: each of them sorts, and adds to the gradient of the whole kernel


class SamplingTable(NamedTuple):
    """What each output cell reads: rows of the table [B * H * W, C] of a map's cells, and how much of each.

    ``weight`` is zero for what lies outside the map; ``cells`` names some cell there all the same.
    """

    cells: Int32[Tensor, "B h w E"]
    weight: Float[Tensor, "B h w E"]


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
    """What a deformable convolution reads: four cells a tap, bilinear, zero outside a map of ``size`` (H, W).

    Args:
        offsets: (dy, dx) of each tap from its regular location, in cells, as torchvision's ``deform_conv2d`` has them.
        size: of the map that is read.
        kernel: its side; K taps are its square.
        stride: of the convolution, and so are padding and dilation.
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
    # y, x, tap: the entries of a tap are to stand together
    index, weight = (part.permute(3, 4, 5, 2, 0, 1).flatten(3).contiguous() for part in (index, weight))
    return SamplingTable(index, weight)


def linear_weights(position: Float[Tensor, "*n"], size: int) -> tuple[Int32[Tensor, "2 *n"], Float[Tensor, "2 *n"]]:
    """Return the cells before and after a location on an axis and their weights, which are zero outside the map."""
    # far outside reads zero wherever it is exactly, so the location is kept small enough for an integer
    position = position.nan_to_num(nan=-2.0).clamp(-2, size + 1)
    before = position.detach().floor()
    after = position - before
    cell = torch.stack([before, before + 1])
    weight = torch.stack([1 - after, after]) * ((cell >= 0) & (cell < size))
    return cell.clamp(0, max(size - 1, 0)).int(), weight


def batch_offsets(batch: int, cells: int, like: Int32[Tensor, "..."]) -> Int32[Tensor, "_ 1 1"]:
    """The row at which each image's cells begin, of the type of ``like``."""
    return torch.arange(batch, device=like.device, dtype=like.dtype)[:, None, None] * cells


def gather_conv(
    levels: Sequence[Tensor], tables: Sequence[SamplingTable], starts: Sequence[int], weight: Tensor
) -> list[Tensor]:
    """Sum over the taps, in the order of the kernel's rows, of weight times what the tap reads; on a CPU.

    Args:
        levels: [B, C, H, W] each; all have the same channels and type, in which everything is computed.
        tables: what each level's output cells read; a tap's entries are summed.
        starts: at which of the E entries each tap begins.
        weight: [O, c, kh, kw], where ``c`` is C, or a divisor of it for a grouped convolution.

    Returns:
        [B, O, h, w] of each level, channels-last in memory.
    """
    with torch.autocast("cpu", enabled=False):  # the caller has chosen the types
        return _forward(levels, tables, starts, weight.to(levels[0].dtype))


def _forward(
    levels: Sequence[Tensor], tables: Sequence[SamplingTable], starts: Sequence[int], weight: Tensor
) -> list[Tensor]:
    multiply = _Product(weight, levels[0].shape[1])
    outputs = []
    for features, table in zip(levels, tables, strict=True):
        output = empty_output(features, weight, table.cells.shape[1:3])
        runs = _Runs(features, table, starts, multiply.run(FORWARD_BYTES))
        for i, part in enumerate(runs.split(output.permute(0, 2, 3, 1).view(-1, weight.shape[0]))):
            part.copy_(multiply(runs.columns(i)))
        outputs.append(output)
    return outputs


def empty_output(features: Tensor, weight: Tensor, size: Any) -> Tensor:
    """[B, O, h, w] for a result of ``size`` (h, w), channels-last in memory."""
    shape = (features.shape[0], weight.shape[0], *size)
    return torch.empty(shape, dtype=features.dtype, device=features.device, memory_format=torch.channels_last)


def empty_gradients(
    tensors: Sequence[Tensor], needed: bool, layout: torch.memory_format = torch.channels_last
) -> list[Tensor]:
    """Of the shape of each tensor and in this layout, or without elements."""
    return [torch.empty_like(x, memory_format=layout) if needed else x.new_empty(0) for x in tensors]


def gather_conv_backward(
    grads: Sequence[Tensor],
    levels: Sequence[Tensor],
    tables: Sequence[SamplingTable],
    starts: Sequence[int],
    weight: Tensor,
    needed: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Gradients of features, weights of the table and weight; empty tensors for what is not ``needed``, in this order.

    The columns are gathered again, a run at a time. What a run adds to the features is an embedding bag as well: the
    entries sorted by the cell that they read.
    """
    with torch.autocast("cpu", enabled=False):  # a backward pass may lie inside it
        computed = weight.to(levels[0].dtype)
        for_levels, for_weights, for_weight = _slopes(grads, levels, tables, starts, computed, needed)
    return for_levels, for_weights, for_weight.to(weight.dtype)


def _slopes(
    grads: Sequence[Tensor],
    levels: Sequence[Tensor],
    tables: Sequence[SamplingTable],
    starts: Sequence[int],
    weight: Tensor,
    needed: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    multiply = _Product(weight, levels[0].shape[1])
    wide = torch.float64 if weight.dtype == torch.float64 else torch.float32
    for_kernel = torch.zeros(multiply.kernel.shape, dtype=wide)
    for_levels, for_weights = [], []
    for grad, features, table in zip(grads, levels, tables, strict=True):
        entries = table.weight.shape[-1]
        runs = _Runs(features, table, starts, multiply.run(BACKWARD_BYTES))
        for_table = torch.zeros(runs.table.shape if needed[0] else (0,), dtype=wide)
        for_corner_weight = torch.zeros(table.weight.shape if needed[1] else (0,), dtype=wide)
        rows = grad.to(features.dtype).permute(0, 2, 3, 1).reshape(-1, weight.shape[0])
        for i, part in enumerate(runs.split(rows)):
            if needed[2]:  # the columns go before their slopes come
                for_kernel += multiply.kernel_slopes(part, runs.columns(i))
            if not (needed[0] or needed[1]):
                continue
            slopes = multiply.column_slopes(part)
            if needed[1]:
                for_corner_weight.view(-1, entries)[i * runs.step : (i + 1) * runs.step] = runs.weight_slopes(i, slopes)
            if needed[0]:
                runs.add_scattered(i, slopes, for_table)
        if needed[0]:
            shape = (features.shape[0], *features.shape[2:], features.shape[1])
            for_table = for_table.to(features.dtype).view(shape).permute(0, 3, 1, 2)
        for_levels.append(for_table)
        for_weights.append(for_corner_weight.to(table.weight.dtype))
    for_weight = multiply.weight_of(for_kernel).to(weight.dtype) if needed[2] else weight.new_empty(0)
    return for_levels, for_weights, for_weight


class _Product:
    """The multiplication of columns [n * K, C] by a kernel [O, c, kh, kw], as a convolution of oneDNN's."""

    def __init__(self, weight: Tensor, channels: int) -> None:
        outputs, each, *sides = weight.shape
        self.sides, self.channels, self.groups = sides, channels, channels // each
        self.taps = sides[0] * sides[1]
        self.row_bytes = self.taps * channels * weight.element_size()
        if self.groups == 1:
            self.kernel = weight.permute(0, 2, 3, 1).reshape(outputs, self.taps * channels, 1, 1)
        else:
            self.kernel = weight.reshape(outputs, each, self.taps, 1)
        self.packed = _pack(self.kernel, self.run(FORWARD_BYTES)) if self.groups == 1 else None

    def run(self, budget: int) -> int:
        """How many cells have columns of ``budget`` bytes a thread."""
        threads = torch.get_num_threads()
        return max(budget // self.row_bytes, 1) * threads

    def __call__(self, columns: Tensor) -> Tensor:
        """[n, O]. An image a thread: each multiplies the columns that it has gathered into its own cache."""
        threads = torch.get_num_threads()
        image = self._image(columns, threads if len(columns) % (self.taps * threads) == 0 else 1)
        if self.packed is not None:
            one, zero = [1, 1], [0, 0]
            result = torch.ops.mkldnn._convolution_pointwise(
                image, self.packed, None, zero, one, one, 1, "none", [], ""
            )
        else:
            result = F.conv2d(image, self.kernel, groups=self.groups)
        return result.permute(0, 2, 3, 1).flatten(0, 2)

    def kernel_slopes(self, grad: Tensor, columns: Tensor) -> Tensor:
        """Gradient of the kernel from that of the product [n, O]."""
        image = self._image(columns)
        found: Tensor = torch.ops.aten.convolution_backward(
            self._result(grad),
            image,
            self.kernel,
            None,
            [1, 1],
            [0, 0],
            [1, 1],
            False,
            [0, 0],
            self.groups,
            [False, True, False],
        )[1]
        return found

    def column_slopes(self, grad: Tensor) -> Tensor:
        """Gradient [n * K, C] of the columns from that of the product [n, O]."""
        result = self._result(grad)
        if self.groups == 1:
            found = F.conv2d(result, self.kernel.transpose(0, 1).contiguous())
        else:
            shape = (len(grad), self.channels, self.taps, 1)
            found = conv2d_input(shape, self.kernel, result, groups=self.groups)
        return found.permute(0, 2, 3, 1).reshape(-1, self.channels)

    def _result(self, grad: Tensor) -> Tensor:
        shape = (1, -1, 1, grad.shape[1]) if self.groups == 1 else (-1, 1, 1, grad.shape[1])
        return grad.reshape(shape).permute(0, 3, 1, 2)

    def weight_of(self, kernel: Tensor) -> Tensor:
        """A gradient of the kernel in the shape of the weight."""
        outputs = len(kernel)
        if self.groups == 1:
            return kernel.view(outputs, *self.sides, self.channels).permute(0, 3, 1, 2).contiguous()
        return kernel.reshape(outputs, -1, *self.sides)

    def _image(self, columns: Tensor, images: int = 1) -> Tensor:
        if self.groups == 1:  # pixels of K * C channels
            return columns.view(images, -1, 1, self.taps * self.channels).permute(0, 3, 1, 2)
        return columns.view(-1, self.taps, 1, self.channels).permute(0, 3, 1, 2)  # images of K pixels


def _pack(kernel: Tensor, cells: int) -> Tensor | None:
    """The kernel in the layout that oneDNN wants for runs of so many cells, made once for all of them.

    None where oneDNN does not compute in its type.
    """
    kinds = {torch.float32: _has_onednn, torch.bfloat16: _has_onednn_bf16}
    if kernel.dtype not in kinds or not kinds[kernel.dtype]():
        return None
    threads = torch.get_num_threads()
    # without the size the layout is another one, which is turned around in each run
    size = [threads, kernel.shape[1], cells // threads, 1]
    return torch.ops.mkldnn._reorder_convolution_weight(kernel, [0, 0], [1, 1], [1, 1], 1, size)


@lru_cache(1)
def _has_onednn() -> bool:
    return torch.backends.mkldnn.is_available() and hasattr(torch.ops.mkldnn, "_reorder_convolution_weight")


@lru_cache(1)
def _has_onednn_bf16() -> bool:
    return _has_onednn() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


class _Runs:
    """The cells of one level in runs of ``step``: their columns, and the ways back from the columns' slopes."""

    def __init__(self, features: Tensor, table: SamplingTable, starts: Sequence[int], step: int) -> None:
        index, weight = table
        self.step, self.taps, self.entries = step, len(starts), index.shape[-1]
        self.table = features.permute(0, 2, 3, 1).reshape(-1, features.shape[1])
        self.index = index.reshape(-1).split(step * self.entries)
        self.weight = weight.to(features.dtype).reshape(-1).split(step * self.entries)
        cells = torch.arange(min(step, index.numel() // self.entries), dtype=torch.int32)[:, None]
        begin = torch.tensor(starts, dtype=torch.int32)
        self.begins = (cells * self.entries + begin).view(-1)  # at which entry each bag begins
        sizes = torch.tensor([*starts[1:], self.entries]) - begin
        own = torch.arange(self.taps, dtype=torch.int32).repeat_interleave(sizes)
        self.bags = (cells * self.taps + own).view(-1)  # the bag of each entry

    def split(self, rows: Tensor) -> tuple[Tensor, ...]:
        """The rows of each run; none where the level has no cell."""
        return rows.split(self.step) if len(rows) else ()

    def columns(self, i: int) -> Tensor:
        """[n * K, C]: what each tap of each cell reads."""
        begins = self.begins[: len(self.index[i]) // self.entries * self.taps]
        return _bag(self.table, self.index[i], begins, self.weight[i])

    def weight_slopes(self, i: int, slopes: Tensor) -> Tensor:
        """Return the gradient [n, E] of each interpolation weight: its row of the table times its column's slope."""
        entries = len(self.index[i])
        found: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            slopes, self.table, self.index[i], self.begins[: len(slopes)], self.bags[:entries], 0
        )
        return found.view(-1, self.entries)

    def add_scattered(self, i: int, slopes: Tensor, total: Tensor) -> None:
        """Add to each cell's gradient the slopes of the columns that read it."""
        cell, order = self.index[i].sort()
        low, high = int(cell[0]), int(cell[-1]) + 1
        begins = torch.searchsorted(cell, torch.arange(low, high, dtype=torch.int32), out_int32=True)
        total[low:high] += _bag(slopes, self.bags[order], begins, self.weight[i][order])


def _bag(table: Tensor, index: Tensor, begins: Tensor, weight: Tensor) -> Tensor:
    found: Tensor = torch.embedding_bag(table, index, begins, False, 0, False, weight, False)[0]
    return found
