"""Compare the star convolution on a CUDA device with the plain 3x3 convolution and torchvision's operator.

    python benchmarks/star_conv_gpu.py            # writes results/star_conv_gpu.json
    python benchmarks/star_conv_gpu.py --tune     # tries block sizes for every level and prints them, best first

256 channels, the levels of an image of 800x1333 padded to 800x1344, and whole networks. "Objects" are distances as a
trained network predicts them, to the sides of the box that a cell lies in; "random" distances vary from cell to cell,
so that neighboring cells read nothing in common. Timed calls are repeated in a CUDA graph, so that only the device is
measured, except for the training step, which is measured as a whole. Float32 is measured with and without TF32, for
the star and its peers.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from harness import Goal, Row, medians, write

WIDTH = 256
IMAGE = (800, 1344)
LEVELS = {"P3": (100, 168), "P4": (50, 84), "P5": (25, 42), "P6": (13, 21), "P7": (7, 11)}
REPEATS = 20  # calls in one graph
BATCH = 8  # images in the training step
Call = Callable[[], Any]


def object_distances(height: int, width: int, rng: torch.Generator) -> Tensor:
    """Return distances to 30 boxes, later ones in front, with noise of a tenth of a cell; half a cell elsewhere."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    distances = torch.full((4, height, width), 0.5)
    for _ in range(30):
        cy, cx, h, w = (torch.rand(4, generator=rng) * torch.tensor([height, width, height / 4, width / 4])).tolist()
        sides = torch.stack([x - cx + w / 2, y - cy + h / 2, cx + w / 2 - x, cy + h / 2 - y])
        distances = torch.where((sides > 0).all(dim=0), sides, distances)
    return (distances + 0.1 * torch.rand(4, height, width, generator=rng))[None]


def inputs(level: str, dtype: torch.dtype, kind: str = "objects") -> list[Tensor]:
    """Return features, distances and weight on the device, channels-last."""
    rng = torch.Generator().manual_seed(0)
    height, width = LEVELS[level]
    features = torch.randn(1, WIDTH, height, width, generator=rng)
    weight = torch.randn(WIDTH, WIDTH, 3, 3, generator=rng) * 0.01
    random = torch.rand(1, 4, height, width, generator=rng) * 8
    distances = random if kind == "random" else object_distances(height, width, rng)
    features, weight = (part.to("cuda", dtype, memory_format=torch.channels_last) for part in (features, weight))
    return [features.requires_grad_(), distances.cuda().requires_grad_(), weight.requires_grad_()]


def plain(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """Apply the plain convolution, which ignores the distances."""
    return F.conv2d(features, weight, padding=1)


def star(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """Apply the star convolution to one level."""
    from varifocal.ops.star_conv import star_conv, star_points

    return star_conv([features], star_points([distances]), weight)[0]


def operator(features: Tensor, distances: Tensor, weight: Tensor) -> Tensor:
    """Apply torchvision's operator, in float32 because its coordinates must be."""
    from torchvision.ops import deform_conv2d

    from varifocal.ops.kernels.star_operator import star_offsets

    return deform_conv2d(features.float(), star_offsets(distances), weight.float(), padding=1).to(features.dtype)


def forward(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Call:
    """Return a call of the forward pass without autograd."""

    def call() -> Tensor:
        with torch.no_grad():
            return function(*tensors)

    return call


def both(function: Callable[..., Tensor], tensors: Sequence[Tensor]) -> Call:
    """Return a call of forward and backward, with the gradients of all inputs that the function depends on."""
    wanted = [tensors[0], tensors[2]] if function is plain else list(tensors)

    def call() -> Any:
        output = function(*tensors)
        return torch.autograd.grad(output, wanted, torch.ones_like(output))

    return call


def graphed(call: Call, repeats: int = REPEATS) -> Call:
    """Return the replay of a CUDA graph with ``repeats`` calls, captured after warm-up calls that choose algorithms."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            call()
    return graph.replay


def microseconds(calls: dict[str, Call], rounds: int = 25) -> dict[str, float]:
    """Return the median microseconds of one call of each, in alternation."""
    found = medians({name: graphed(call) for name, call in calls.items()}, rounds, warmup=5)
    return {name: time * 1e3 / REPEATS for name, time in found.items()}


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Allow or forbid TF32 in matrix products and cuDNN while the block runs."""
    before = torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before


def level_rows(level: str, dtype: torch.dtype, kind: str, *, goal: bool, peer: bool) -> list[Row]:
    """Return the rows of one level: forward, and forward with backward."""
    name = "TF32" if dtype == torch.float32 and torch.backends.cuda.matmul.allow_tf32 else str(dtype)[6:]
    rows = []
    for passes, what in ((forward, "forward"), (both, "forward and backward")):
        tensors = inputs(level, dtype, kind)
        calls = {"star": passes(star, tensors), "plain": passes(plain, tensors)}
        if peer:
            calls["operator"] = passes(operator, tensors)
        found = microseconds(calls)
        title = f"star, {level}, {name}, {kind}, {what}"
        limit = Goal(1.3) if goal and passes is forward else None
        rows.append(Row(title, found["star"], "us", limit, "plain 3x3", found["plain"]))
        if peer:
            rows.append(Row(title, found["star"], "us", None, "torchvision deform_conv2d", found["operator"]))
    return rows


def star_rows() -> list[Row]:
    """Return the rows of the first level in every type and of the other levels in bfloat16."""
    rows = []
    for dtype, allowed in (
        (torch.bfloat16, False),
        (torch.float16, False),
        (torch.float32, True),
        (torch.float32, False),
    ):
        with tf32(allowed):
            full = dtype == torch.float32 and not allowed  # without tensor cores, so without a goal
            rows += level_rows("P3", dtype, "objects", goal=not full, peer=True)
    rows += level_rows("P3", torch.bfloat16, "random", goal=False, peer=False)
    for level in list(LEVELS)[1:]:
        rows += level_rows(level, torch.bfloat16, "objects", goal=False, peer=False)
    return rows


@contextmanager
def stars(function: Callable[..., Tensor]) -> Iterator[None]:
    """Replace every star convolution of a network by this function while the block runs."""
    from varifocal.models import layers

    own = layers.star_conv

    def star_conv(levels: Sequence[Tensor], taps: Any, weight: Tensor) -> list[Tensor]:
        return [function(*pair, weight) for pair in zip(levels, taps.distances, strict=True)]

    layers.star_conv = star_conv  # type: ignore[assignment]
    try:
        yield
    finally:
        layers.star_conv = own


def network_rows() -> list[Row]:
    """Return the rows of VFNet-R50, one image, bfloat16: the network as a CUDA graph, and with post-processing."""
    from network import model
    from varifocal.ops.nms import multiclass_nms

    own = model("vfnet_r50_1x").cuda()
    own.precision = "bf16"
    image = torch.randn(1, 3, *IMAGE, device="cuda").contiguous(memory_format=torch.channels_last)
    calls: dict[str, Call] = {}
    for name, function in (("star", star), ("plain", plain)):
        outputs: list[Any] = []
        with stars(function):
            replay = graphed(lambda kept=outputs: kept.append(own.forward_optimized(image)), repeats=1)

        def detect(replay: Call = replay, outputs: list[Any] = outputs) -> Any:
            replay()
            with torch.inference_mode():
                decoded = own.detector.decode(outputs[-1], [(IMAGE[0], 1333)])  # type: ignore[operator]
                return multiclass_nms(decoded.boxes[0], decoded.scores[0], decoded.counts, own.info.postprocess)

        calls |= {name: replay, f"{name}, detections": detect}
    found = {name: 1e3 / time for name, time in medians(calls, rounds=50, warmup=5).items()}
    what, peer = "VFNet-R50, 800x1333, batch 1, bf16, CUDA graph", "plain 3x3 in place of the stars"
    goal = Goal(150, of="value", side="least")
    return [
        Row(f"{what}, network", found["star"], "images/s", None, peer, found["plain"]),
        Row(f"{what}, to detections", found["star, detections"], "images/s", goal, peer, found["plain, detections"]),
    ]


def training_row() -> Row:
    """Return the row of a whole training step of VFNet-R50 in bfloat16: forward, loss, backward, optimizer."""
    from network import CLASSES, model
    from varifocal.structures import Targets

    detector = model("vfnet_r50_1x").detector.cuda().train()
    optimizer = torch.optim.SGD((p for p in detector.parameters() if p.requires_grad), lr=1e-6, momentum=0.9)
    rng = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, 3, *IMAGE, generator=rng).to("cuda", memory_format=torch.channels_last)
    corners = torch.rand(BATCH, 8, 4, generator=rng) * torch.tensor([1000, 500, 300, 250]) + torch.tensor(
        [0, 0, 30, 30]
    )
    boxes = torch.cat([corners[..., :2], corners[..., :2] + corners[..., 2:]], dim=-1).cuda()
    labels = torch.randint(CLASSES, (BATCH, 8), generator=rng).cuda()
    crowd = torch.zeros(8, dtype=torch.bool, device="cuda")
    targets = [Targets(*pair, crowd, (IMAGE[0], 1333)) for pair in zip(boxes, labels, strict=True)]

    def step(function: Callable[..., Tensor]) -> None:
        with stars(function):
            with torch.autocast("cuda", torch.bfloat16):
                outputs = detector(images)
            sum(detector.loss(outputs, targets).values()).backward()  # type: ignore[operator,union-attr]
        optimizer.step()
        optimizer.zero_grad()

    times = medians({"star": partial(step, star), "plain": partial(step, plain)}, rounds=15, warmup=3)
    found = {name: BATCH * 1e3 / time for name, time in times.items()}
    what = f"VFNet-R50, training step, {BATCH} images of 800x1333, bf16"
    goal = Goal(0.7, side="least")
    return Row(what, found["star"], "images/s", goal, "plain 3x3 in place of the stars", found["plain"])


def tune() -> None:
    """Try forward block sizes for every level in bfloat16; print the five best and the one in use."""
    from triton.runtime.errors import OutOfResources

    from varifocal.ops.kernels import star_cuda as star_triton
    from varifocal.ops.kernels.star_cuda import Shape, Tile

    rule = star_triton.forward_tile
    blocks = itertools.product((16, 32, 64, 128), (32, 64, 128, 256), (32, 64, 128), (4, 8), (2, 3, 4))
    tiles = [Tile(*sizes) for sizes in blocks if sizes[0] * sizes[1] >= 512 * sizes[3] // 4]
    for level in LEVELS:
        tensors = inputs(level, torch.bfloat16)
        call = forward(star, tensors)
        shape = Shape.of(tensors[0], tensors[2])
        taken = rule(shape, torch.bfloat16, star_triton._gpu(tensors[0]))
        found = {}
        for tile in {taken, *tiles}:
            accumulators = tile.points * tile.outputs // (32 * tile.warps)
            if accumulators > 128 or star_triton._forward_bytes(tile, 2) > 227 * 1024:
                continue
            star_triton.forward_tile = lambda *_, tile=tile: tile  # type: ignore[assignment]
            try:
                found[tile] = microseconds({"star": call}, rounds=7)["star"]
            except OutOfResources:
                continue
        star_triton.forward_tile = rule
        best = sorted(found, key=lambda tile: found[tile])[:5]
        for tile in dict.fromkeys([*best, taken]):
            print(f"{level}  {found[tile]:7.1f} us  {tile}{'  taken' if tile == taken else ''}", flush=True)


def main() -> None:
    """Measure everything and write the results."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--tune", action="store_true", help="try block sizes instead of measuring")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        print("star_conv_gpu.py measures a CUDA device, and torch finds none here.", file=sys.stderr)
        sys.exit(2)
    if arguments.tune:
        tune()
        return
    write("star_conv_gpu", [*star_rows(), *network_rows(), training_row()])


if __name__ == "__main__":
    main()
