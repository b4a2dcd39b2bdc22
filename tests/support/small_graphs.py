"""Graphs of ONNX with a few nodes, made by hand, and what they compute."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

SCOPES = "pkg.torch.onnx.name_scopes"


def node(kind: str, inputs: Sequence[str], output: str, module: str = "", **attributes: Any) -> Any:
    """A node named as its output, that says it comes from this module of the detector."""
    made = helper.make_node(kind, list(inputs), [output], name=output, **attributes)
    parts = module.split(".") if module else []
    scopes = ["", "network", *(f"network.{'.'.join(parts[:end])}" for end in range(1, len(parts) + 1)), output]
    made.metadata_props.add(key=SCOPES, value=str(scopes))
    return made


def model(nodes: Sequence[Any], constants: Mapping[str, np.ndarray], outputs: Sequence[str], shape: Any = None) -> Any:
    """From ``images`` [B, 3, H, W] to ``outputs``; with an empty description, so that our session runs it."""
    graph = helper.make_graph(
        list(nodes),
        "g",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, shape or ["b", 3, "h", "w"])],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * 4) for name in outputs],
        [numpy_helper.from_array(values, name) for name, values in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    helper.set_model_props(made, {"varifocal": "{}"})
    return made


def run(proto: Any, images: np.ndarray, *names: str) -> list[np.ndarray]:
    """What tensors hold, computed as the nodes say, with nothing fused."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    copy = type(proto)()
    copy.CopyFrom(proto)
    there = {output.name for output in copy.graph.output}
    copy.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names if name not in there
    )
    session = onnxruntime.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run(list(names), {"images": images})
    return found
