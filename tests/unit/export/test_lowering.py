"""Star and deformable convolutions in the forms for exporters, against those of torch on a CPU."""

import copy

import pytest
import torch
from torch import nn
from typechecker import unchecked

from varifocal.export.config import ExportSettings
from varifocal.export.graph import capture, graph_info
from varifocal.export.lowering import lower
from varifocal.models.layers import StarConv
from varifocal.ops.deform_conv import DeformConv
from varifocal.ops.star_conv import free_points, star_points


def outputs(layer, seed: int, dtype=torch.float32) -> list[torch.Tensor]:
    """Return the outputs of a star convolution at stars and at free points of two levels, or of a deformable one."""
    rng = torch.Generator().manual_seed(seed)
    sizes = [(6, 7), (3, 4)]
    levels = [torch.randn(2, 8, *size, generator=rng) for size in sizes]
    distances = [torch.rand(2, 4, *size, generator=rng) * 4 for size in sizes]
    points = [torch.randn(2, 18, *size, generator=rng) * 2 for size in sizes]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
        if isinstance(layer, DeformConv):
            return [layer(level) for level in levels]
        return [*layer(levels, star_points(distances)), *layer(levels, free_points(points))]


def layers() -> list[nn.Module]:
    torch.manual_seed(0)
    made = [StarConv(8), StarConv(8, "group"), DeformConv(8, 4, stride=2, bias=True), DeformConv(8, 8, groups=2)]
    for layer in made[2:]:
        nn.init.normal_(layer.offset.weight, std=0.3)  # they sample at other locations than a plain convolution
    return made


@pytest.mark.parametrize("form", ["deformconv", "gridsample"])
@pytest.mark.parametrize("which", range(4))
def test_the_numbers_are_the_same(which, form):
    layer = layers()[which]
    network = nn.Sequential(copy.deepcopy(layer))
    lower(network, form)
    for found, expected in zip(outputs(network[0], 1), outputs(layer, 1), strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("which", [0, 3])
def test_under_autocast_the_type_is_its_own(which):
    layer = layers()[which]
    network = nn.Sequential(copy.deepcopy(layer))
    lower(network, "deformconv")
    pairs = zip(outputs(network[0], 2, torch.bfloat16), outputs(layer, 2, torch.bfloat16), strict=True)
    for found, expected in pairs:
        assert found.dtype == expected.dtype == torch.bfloat16
        torch.testing.assert_close(found, expected, rtol=0.05, atol=0.05)


def test_weights_and_their_names_stay():
    layer = layers()[1]
    names = list(layer.state_dict())
    lower(layer, "deformconv")
    assert list(layer.state_dict()) == names


def operators(program) -> set[str]:
    return {name for node in program.graph.nodes if (name := str(node.target)).startswith("varifocal")}


@pytest.mark.parametrize(("form", "left"), [("deformconv", {"varifocal.deform_conv2d.default"}), ("gridsample", set())])
def test_the_exporter_lowers_its_own_copy(tiny, form, left):
    """The model computes the same before and after the export, and so does the program."""
    model = tiny("vfnet", deformable_tower=True)
    images = torch.rand(2, 3, 64, 96, generator=torch.Generator().manual_seed(0)) * 255
    settings = ExportSettings((64, 96), deform=form)
    with unchecked():
        program = capture(model, settings, graph_info(model, settings, 20))
    assert operators(program) == left
    assert not any("convolve" in vars(module) for module in model.detector.modules())
    normed = (images - torch.tensor(model.info.preprocess.mean).view(3, 1, 1)) / torch.tensor(
        model.info.preprocess.std
    ).view(3, 1, 1)
    with torch.no_grad():
        expected = model.detector.decode(model.detector(normed), None)
        with unchecked():
            boxes, scores = program.module()(images)
    torch.testing.assert_close(scores, expected.scores, rtol=1e-3, atol=1e-4)
    limit = torch.tensor([96.0, 64, 96, 64])
    torch.testing.assert_close(boxes, expected.boxes.clamp(min=0).minimum(limit), rtol=1e-3, atol=1e-2)


def test_without_lowering_the_operators_stay(tiny):
    """torch.export alone keeps the operators of this package."""
    detector = tiny("vfnet", deformable_tower=True).detector
    images = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(0))
    with unchecked(), torch.no_grad():
        program = torch.export.export(
            detector.head, ([level.detach() for level in detector.neck(detector.backbone(images))],)
        )
        levels = detector.neck(detector.backbone(images))
        found, expected = program.module()(levels), detector.head(levels)
    assert operators(program) == {"varifocal.star_conv.default", "varifocal.deform_conv2d.default"}
    torch.testing.assert_close(found, expected)
