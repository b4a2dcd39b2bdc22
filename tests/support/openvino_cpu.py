"""What OpenVINO can do on this processor, and OpenVINO as it is on one that can do less."""

import openvino


def has_bf16() -> bool:
    """OpenVINO's own word, which need not agree with the system's list of instructions."""
    return "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def without_bf16(monkeypatch) -> None:
    """OpenVINO as on a processor without bf16, where it compiles for float32 whatever is asked for."""
    if not has_bf16():
        return
    compile_model = openvino.Core.compile_model

    def in_float32(core, model, device, config):
        return compile_model(core, model, device, {**config, "INFERENCE_PRECISION_HINT": openvino.Type.f32})

    monkeypatch.setattr(openvino.Core, "compile_model", in_float32)
