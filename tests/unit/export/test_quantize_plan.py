"""Quantization plans of graphs that are built by hand."""

import numpy as np
import pytest
from small_graphs import model, node

from varifocal.export.quantize_graph import Graph, module_of, plain_name, within
from varifocal.export.quantize_plan import affects_coordinates, convolutions, make_plan, possible

W = np.ones((3, 3, 1, 1), np.float32)


def conv(source, output, module="head.a", weight="w"):
    return node("Conv", [source, weight], output, module)


def graph(nodes, *outputs, **constants):
    return Graph(model(nodes, {"w": W, **constants}, outputs))


def group_norm(source, output, module):
    """Return group normalization as ONNX had it before its own operator: InstanceNormalization, scale, shift."""
    return [
        node("Reshape", [source, "groups"], f"{output}.groups", module),
        node("InstanceNormalization", [f"{output}.groups", "ones", "zeros"], f"{output}.normed", module),
        node("Shape", [source], f"{output}.shape", module),
        node("Reshape", [f"{output}.normed", f"{output}.shape"], f"{output}.maps", module),
        node("Mul", [f"{output}.maps", "half"], f"{output}.scaled", module),
        node("Add", [f"{output}.scaled", "half"], output, module),
    ]


def pyramid(norm=False):
    """Return a backbone with a residual, a neck with a sum, and two predictors, one of which sets where to sample.

    images - c1 - relu - pool - c2 -(+)- relu s - lateral ------(+)- merged - c4 - tower - r - sample at p   - c5 - y
                          |__________|     |__ c3 - pool(Resize)_|                        |__ reg - exp - p
    """
    nodes = [
        conv("images", "c1", "backbone.net.layer1.0.conv1"),
        node("Relu", ["c1"], "r1", "backbone.net.layer1.0"),
        node("MaxPool", ["r1"], "pool", "backbone.net", kernel_shape=[1, 1]),
        conv("pool", "c2", "backbone.net.layer1.0.conv2"),
        node("Add", ["c2", "pool"], "sum", "backbone.net.layer1.0"),
        node("Relu", ["sum"], "s", "backbone.net.layer1.0"),
        conv("s", "c3", "neck.lateral.1"),
        conv("s", "lateral", "neck.lateral.0"),
        node("Resize", ["c3", "", "one"], "up", "neck"),
        node("Add", ["lateral", "up"], "merged", "neck"),
        conv("merged", "c4", "head.tower.0"),
        node("Mul", ["c4", "half"], "m4", "head.tower.1"),
        node("Relu", ["m4"], "r4", "head.tower.2"),
        conv("r4", "reg", "head.reg"),
        node("Exp", ["reg"], "p", "head"),
        node("Transpose", ["p"], "grid", "head", perm=[0, 2, 3, 1]),
        node("Slice", ["grid", "starts", "ends", "axes"], "place", "head"),
        node("GridSample", ["r4", "place"], "read", "head.star"),
        conv("read", "c5", "head.star"),
        *(group_norm("c5", "n5", "head.star.norm") if norm else []),
        node("Relu", ["n5" if norm else "c5"], "r5", "head"),
        conv("r5", "cls", "head.cls"),
        node("Sigmoid", ["cls"], "y"),
    ]
    whole = {name: np.array([value]) for name, value in (("starts", 0), ("ends", 2), ("axes", 3))}
    groups = {"groups": np.array([0, 1, -1]), "ones": np.ones(1, np.float32), "zeros": np.zeros(1, np.float32)}
    return graph(nodes, "y", half=np.float32(0.5).reshape(1), one=np.ones(4, np.float32), **whole, **groups)


def test_what_steers_or_answers():
    stop = {found.name for found in convolutions(pyramid())}
    assert {name for name in stop if affects_coordinates(pyramid(), name, stop)} == {"reg", "cls"}


@pytest.mark.parametrize("both_ends", [False, True])
def test_everything(both_ends):
    plan = make_plan(pyramid(), (), both_ends=both_ends)
    predictors = set() if both_ends else {"reg", "cls"}
    assert plan.convolutions == {"c1", "c2", "c3", "lateral", "c4", "c5"} | predictors
    # one scale for a map, before and after operators that only select its values
    assert plan.tensors["pool"] == "r1"
    inputs = {"images", "r1", "pool", "s", "merged", "read", "c2"}
    if both_ends:
        # c1 and c5 are fused with their ReLU; no layer reads c5's result in int8
        assert set(plan.tensors) == inputs | {"lateral", "c3", "up", "c4", "c5"}
        assert plan.tensors["up"] == "c3"
        assert plan.sums == {"sum", "merged"}
    else:
        # the results of convolutions are added in float, except to tensors that are rounded anyway
        assert set(plan.tensors) == inputs | {"r4", "r5"}
        assert plan.sums == {"sum"}
    assert plan.everywhere == both_ends
    assert set(plan.tensors) <= set(possible(pyramid()))


def test_a_norm_behind_the_star_stays_float_between_eight_bits():
    """What follows its product affects neither outputs nor locations: the plan is that without a norm, and no tensor
    within the norm is rounded."""
    for both_ends in (False, True):
        plan = make_plan(pyramid(norm=True), (), both_ends=both_ends)
        plain = make_plan(pyramid(), (), both_ends=both_ends)
        assert (plan.convolutions, plan.tensors, plan.sums) == (plain.convolutions, plain.tensors, plain.sums)
        assert ("c5" in plan.tensors) == both_ends  # ONNX Runtime multiplies in int8 only if the result is int8
        assert not any(name.startswith("n5") for name in plan.tensors)
    assert {name for name in possible(pyramid(norm=True)) if name.startswith("n5")} == set()


def test_who_reads_eight_bits():
    drawn = pyramid()
    plan = make_plan(drawn, (), both_ends=False)
    reads = {(one.name, index) for name in plan.tensors for one, index in drawn.readers[name] if plan.reads(one, index)}
    assert ("sum", 0) in reads
    assert ("sum", 1) in reads
    assert ("read", 0) not in reads  # sampling reads float features
    assert ("c5", 0) in reads


@pytest.mark.parametrize(
    ("keep", "left"),
    [
        (("backbone",), {"c3", "lateral", "c4", "c5", "reg", "cls"}),
        (("backbone.layer1.0.conv1", "head.tower"), {"c2", "c3", "lateral", "c5", "reg", "cls"}),
        (("neck.lateral.1",), {"c1", "c2", "lateral", "c4", "c5", "reg", "cls"}),
        (("head", "neck"), {"c1", "c2"}),
    ],
)
def test_parts_that_are_kept(keep, left):
    plan = make_plan(pyramid(), keep, both_ends=False)
    assert plan.convolutions == left
    both = make_plan(pyramid(), keep, both_ends=True)
    assert both.convolutions == left - {"reg", "cls"}
    for one in (plan, both):
        assert set(one.tensors) <= set(possible(pyramid()))


def test_a_kept_head_reads_float():
    """Its inputs are not rounded, except for those that are also inputs of layers before it."""
    plan = make_plan(pyramid(), ("head", "neck"), both_ends=False)
    assert set(plan.tensors) == {"images", "r1", "pool", "c2"}
    assert plan.sums == {"sum"}


def test_deformable_convolutions():
    """Offsets and masks affect locations, the features do not, and the node itself can be kept."""
    nodes = [
        conv("images", "c1"),
        conv("c1", "offset"),
        conv("c1", "mask"),
        conv("c1", "c2"),
        node("DeformConv", ["c2", "w", "offset", "", "mask"], "star", "head.star", kernel_shape=[1, 1]),
        conv("star", "y"),
    ]
    drawn = graph(nodes, "y")
    plan = make_plan(drawn, (), both_ends=True)
    assert plan.convolutions == {"c1", "c2"}
    assert plan.sampled == {"star"}
    assert make_plan(drawn, ("head.star",), both_ends=True).sampled == frozenset()
    assert "c2" in possible(drawn)


def test_weights_that_are_only_laid_out_anew_are_constant():
    flat = np.arange(27, dtype=np.float32).reshape(3, 9)
    nodes = [
        node("Reshape", ["flat", "shape"], "r"),
        node("Unsqueeze", ["r", "axes"], "w1"),
        conv("images", "y", weight="w1"),
        conv("images", "z", weight="y"),
    ]
    drawn = graph(nodes, "y", "z", flat=flat, shape=np.array([0, -1, 3]), axes=np.array([3]))
    assert [found.name for found in convolutions(drawn)] == ["y"]
    assert np.array_equal(drawn.constant("w1"), flat.reshape(3, 3, 3, 1))


def test_names():
    assert module_of(node("Relu", ["x"], "y", "backbone.net.layer1.0")) == "backbone.layer1.0"
    assert module_of(node("Relu", ["x"], "y")) == ""
    assert plain_name("head.cls") == "head.cls"
    assert within("head.cls_tower.0", ("head.cls_tower",))
    assert not within("head.cls_tower.0", ("head.cls",))
