"""Deformable convolutions in eight bits as OpenVINO computes them, on the instructions that it may use.

Run as a program, it prints what the largest products come to, as JSON; ``ONEDNN_MAX_CPU_ISA`` restricts OpenVINO to
those of another processor.
"""

import json
import os

import numpy as np
import openvino
from onnx import TensorProto, helper

from varifocal.export.openvino import to_openvino
from varifocal.export.openvino_int8_deform import use_rows
from varifocal.export.quantize_insert import WEIGHT_STEPS, ValueRange
from varifocal.inference.exported.processor import has_vnni

RESTRICTED = os.environ.get("ONEDNN_MAX_CPU_ISA") or os.environ.get("DNNL_MAX_CPU_ISA")


def exact_products():
    """Whether OpenVINO adds products of bytes in 32 bits here."""
    return bool(has_vnni()) and not RESTRICTED


def deform(shapes, weight, mask, strides=(1, 1), pads=(1, 1, 1, 1), dilations=(1, 1), group=1, offset_group=1):
    """A graph of ONNX that is one deformable convolution, "star", of inputs of these shapes."""
    inputs = ["x", "w", "offset", *(["", "mask"] if mask else [])]
    node = helper.make_node(
        "DeformConv",
        inputs,
        ["s"],
        name="star",
        strides=strides,
        pads=pads,
        dilations=dilations,
        group=group,
        offset_group=offset_group,
        kernel_shape=weight.shape[2:],
    )
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name, shape in shapes.items()]
    out = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    constant = helper.make_tensor("w", TensorProto.FLOAT, weight.shape, weight.ravel())
    last = helper.make_node("Neg", ["s"], ["y"])  # OpenVINO names a node that is an output by that
    graph = helper.make_graph([node, last], "g", given, [out], [constant])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)


def said(graph, values):
    """The output of an OpenVINO graph."""
    compiled = openvino.Core().compile_model(graph, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    return compiled(list(values.values()))[0]


def largest(target):
    """What comes of features of 255 and the largest weights, on either side of zero, in the middle of a map."""
    weight = np.ones((2, 8, 3, 3), np.float32) * WEIGHT_STEPS[target]
    weight[0] *= -1  # the graph ends in a change of sign
    values = {"x": np.full((1, 8, 5, 5), 255, np.float32), "offset": np.zeros((1, 18, 5, 5), np.float32)}
    graph = to_openvino(
        deform({name: value.shape for name, value in values.items()}, weight, False).SerializeToString()
    )
    use_rows(graph, {"star": ValueRange(0, 255)}, target)
    return said(graph, values)[0, :, 2, 2].tolist()


if __name__ == "__main__":
    print(json.dumps({target: largest(target) for target in WEIGHT_STEPS}))
