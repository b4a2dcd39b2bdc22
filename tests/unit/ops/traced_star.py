"""Compile or export two star convolutions and compare: python traced_star.py aot_eager|inductor|export FOLDER"""

import sys
from pathlib import Path

import torch
from torch import nn

from varifocal.ops.star_conv import star_conv, star_points


class Pair(nn.Module):
    """Both branches of a detector: one geometry, two convolutions, in-place ReLU as there."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.weights = nn.ParameterList(torch.randn(4, 3, 3, 3) for _ in range(2))

    def forward(self, features: torch.Tensor, distances: torch.Tensor) -> list[torch.Tensor]:
        taps = star_points([distances])
        return [star_conv([features], taps, weight)[0].relu_() for weight in self.weights]


def inputs(*shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(shape), torch.rand(shape[0], 4, *shape[2:]) * 4


def compiled(backend: str) -> None:
    """Outputs and all gradients, at two sizes, without a break in the graph, which is compiled once for both."""
    pair = Pair()
    fast = torch.compile(pair, backend=backend, fullgraph=True, dynamic=True)
    for shape in ((2, 3, 5, 6), (3, 3, 7, 4)):
        parts = [part.requires_grad_() for part in inputs(*shape)]
        ways = []
        for module in (pair, fast):
            found = module(*parts)
            loss = torch.stack([x.square().sum() for x in found]).sum()
            ways.append([*found, *torch.autograd.grad(loss, [*parts, *pair.weights])])
        torch.testing.assert_close(ways[1], ways[0], rtol=1e-4, atol=1e-4)
        torch.compiler.set_stance("fail_on_recompile")


def exported(folder: Path) -> None:
    """Through a file, with sizes that were not those of the example."""
    sizes = {2: torch.export.Dim("height", min=2, max=64), 3: torch.export.Dim("width", min=2, max=64)}
    with torch.no_grad():
        program = torch.export.export(Pair(), inputs(2, 3, 5, 6), dynamic_shapes=(sizes, sizes))
        torch.export.save(program, folder / "star.pt2")
        others = inputs(2, 3, 9, 4)
        found = torch.export.load(folder / "star.pt2").module()(*others)
        torch.testing.assert_close(found, Pair()(*others))


if __name__ == "__main__":
    what = sys.argv[1]
    exported(Path(sys.argv[2])) if what == "export" else compiled(what)
    print(f"{what} agrees")
