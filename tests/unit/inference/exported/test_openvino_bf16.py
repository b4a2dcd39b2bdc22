"""The forms for bf16 against OpenVINO's own operators, in float32 where they have to be the same, and in bf16."""

import numpy as np
import openvino
import pytest
from openvino import opset13 as ops
from openvino_cpu import has_bf16

from varifocal.inference.exported.openvino_bf16 import faster_in_bf16


def run(build, values, *, lower, precision="f32", free=False):
    """What the graph gives that ``build`` makes of inputs of these shapes, and the kinds of its operators."""
    places = [
        ops.parameter([-1, *value.shape[1:3], -1] if free else list(value.shape), openvino.Type.f32) for value in values
    ]
    model = openvino.Model([build(*places)], places)
    if lower:
        faster_in_bf16(model)
    kinds = {node.get_type_name() for node in model.get_ops()}
    compiled = openvino.Core().compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": precision})
    return compiled(values)[0], kinds


def deformable(weight, stride=1, padding=1, dilation=1, **options):
    pair = [stride] * 2, [padding] * 2, [padding] * 2, [dilation] * 2

    def build(maps, offsets, mask=None):
        kernel = ops.constant(weight)
        return ops.deformable_convolution(
            maps, offsets, kernel, *pair, mask, bilinear_interpolation_pad=True, **options
        )

    return build


@pytest.mark.parametrize(
    ("kernel", "stride", "padding", "dilation", "masked"), [(3, 1, 1, 1, False), (3, 2, 2, 2, True), (1, 1, 0, 1, True)]
)
def test_deformable_convolutions_are_the_same(kernel, stride, padding, dilation, masked):
    """Also far outside, on whole cells, and between the last cell and nothing."""
    rng = np.random.default_rng(0)
    rows, columns = ((side + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1 for side in (9, 14))
    offsets = rng.normal(0, 4, (2, 2 * kernel**2, rows, columns)).astype(np.float32)
    offsets[:, :, 0] = np.round(offsets[:, :, 0])
    offsets[:, :, 1] *= 10
    values = [rng.normal(0, 1, (2, 16, 9, 14)).astype(np.float32), offsets]
    if masked:
        values.append(rng.uniform(0, 1, (2, kernel**2, rows, columns)).astype(np.float32))
    weight = rng.normal(0, 1, (8, 16, kernel, kernel)).astype(np.float32)
    build = deformable(weight, stride, padding, dilation)
    wanted, _ = run(build, values, lower=False)
    found, kinds = run(build, values, lower=True)
    assert "DeformableConvolution" not in kinds
    assert found.shape == wanted.shape
    assert np.abs(found - wanted).max() < 1e-4


@pytest.mark.parametrize("half", [False, True])
@pytest.mark.parametrize("size", [4, 12])
def test_norms_of_groups_are_the_same(size, half):
    """With means that are large beside what they differ by, and several images."""
    rng = np.random.default_rng(0)
    maps = (rng.normal(0, 0.1, (3, 2 * size, 5, 7)) + rng.normal(0, 20, (3, 2 * size, 1, 1))).astype(np.float32)
    numbers = [rng.normal(1, 0.5, 2 * size).astype(np.float16 if half else np.float32) for _ in range(2)]

    def build(values):
        parts = [ops.convert(ops.constant(part), "f32") if half else ops.constant(part) for part in numbers]
        return ops.group_normalization(values, *parts, 2, 1e-5)

    wanted, _ = run(build, [maps], lower=False)
    for free in (False, True):
        found, kinds = run(build, [maps], lower=True, free=free)
        assert "GroupNormalization" not in kinds
        assert np.abs(found - wanted).max() < 1e-4


def test_what_stays_as_it_is():
    """Maps of any size, groups, and weights that are no constants."""
    rng = np.random.default_rng(0)
    values = [rng.normal(0, 1, shape).astype(np.float32) for shape in ((1, 4, 6, 6), (1, 18, 6, 6))]
    weight = rng.normal(0, 1, (4, 4, 3, 3)).astype(np.float32)
    cases = [
        (deformable(weight), values, True),
        (deformable(weight[:, :2], group=2), values, False),
        (deformable(weight, deformable_group=2), [values[0], np.repeat(values[1], 2, axis=1)], False),
    ]
    for build, inputs, free in cases:
        wanted, _ = run(build, inputs, lower=False)
        found, kinds = run(build, inputs, lower=True, free=free)
        assert "DeformableConvolution" in kinds
        assert np.array_equal(found, wanted)


@pytest.mark.skipif(not has_bf16(), reason="OpenVINO has no arithmetic in bf16 on this processor")
def test_bf16_rounds_no_place():
    """At 300.5 of alternating cells there is a half; the next places that bf16 has are 300 and 302."""
    maps = np.zeros((1, 16, 2, 400), np.float32)
    maps[..., 1::2] = 1
    offsets = np.zeros((1, 2, 2, 400), np.float32)
    offsets[:, 1] = 0.5
    weight = np.eye(16, dtype=np.float32)[:, :, None, None]
    found, _ = run(deformable(weight, padding=0), [maps, offsets], lower=True, precision="bf16")
    assert (found[..., :399] == 0.5).all()
