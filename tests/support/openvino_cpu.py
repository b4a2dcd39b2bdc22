"""What OpenVINO can do on this processor, and OpenVINO as it is on one that can do less."""

from functools import cache

import numpy as np
import openvino
from openvino import opset13 as ops

BF16 = {"INFERENCE_PRECISION_HINT": openvino.Type.bf16}


@cache
def has_bf16() -> bool:
    """Whether OpenVINO convolves in bf16 here.

    The system's list of features says something else: with AVX-512 OpenVINO has bf16 where no instruction for it is
    listed, and where ONEDNN_MAX_CPU_ISA forbids what is listed it has not.
    """
    maps = ops.parameter([1, 1, 4, 4], openvino.Type.f32)
    kernel = ops.constant(np.ones((1, 1, 3, 3), np.float32))
    convolution = ops.convolution(maps, kernel, [1, 1], [0, 0], [0, 0], [1, 1])
    try:
        compiled = openvino.Core().compile_model(openvino.Model([convolution], [maps]), "CPU", BF16)
    except RuntimeError:
        return False
    return compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.bf16


def without_bf16(monkeypatch) -> None:
    """OpenVINO as on a processor without bf16, where it compiles for float32 whatever is asked for."""
    if "BF16" not in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        return
    compile_model = openvino.Core.compile_model

    def in_float32(core, model, device, config):
        return compile_model(core, model, device, {**config, "INFERENCE_PRECISION_HINT": openvino.Type.f32})

    monkeypatch.setattr(openvino.Core, "compile_model", in_float32)
