"""Deformable convolutions in int8 for OpenVINO, against torchvision's and ONNX's reference implementation."""

import json
import os
import platform
import subprocess
import sys

import int8_products
import numpy as np
import pytest
import torch
from int8_products import deform, exact_products, said
from onnx import helper
from onnx.reference import ReferenceEvaluator
from torchvision.ops import deform_conv2d

from varifocal.export.openvino import to_openvino
from varifocal.export.openvino_int8_deform import use_rows
from varifocal.export.quantize_insert import WEIGHT_STEPS, ValueRange

RNG = np.random.default_rng(0)
TARGETS = [
    "portable",
    pytest.param("vnni", marks=pytest.mark.skipif(not exact_products(), reason="needs VNNI or another than x86")),
]


def kinds(graph):
    return [node.get_type_name() for node in graph.get_ops()]


# offsets in halves and features in fours: interpolated values are integers, which int8 represents exactly
CASES = {
    "star": ({}, (3, 3), False),
    "mask": ({}, (3, 3), True),
    "stride": ({"strides": [2, 1], "pads": [1, 0, 1, 0]}, (3, 3), True),
    "dilation": ({"dilations": [2, 2], "pads": [2, 2, 2, 2]}, (3, 3), False),
    "one": ({"pads": [0, 0, 0, 0]}, (1, 1), False),
    "long": ({"pads": [0, 1, 0, 1]}, (1, 3), False),
}


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("case", CASES)
def test_whole_numbers_are_exact(case, target):
    """In two images, with locations on, between and far outside the pixels."""
    most = WEIGHT_STEPS[target]
    words, kernel, mask = CASES[case]
    x = 4 * RNG.integers(0, 64, (2, 8, 7, 9)).astype(np.float32)
    weight = RNG.integers(-most, most + 1, (5, 8, *kernel)).astype(np.float32)
    weight[:, 0, 0, 0] = most
    size = [
        (side + 2 * words.get("pads", [1] * 4)[i] - words.get("dilations", [1, 1])[i] * (kernel[i] - 1) - 1)
        // words.get("strides", [1, 1])[i]
        + 1
        for i, side in enumerate((7, 9))
    ]
    taps = kernel[0] * kernel[1]
    values = {"x": x, "offset": RNG.integers(-9, 10, (2, 2 * taps, *size)).astype(np.float32) / 2}
    values["offset"][0, :, 0, 0] = 1000
    if mask:
        values["mask"] = RNG.integers(0, 2, (2, taps, *size)).astype(np.float32)
    model = deform({name: value.shape for name, value in values.items()}, weight, mask, **words)
    tensors = {name: torch.from_numpy(value).double() for name, value in values.items()}
    expected = -deform_conv2d(  # the graph ends in a change of sign
        tensors["x"],
        tensors["offset"],
        torch.from_numpy(weight).double(),
        stride=words.get("strides", 1),
        padding=words.get("pads", [1, 1])[:2],
        dilation=words.get("dilations", 1),
        mask=tensors.get("mask"),
    ).numpy()
    graph = to_openvino(model.SerializeToString())
    assert use_rows(graph, {"star": ValueRange(0, 255)}, target) == ["star"]
    assert "DeformableConvolution" not in kinds(graph)
    assert np.abs(said(graph, values) - expected).max() < 1e-5 * np.abs(expected).max()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variable restricts x86 processors")
def test_the_largest_products_are_exact_without_vnni():
    """In a process whose OpenVINO uses no instruction beyond AVX2; weights of eight bits show that it obeys."""
    limited = {**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2", "PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.run(
        [sys.executable, int8_products.__file__], env=limited, capture_output=True, text=True, check=True
    )
    found = json.loads(run.stdout)
    assert found["portable"] == [255 * 64 * 72, -255 * 64 * 72]
    assert abs(found["vnni"][0] - 255 * 127 * 72) > 0.1 * 255 * 127 * 72


def test_features_are_rounded_to_the_range():
    """By at most half a step each, which bounds the error of the sum by the weights."""
    x = RNG.normal(0, 1, (1, 4, 6, 6)).astype(np.float32)
    weight = np.ones((1, 4, 3, 3), np.float32) * 64
    values = {"x": x, "offset": RNG.normal(0, 1, (1, 18, 6, 6)).astype(np.float32)}
    model = deform({name: value.shape for name, value in values.items()}, weight, False)
    expected = ReferenceEvaluator(model).run(None, values)[0]
    graph = to_openvino(model.SerializeToString())
    own = ValueRange(float(x.min()), float(x.max()))
    use_rows(graph, {"star": own}, "portable")
    off = np.abs(said(graph, values) - expected).max()
    assert 0.1 * 36 * 64 * own.scale / 2 < off <= 1.01 * 36 * 64 * own.scale / 2


def test_two_that_look_at_the_same_places_share_them():
    weight = np.ones((2, 4, 3, 3), np.float32)
    model = deform({"x": [1, 4, 5, 5], "offset": [1, 18, 5, 5]}, weight, False)
    other = type(model.graph.node[0])()
    other.CopyFrom(model.graph.node[0])
    other.name, other.output[0] = "other", "o"
    model.graph.node[1].CopyFrom(helper.make_node("Add", ["s", "o"], ["y"]))
    model.graph.node.insert(1, other)
    graph = to_openvino(model.SerializeToString())
    assert sorted(use_rows(graph, {name: ValueRange(0, 1) for name in ("star", "other")}, "portable")) == [
        "other",
        "star",
    ]
    assert kinds(graph).count("EmbeddingBagPackedSum") == 2
    assert kinds(graph).count("Floor") == 2  # of rows and of columns, once


@pytest.mark.parametrize(
    ("shape", "words", "ranges"),
    [
        ((1, 4, "h", "w"), {}, {"star": ValueRange(0, 1)}),
        ((1, 4, 5, 5), {"group": 2}, {"star": ValueRange(0, 1)}),
        ((1, 4, 5, 5), {"offset_group": 2}, {"star": ValueRange(0, 1)}),
        ((1, 4, 5, 5), {}, {"other": ValueRange(0, 1)}),
    ],
    ids=["any size", "groups", "two fields", "not asked for"],
)
def test_others_stay_as_they_are(shape, words, ranges):
    weight = np.ones((4, 4 // words.get("group", 1), 3, 3), np.float32)
    shapes = {"x": shape, "offset": (1, 18 * words.get("offset_group", 1), *shape[2:])}
    graph = to_openvino(deform(shapes, weight, False, **words).SerializeToString())
    assert use_rows(graph, ranges, "portable") == []
    assert "DeformableConvolution" in kinds(graph)
