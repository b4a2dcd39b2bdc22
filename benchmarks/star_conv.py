"""Compare the star convolution with the plain 3x3 convolution of the same shape on a CPU.

    python benchmarks/star_conv.py

Measures the forward pass, both branches of a level, both with a group norm after each, forward and backward, bfloat16,
and extra memory, with 256 channels and the levels of an image of 800x1216. Boxes extend 0 to 8 cells to each side.
Every measurement includes computing the star's points. torchvision's operator shows what their structure gains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import deform_conv2d

from harness import Goal, Row, extra_megabytes, medians, write
from varifocal.models.layers import group_norm
from varifocal.ops.kernels.star_operator import star_offsets
from varifocal.ops.star_conv import star_conv, star_points

WIDTH = 256
FORWARD_NOTE = (
    "Relative to the plain convolution's time, gathering the rows takes 7 to 10 %, the matrix product 104 %, copying "
    "the result 3 %, and computing locations and weights 2 %. Where other programs use the last-level cache, gathering "
    "takes up to 25 %"
)
SMALL_NOTE = (
    "Every level takes about 1 ms whatever its size, to compute locations, lay out the weights, and run the Python in "
    "between"
)
MEMORY_NOTE = (
    "The memory holds the columns or slopes of one block of cells, the kernel's gradients, and what oneDNN lays out "
    "again for its product"
)
LEVELS = {"P3": (100, 152), "P4": (50, 76), "P5": (25, 38), "P6": (13, 19), "P7": (7, 10)}
P3 = LEVELS["P3"]


def inputs(
    size: tuple[int, int], dtype: torch.dtype = torch.float32, channels: int = WIDTH
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the features of two branches on a map of (height, width), distances in cells, and the weight."""
    rng = torch.Generator().manual_seed(0)
    first, second = (torch.randn(1, channels, *size, generator=rng).to(dtype) for _ in range(2))
    first, second = (part.contiguous(memory_format=torch.channels_last) for part in (first, second))
    distances = torch.rand(1, 4, *size, generator=rng) * 8
    weight = (torch.randn(channels, channels, 3, 3, generator=rng) * 0.01).to(dtype)
    return first, second, distances, weight.contiguous(memory_format=torch.channels_last)


def forward_rows() -> list[Row]:
    """Measure one branch at P3, in both types, and torchvision's operator."""
    rows = []
    for dtype in (torch.float32, torch.bfloat16):
        x, _, distances, weight = inputs(P3, dtype)
        calls: dict[str, Callable[[], object]] = {
            "plain": lambda x=x, w=weight: F.conv2d(x, w, padding=1),
            "star": lambda x=x, d=distances, w=weight: star_conv([x], star_points([d]), w),
        }
        if dtype == torch.float32:
            calls["torchvision"] = lambda x=x, d=distances, w=weight: deform_conv2d(x, star_offsets(d), w, padding=1)
        with torch.inference_mode():
            found = medians(calls, rounds=25)
        name = str(dtype).removeprefix("torch.")
        goal = Goal(1.2) if dtype == torch.float32 else None
        note = FORWARD_NOTE if goal else ""
        rows.append(Row(f"star, P3, {name}, forward", found["star"], "ms", goal, "plain 3x3", found["plain"], note))
        if "torchvision" in found:
            peer = "torchvision deform_conv2d"
            rows.append(Row(f"star, P3, {name}, forward", found["star"], "ms", None, peer, found["torchvision"]))
    return rows


def pair_rows() -> list[Row]:
    """Measure both branches, for each level and for all levels."""
    rows = []
    sums = {"plain": 0.0, "star": 0.0}
    for level, size in LEVELS.items():
        first, second, distances, weight = inputs(size)

        def stars(parts: tuple[Tensor, ...] = (first, second), d: Tensor = distances, w: Tensor = weight) -> None:
            taps = star_points([d])
            for part in parts:
                star_conv([part], taps, w)

        def plain(parts: tuple[Tensor, ...] = (first, second), w: Tensor = weight) -> None:
            for part in parts:
                F.conv2d(part, w, padding=1)

        with torch.inference_mode():
            found = medians({"plain": plain, "star": stars}, rounds=25)
        note = FORWARD_NOTE if level in ("P3", "P4") else SMALL_NOTE
        peer = "two plain 3x3"
        rows.append(Row(f"pair of stars, {level}", found["star"], "ms", Goal(1.2), peer, found["plain"], note))
        sums = {name: value + found[name] for name, value in sums.items()}
    rows.append(
        Row("pair of stars, all levels", sums["star"], "ms", Goal(1.2), "plain pairs", sums["plain"], FORWARD_NOTE)
    )
    return rows


def normed_rows(
    sizes: Sequence[tuple[int, int]] = tuple(LEVELS.values()), channels: int = WIDTH, rounds: int = 25
) -> list[Row]:
    """Measure both branches of all levels with a group norm after each convolution (``model.star_norm=group``).

    The peers are plain convolutions with the same norm, and stars without a norm.
    """
    norm = group_norm(channels)
    parts = [inputs(size, channels=channels) for size in sizes]

    def pairs(star: bool, normed: bool) -> None:
        for first, second, distances, weight in parts:
            taps = star_points([distances]) if star else None
            for part in (first, second):
                found = F.conv2d(part, weight, padding=1) if taps is None else star_conv([part], taps, weight)[0]
                if normed:
                    norm(found)

    calls: dict[str, Callable[[], object]] = {
        f"{kind}{', normed' if normed else ''}": partial(pairs, kind == "star", normed)
        for kind in ("plain", "star")
        for normed in (False, True)
    }
    with torch.inference_mode():
        found = medians(calls, rounds=rounds)
    what = "pair of stars with group norm, all levels"
    return [
        Row(
            what,
            found["star, normed"],
            "ms",
            Goal(1.2),
            "plain pairs with group norm",
            found["plain, normed"],
            FORWARD_NOTE,
        ),
        Row(what, found["star, normed"], "ms", None, "pair of stars without", found["star"]),
    ]


def training_row() -> Row:
    """Measure the gradients for features, distances and weight; the plain convolution has no distances."""
    x, _, distances, weight = (part.requires_grad_() for part in inputs(P3))
    grad = torch.randn_like(x)
    found = medians(
        {
            "plain": lambda: torch.autograd.grad(F.conv2d(x, weight, padding=1), (x, weight), grad),
            "star": lambda: torch.autograd.grad(
                star_conv([x], star_points([distances]), weight), (x, distances, weight), [grad]
            ),
        },
        rounds=11,
    )
    return Row("star, P3, forward and backward", found["star"], "ms", Goal(1.6), "plain 3x3", found["plain"])


def memory_row() -> Row:
    """Measure the memory in addition to inputs and result, relative to all columns at once."""
    x, _, distances, weight = inputs(P3)
    columns = 9 * x.numel() * x.element_size() / 2**20
    result = x.numel() * x.element_size() / 2**20
    with torch.inference_mode():
        peak = extra_megabytes(lambda: star_conv([x], star_points([distances]), weight))
    return Row("star, P3, extra memory, forward", max(peak - result, 0.0), "MiB", Goal(0.25), "9C columns", columns)


def training_memory_row() -> Row:
    """Measure the same for forward and backward, in addition to the result and the gradient of the features."""
    x, _, distances, weight = (part.requires_grad_() for part in inputs(P3))
    grad = torch.randn_like(x)
    columns, result = (n * x.numel() * x.element_size() / 2**20 for n in (9, 2))

    def call() -> object:
        return torch.autograd.grad(star_conv([x], star_points([distances]), weight), (x, distances, weight), [grad])

    peak = extra_megabytes(call)
    name = "star, P3, extra memory, forward and backward"
    return Row(name, max(peak - result, 0.0), "MiB", Goal(0.25), "9C columns", columns, MEMORY_NOTE)


def main() -> None:
    """Measure everything and write the results."""
    forward = [*forward_rows(), *pair_rows(), *normed_rows()]
    write("star_conv", [*forward, training_row(), memory_row(), training_memory_row()])


if __name__ == "__main__":
    main()
