"""The kernels of the star convolution compiled for GPUs, which needs none: registers, shared memory, no spilling."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import pytest
import torch

triton = pytest.importorskip("triton", reason="Triton is not installed")

import triton_language  # noqa: E402

from varifocal.ops.kernels import star_cuda as star_triton  # noqa: E402
from varifocal.ops.kernels import star_triton as star_kernels  # noqa: E402
from varifocal.ops.kernels import star_triton_backward as backward_kernels  # noqa: E402
from varifocal.ops.kernels.star_cuda import Gpu, Shape, forward_tile, input_tile, weight_tile  # noqa: E402

# processors, shared memory a block, products by groups of warps; compute capability
A100 = Gpu(108, 163 * 1024, grouped=False), 80
H200 = Gpu(132, 227 * 1024, grouped=True), 90
LARGEST = Shape(16800, 100, 168, 256, 256)


@pytest.fixture(autouse=True)
def compiler(monkeypatch):
    if "nvidia" not in triton.backends.backends:
        pytest.skip("this Triton does not compile for NVIDIA GPUs")
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    triton_language.restore()


def compile_for(kernel: Any, capability: int, dtype: torch.dtype, constants: dict[str, Any]) -> Any:
    """As a GPU of that capability gets it."""
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    own = {torch.float32: "*fp32", torch.bfloat16: "*bf16", torch.float16: "*fp16"}[dtype]
    kinds = dict.fromkeys(("features", "weight", "result", "gradient"), own)
    kinds |= dict.fromkeys(("points", "height", "width", "size", "part"), "i32") | {"index": "*i32"}
    names = kernel.arg_names
    signature = {name: "constexpr" if name in constants else kinds.get(name, "*fp32") for name in names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(signature.values()) if kind[0] == "*"}
    fixed = {(names.index(name),): value for name, value in constants.items() if name in names}
    options = {name: value for name, value in constants.items() if name not in names}
    source = ASTSource(kernel, signature, fixed, aligned)
    return triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)


def registers(compiled: Any) -> tuple[int, int]:
    """Registers a thread, and bytes that did not fit into them."""
    import triton.backends.nvidia

    tool = Path(triton.backends.nvidia.__file__).parent / "bin" / "cuobjdump"
    if not tool.exists():
        pytest.skip("this Triton has no cuobjdump to read registers from")
    with NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        listing = subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, check=True, text=True)
    found = re.search(r"REG:(\d+) STACK:(\d+)", listing.stdout)
    assert found, listing
    return int(found[1]), int(found[2])


@pytest.mark.slow
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("gpu", "capability"), [A100, H200], ids=["sm_80", "sm_90"])
def test_kernels_compile_and_fit(gpu, capability, dtype):
    """With the blocks of the largest level, which need the most registers and shared memory."""
    plans: list[tuple[Any, Any, dict[str, Any]]] = [
        (star_kernels.forward, forward_tile(LARGEST, dtype, gpu), {}),
        (
            backward_kernels.input_gradients,
            input_tile(LARGEST, dtype),
            {"by_features": True, "by_distances": True},
        ),
        (backward_kernels.weight_gradient, weight_tile(LARGEST, dtype, gpu), {}),
    ]
    for kernel, tile, more in plans:
        constants = star_triton._constants(LARGEST, tile, dtype) | more
        compiled = compile_for(kernel, capability, dtype, constants)
        count, spilled = registers(compiled)
        shared = compiled.metadata.shared
        print(f"{kernel.__name__}: {count} registers, {spilled} bytes spilled, {shared} bytes of shared memory")
        assert spilled <= 16
        assert count * tile.warps * 32 <= 65536
        assert shared <= gpu.shared
    constants = {"point_block": 128, "wide": False, "enable_fp_fusion": True}
    compile_for(backward_kernels.locations, capability, dtype, constants)


def test_products_by_groups_of_warps():
    """What makes the large blocks of newer GPUs worth while."""
    tile = forward_tile(LARGEST, torch.bfloat16, H200[0])
    constants = star_triton._constants(LARGEST, tile, torch.bfloat16)
    compiled = compile_for(star_kernels.forward, 90, torch.bfloat16, constants)
    assert "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16" in compiled.asm["ptx"]
