"""The gradients of the convolutions of :mod:`varifocal.ops.kernels.deform_cpu` on a CPU."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.grad import conv2d_input

from varifocal.ops.kernels.deform_cpu import Product, Runs, SamplingTable, bag

BACKWARD_BYTES = 4 * 2**20  # longer runs than forward: each of them sorts, and adds to the gradient of the whole kernel


def empty_gradients(
    tensors: Sequence[Tensor], needed: bool, layout: torch.memory_format = torch.channels_last
) -> list[Tensor]:
    """Return a tensor of the shape of each one in this layout, or without elements where it is not needed."""
    return [torch.empty_like(x, memory_format=layout) if needed else x.new_empty(0) for x in tensors]


def gather_conv_backward(
    grads: Sequence[Tensor],
    levels: Sequence[Tensor],
    tables: Sequence[SamplingTable],
    starts: Sequence[int],
    weight: Tensor,
    needed: Sequence[bool],
) -> tuple[list[Tensor], list[Tensor], Tensor]:
    """Return the gradients of features, weights of the table and weight; empty tensors where ``needed`` is False.

    The columns are gathered again, a run at a time. The sum that a run adds to the features is an embedding bag as
    well: the entries sorted by the cell that they read.
    """
    with torch.autocast("cpu", enabled=False):  # a backward pass may lie inside it
        product = ProductGradients(weight.to(levels[0].dtype), levels[0].shape[1])
        by_kernel = torch.zeros(product.kernel.shape, dtype=_wide(product.kernel))
        step = product.run_length(BACKWARD_BYTES)
        rows = [
            _level_gradients(product, by_kernel, grad, features, RunGradients(features, table, starts, step), needed)
            for grad, features, table in zip(grads, levels, tables, strict=True)
        ]
        by_level = [row[0] for row in rows]
        by_fraction = [row[1].to(table.weight.dtype) for row, table in zip(rows, tables, strict=True)]
        kernel = product.kernel
        by_weight = product.as_weight(by_kernel).to(kernel.dtype) if needed[2] else kernel.new_empty(0)
    return by_level, by_fraction, by_weight.to(weight.dtype)


def _wide(values: Tensor) -> torch.dtype:
    return torch.float64 if values.dtype == torch.float64 else torch.float32


def _level_gradients(
    product: ProductGradients,
    by_kernel: Tensor,
    grad: Tensor,
    features: Tensor,
    runs: RunGradients,
    needed: Sequence[bool],
) -> tuple[Tensor, Tensor]:
    """Return the gradients of a level's features and fractions, and add that of the kernel to ``by_kernel``."""
    wide = by_kernel.dtype
    by_table = torch.zeros(runs.table.shape if needed[0] else (0,), dtype=wide)
    by_fraction = torch.zeros(runs.shape if needed[1] else (0,), dtype=wide)
    rows = grad.to(features.dtype).permute(0, 2, 3, 1).reshape(-1, grad.shape[1])
    for i, part in enumerate(runs.split(rows)):
        if needed[2]:  # first, so that the columns are freed before their gradients are made
            by_kernel += product.kernel_gradient(part, runs.columns(i))
        if not (needed[0] or needed[1]):
            continue
        columns = product.column_gradients(part)
        if needed[1]:
            own = slice(i * runs.step, (i + 1) * runs.step)
            by_fraction.view(-1, runs.entries)[own] = runs.fraction_gradients(i, columns)
        if needed[0]:
            runs.add_scattered(i, columns, by_table)
    if needed[0]:
        shape = (features.shape[0], *features.shape[2:], features.shape[1])
        by_table = by_table.to(features.dtype).view(shape).permute(0, 3, 1, 2)
    return by_table, by_fraction


class ProductGradients(Product):
    """The gradients of the multiplication of columns by a kernel."""

    def kernel_gradient(self, grad: Tensor, columns: Tensor) -> Tensor:
        """Return the gradient of the kernel from that of the product [n, O]."""
        image, one, zero = self.as_image(columns), [1, 1], [0, 0]
        found: Tensor = torch.ops.aten.convolution_backward(
            self._as_result(grad),
            image,
            self.kernel,
            None,
            one,
            zero,
            one,
            False,
            zero,
            self.groups,
            [False, True, False],
        )[1]
        return found

    def column_gradients(self, grad: Tensor) -> Tensor:
        """Return the gradient [n * K, C] of the columns from that of the product [n, O]."""
        result = self._as_result(grad)
        if self.groups == 1:
            found = F.conv2d(result, self.kernel.transpose(0, 1).contiguous())
        else:
            shape = (len(grad), self.channels, self.taps, 1)
            found = conv2d_input(shape, self.kernel, result, groups=self.groups)
        return found.permute(0, 2, 3, 1).reshape(-1, self.channels)

    def _as_result(self, grad: Tensor) -> Tensor:
        shape = (1, -1, 1, grad.shape[1]) if self.groups == 1 else (-1, 1, 1, grad.shape[1])
        return grad.reshape(shape).permute(0, 3, 1, 2)

    def as_weight(self, kernel: Tensor) -> Tensor:
        """Return a gradient of the kernel in the shape of the weight."""
        outputs = len(kernel)
        if self.groups == 1:
            return kernel.view(outputs, *self.sides, self.channels).permute(0, 3, 1, 2).contiguous()
        return kernel.reshape(outputs, -1, *self.sides)


class RunGradients(Runs):
    """The gradients of the table's rows and weights from those of the columns of each run."""

    def __init__(self, features: Tensor, table: SamplingTable, starts: Sequence[int], step: int) -> None:
        super().__init__(features, table, starts, step)
        self.shape = table.weight.shape
        sizes = torch.tensor([*starts[1:], self.entries]) - self.starts
        own = torch.arange(self.taps, dtype=torch.int32).repeat_interleave(sizes)
        self.bags = (self.cells * self.taps + own).view(-1)  # the bag of each entry

    def fraction_gradients(self, i: int, columns: Tensor) -> Tensor:
        """Return the gradient [n, E] of each weight of the table: its row times the gradient of its column."""
        entries = len(self.index[i])
        found: Tensor = torch.ops.aten._embedding_bag_per_sample_weights_backward(
            columns, self.table, self.index[i], self.begins[: len(columns)], self.bags[:entries], 0
        )
        return found.view(-1, self.entries)

    def add_scattered(self, i: int, columns: Tensor, total: Tensor) -> None:
        """Add to each cell's gradient those of the columns that read it."""
        cell, order = self.index[i].sort()
        low, high = int(cell[0]), int(cell[-1]) + 1
        begins = torch.searchsorted(cell, torch.arange(low, high, dtype=torch.int32), out_int32=True)
        total[low:high] += bag(columns, self.bags[order], begins, self.weight[i][order])
