"""Convolutions in int8: rounding against literal arithmetic, biases against computed convolutions."""

import numpy as np
import onnx
import pytest
import torch
from small_graphs import model, node, run

from varifocal.export.quantize_graph import Graph
from varifocal.export.quantize_insert import LEVELS, WEIGHT_STEPS, ValueRange, bias_shift, insert, round_weights
from varifocal.export.quantize_plan import make_plan

RNG = np.random.default_rng(0)


@pytest.mark.parametrize("bounds", [(0.0, 6.0), (-1.0, 3.0), (-4.0, 0.0), (-0.001, 0.1)])
def test_zero_is_a_step_and_the_bounds_are_within_one(bounds):
    own = ValueRange(*bounds)
    steps = (np.arange(256) - own.zero) * own.scale
    assert 0 in steps
    assert abs(steps[0] - own.low) <= own.scale
    assert abs(steps[-1] - own.high) <= own.scale


def test_nothing_but_zero_has_a_scale_too():
    assert ValueRange(0.0, 0.0).scale > 0


@pytest.mark.parametrize("most", WEIGHT_STEPS.values(), ids=WEIGHT_STEPS)
def test_weights_are_rounded_by_the_largest_of_each_output(most):
    values = RNG.normal(0, [[[[1.0]]], [[[100.0]]], [[[0.0]]]], (3, 4, 3, 3)).astype(np.float32)
    found = round_weights(values, most)
    for output, steps, scale in zip(values, found.steps, found.scale, strict=True):
        largest = np.abs(output).max()
        assert np.abs(steps).max() == (most if largest else 0)
        assert scale == pytest.approx(largest / most if largest else 1e-12)
        assert np.abs(steps * scale - output).max() <= scale / 2 * 1.001


def added_in_16_bits(features, weights):
    """Return the product of [K] unsigned and [O, K] signed bytes as an x86 processor without VNNI computes it.

    Pairs of products are added in 16 bits with saturation (pmaddubsw), then everything is added in 32 (pmaddwd, paddd).
    """
    sums = []
    for row in weights:
        total = 0
        for i in range(0, len(features), 2):
            pair = int(features[i]) * int(row[i]) + int(features[i + 1]) * int(row[i + 1])
            total += max(-(2**15), min(pair, 2**15 - 1))
        sums.append(total)
    return sums


@pytest.mark.parametrize(("target", "exact"), [("portable", True), ("vnni", False)])
def test_products_of_the_largest_bytes_without_vnni(target, exact):
    """The largest features and the largest weights overflow in no order."""
    rng = np.random.default_rng(0)
    features = rng.choice([0, 254, LEVELS], 64)
    steps = rng.choice([-1.0, -0.99, 0.99, 1.0], (20, 64)).astype(np.float32)
    steps = np.concatenate([steps, np.ones((1, 64), np.float32), -np.ones((1, 64), np.float32)])
    weights = round_weights(steps, WEIGHT_STEPS[target]).steps.astype(np.int64)
    for _ in range(10):
        order = rng.permutation(64)
        found = added_in_16_bits(features[order], weights[:, order])
        assert (found == list(weights @ features)) == exact


@pytest.mark.parametrize("groups", [1, 2, 6])
def test_the_shift_is_what_the_convolution_loses_on_average(groups):
    """The maps are constant, so that the border, which is not considered, can be cut off."""
    values = RNG.normal(0, 1, (6, 6 // groups, 3, 3)).astype(np.float32)
    rounded = round_weights(values, 127).values
    maps = np.ones((1, 6, 5, 5), np.float32) * RNG.uniform(0, 6, (6, 1, 1)).astype(np.float32)

    def convolved(weights):  # in float64, because the difference of two sums would have the rounding errors of both
        tensors = torch.from_numpy(maps).double(), torch.from_numpy(weights).double()
        return torch.nn.functional.conv2d(*tensors, groups=groups).numpy()[0, :, 1, 1]

    found = bias_shift(values, rounded, maps.mean(axis=(0, 2, 3)))
    assert np.abs(found - (convolved(values) - convolved(rounded))).max() < 1e-6


def two_convolutions():
    """One with ReLU, then one with the same weights and none; the results of both are outputs."""
    weights = RNG.normal(0, 0.3, (3, 3, 3, 3)).astype(np.float32)
    bias = np.array([0.1, -0.2, 0.3], np.float32)
    nodes = [
        node("Conv", ["images", "w", "b"], "c1", "head.one", pads=[1] * 4),
        node("Relu", ["c1"], "r1", "head.one"),
        node("Conv", ["r1", "w"], "c2", "head.two", pads=[1] * 4),
        node("Relu", ["c2"], "r2", "head.two"),
        node("Conv", ["r2", "w"], "y", "head.three", pads=[1] * 4),
    ]
    return model(nodes, {"w": weights, "b": bias}, ["y"])


def quantized(proto, images, *, both_ends, keep=(), target="portable"):
    """Return the graph quantized with the actual ranges and means of its tensors."""
    names = ["images", "c1", "r1", "c2", "r2", "y"]
    held = {"images": images, **dict(zip(names[1:], run(proto, images, *names[1:]), strict=True))}
    ranges = {name: ValueRange(min(float(x.min()), 0), max(float(x.max()), 0)) for name, x in held.items()}
    plan = make_plan(Graph(proto), keep, both_ends=both_ends)
    return insert(proto, plan, ranges, {name: x.mean(axis=(0, 2, 3)) for name, x in held.items()}, target), ranges


def literal(x, own):
    """Return the values rounded to the steps of a range, literally."""
    return ((np.clip(np.rint(x / own.scale) + own.zero, 0, 255) - own.zero) * own.scale).astype(np.float32)


@pytest.mark.parametrize("target", WEIGHT_STEPS)
@pytest.mark.parametrize("both_ends", [False, True])
def test_each_step_is_the_literal_one(both_ends, target):
    """Each tensor is computed from the one before: a convolution of rounded features with rounded weights."""
    proto = two_convolutions()
    images = RNG.uniform(0, 255, (2, 3, 6, 7)).astype(np.float32)
    changed, ranges = quantized(proto, images, both_ends=both_ends, target=target)
    onnx.checker.check_model(changed)
    names = ["c1", "r1", "c2", "r2", "y"]
    found = dict(zip(names, run(changed, images, *names), strict=True))
    weights = round_weights(onnx.numpy_helper.to_array(proto.graph.initializer[0]), WEIGHT_STEPS[target])
    float_maps = {"images": images, **dict(zip(names, run(proto, images, *names), strict=True))}
    original = onnx.numpy_helper.to_array(proto.graph.initializer[0])
    for source, result, bias in (("images", "c1", [0.1, -0.2, 0.3]), ("r1", "c2", [0, 0, 0])):
        features = literal(images if source == "images" else found[source], ranges[source])
        shift = bias_shift(original, weights.values, float_maps[source].mean(axis=(0, 2, 3)))
        tensors = (torch.from_numpy(np.ascontiguousarray(x)) for x in (features, weights.values))
        expected = torch.nn.functional.conv2d(*tensors, padding=1).numpy() + (shift + bias).reshape(3, 1, 1)
        assert np.abs(found[result] - expected).max() < 1e-3 * np.abs(expected).max()
    steps = ranges["r2"].scale
    assert 0 < np.abs(found["r2"] - float_maps["r2"]).max() < 20 * steps
    last = [one for one in changed.graph.node if one.op_type == "Conv"][-1]
    # outputs are float if the runtime cannot multiply int8 to float
    assert (last.input[1] == "w") == both_ends


def test_the_weights_are_there_once_and_in_eight_bits_only():
    proto = two_convolutions()
    images = RNG.uniform(0, 255, (1, 3, 4, 4)).astype(np.float32)
    changed, _ = quantized(proto, images, both_ends=False)
    held = {tensor.name: tensor.data_type for tensor in changed.graph.initializer}
    assert "w" not in held
    assert held["int8.w"] == onnx.TensorProto.INT8
    assert sum(one.op_type == "DequantizeLinear" and one.input[0] == "int8.w" for one in changed.graph.node) == 1
    assert proto.graph.initializer[0].name == "w"  # the float graph is unchanged


def test_with_everything_kept_nothing_changes():
    proto = two_convolutions()
    images = RNG.uniform(0, 255, (1, 3, 4, 4)).astype(np.float32)
    changed, _ = quantized(proto, images, both_ends=True, keep=("head",))
    assert [one.op_type for one in changed.graph.node] == [one.op_type for one in proto.graph.node]
    assert np.array_equal(run(changed, images, "y")[0], run(proto, images, "y")[0])
